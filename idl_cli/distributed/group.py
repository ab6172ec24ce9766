"""The processes that work on one job together, as seen from one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from idl_cli.distributed.environment import launched
from idl_cli.distributed.failure import has_lost_contact
from idl_cli.errors import PeerLostError

Backend = Literal["none", "gloo", "nccl"]
T = TypeVar("T")

_LARGE = 1 << 18
"""Bytes from which two ranks of gloo swap a tensor: one exchange both ways at once takes half the
time of the two phases of a ring, which send as much one after the other."""


@dataclass(frozen=True)
class Group:
    """The ranks of one job.

    Every method but ``is_main`` is collective: all ranks call it, in the same order. In a group of
    one, each returns at once what it was given.

    Attributes:
        rank: this process's number, from 0.
        size: number of processes.
        local_rank: this process's number on its machine.
        device: where this process computes.
        backend: what carries the messages; ``none`` in a group of one.
    """

    rank: int
    size: int
    local_rank: int
    device: torch.device
    backend: Backend

    @classmethod
    def single(cls, device: torch.device | str = "cpu") -> Group:
        """The group of this process alone; needs no torch.distributed."""
        return cls(rank=0, size=1, local_rank=0, device=torch.device(device), backend="none")

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and shows the progress: rank 0."""
        return self.rank == 0

    def all_reduce_sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks, in its own dtype.

        Float64 stays float64 on both backends, and every rank ends with the same bits.

        Args:
            tensors: same shapes and dtypes on all ranks.
        """
        if self.size == 1:
            return
        for tensor in tensors:
            carried = self._carried(tensor)
            with _carrying():
                if self._swaps(carried):
                    self._swap_and_add_(carried)
                else:
                    dist.all_reduce(carried)
            _return(carried, tensor)

    def broadcast_(self, tensor: Tensor, source: int = 0) -> None:
        """Replace ``tensor`` by that of rank ``source``; same shape and dtype on all ranks."""
        if self.size == 1:
            return
        carried = self._carried(tensor)
        with _carrying():
            dist.broadcast(carried, source)
        _return(carried, tensor)

    def gather_rows(self, tensor: Tensor) -> Tensor:
        """Return the rows of all ranks, in the order of ranks, on every rank.

        Args:
            tensor: shape (rows, …); ranks may hold different numbers of rows, also none. All but
                the first dimension and the dtype are the same on all ranks.

        Returns:
            Shape (sum of rows, …), on the device of ``tensor``.
        """
        if self.size == 1:
            return tensor
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = len(tensor)
        self.all_reduce_sum_([counts])
        rows = counts.tolist()
        whole = self._carried(tensor.new_empty((sum(rows), *tensor.shape[1:])))
        # One broadcast a rank, straight into its place: no padding to the longest share, no copies.
        for source, part in enumerate(torch.split(whole, rows)):
            if source == self.rank:
                part.copy_(tensor.detach())
            if part.numel():
                with _carrying():
                    dist.broadcast(part, source)
        return whole.to(tensor.device)

    def gather_equal(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all ranks along the first dimension, in one message.

        Args:
            tensor: (rows, …), of the same shape and dtype on all ranks.

        Returns:
            (size · rows, …), on the device of ``tensor``.
        """
        if self.size == 1:
            return tensor
        carried = self._carried(tensor)
        whole = carried.new_empty((self.size * len(carried), *carried.shape[1:]))
        with _carrying():
            dist.all_gather(list(torch.split(whole, len(carried))), carried)
        return whole.to(tensor.device)

    def exchange_equal(self, tensor: Tensor) -> Tensor:
        """Send one part to every rank and return what each has sent here, in one message.

        Args:
            tensor: (size · rows, …), the part for rank r at ``r · rows``; of the same shape and
                dtype on all ranks.

        Returns:
            Of the same shape, the part from rank r at ``r · rows``.
        """
        if self.size == 1:
            return tensor
        carried = self._carried(tensor)
        received = torch.empty_like(carried)
        with _carrying():
            dist.all_to_all_single(received, carried)
        return received.to(tensor.device)

    def gather_objects(self, value: T) -> list[T]:
        """Return the value of every rank, in the order of ranks, on every rank.

        Args:
            value: small and picklable: it travels between the processes of one job.
        """
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        with _carrying():
            dist.all_gather_object(gathered, value)
        return gathered

    def broadcast_object(self, value: T, source: int = 0) -> T:
        """Return the value of rank ``source``; what the others hand in is ignored."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        with _carrying():
            dist.broadcast_object_list(box, source)
        received: T = box[0]
        return received

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            ones = torch.ones(1, dtype=torch.int64)
            self.all_reduce_sum_([ones])  # unlike dist.barrier, needs no device of its own

    def _swaps(self, tensor: Tensor) -> bool:
        large = tensor.numel() * tensor.element_size() >= _LARGE
        return self.size == 2 and self.backend == "gloo" and large

    def _swap_and_add_(self, tensor: Tensor) -> None:
        """Sum of two ranks: a + b is b + a to the bit, so that one exchange does."""
        other, received = 1 - self.rank, torch.empty_like(tensor)
        sending = dist.isend(tensor, other)
        dist.recv(received, other)
        assert sending is not None
        sending.wait()
        tensor.add_(received)

    def _carried(self, tensor: Tensor) -> Tensor:
        """``tensor`` itself where the backend can carry it, else a copy that it can."""
        place = self.device if self.backend == "nccl" else torch.device("cpu")
        return tensor.detach().to(place).contiguous()


def current(device: torch.device | str = "cpu") -> Group:
    """The group that this process has joined; of itself alone if it has joined none.

    Args:
        device: where this process computes.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return Group.single(device)
    place = launched()
    return Group(
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        local_rank=0 if place is None else place.local_rank,
        device=torch.device(device),
        backend="nccl" if dist.get_backend() == "nccl" else "gloo",
    )


@contextmanager
def _carrying() -> Iterator[None]:
    """Call an error that says that another rank no longer answers by its name."""
    try:
        yield
    except RuntimeError as error:
        if not has_lost_contact(error):
            raise
        reason = (str(error).splitlines() or [""])[0]
        raise PeerLostError(f"another rank no longer answers: {reason}") from error


def _return(carried: Tensor, tensor: Tensor) -> None:
    if carried.data_ptr() != tensor.data_ptr():
        tensor.detach().copy_(carried)
