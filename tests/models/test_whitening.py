"""Principal components of inputs: of variance one, and nothing but another form of B and D."""

import json
from pathlib import Path

import pytest
import torch

from idl_cli import load_model
from idl_cli.errors import ArgumentError, ConvergenceWarning, DataError
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.whitening import Whitening
from idl_cli.run import load_run
from tests.commands.helpers import train
from tests.conftest import IdlHere


def _samples() -> torch.Tensor:
    torch.manual_seed(1)
    mixing = torch.randn(6, 6, dtype=torch.float64) * torch.logspace(0, -3, 6, dtype=torch.float64)
    return torch.randn(500, 6, dtype=torch.float64) @ mixing.t() + 40


def test_components_are_uncorrelated_and_of_variance_one() -> None:
    samples = _samples()
    whitening = Whitening(6, 4).double()
    whitening.fit_(samples.split(130))
    found = whitening(samples)
    torch.testing.assert_close(found.mean(0), torch.zeros(4).double(), atol=1e-9, rtol=0)
    covariance = found.t() @ found / len(found)
    torch.testing.assert_close(covariance, torch.eye(4).double(), atol=1e-6, rtol=0)
    # The directions are those of largest variance: the spread they leave out is the rest's.
    variances = torch.linalg.eigvalsh(torch.cov(samples.t(), correction=0)).flip(0)
    lengths = whitening.directions.square().sum(1)
    torch.testing.assert_close(1 / lengths, variances[:4], rtol=1e-6, atol=0)


def test_however_the_samples_are_split() -> None:
    samples = _samples()
    whole, parts = Whitening(6, 6).double(), Whitening(6, 6).double()
    whole.fit_([samples])
    parts.fit_(samples.split(7))
    torch.testing.assert_close(whole(samples), parts(samples), atol=1e-6, rtol=1e-6)


def test_directions_without_variance_are_left_out() -> None:
    samples = _samples()
    samples[:, 2] = samples[:, 0] + samples[:, 1]
    whitening = Whitening(6, 6).double()
    whitening.fit_([samples])
    assert whitening.directions[5].abs().max() == 0
    assert whitening(samples)[:, 5].abs().max() == 0


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, 6)], [torch.full((3, 6), torch.inf)]])
def test_no_components_of_no_samples(batches: list[torch.Tensor]) -> None:
    with pytest.raises(DataError):
        Whitening(6, 2).fit_(batches)


def test_it_is_not_a_number_before_it_is_fitted() -> None:
    with pytest.warns(ConvergenceWarning, match="NaN"):
        assert ImplicitModel(6, 2, 5, whiten=3)(torch.zeros(1, 6)).isnan().all()


def test_matrices_are_those_of_the_inputs_themselves() -> None:
    samples = _samples()
    model = ImplicitModel(6, 3, 5, whiten=4, forward={"tol": 1e-12}).double()
    model.fit_inputs([samples])
    assert model.B.shape == (5, 4)
    weights = model.effective_weights()
    assert weights.B.shape == (5, 6)
    same = ImplicitModel.from_weights(
        **{name: getattr(weights, name) for name in ("A", "B", "C", "D")},
        state_bias=weights.state_bias,
        output_bias=weights.output_bias,
        forward={"tol": 1e-12},
    )
    torch.testing.assert_close(model(samples), same(samples), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(
        model.equilibrium(samples), same.equilibrium(samples), atol=1e-9, rtol=1e-9
    )


def test_more_components_than_inputs_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"^whiten=7: must be at most the 6"):
        ImplicitModel(6, 3, 5, whiten=7)


def test_a_run_keeps_its_components(tmp_path: Path, idl_here: IdlHere) -> None:
    model = {"hidden_dim": 12, "whiten": 20}
    train(tmp_path / "a", model=model, trainer={"epochs": 5})
    found = load_run(tmp_path / "a")
    loaded, inputs = load_model(tmp_path / "a"), torch.rand(5, 1, 8, 8) * 16
    assert isinstance(loaded, ImplicitModel)
    assert loaded.whitening is not None
    assert found.preprocessing is not None
    assert loaded(found.preprocessing(inputs)).isfinite().all()
    train(tmp_path / "b", model={"init_run": str(tmp_path / "a")}, optimizer={"lr": 1e-12})
    tuned = load_run(tmp_path / "b").model
    assert torch.equal(tuned.state_dict()["whitening.directions"], loaded.whitening.directions)
    done = idl_here(
        "certify", f"run={tmp_path / 'a'}", "dataset=digits", "samples=20", "attack_steps=5",
        "epsilon=[0.0,0.01]", "radius_steps=2", f"hydra.run.dir={tmp_path / 'c'}",
    )  # fmt: skip
    assert done.status == 0, done.errors
    certified = json.loads((tmp_path / "c" / "certify.json").read_text())
    clean, shaken = certified["epsilons"]
    assert clean["certified_accuracy"] == clean["clean_accuracy"] > 0.5
    assert 0 < shaken["certified_accuracy"] <= shaken["attacked_accuracy"]


@pytest.mark.parametrize("format", ["onnx", "numpy"])
def test_an_exported_model_reads_the_inputs_themselves(idl_here: IdlHere, format: str) -> None:
    asked = ("model.whiten=20", "model.hidden_dim=12", "trainer.epochs=1", "hydra.run.dir=run")
    assert idl_here("train", *asked).status == 0
    done = idl_here("export", "run=run", f"format={format}", "hydra.run.dir=exported")
    assert done.status == 0, done.errors


def test_boxes_of_components_are_refused(tmp_path: Path, idl_here: IdlHere) -> None:
    done = idl_here(
        "train", "model.whiten=20", "trainer.robust=interval", f"hydra.run.dir={tmp_path / 'a'}"
    )
    assert done.status == 2
    assert "model.whiten=20" in done.errors
    assert "Traceback" not in done.errors
