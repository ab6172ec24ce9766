"""What a launcher says in environment variables, and half of it."""

import pytest

from idl_cli.distributed.environment import Launched, launched
from idl_cli.errors import RequestError

WHOLE = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RUN_ID": "abc",
    "TORCHELASTIC_RESTART_COUNT": "2",
}


def test_what_torchrun_says_is_read_and_said_again() -> None:
    place = launched(WHOLE)
    assert place == Launched(3, 4, 1, 2, "10.0.0.1", 29500, True, "abc", 2)
    assert launched(place.variables()) == place


def test_a_process_started_alone_has_no_place() -> None:
    assert launched({}) is None
    assert launched({"MASTER_PORT": "29500", "LOCAL_RANK": "0"}) is None


def test_any_launcher_may_leave_out_what_torchrun_adds() -> None:
    bare = {name: WHOLE[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    place = launched(bare)
    assert place is not None
    assert (place.local_rank, place.agent_store, place.run_id) == (0, False, "")


def test_half_an_environment_is_refused_by_the_names_that_are_missing() -> None:
    with pytest.raises(RequestError, match=r"RANK set .* but not WORLD_SIZE, MASTER_ADDR, MASTER"):
        launched({"RANK": "0"})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [("RANK", "4", "0 to 3"), ("WORLD_SIZE", "many", "1 to"), ("MASTER_PORT", "0", "1 to 65535")],
)
def test_a_value_out_of_range_is_refused(name: str, value: str, allowed: str) -> None:
    with pytest.raises(RequestError, match=rf"{name}={value} .* number from {allowed}"):
        launched({**WHOLE, name: value})
