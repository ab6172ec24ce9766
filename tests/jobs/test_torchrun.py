"""Commands whose processes another launcher has started: one run for all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from idl_cli.distributed.environment import Launched
from idl_cli.errors import RequestError
from idl_cli.jobs.torchrun import refuse_alone
from idl_cli.requests.preflight import Request, preflight
from idl_cli.run import read_metrics, read_summary, run_status
from tests.commands.sim.test_sim_ranks import PROBLEM
from tests.commands.sim.test_sim_ranks import plug_in as plug_in
from tests.conftest import IdlHere
from tests.distributed.helpers import LIMIT, free_port, wait_until
from tests.forking import Command
from tests.sub_commands import COMMANDS

pytestmark = pytest.mark.slow

TRAINING = (
    "train",
    "model.hidden_dim=12",
    "dataset.train_samples=300",
    "dataset.test_samples=50",
    "trainer.epochs=2000",
    "device=cpu",
    "threads=1",
    "hydra.run.dir=run",
)


def _start(home: Path, rank: int, size: int, port: int, arguments: Sequence[str]) -> Command:
    """One rank, as torchrun would start it."""
    place = Launched(rank, size, rank, size, "127.0.0.1", port, run_id="test")
    return Command(arguments, home, place.variables())


def _interpreter(
    home: Path, rank: int, port: int, arguments: Sequence[str]
) -> subprocess.Popen[str]:
    """One rank of two, which tells torch what to log before it imports it."""
    return subprocess.Popen(
        [sys.executable, "-m", "idl_cli", *arguments],
        cwd=home,
        env={
            **os.environ,
            **Launched(rank, 2, rank, 2, "127.0.0.1", port, run_id="test").variables(),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _agent(home: Path, port: int, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """One machine's torchrun, of two."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"),
            *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test"),
            *("--local-addr=127.0.0.1", "-m", "idl_cli", *arguments),
        ],
        cwd=home,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.filterwarnings("default::idl_cli.errors.PoorFitWarning")  # of few epochs
def test_two_machines_leave_one_run_with_the_figures_of_one_process(
    tmp_path: Path, idl_here: IdlHere
) -> None:
    """Two agents of torchrun that meet on the loopback interface and share no directory."""
    port = free_port()
    arguments = ("sim", "solver=admm_multigpu", *PROBLEM)
    homes = [tmp_path / "first", tmp_path / "second"]
    for home in homes:
        home.mkdir()
    agents = [_agent(home, port, arguments) for home in homes]
    said = [agent.communicate(timeout=120.0) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert "".join(output for output, _ in said).count("run: ") == 1
    runs = [path for home in homes for path in home.glob("outputs/sim/*")]
    assert len(runs) == 1
    assert sorted(len(list(home.iterdir())) for home in homes) == [0, 1]
    assert {path.name for path in (runs[0] / ".hydra").iterdir()} == {
        *("config.yaml", "hydra.yaml", "overrides.yaml")
    }
    assert (runs[0] / "run.log").read_text().count("problem\n") == 1
    done = idl_here("sim", "solver=admm_multigpu", *PROBLEM, "hydra.run.dir=one")
    assert done.status == 0, done.errors
    found: Any = read_summary(runs[0])
    expected: Any = read_summary(tmp_path / "one")
    objective = expected["sim"]["ab"]["objective"]
    assert found["sim"]["ab"]["objective"] == pytest.approx(objective, rel=1e-9)
    assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-6)


def test_a_refusal_is_said_once_by_rank_0(tmp_path: Path) -> None:
    port = free_port()
    ranks = [_start(tmp_path, rank, 2, port, ["train", "-m", "seed=1,2"]) for rank in range(2)]
    said = [rank.communicate(timeout=60.0) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2]
    assert said[0][1].startswith("idl train: -m: torchrun starts the processes of one run, not of")
    assert "start `idl train -m …` without it" in said[0][1]
    assert said[0][1].count("\n") == 1
    assert said[1] == ("", "")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sim", "solver=admm"), "solver=admm: works in one process, and torchrun has started 2"),
        (("eval", "run=somewhere"), "`idl eval` works in one process"),
    ],
)
def test_what_works_in_one_process_is_refused(arguments: Sequence[str], sentence: str) -> None:
    command = COMMANDS[arguments[0]]
    accepted = preflight(Request(command, COMMANDS, tuple(arguments[1:]), root=command.name))
    with pytest.raises(RequestError, match=sentence):
        refuse_alone(accepted, size=2)


def test_different_requests_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    """Each machine has its own command line; what may differ there is said to differ by none."""
    port = free_port()
    ranks = [
        _start(tmp_path, rank, 2, port, [*TRAINING, f"seed={rank}", f"threads={rank + 1}"])
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=60.0) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2]
    assert said[0][1] == (
        "idl train: seed=1: on rank 1, while rank 0 has seed=0; start every rank with the same "
        "arguments\n"
    )
    assert said[1] == ("", "")
    assert not (tmp_path / "run").exists()


def test_a_device_that_one_machine_lacks_is_said_with_its_rank(tmp_path: Path) -> None:
    port = free_port()
    devices = ("cpu", "cuda:77")
    ranks = [
        _start(tmp_path, rank, 2, port, [*TRAINING, f"device={device}"])
        for rank, device in enumerate(devices)
    ]
    said = [rank.communicate(timeout=2 * LIMIT) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2]
    assert said[0][1].startswith("idl train: rank 1: device=cuda:77: torch sees ")
    assert said[1] == ("", "")
    assert run_status(tmp_path / "run") == "failed"


def test_a_rank_that_fails_before_it_joins_is_not_waited_for(tmp_path: Path) -> None:
    """Hydra cannot write into the directory, while rank 1 waits for rank 0 up to join_timeout."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".hydra").write_text("in the way")
    port = free_port()
    ranks = [_start(tmp_path, rank, 2, port, TRAINING) for rank in range(2)]
    said = [rank.communicate(timeout=2 * LIMIT) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 1]
    assert ".hydra" in said[0][1]
    assert said[1] == ("", "")


@pytest.mark.parametrize("dead", [1, 0])
def test_a_rank_that_is_killed_fails_the_run(tmp_path: Path, dead: int) -> None:
    """Where it is rank 0, which writes the run and keeps the store, the other one says so."""
    port = free_port()
    ranks = [_interpreter(tmp_path, rank, port, TRAINING) for rank in range(2)]
    run = tmp_path / "run"
    wait_until(lambda: (run / "metrics.jsonl").exists() and len(read_metrics(run)) > 2, 60.0)
    ranks[dead].kill()
    ranks[dead].communicate()
    _, errors = ranks[1 - dead].communicate(timeout=LIMIT)
    assert ranks[1 - dead].returncode == 1
    sentence = f"rank {dead} ended or hangs, and could not say why"
    assert errors == f"idl train: {sentence}\n"
    assert run_status(run) == "failed"
    assert read_summary(run)["error"] == sentence


def test_a_rank_that_cannot_be_reached_any_more_ends_with_the_others(
    tmp_path: Path, plug_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 is in native code that no signal interrupts, as NCCL's messages are."""
    path = os.pathsep.join((str(plug_in), *filter(None, [os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("PYTHONPATH", path)
    port = free_port()
    arguments = ("sim", "solver=faulty", "solver.fault=deaf", *PROBLEM, "hydra.run.dir=run")
    ranks = [_start(tmp_path, rank, 2, port, arguments) for rank in range(2)]
    said = [rank.communicate(timeout=2 * LIMIT) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 1]
    sentence = "rank 1 failed: ZeroDivisionError: the seventh block is empty"
    assert said[0][1].endswith(f"idl sim: {sentence}\n")
    assert sentence not in said[1][1]
    run = tmp_path / "run"
    assert (run_status(run), read_summary(run)["error"]) == ("failed", sentence)
    assert "ZeroDivisionError" in (run / "run.log").read_text()


def test_a_peer_that_never_joins_is_named(tmp_path: Path) -> None:
    lonely = _start(tmp_path, 0, 2, free_port(), [*TRAINING, "join_timeout=0.5"])
    _, errors = lonely.communicate(timeout=LIMIT)
    assert lonely.returncode == 1
    assert errors == "idl train: rank 1 of 2 did not join within 0.5 s (join_timeout)\n"
