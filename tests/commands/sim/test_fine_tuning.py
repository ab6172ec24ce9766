"""``trainer.finetune_epochs``: labels after the fit, zeros and constraint kept, and said so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from idl_cli import load_model
from idl_cli.assembly.compute import Compute
from idl_cli.assembly.fine_tuning import FineTuning, fine_tune
from idl_cli.data.images.digits import digits
from idl_cli.models.implicit import ImplicitModel
from tests.commands.helpers import SIM, read_json, summary_of
from tests.conftest import IdlHere


@pytest.mark.parametrize("structure", ["feedforward", "full"])
def test_the_kept_model_is_the_fine_tuned_one_and_the_report_says_so(
    idl_here: IdlHere, tmp_path: Path, structure: str
) -> None:
    limit = ("trainer.nonzeros=0.3", f"trainer.structure={structure}", "trainer.refine_epochs=3")
    runs = {}
    for epochs in (0, 3):
        runs[epochs] = tmp_path / f"run{epochs}"
        teacher = () if epochs == 0 else (f"teacher.run={runs[0]}",)
        tune = (f"trainer.finetune_epochs={epochs}", f"hydra.run.dir={runs[epochs]}")
        done = idl_here("sim", *SIM, *limit, *teacher, *tune)
        assert done.status == 0, done.errors
    assert "3 epochs with labels" in " ".join(done.output.split())
    plain, tuned = (summary_of(run) for run in runs.values())
    assert plain["sim"]["labels_used_by"] == []
    assert plain["sim"]["finetuning"] is None
    assert tuned["sim"]["labels_used_by"] == ["finetune_epochs"]
    assert tuned["sim"]["finetuning"]["epochs"] == 3
    assert tuned["sim"]["finetuning"]["before"] == plain["metrics"]
    assert tuned["metrics"]["train_loss"] < plain["metrics"]["train_loss"]
    models = [load_model(run) for run in runs.values()]
    for before, after in zip(*(model.parameters() for model in models), strict=True):
        assert not after[before == 0].any()
        assert before.numel() == 0 or not before.any() or not torch.equal(before, after)
    assert isinstance(models[1], ImplicitModel)
    assert tuned["sim"]["inf_norm_A"] == models[1].inf_norm_A()
    if structure == "full":
        assert models[1].inf_norm_A() <= 0.95
    nonzeros = sum(int((p != 0).sum()) for p in models[1].parameters())
    assert tuned["sim"]["nonzeros"] == nonzeros <= plain["sim"]["nonzeros"]
    assert tuned["sim"]["model_bytes"] < tuned["sim"]["teacher_bytes"]


def test_a_path_shows_each_model_with_and_without_labels(idl_here: IdlHere, tmp_path: Path) -> None:
    done = idl_here(
        "sim",
        *SIM,
        "trainer.nonzeros=0.1",
        "trainer.structure=feedforward",
        "trainer.path=[0.4,0.2]",
        "trainer.refine_epochs=1",
        "trainer.finetune_epochs=1",
        "trainer.prune_baseline=false",
        "hydra.run.dir=run",
    )
    assert done.status == 0, done.errors
    path, summary = read_json(tmp_path / "run/path.json"), read_json(tmp_path / "run/summary.json")
    assert [row["labels"] for row in path["points"]] == [False, False]
    assert [row["labels"] for row in path["finetuned"]] == [True, True]
    for plain, tuned in zip(path["points"], path["finetuned"], strict=True):
        assert tuned["nonzeros"] <= plain["nonzeros"]
        assert tuned["nonzeros_asked"] == plain["nonzeros_asked"]
    # The kept model is the last, trained on in the same way from the same weights.
    assert summary["metrics"]["test_loss"] == path["finetuned"][-1]["test_loss"]
    assert "SIM, fine-tuned" in done.output


def test_zero_offsets_stay_zero_to_the_bit() -> None:
    torch.manual_seed(0)
    data = digits(train_samples=60, test_samples=20)
    model = ImplicitModel(64, 10, 5)
    with torch.no_grad():
        model.state_bias[:3] = 0.0
    compute = Compute(device=torch.device("cpu"), dtype=torch.float32)
    fine_tune(model, data, FineTuning(epochs=1, batch_size=20, lr=1e-2, seed=0), compute)
    assert not model.state_bias[:3].any()
    assert model.state_bias[3:].all()
    assert not model.training
