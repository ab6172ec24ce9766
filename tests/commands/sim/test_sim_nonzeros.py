"""``idl sim trainer.nonzeros=…``: a share of the teacher's parameters in place of lambda."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from idl_cli import load_model
from tests.conftest import IdlHere

QUICK = (
    "teacher.hidden_dims=[12,8]",
    "teacher.epochs=8",
    "teacher.lr=1e-2",
    "dataset.train_samples=400",
    "dataset.test_samples=100",
    "trainer.structure=feedforward",
    "trainer.refine_epochs=30",
    "threads=1",
)


def test_a_share_of_the_teachers_parameters_is_kept(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here("sim", *QUICK, "trainer.nonzeros=0.2", "hydra.run.dir=run")
    assert done.status == 0, done.errors
    sim = json.loads((tmp_path / "run" / "summary.json").read_text())["sim"]
    weights = load_model(tmp_path / "run").state_dict().values()
    total = 64 * 12 + 12 + 12 * 8 + 8 + 8 * 10 + 10
    assert sim["teacher_parameters"] == total
    assert sum(int((w != 0).sum()) for w in weights) == sim["nonzeros"] == round(0.2 * total)
    assert sim["solver"] == "backward_elimination"
    assert sim["structure"] == "feedforward"
    assert sim["lambda_z"] is None
    assert sim["refinement"]["epochs"] == 30
    for stage in ("ab", "cd"):
        assert sim[stage]["status"] == "stationary"
        assert 0 <= sim[stage]["lower_bound"] <= sim[stage]["objective"]


def test_a_path_of_shares_keeps_the_sparsest(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here(
        "sim",
        *QUICK,
        "trainer.nonzeros=0.1",
        "trainer.path=[0.1,0.4]",
        "trainer.prune_baseline=false",
        "solver=swaps",
        "hydra.run.dir=run",
    )
    assert done.status == 0, done.errors
    path = json.loads((tmp_path / "run" / "path.json").read_text())
    assert [point["nonzeros_asked"] for point in path["points"]] == [0.4, 0.1]
    assert path["kept_nonzeros_asked"] == 0.1
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["sim"]["nonzeros"] == path["points"][-1]["nonzeros"]
    assert summary["sim"]["ab"]["status"] == "swap_optimal"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (("trainer.structure=feedforward",), "set nonzeros too"),
        (("trainer.refine_epochs=3",), "set nonzeros too"),
        (("trainer.nonzeros=0.1", "trainer.path=[0.5,2]"), "shares of the"),
        (("trainer.nonzeros=1.5",), "trainer.nonzeros"),
        (
            (
                "trainer.nonzeros=0.1",
                "trainer.structure=feedforward",
                "trainer.regenerate_states=false",
            ),
            "on the states of the layers before it",
        ),
        (
            ("trainer.nonzeros=0.1", "trainer.skip_connections=true"),
            "trainer.skip_connections=true",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    idl_here: IdlHere, request_: tuple[str, ...], said: str
) -> None:
    done = idl_here("sim", *request_)
    assert done.status == 2
    assert said in " ".join(done.errors.split())
