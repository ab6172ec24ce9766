"""Pruners that see one layer and its inputs, each against what its paper defines."""

from __future__ import annotations

import copy
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from idl_cli.errors import ArgumentError, UnsupportedModelError
from idl_cli.models.explicit import CNN, MLP
from idl_cli.models.implicit import ImplicitModel
from idl_cli.models.parameter_count import parameter_count
from idl_cli.models.pruning import alps, count_nonzeros, smallest_pruned_count, sparsegpt
from idl_cli.models.pruning.layerwise import LayerPruner, prune_layer_by_layer
from idl_cli.models.pruning.wanda import wanda

PRUNERS = pytest.mark.parametrize("prune", [wanda, sparsegpt.sparsegpt, alps.alps])


def _layer(rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Weights and the Gram matrix of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    inputs = torch.randn(4 * columns, columns, generator=generator, dtype=torch.float64) @ mixed
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return weight, inputs.T @ inputs


def _error(weight: Tensor, pruned: Tensor, gram: Tensor) -> float:
    difference = weight - pruned
    return float(((difference @ gram) * difference).sum())


@PRUNERS
@pytest.mark.parametrize("model", [MLP((6, 6), 3, hidden_dims=(7, 5)), CNN((1, 6, 6), 3)])
def test_as_many_are_left_as_asked_for_and_biases_stay(
    model: nn.Module, prune: LayerPruner
) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(30, 1, 6, 6, generator=generator) for _ in range(2)]
    biases = [p.clone() for p in model.parameters() if p.ndim < 2]
    for wanted in (round(0.4 * parameter_count(model)), smallest_pruned_count(model) + 11):
        pruned = copy.deepcopy(model).eval()
        prune_layer_by_layer(pruned, wanted, batches, prune)
        assert count_nonzeros(pruned) == wanted
        kept = [p for p in pruned.parameters() if p.ndim < 2]
        assert all(torch.equal(a, b) for a, b in zip(biases, kept, strict=True))


def test_layers_see_the_pruned_layers_before_them_and_convolutions_their_patches() -> None:
    torch.manual_seed(0)
    model = CNN((2, 5, 5), 3, channels=(3,), hidden_dim=4).double().eval()
    inputs = torch.randn(7, 2, 5, 5, dtype=torch.float64)
    change = {}

    def halve(weight: Tensor, gram: Tensor, nonzeros: int) -> Tensor:
        change[weight.shape] = _error(weight, weight / 2, gram)
        return weight / 2

    dense = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    prune_layer_by_layer(model, smallest_pruned_count(model) + 20, [inputs], halve)
    seen = inputs
    for layer in model.layers:
        outputs = layer(seen)
        if any(layer is each for each in dense):
            # What is left of each is half, so the half taken away makes the same difference.
            shape = layer.weight.flatten(1).shape
            bias = layer.bias[:, None, None] if isinstance(layer, nn.Conv2d) else layer.bias
            assert change[shape] == pytest.approx(float((outputs - bias).square().sum().detach()))
        seen = outputs


def test_small_layers_keep_larger_shares() -> None:
    model = MLP((50,), 2, hidden_dims=(20, 4), bias=False)
    kept = []

    def count(weight: Tensor, _: Tensor, nonzeros: int) -> Tensor:
        kept.append(nonzeros)
        return weight

    # Sides 70, 24 and 6 share 200; the last can hold 8, and the rest goes to the others.
    prune_layer_by_layer(model, 200, [torch.ones(1, 50)], count)
    assert kept == [142, 50]
    assert sum(kept) == 200 - 8


def test_wanda_ranks_within_rows_by_magnitude_times_input_norm() -> None:
    weight = torch.tensor([[3.0, -2.0, 1.0], [0.1, 0.5, -0.2]], dtype=torch.float64)
    gram = torch.diag(torch.tensor([1.0, 4.0, 100.0], dtype=torch.float64))
    # Scores: 3, 4, 10 and 0.1, 1, 2.
    expected = torch.tensor([[0.0, -2.0, 1.0], [0.0, 0.5, -0.2]], dtype=torch.float64)
    assert torch.equal(wanda(weight, gram, 4), expected)


@pytest.mark.parametrize("block", [3, 5, 128])
def test_sparsegpt_is_optimal_brain_surgeon_column_by_column(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparsegpt, "BLOCK", block)
    weight, gram = _layer(4, 13)
    found = sparsegpt.sparsegpt(weight, gram, 20)
    hessian = gram + sparsegpt.DAMPING * gram.diagonal().mean() * torch.eye(13, dtype=gram.dtype)
    expected = weight.clone()
    for column in range(13):
        # The inverse over the columns that are still free to make up for it (OBS, eq. 3).
        inverse = torch.linalg.inv(hessian[column:, column:])
        lost = expected[:, column] * (found[:, column] == 0)
        expected[:, column:] -= torch.outer(lost, inverse[0] / inverse[0, 0])
    assert int((found != 0).sum()) == 20
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_sparsegpt_of_leading_columns_is_the_least_squares_fit_of_the_others() -> None:
    weight, gram = _layer(3, 9)
    weight[:, :4] *= 1e-6
    found = sparsegpt.sparsegpt(weight, gram, 15)
    hessian = gram + sparsegpt.DAMPING * gram.diagonal().mean() * torch.eye(9, dtype=gram.dtype)
    fitted = torch.linalg.solve(hessian[4:, 4:], (weight @ hessian)[:, 4:].T).T
    torch.testing.assert_close(found[:, 4:], fitted, rtol=1e-9, atol=1e-11)
    assert not found[:, :4].any()


def test_alps_fits_its_support_and_comes_near_the_best_one() -> None:
    for seed in range(5):
        weight, gram = _layer(1, 9, seed)
        best = min(
            _error(weight, _fitted(weight, gram, torch.tensor(support)), gram)
            for support in combinations(range(9), 4)
        )
        found = alps.alps(weight, gram, 4)
        support = found[0].nonzero()[:, 0]
        assert len(support) == 4
        # Damped by 1 %, hence not to the last digit the undamped fit.
        fitted = _error(weight, _fitted(weight, gram, support), gram)
        assert _error(weight, found, gram) == pytest.approx(fitted, rel=0.05)
        pruned = min(_error(weight, p(weight, gram, 4), gram) for p in (wanda, sparsegpt.sparsegpt))
        assert best <= fitted * (1 + 1e-9)
        assert _error(weight, found, gram) <= pruned


def _fitted(weight: Tensor, gram: Tensor, support: Tensor) -> Tensor:
    fitted = torch.zeros_like(weight)
    rows = gram[support][:, support]
    fitted[:, support] = torch.linalg.solve(rows, (weight @ gram)[:, support].T).T
    return fitted


def test_sparsegpt_of_uncorrelated_inputs_keeps_the_most_important_weights() -> None:
    weight, gram = _layer(5, 8)
    gram = torch.diag(gram.diagonal())
    damping = sparsegpt.DAMPING * gram.diagonal().mean()
    importance = weight.square() * (gram.diagonal() + damping)
    expected = torch.zeros_like(weight)
    largest = importance.flatten().topk(13).indices
    expected.view(-1)[largest] = weight.flatten()[largest]
    torch.testing.assert_close(sparsegpt.sparsegpt(weight, gram, 13), expected)


@PRUNERS
def test_inputs_that_are_always_zero_do_no_harm(prune: LayerPruner) -> None:
    weight, gram = _layer(3, 6)
    gram[2], gram[:, 2] = 0.0, 0.0
    found = prune(weight, gram, 9)
    assert found.isfinite().all()
    assert not prune(weight, torch.zeros_like(gram), 9).isnan().any()
    assert not found[:, 2].any()


def test_what_has_no_such_layers_is_refused() -> None:
    batch = [torch.zeros(2, 8)]
    with pytest.raises(UnsupportedModelError, match="ImplicitModel has weights outside"):
        prune_layer_by_layer(ImplicitModel(8, 3, hidden_dim=4), 60, batch, wanda)
    grouped = nn.Sequential(nn.Conv2d(2, 2, 3, groups=2, bias=False))
    with pytest.raises(UnsupportedModelError, match="groups"):
        prune_layer_by_layer(grouped, 4, [torch.zeros(1, 2, 5, 5)], wanda)
    with pytest.raises(ArgumentError, match="biases"):
        prune_layer_by_layer(MLP((4,), 3, hidden_dims=(2,)), 1, [torch.zeros(1, 4)], wanda)
