"""Which rank is to blame, and in what words."""

import errno

import pytest
import torch
import torch.distributed as dist

from idl_cli.distributed.failure import RankReport, killed, report_of, root_cause
from idl_cli.distributed.process import Interrupted
from idl_cli.errors import ConfigError, IdlError, NonFiniteError, PeerLostError


@pytest.mark.parametrize(
    ("error", "kind", "sentence", "status"),
    [
        (NonFiniteError("loss is NaN"), "failed", "rank 3 failed: loss is NaN", 1),
        (ConfigError(["a=1: no", "b=2: no"]), "failed", "rank 3 failed: a=1: no; b=2: no", 2),
        (MemoryError(), "failed", "rank 3 failed: out of memory; use fewer samples", 1),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
            "failed",
            "rank 3 failed: out of memory: tried to allocate 2.00 gib; use fewer samples",
            1,
        ),
        (
            RuntimeError("can't allocate memory: you tried to allocate 8 bytes"),
            "failed",
            "rank 3 failed: out of memory: tried to allocate 8 bytes",
            1,
        ),
        (
            dist.DistBackendError("NCCL error: Cuda failure 2 'out of memory'"),
            "failed",
            "rank 3 failed: out of memory: NCCL error",
            1,
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "run/run.log"),
            "failed",
            "rank 3 failed: run/run.log: No space left on device; make room; resume=auto",
            1,
        ),
        (KeyError("x"), "failed", "rank 3 failed: KeyError: 'x'", 1),
        (PeerLostError("no answer"), "lost", "rank 3 lost contact: no answer", 1),
        (RuntimeError("[gloo/tcp] Connection closed by peer"), "lost", "rank 3 lost contact:", 1),
        (dist.DistNetworkError("reset"), "lost", "rank 3 lost contact: reset", 1),
        (RuntimeError("shapes differ"), "failed", "rank 3 failed: RuntimeError: shapes", 1),
        (KeyboardInterrupt(), "interrupted", "", 130),
        (Interrupted(15), "interrupted", "", 143),
    ],
)
def test_an_error_is_reported_by_its_kind(
    error: BaseException, kind: str, sentence: str, status: int
) -> None:
    report = report_of(3, error)
    assert (report.kind, report.exit_status) == (kind, status)
    assert report.sentence.startswith(sentence)
    foreseen = kind != "failed" or isinstance(error, IdlError)
    assert bool(report.traceback) != foreseen


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (-9, "rank 2 was killed by SIGKILL; the system does that when memory runs out"),
        (-11, "rank 2 was killed by SIGSEGV"),
        (7, "rank 2 ended with status 7, and did not say why"),
        (None, "rank 2 ended or hangs, and could not say why"),
    ],
)
def test_a_rank_that_said_nothing_is_described_by_its_end(code: int | None, sentence: str) -> None:
    assert killed(2, code).sentence == sentence


def test_the_cause_is_the_first_that_failed_for_a_reason_of_its_own() -> None:
    lost = RankReport(0, "lost", ("no answer",), time=1.0)
    dead = RankReport(1, "killed", ("was killed",), time=2.0)
    later = RankReport(2, "failed", ("too",), time=3.0)
    stopped = RankReport(3, "interrupted", exit_status=130, time=0.5)
    done = RankReport(4, "completed", time=0.1)
    assert root_cause([done, lost, later, dead, stopped]) is dead
    assert root_cause([done, lost, stopped]) is stopped
    assert root_cause([done, lost]) is lost
    assert root_cause([done]) is None
