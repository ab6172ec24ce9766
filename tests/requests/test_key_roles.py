"""Does a key change the job? One answer for ranks, resumed runs, resumed sweeps and comparisons."""

from __future__ import annotations

from dataclasses import fields

import pytest

from idl_cli import registry
from idl_cli.config.fields import Role
from idl_cli.requests.key_roles import differences, marked_keys, role_of
from idl_cli.requests.overrides import only_drops

# Key: may differ between ranks, may change on resume, keeps a sweep's jobs, tells runs apart.
ANSWERS = {
    "device": (True, True, True, True),
    "threads": (True, True, True, True),
    "join_timeout": (True, True, True, False),
    "dataset.root": (True, True, True, False),
    "dataset.mirror": (True, True, True, False),
    "dataset.file": (True, False, False, True),
    "deterministic": (False, True, True, True),
    "trainer.devices": (False, True, True, True),
    "solver.devices": (False, True, True, True),
    "solver.processes": (False, True, True, True),
    "logger": (False, True, True, False),
    "logger.wandb.project": (False, True, True, False),
    "report": (False, True, True, False),
    "profile": (False, True, True, False),
    "optimized_metric": (False, True, True, False),
    "trainer.checkpoint_every": (False, True, True, False),
    "trainer.checkpoint_seconds": (False, True, True, False),
    "trainer.save_statistics": (False, True, True, False),
    "trainer.load_statistics": (False, True, True, False),
    "trainer.diagnose_rows": (False, True, True, False),
    "trainer.epochs": (False, True, False, True),
    "trainer.max_time": (False, True, False, True),
    "trainer.early_stopping.patience": (False, True, False, True),
    "trainer.dry_run": (False, True, False, True),
    "resume": (False, True, False, False),
    "sweep.resume": (False, True, False, False),
    "seed": (False, False, False, True),
    "dtype": (False, False, False, True),
    "dataset": (False, False, False, True),
    "dataset.target": (False, False, False, True),
    "model.init_run": (False, False, False, True),
    "teacher.epochs": (False, False, False, True),
    "solver.rho": (False, False, False, True),
    "trainer.no_such_key": (False, False, False, True),
}


@pytest.mark.parametrize("key", ANSWERS)
def test_four_questions_have_one_source(key: str) -> None:
    role = role_of(key)
    assert ANSWERS[key] == (
        role.may_differ_between_ranks,
        role.may_change_on_resume,
        role.keeps_the_job,
        role.tells_runs_apart,
    )


def test_no_marked_key_is_left_out_here() -> None:
    assert all(any(f"{key}.".startswith(f"{m}.") for key in ANSWERS) for m in marked_keys())


@pytest.mark.parametrize("group", registry.groups())
def test_keys_of_one_name_mean_the_same_in_a_group(group: str) -> None:
    """A key's role is known before its component is, as in a sweep over components."""
    roles: dict[str, set[Role]] = {}
    for schema in registry.built_in_schemas(group).values():
        for item in fields(schema):
            roles.setdefault(item.name, set()).add(item.metadata.get("role", Role.RESULT))
    assert not {name for name, found in roles.items() if len(found) > 1}


def test_differences_name_every_key_that_may_not_differ() -> None:
    first = {"seed": 0, "device": "cpu", "trainer": {"epochs": 3, "devices": None}, "model": None}
    other = {"seed": 1, "device": "cuda", "trainer": {"epochs": 9, "devices": 2}, "extra": 3}
    resumed = list(differences(first, other, lambda role: role.may_change_on_resume))
    assert resumed == [("seed", 0, 1), ("extra", None, 3)]
    ranks = list(differences(first, other, lambda role: role.may_differ_between_ranks))
    assert ranks[1:3] == [("trainer.epochs", 3, 9), ("trainer.devices", None, 2)]
    assert list(differences(first, first, lambda _: False)) == []


def test_a_deletion_takes_an_earlier_value_with_it() -> None:
    assert only_drops("~device", ["seed=0", "device=cpu"])
    assert not only_drops("~device", ["seed=0"])
    assert not only_drops("~device=cpu", ["device=cpu"])
    assert not only_drops("device=cpu", ["device=cpu"])
