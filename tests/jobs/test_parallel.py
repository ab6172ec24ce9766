"""Sharing a machine among jobs that run at the same time."""

from __future__ import annotations

import os

import pytest

from idl_cli.jobs.parallel import (
    cores,
    device_of_job,
    jobs_at_once,
    limited_threads,
    threads_each,
)

JOBLIB = {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"}
LOCAL = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"}
SLURM = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}
BASIC = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}


def test_launchers_run_as_many_jobs_at_once_as_they_say() -> None:
    assert jobs_at_once({**JOBLIB, "n_jobs": 3}, jobs=10) == 3
    assert jobs_at_once({**JOBLIB, "n_jobs": 3}, jobs=2) == 2, "no more than there are"
    assert jobs_at_once({**JOBLIB, "n_jobs": -1}, jobs=1000) == cores()
    assert jobs_at_once({**LOCAL, "cpus_per_task": None}, jobs=1000) == cores()
    assert jobs_at_once({**LOCAL, "cpus_per_task": cores()}, jobs=1000) == 1
    assert jobs_at_once({**SLURM, "cpus_per_task": 1}, jobs=1000) == 1, "not on this machine"
    assert jobs_at_once(BASIC, jobs=10) == 1


def test_threads_are_shared_out_unless_the_user_says() -> None:
    assert threads_each(at_once=4, cores=16) == 4
    assert threads_each(at_once=3, cores=2) == 1
    assert threads_each(at_once=4, cores=16, wanted=8) == 8


def test_devices_are_taken_in_turn() -> None:
    taken = [device_of_job(position, "auto", visible=2) for position in range(4)]
    assert taken == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert device_of_job(3, "auto", visible=0) == "auto"
    assert device_of_job(3, "cpu", visible=2) == "cpu"
    assert device_of_job(3, "cuda:0", visible=2) == "cuda:0"


def test_limits_reach_children_and_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with limited_threads(2):
        assert os.environ["OMP_NUM_THREADS"] == "2"
        assert os.environ["MKL_NUM_THREADS"] == "1", "a smaller limit of the user's stays"
        assert os.environ["OPENBLAS_NUM_THREADS"] == "2"
    assert os.environ["OMP_NUM_THREADS"] == "8"
    assert "OPENBLAS_NUM_THREADS" not in os.environ
