"""What every parametrization promises: where it starts, what it keeps, and its derivative."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from idl_cli.errors import ArgumentError
from idl_cli.models.parametrizations.base import Parametrization
from idl_cli.models.parametrizations.convolution_linf import ConvolutionLinf, Scale
from idl_cli.models.parametrizations.free import Free, FreeLowRank
from idl_cli.models.parametrizations.linf import Linf
from idl_cli.models.parametrizations.low_rank_linf import LowRankLinf
from idl_cli.models.parametrizations.triangular import Triangular

KAPPA = 0.8
SCALES = [Scale(2, 5, 4), Scale(3, 3, 2)]
ALL: dict[str, Parametrization] = {
    "free": Free(6, KAPPA),
    "free low rank": FreeLowRank(6, 2, KAPPA),
    "linf": Linf(6, KAPPA),
    "low rank": LowRankLinf(6, 2, KAPPA),
    "triangular": Triangular(6, KAPPA),
    "convolution": ConvolutionLinf([Scale(2, 4, 5)], 3, KAPPA),
    "groups": ConvolutionLinf([Scale(4, 4, 5)], 3, KAPPA, groups=2),
    "scales": ConvolutionLinf(SCALES, 3, KAPPA),
}
BOUNDED = ["linf", "low rank", "convolution", "groups", "scales"]


def drawn(name: str, scale: float, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        key: scale * torch.randn(shape, generator=generator).to(dtype)
        for key, shape in ALL[name].shapes.items()
    }


@pytest.mark.parametrize("name", ALL)
def test_it_starts_inside_its_set_with_half_the_norm(name: str) -> None:
    torch.manual_seed(0)
    parameters = {key: torch.empty(shape) for key, shape in ALL[name].shapes.items()}
    ALL[name].reset(parameters)
    before = {key: value.clone() for key, value in parameters.items()}
    ALL[name].project_(parameters)
    for key, value in parameters.items():
        torch.testing.assert_close(value, before[key], atol=0, rtol=0)
    norms = ALL[name].operator(parameters).row_norms()
    assert 0.05 * KAPPA < float(norms.max()) < KAPPA


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BOUNDED)
def test_stored_and_used_matrices_obey_the_bound_and_agree(name: str, dtype: torch.dtype) -> None:
    parameters = drawn(name, 2.0, dtype)
    used = ALL[name].operator(parameters)
    ALL[name].project_(parameters)
    stored = ALL[name].operator(parameters)
    torch.testing.assert_close(stored.to_dense(), used.to_dense(), atol=1e-6, rtol=0)
    # Summed in another order than they were projected in.
    assert float(stored.row_norms().max()) <= KAPPA * (1 + 1e-12)
    if name in ("linf", "convolution", "groups"):  # elsewhere the set is smaller than the ball
        assert float(stored.row_norms().max()) > 0.99 * KAPPA


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [0.01, 2.0])
def test_the_gradient_goes_through_the_projection(name: str, scale: float) -> None:
    parametrization, given = ALL[name], drawn(name, scale)

    def matrix(*values: Tensor) -> Tensor:
        return parametrization.operator(dict(zip(given, values, strict=True))).to_dense()

    values = [value.requires_grad_() for value in given.values()]
    assert gradcheck(matrix, values, fast_mode=True)


def test_a_convolution_is_projected_a_channel_at_a_time_over_all_scales() -> None:
    parameters = drawn("scales", 1.0)
    for key in parameters:  # of which one channel lies inside the ball already
        rows = parameters[key].transpose(0, 1) if key == "A_0_1" else parameters[key]
        if key.startswith("A_0"):
            rows[1] *= 1e-3
    before = {key: value.clone() for key, value in parameters.items()}
    ALL["scales"].project_(parameters)
    within = parameters["A_0_0"][1], parameters["A_0_1"][:, 1]
    torch.testing.assert_close(within, (before["A_0_0"][1], before["A_0_1"][:, 1]), atol=0, rtol=0)
    together = parameters["A_0_0"][0].abs().sum() + parameters["A_0_1"][:, 0].abs().sum()
    assert float(together) == pytest.approx(KAPPA, rel=1e-12)
    coarse = parameters["A_1_0"].abs().sum((1, 2, 3)) + parameters["A_1_1"].abs().sum((1, 2, 3))
    torch.testing.assert_close(coarse, torch.full_like(coarse, KAPPA))


@pytest.mark.parametrize(
    ("scales", "kernel", "groups", "said"),
    [
        ([Scale(2, 4, 4)], 2, 1, "kernel_size=2 must be odd"),
        ([Scale(3, 4, 4)], 3, 2, "groups=2 must divide the channels of a scale, 3"),
        ([Scale(2, 4, 4), Scale(2, 3, 2)], 3, 1, "no stride leads from images of 4 x 4 to 3 x 2"),
    ],
)
def test_scales_that_do_not_follow_from_each_other_are_refused(
    scales: list[Scale], kernel: int, groups: int, said: str
) -> None:
    with pytest.raises(ArgumentError, match=said):
        ConvolutionLinf(scales, kernel, KAPPA, groups=groups)
