import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from idl_cli.errors import RunError
from idl_cli.run.lock import LOCK_NAME, RunLock, is_locked, one_at_a_time

_HOLD = """
import sys
from pathlib import Path
from idl_cli.run.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    assert is_locked(tmp_path)
    with pytest.raises(RunError, match=f"in use by process {os.getpid()} on .*hydra.run.dir"):
        RunLock(tmp_path)
    lock.release()
    lock.release()
    assert not is_locked(tmp_path)
    assert not (tmp_path / LOCK_NAME).exists()
    RunLock(tmp_path).release()


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    assert is_locked(tmp_path)
    with pytest.raises(RunError, match=f"process {holder.pid}"):
        RunLock(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    holder.stdin.close()
    assert (tmp_path / LOCK_NAME).exists()
    assert not is_locked(tmp_path)
    RunLock(tmp_path).release()


def test_no_lock_where_there_is_no_file(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "nowhere")


def test_one_after_another_is_let_in_and_nothing_is_left(tmp_path: Path) -> None:
    with one_at_a_time(tmp_path):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    with pytest.raises(KeyError), one_at_a_time(tmp_path):
        raise KeyError
    with one_at_a_time(tmp_path):
        assert not list(tmp_path.iterdir())
