"""A few trials of every part of ``make stress``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.stress import certificates, fuzz, kills, mutations
from tests.stress.readers import readers, silence, write


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_reader_takes_its_intact_files(tmp_path: Path) -> None:
    for name, reader in readers().items():
        write(reader.files, tmp_path / name)
        with silence():
            reader.read(tmp_path / name)


def test_damaged_inputs_end_in_our_errors_or_are_accepted() -> None:
    call = fuzz.make_call(0, ())
    outcomes = [call(index) for index in range(118)]  # two rounds of all readers
    assert [each for each in outcomes if each[1] not in (fuzz.OURS, fuzz.ACCEPTED)] == []
    assert {each[0] for each in outcomes} == set(readers())
    assert call(5) == outcomes[5], "an input is told by its seed and number"


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    run = mutations.train(tmp_path / "run")
    call = mutations.make_call(0, run)
    outcomes = Counter(call(index)[0] for index in range(0, 30, 3))  # model.safetensors
    assert outcomes[mutations.FOREIGN] == 0
    assert outcomes[mutations.REFUSED] >= 5
    weights = run / mutations.FILES[0]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(mutations.IdlError, match="checksum"):
        mutations.figures(run)


@pytest.mark.slow
def test_a_killed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    command = kills.COMMANDS[0]
    begun = time.monotonic()
    process = kills._start(command.words, tmp_path / "whole", "")
    assert kills._end_of(process, tmp_path / "whole")[0] == 0
    length = time.monotonic() - begun
    weights = kills._weights(command, tmp_path / "whole")
    totals: Counter[str] = Counter()
    rng = np.random.default_rng(0)
    assert kills._trial(command, length, weights, tmp_path / "trial", rng, totals) == []
    assert totals["bit-identical"] == 1


def test_no_false_optimum_among_a_few_problems() -> None:
    call = certificates.make_call(0)
    outcomes = [each for index in range(4) for each in call(index)]
    assert [each for each in outcomes if each[1].startswith("false")] == []
    assert any(each[1] == "optimal" for each in outcomes)


def test_a_point_that_is_not_optimal_is_found_out() -> None:
    bank = certificates.problem(np.random.default_rng([0, 1]))
    zero = torch.zeros(len(bank.targets), len(bank.samples), dtype=torch.float64)
    best = certificates.optimum_of(bank)
    objectives = [certificates._objective(bank, best)]
    claimed = certificates.solve(bank.regression, certificates.solvers.ActiveSetSolver())
    wrong = replace(claimed, weights=zero, status="optimal")
    assert certificates._judged(bank, wrong, objectives, "")[0] == "false optimal"
