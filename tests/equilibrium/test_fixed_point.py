import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idl_cli.equilibrium.fixed_point import SampleMap, solve_fixed_point
from idl_cli.equilibrium.result import SolveStatus
from idl_cli.equilibrium.settings import FixedPointSettings
from idl_cli.errors import ArgumentError, ShapeError

METHODS = pytest.mark.parametrize("method", ["picard", "anderson"])


class AffineTanh(SampleMap):
    """x ↦ tanh(Ax + b), with ‖A‖∞ as asked."""

    def __init__(self, matrix: Tensor, offset: Tensor) -> None:
        self.matrix = matrix
        self.offset = offset

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.addmm(self.offset, x, self.matrix.t(), out=out).tanh_()

    def restrict(self, samples: Tensor) -> "AffineTanh":
        return AffineTanh(self.matrix, self.offset[samples])


def contraction(samples: int = 20, size: int = 8, norm: float = 0.9, seed: int = 0) -> AffineTanh:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(size, size, generator=generator, dtype=torch.float64) - 0.3
    matrix *= norm / matrix.abs().sum(dim=1, keepdim=True)
    offset = torch.randn(samples, size, generator=generator, dtype=torch.float64)
    # Easy and hard samples side by side: some finish long before others.
    offset *= torch.logspace(-6, 1, samples, dtype=torch.float64)[:, None]
    return AffineTanh(matrix, offset)


def relative_residuals(function: SampleMap, x: Tensor) -> Tensor:
    image = function(x)
    change = (image - x).abs().amax(dim=1)
    return change / torch.maximum(image.abs().amax(dim=1), change)


@METHODS
@pytest.mark.parametrize("tol", [1e-3, 1e-8, 1e-13])
def test_the_reported_residuals_are_those_of_the_value(method: str, tol: float) -> None:
    function = contraction()
    result = solve_fixed_point(
        function, torch.zeros(20, 8).double(), FixedPointSettings(method, tol=tol)
    )
    assert result.status is SolveStatus.CONVERGED
    assert bool(result.converged.all())
    assert float(result.residuals.max()) <= tol
    # Another order of summation changes a residual by rounding, 1e-16 or so.
    torch.testing.assert_close(
        result.residuals, relative_residuals(function, result.value), rtol=0, atol=1e-15
    )


@given(seed=st.integers(0, 1000), norm=st.floats(0.05, 0.99), start=st.floats(-50, 50))
@settings(deadline=None, max_examples=40)
def test_methods_and_starts_agree_within_the_contraction_bound(
    seed: int, norm: float, start: float
) -> None:
    function = contraction(samples=6, norm=norm, seed=seed)
    zero = torch.zeros(6, 8, dtype=torch.float64)
    tol = 1e-10
    values = [
        solve_fixed_point(function, begin, FixedPointSettings(method, max_iter=5000, tol=tol)).value
        for method in ("picard", "anderson")
        for begin in (zero, zero + start)
    ]
    # ‖x − x*‖ ≤ residual / (1 − κ) each, with |x| ≤ 1 after tanh.
    bound = 2 * 2 * tol / (1 - norm)
    for value in values[1:]:
        assert float((value - values[0]).abs().max()) <= bound


@METHODS
def test_a_sample_does_not_depend_on_its_companions(method: str) -> None:
    function = contraction()
    settings = FixedPointSettings(method, tol=1e-6)
    together = solve_fixed_point(function, torch.zeros(20, 8).double(), settings)
    assert len(set(together.iterations.tolist())) > 2, "the samples must differ in difficulty"
    for sample in range(20):
        alone = solve_fixed_point(
            function.restrict(torch.tensor([sample])), torch.zeros(1, 8).double(), settings
        )
        assert int(alone.iterations) == int(together.iterations[sample])
        # Products of other sizes round differently; nothing else may differ.
        torch.testing.assert_close(alone.value[0], together.value[sample], rtol=1e-12, atol=1e-12)


@METHODS
def test_a_plain_function_gives_what_a_restrictable_map_gives(method: str) -> None:
    function = contraction()
    settings = FixedPointSettings(method, tol=1e-9)
    start = torch.zeros(20, 8).double()
    restricted = solve_fixed_point(function, start, settings)
    plain = solve_fixed_point(lambda x: function(x), start, settings)
    assert torch.equal(plain.iterations, restricted.iterations)
    torch.testing.assert_close(plain.value, restricted.value, rtol=1e-12, atol=1e-12)


def test_iterations_count_the_evaluations_of_the_map() -> None:
    function = contraction()
    rows = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal rows
        rows += 1
        return function(x)

    result = solve_fixed_point(counted, torch.zeros(20, 8).double(), FixedPointSettings())
    assert int(result.iterations.max()) == rows


@METHODS
def test_max_iter_is_kept_and_told(method: str) -> None:
    function = contraction(norm=0.99)
    settings = FixedPointSettings(method, max_iter=3, tol=1e-12)
    result = solve_fixed_point(function, torch.ones(20, 8).double(), settings)
    assert result.status is SolveStatus.MAX_ITERATIONS
    assert int(result.iterations.max()) == 3
    torch.testing.assert_close(
        result.residuals, relative_residuals(function, result.value), rtol=0, atol=1e-15
    )
    assert torch.equal(result.converged, result.residuals <= 1e-12)


@METHODS
def test_a_non_finite_sample_fails_alone(method: str) -> None:
    function = contraction()
    clean = solve_fixed_point(function, torch.zeros(20, 8).double(), FixedPointSettings(method))
    function.offset[7, 2] = math.nan
    result = solve_fixed_point(function, torch.zeros(20, 8).double(), FixedPointSettings(method))
    assert result.status is SolveStatus.NON_FINITE
    assert (~result.converged).nonzero().flatten().tolist() == [7]
    assert bool(result.residuals[7].isnan())
    others = torch.arange(20) != 7
    torch.testing.assert_close(result.value[others], clean.value[others], rtol=1e-12, atol=1e-12)


@METHODS
def test_a_divergent_map_ends_as_non_finite(method: str) -> None:
    settings = FixedPointSettings(method, max_iter=500)
    # x ↦ x² + 1 has no real fixed point and overflows from anywhere.
    result = solve_fixed_point(lambda x: x.square() + 1, torch.ones(2, 3), settings)
    assert result.status in (SolveStatus.NON_FINITE, SolveStatus.MAX_ITERATIONS)
    assert not bool(result.converged.any())
    if method == "picard":
        assert result.status is SolveStatus.NON_FINITE


def test_a_given_scale_replaces_one_plus_the_norm() -> None:
    function = contraction()
    scale = torch.full((20,), 1e-3, dtype=torch.float64)
    result = solve_fixed_point(
        function, torch.zeros(20, 8).double(), FixedPointSettings(tol=1e-6), scale=scale
    )
    absolute = (function(result.value) - result.value).abs().amax(dim=1)
    assert float(absolute.max()) <= 1e-9
    torch.testing.assert_close(result.residuals, absolute / 1e-3, rtol=0, atol=1e-12)


@METHODS
def test_the_start_is_not_overwritten_nor_returned(method: str) -> None:
    start = torch.zeros(3, 2)
    result = solve_fixed_point(lambda x: 0 * x, start, FixedPointSettings(method))
    assert bool((start == 0).all())
    result.value.add_(1)
    assert bool((start == 0).all())


def test_an_empty_batch_has_converged() -> None:
    function = contraction(samples=1)
    nothing = function.restrict(torch.zeros(0, dtype=torch.int64))
    result = solve_fixed_point(nothing, torch.zeros(0, 8).double(), FixedPointSettings())
    assert result.status is SolveStatus.CONVERGED
    assert result.value.shape == (0, 8)


def test_float32_reaches_the_default_tolerance_for_large_inputs() -> None:
    function = contraction()
    function.offset *= 1e6
    single = AffineLinear(function.matrix.float(), function.offset.float())
    result = solve_fixed_point(single, torch.zeros(20, 8), FixedPointSettings())
    assert result.status is SolveStatus.CONVERGED


class AffineLinear(AffineTanh):
    """x ↦ Ax + b."""

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.addmm(self.offset, x, self.matrix.t(), out=out)

    def restrict(self, samples: Tensor) -> "AffineLinear":
        return AffineLinear(self.matrix, self.offset[samples])


@METHODS
def test_a_linear_map_gives_the_solution_of_its_system(method: str) -> None:
    function = contraction()
    linear = AffineLinear(function.matrix, function.offset)
    result = solve_fixed_point(
        linear, torch.zeros(20, 8).double(), FixedPointSettings(method, tol=1e-13)
    )
    exact = torch.linalg.solve(torch.eye(8) - linear.matrix, linear.offset.t()).t()
    # The residual 1e-13 (1 + ‖x‖) grows by 1/(1 − 0.9) at most.
    torch.testing.assert_close(result.value, exact, rtol=2e-12, atol=2e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "newton"}, "'newton' is not known: choose one of picard, anderson"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"tol": 0.0}, "tol=0"),
        ({"tol": math.nan}, "tol=nan"),
        ({"window": 0}, "window=0"),
        ({"regularization": -1.0}, "regularization=-1"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        FixedPointSettings(**change)  # type: ignore[arg-type]


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"start has shape \(3,\)"):
        solve_fixed_point(torch.tanh, torch.zeros(3), FixedPointSettings())
    with pytest.raises(ShapeError, match=r"maps \(2, 3\) to \(2,\)"):
        solve_fixed_point(lambda x: x.sum(dim=1), torch.zeros(2, 3), FixedPointSettings())


def test_statuses_are_finished_sentences() -> None:
    for status in SolveStatus:
        assert status.value[0].isupper()
        assert status.value.endswith(".")
