"""Batches of sequences of unequal length, as rows that are computed on step by step.

What models work on is the layout of ``torch.nn.utils.rnn.PackedSequence``: samples sorted by
length, longest first, and the rows of all steps below each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from idl_cli.equilibrium.transforms import transforming
from idl_cli.errors import ArgumentError, ShapeError
from idl_cli.models.options import SequenceOutput as SequenceOutput


@dataclass(frozen=True)
class SequenceRows:
    """The rows of a batch of sequences.

    Attributes:
        rows: the values (rows, features), step after step.
        batch_sizes: samples still running at each step.
        order: indices of the sorted samples in the batch (m,), None where it is sorted already.
        inverse: the inverse permutation of ``order``.
        packed: whether the batch was given as a ``PackedSequence``.
    """

    rows: Tensor
    batch_sizes: tuple[int, ...]
    order: Tensor | None
    inverse: Tensor | None
    packed: bool

    @classmethod
    def of(
        cls, inputs: Tensor | PackedSequence, lengths: Tensor | None, features: int
    ) -> SequenceRows:
        """Lay out a batch.

        Args:
            inputs: (m, T, features), or packed.
            lengths: steps of each sample (m,), whole numbers from 1 to T; None where all have T.
            features: how many values a step must have.

        Raises:
            ShapeError: the inputs or the lengths have another shape or range.
        """
        if isinstance(inputs, PackedSequence):
            if lengths is not None:
                raise ShapeError("a PackedSequence knows its lengths: leave lengths out.")
            return cls._of_packed(inputs, features, packed=True)
        inputs = as_sequences(inputs, lengths, features)
        samples, steps = inputs.shape[:2]
        if lengths is None:
            rows = inputs.transpose(0, 1).reshape(steps * samples, features)
            return cls(rows, (samples,) * steps, None, None, packed=False)
        if transforming():  # packing has no forward mode, and no batching
            order = lengths.to(inputs.device).argsort(descending=True, stable=True)
            sizes = tuple(int((lengths > step).sum()) for step in range(int(lengths.max())))
            positions = _positions(order, sizes, steps)
            rows = inputs.flatten(0, 1).index_select(0, positions)
            return cls(rows, sizes, order, order.argsort(), packed=False)
        packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return cls._of_packed(packed, features, packed=False)

    @classmethod
    def _of_packed(cls, inputs: PackedSequence, features: int, *, packed: bool) -> SequenceRows:
        rows = inputs.data
        if rows.dim() != 2 or rows.shape[1] != features:
            raise ShapeError(
                f"the packed input has rows of shape {tuple(rows.shape)}; expected (rows, "
                f"{features})."
            )
        sizes = tuple(int(size) for size in inputs.batch_sizes)
        return cls(rows, sizes, inputs.sorted_indices, inputs.unsorted_indices, packed=packed)

    @property
    def samples(self) -> int:
        """Number of sequences m."""
        return self.batch_sizes[0]

    def sort(self, samples: Tensor) -> Tensor:
        """Bring one row a sample (m, k) from the batch's order into the sorted one."""
        return samples if self.order is None else samples.index_select(0, self.order)

    def unsort(self, samples: Tensor) -> Tensor:
        """Bring one row a sample (m, k) from the sorted order back into the batch's."""
        return samples if self.inverse is None else samples.index_select(0, self.inverse)

    def restore(self, rows: Tensor, steps: int | None) -> Tensor | PackedSequence:
        """Return rows (rows, k) in the form the batch was given in.

        Args:
            rows: one for each row of the batch.
            steps: T of a padded batch; None where it was packed.

        Returns:
            (m, T, k), zero beyond each sample's length; or a ``PackedSequence``.
        """
        if self.order is not None and steps is not None and transforming():
            padded = rows.new_zeros(self.samples * steps, rows.shape[1])
            padded = padded.index_copy(0, _positions(self.order, self.batch_sizes, steps), rows)
            return padded.reshape(self.samples, steps, -1)
        if self.packed or self.order is not None:
            sizes = torch.tensor(self.batch_sizes)
            packed = PackedSequence(rows, sizes, self.order, self.inverse)
            if self.packed:
                return packed
            return pad_packed_sequence(packed, batch_first=True, total_length=steps)[0]
        return rows.view(len(self.batch_sizes), self.samples, -1).transpose(0, 1)


def _positions(order: Tensor, batch_sizes: tuple[int, ...], steps: int) -> Tensor:
    """Return which row of the padded batch, sample after sample, each row is (rows,)."""
    return torch.cat([order[:size] * steps + step for step, size in enumerate(batch_sizes)])


def check_positive(sizes: Mapping[str, int]) -> None:
    """Raise ArgumentError unless every size, by its argument's name, is at least 1."""
    problems = [f"{name}={size} must be at least 1." for name, size in sizes.items() if size < 1]
    if problems:
        raise ArgumentError(" ".join(problems))


def as_sequences(inputs: Tensor, lengths: Tensor | None, features: int) -> Tensor:
    """Return the inputs as sequences (m, T, features), the lengths checked against them.

    Args:
        inputs: (m, T, features); images (m, channels, T, width) with channels · width = features
            are read row by row, vectors (m, T) number by number where there is one feature.
        lengths: whole numbers from 1 to T (m,), or None.
        features: values a step must have.

    Raises:
        ShapeError: the inputs are no such sequences, or the lengths do not fit them.
    """
    if inputs.dim() == 4 and inputs.shape[1] * inputs.shape[3] == features:
        inputs = inputs.transpose(1, 2).flatten(2)
    elif inputs.dim() == 2 and features == 1:
        inputs = inputs[:, :, None]
    _check_sequences(inputs, lengths, features)
    return inputs


def _check_sequences(inputs: Tensor, lengths: Tensor | None, features: int) -> None:
    if inputs.dim() != 3 or inputs.shape[2] != features or 0 in inputs.shape:
        raise ShapeError(
            f"the input has shape {tuple(inputs.shape)}; expected sequences as (samples, steps, "
            f"{features}), with at least one sample and one step."
        )
    if lengths is None:
        return
    samples, steps = inputs.shape[:2]
    if tuple(lengths.shape) != (samples,) or lengths.is_floating_point():
        raise ShapeError(
            f"lengths is {lengths.dtype} of shape {tuple(lengths.shape)}; expected whole numbers, "
            f"one for each of the {samples} samples."
        )
    least, most = int(lengths.min()), int(lengths.max())
    if least < 1 or most > steps:
        raise ShapeError(
            f"lengths lie between {least} and {most}; the input has {steps} steps, so they must "
            f"lie between 1 and {steps}."
        )
