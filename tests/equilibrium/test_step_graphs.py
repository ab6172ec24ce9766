"""Recorded steps reach the same fixed points, from memory of their own."""

import copy
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from idl_cli import ImplicitModel
from idl_cli.equilibrium.activations import get_activation
from idl_cli.equilibrium.gradient.implicit_gradient import equilibrium
from idl_cli.equilibrium.operators import DenseOperator, Operator, SparseOperator, SparsePattern
from idl_cli.equilibrium.problem import EquilibriumProblem, StateMap
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.equilibrium.statistics import SolveStatistics
from idl_cli.equilibrium.step_graphs import Run, StepGraphs
from tests.equilibrium.operators.matrices import SQUARE
from tests.equilibrium.operators.test_operators import scaled

SAMPLES, STATES, TOL = 9, 32, 1e-11
ITERATED = [name for name, case in SQUARE.items() if not case.make(*case.factors).nilpotent]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Tape(TorchDispatchMode):
    """Writes down what is computed, to compute it again into the same memory, as a CUDA graph does.

    Python that ran beside it does not run again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], Sequence[Any], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            if isinstance(result, Tensor) and again is not result:
                result.copy_(again)


class Recorder:
    """Records on a ``Tape``; counts what it records and what is run again."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, run: Run) -> Run:
        self.recorded += 1
        tape = Tape()
        with tape:
            run()

        def replay() -> None:
            self.replayed += 1
            tape.replay()

        return replay


def on_cpu(recorder: Callable[[Run], Run]) -> StepGraphs:
    return StepGraphs(recorder, "cpu")


def rows_within(matrix: Tensor, norm: float) -> Tensor:
    return matrix * (norm / matrix.abs().sum(dim=1, keepdim=True))


def operator_of(kind: str, seed: int) -> Operator:
    """One with ‖A‖∞ = 0.7 at most; the smaller the larger the seed is."""
    case = SQUARE[kind]
    return case.make(*(0.99**seed * factor for factor in scaled(case)))


def solved(
    operator: Operator, seed: int, graphs: StepGraphs | None, device: str = "cpu"
) -> tuple[Tensor, ...]:
    """x, and the gradients of b and A's factors."""
    generator = torch.Generator().manual_seed(seed)
    shape = SAMPLES, operator.size
    offset, weight = (torch.randn(shape, generator=generator).double().to(device) for _ in range(2))
    offset *= torch.linspace(0, 1, SAMPLES, device=device)[:, None]  # the first is done at once
    factors = [each.detach().to(device).requires_grad_() for each in operator.factors]
    x = equilibrium(
        operator.form(*factors),
        offset.requires_grad_(),
        get_activation("tanh"),
        forward=FixedPointSettings(tol=TOL),
        backward=AdjointSettings(tol=TOL),
        statistics=SolveStatistics(),
        graphs=graphs,
    )
    return x.detach(), *torch.autograd.grad(x, [offset, *factors], weight)


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    # Each within TOL of the same fixed point, at a contraction of 0.6.
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other.cpu(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ITERATED)
def test_they_reach_the_same_fixed_points_and_gradients(kind: str) -> None:
    recorder = Recorder()
    graphs = on_cpu(recorder)
    first = operator_of(kind, 0)
    for seed in range(3):
        operator = first.form(*(each * 0.999**seed for each in first.factors))
        assert_same(solved(operator, seed, graphs), solved(operator, seed, None))
        if not seed:
            before = recorder.recorded
            assert before > 0
    assert recorder.recorded <= 2 * before  # most lengths are known by then
    assert recorder.replayed > recorder.recorded


def test_a_result_outlives_the_next_solve() -> None:
    graphs = on_cpu(Recorder())
    first = solved(operator_of("dense", 0), 0, graphs)
    kept = [each.clone() for each in first]
    solved(operator_of("dense", 1), 1, graphs)
    assert all(torch.equal(one, other) for one, other in zip(first, kept, strict=True))


def test_another_pattern_of_as_many_entries_is_recorded_anew() -> None:
    matrix = rows_within(torch.randn(STATES, STATES).double(), 0.6)
    kept = torch.zeros(STATES, STATES, dtype=torch.bool)
    kept[:, :3] = True
    graphs = on_cpu(Recorder())
    for columns in (0, 7):
        pattern = SparsePattern.of(matrix * kept.roll(columns, dims=1))
        operator = SparseOperator(pattern.values(matrix), pattern)
        assert_same(solved(operator, 0, graphs), solved(operator, 0, None))


def test_what_is_recorded_in_inference_mode_serves_training() -> None:
    graphs, operator = on_cpu(Recorder()), operator_of("dense", 0)
    offset = torch.randn(SAMPLES, operator.size).double()
    with torch.inference_mode():
        equilibrium(operator, offset, get_activation("tanh"), graphs=graphs)
    assert_same(solved(operator, 0, graphs), solved(operator, 0, None))


def test_maps_that_take_turns_are_not_mixed_up() -> None:
    graphs, operator = on_cpu(Recorder()), operator_of("dense", 0)
    problem = EquilibriumProblem(
        DenseOperator, get_activation("tanh"), *(FixedPointSettings(), AdjointSettings()), None
    )
    offsets = torch.randn(2, SAMPLES, operator.size).double()
    maps = [StateMap(replace(problem, graphs=graphs), operator, b) for b in offsets]
    plain = [StateMap(problem, operator, b) for b in offsets]
    iterates = torch.zeros(2, 2, SAMPLES, operator.size).double()
    for _ in range(3):
        for turn in (0, 1):
            for function, x in ((maps[turn], iterates[0, turn]), (plain[turn], iterates[1, turn])):
                x.copy_(function.repeated(x, torch.empty_like(x), 4)[0])
    torch.testing.assert_close(iterates[0], iterates[1])


def test_slow_spectra_go_over_to_coarse_steps() -> None:
    matrix = torch.rand(STATES, STATES).double()
    operator = DenseOperator(matrix * (0.99 / torch.linalg.eigvals(matrix).abs().max()))
    found = solved(operator, 0, on_cpu(Recorder()))
    expected = solved(operator, 0, None)
    # The conditioning is 1/(1 - 0.99).
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)


def test_few_shapes_are_kept() -> None:
    recorder = Recorder()
    graphs = on_cpu(recorder)
    relu, operator = get_activation("relu"), operator_of("dense", 0)
    for samples in (*range(1, 12), 11, 11):
        equilibrium(operator, torch.randn(samples, operator.size).double(), relu, graphs=graphs)
    assert len(graphs._kept) == 8
    before = recorder.recorded
    equilibrium(operator, torch.randn(1, operator.size).double(), relu, graphs=graphs)
    assert recorder.recorded > before  # long gone


def test_what_cannot_be_recorded_is_run_and_said_once() -> None:
    def refuses(run: Run) -> Run:
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs, operator = on_cpu(refuses), operator_of("dense", 0)
    with pytest.warns(RuntimeWarning, match="cuda_graphs=true.*not permitted"):
        found = solved(operator, 0, graphs)
    assert_same(found, solved(operator, 0, None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solved(operator, 1, graphs)


def test_models_are_copied_and_pickled_without_what_was_recorded() -> None:
    model = ImplicitModel(4, 2, 8, cuda_graphs=True)
    assert model.constructor_arguments()["cuda_graphs"] is True
    model._graphs = on_cpu(Recorder())
    inputs = torch.randn(5, 4)
    expected = model(inputs)
    assert model._graphs._kept
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not other._graphs._kept
        torch.testing.assert_close(other(inputs), expected)


@CUDA
@pytest.mark.parametrize("kind", ["dense", "low rank", "convolution"])
def test_a_gpu_replays_them(kind: str) -> None:
    graphs = StepGraphs()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(3):
            operator = operator_of(kind, seed)
            found = solved(operator, seed, graphs, "cuda")
            assert_same(found, solved(operator, seed, None))
    assert all(steps._replays for steps in graphs._kept.values())
