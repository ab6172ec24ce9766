"""Ranks that were asked for different things: every difference by its key."""

from __future__ import annotations

from typing import Any

from idl_cli.jobs.rank_requests import RankRequest, problems_of

SETTINGS: dict[str, Any] = {"seed": 0, "device": "cpu", "dataset": {"name": "csv", "root": "a"}}


def _request(command: str = "sim", version: str = "1", **changes: Any) -> RankRequest:
    return RankRequest(command, version, {**SETTINGS, **changes})


def test_what_is_a_machine_s_own_may_differ() -> None:
    other = {"name": "csv", "root": "b"}
    assert problems_of([_request(), _request(device="cuda", dataset=other)]) == []


def test_how_the_work_is_divided_may_not_differ() -> None:
    for changes in ({"deterministic": True}, {"trainer": {"devices": 2}}, {"logger": "x"}):
        assert len(problems_of([_request(), _request(**changes)])) == 1


def test_every_other_difference_is_named_once_a_rank() -> None:
    data = {"name": "csv", "root": "a", "target": "y"}
    found = problems_of([_request(), _request(seed=1), _request(dataset=data)])
    same = "start every rank with the same arguments"
    assert found == [
        f"seed=1: on rank 1, while rank 0 has seed=0; {same}",
        f"dataset.target=y: on rank 2, while rank 0 has dataset.target=None; {same}",
    ]


def test_another_command_or_version_is_refused_in_one_sentence() -> None:
    (sentence,) = problems_of([_request(), RankRequest("train", "1", {"epochs": 3})])
    assert sentence.startswith("rank 1 runs `idl train` of version 1, rank 0 `idl sim`")
    (sentence,) = problems_of([_request(), _request(version="2")])
    assert "of version 2" in sentence


def test_a_mistake_of_all_ranks_is_said_once_and_others_by_their_rank() -> None:
    wrong = RankRequest("sim", "1", None, ("a=1: no",))
    also = RankRequest("sim", "1", None, ("a=1: no", "b=2: no"))
    assert problems_of([wrong, also]) == ["a=1: no", "rank 1: b=2: no"]
