"""Plain steps of a GPU, recorded once as a CUDA graph and replayed without a launch a kernel.

With few states a GPU waits for its launches: a step takes it a few microseconds, the two calls that
start it some ten. A graph of all steps from one look to the next is one call. It reads and writes
fixed addresses, so that a solve copies A, b and its iterates to memory of the graph's; and it has
fixed shapes, so that samples that are finished stay in their batch.
"""

from __future__ import annotations

import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from threading import Lock
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

Run: TypeAlias = Callable[[], None]
Record: TypeAlias = Callable[[Run], Run]
"""Takes what runs kernels on fixed memory, and returns what runs the same kernels again."""

_KEPT = 8  # shapes: those of two directions and of two sizes of batches, and as many again
# Multiplications of a step beyond which a GPU is at work for longer than a launch takes, at 20 to
# 40 Tflop/s: a bound, not a measurement.
_MULTIPLICATIONS = 2e9


class Recordable(Protocol):
    """A map x ↦ f(x) made of tensors alone."""

    @property
    def multiplications(self) -> int:
        """Those of one sample."""

    @property
    def structure(self) -> Hashable:
        """All but the tensors: maps of equal structures and shapes run the same kernels."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it is made of."""

    @property
    def form(self) -> Callable[[Sequence[Tensor]], Callable[[Tensor, Tensor], Tensor]]:
        """What makes the map of other tensors; that takes x (m, n), and where f(x) may be held.

        It holds none of this one's.
        """


class StepGraphs:
    """The recorded steps of one model's solves; copies and pickles of it have recorded nothing.

    Args:
        record: what records.
        device_type: where.
    """

    def __init__(self, record: Record | None = None, device_type: str = "cuda") -> None:
        self._record = record or cuda_graph
        self._device_type = device_type
        self._kept: OrderedDict[Hashable, RecordedSteps] = OrderedDict()

    def __reduce__(self) -> tuple[type[StepGraphs], tuple[()]]:
        return StepGraphs, ()

    def serve(self, function: Recordable, x: Tensor) -> bool:
        """Whether steps from x (m, n) are recorded."""
        return (
            x.device.type == self._device_type
            and len(x) * function.multiplications <= _MULTIPLICATIONS
            and not (x.is_cuda and torch.cuda.is_current_stream_capturing())
        )

    def steps(self, function: Recordable, x: Tensor) -> RecordedSteps:
        """Return the steps of f from an x (m, n)."""
        shapes = tuple((each.shape, each.stride(), each.dtype) for each in function.tensors)
        key = (function.structure, shapes, x.shape, x.stride(), x.dtype, x.device)
        if key not in self._kept:
            self._kept[key] = RecordedSteps(function, x, self._record)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


class RecordedSteps:
    """Steps of one structure and shape, in memory of their own.

    Args:
        function: f.
        x: of the shape of its iterates (m, n).
        record: what records.
    """

    def __init__(self, function: Recordable, x: Tensor, record: Record) -> None:
        # What is made in inference mode could not be written to outside of it.
        with torch.inference_mode(False), torch.no_grad():
            self._tensors = [torch.empty_like(each) for each in function.tensors]
            self._x, self._spare = torch.empty_like(x), torch.empty_like(x)
        self._form = function.form
        self._loaded: weakref.ref[Recordable] | None = None
        self._lock = Lock()
        self._record = record
        self._replays: dict[int, Run] = {}
        self._failed = False

    def take(self, function: Recordable, x: Tensor, count: int) -> bool:
        """Take so many steps of f from x (m, n), in place.

        Args:
            function: f, of the structure and shapes of the first.
            x: iterates.
            count: of steps.

        Returns:
            False, after a warning, where they cannot be recorded.
        """
        here = torch.cuda.device_of(x)  # type: ignore[no-untyped-call]
        with self._lock, torch.no_grad(), here:
            return self._take(function, x, count)

    def _take(self, function: Recordable, x: Tensor, count: int) -> bool:
        if self._loaded is None or self._loaded() is not function:
            for mine, theirs in zip(self._tensors, function.tensors, strict=True):
                mine.copy_(theirs)
            self._loaded = weakref.ref(function)
        if count not in self._replays and not self._failed:
            try:
                self._replays[count] = self._record(partial(self._run, count))
            except RuntimeError as error:
                self._failed = True
                warnings.warn(
                    f"cuda_graphs=true: these steps cannot be recorded ({error}); their kernels "
                    "are launched one by one.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        if self._failed:
            return False
        self._x.copy_(x)
        self._replays[count]()
        x.copy_(self._x)
        return True

    def _run(self, count: int) -> None:
        # Made anew: what an operator derives from A and keeps would be of the first A.
        function = self._form(self._tensors)
        x, spare = self._x, self._spare
        for _ in range(count):
            x, spare = function(x, spare), x
        if x is not self._x:
            self._x.copy_(x)


def cuda_graph(run: Run) -> Run:
    """Record the kernels of ``run`` as a CUDA graph; return what replays it.

    Raises:
        RuntimeError: ``run`` does what cannot be recorded.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()  # libraries set themselves up on first use, which cannot be recorded
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Other threads, such as a loader that pins memory, go on meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        run()
    return graph.replay
