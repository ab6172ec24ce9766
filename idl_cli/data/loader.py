"""Batches whose order and content depend on (seed, epoch, batch) alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from idl_cli.data.images.augmentation import Augmentation
from idl_cli.data.mixing import Mixing
from idl_cli.data.preprocessing import Preprocessing
from idl_cli.data.randomness import Purpose, random_permutation
from idl_cli.data.split import Split
from idl_cli.distributed.sharding import share
from idl_cli.errors import ArgumentError


class BatchLoader:
    """Draws preprocessed batches from a part that is held in memory.

    No random state is carried along: the order is a function of (seed, epoch), an augmentation's
    numbers of (seed, epoch, batch). An interrupted epoch is therefore continued exactly with
    ``set_epoch(e)`` and ``iterate(k)``; nothing else needs saving. There are no worker processes:
    samples are gathered raw (8-bit pixels as such) and converted a batch at a time.

    Several processes that work on one batch together are ``ranks``: each draws the batches of one
    process and keeps its own part of every one. The parts of a batch are disjoint and consecutive,
    make up the batch, and differ by at most one sample in size; where a batch has fewer samples
    than there are ranks, some are empty. Where samples are mixed each rank draws whole batches:
    partners are of any part, so that a batch is the same on any number of ranks.

    Args:
        split: the samples.
        batch_size: samples in a batch, of all ranks together; the last batch of an epoch may be
            smaller.
        preprocessing: raw samples to model inputs.
        shuffle: a new order every epoch, or the stored order always.
        seed: integer from 0 to 2⁶⁴-1 behind the order and the augmentation.
        augmentation: applied to raw samples before the preprocessing.
        mixing: applied to whole batches of inputs and classes; targets are probabilities then.
        device: where batches are returned; the CPU by default.
        dtype: floating dtype of inputs; torch's default dtype by default. Real targets stay as
            stored, in float64 as a rule: metrics would otherwise be those of rounded targets.
        drop_last: leave out a smaller last batch.
        rank: which part of every batch to draw, from 0.
        ranks: number of parts of every batch; 1 draws whole batches.

    Raises:
        ArgumentError: ``batch_size`` or the seed is out of range, or no batch would be drawn.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        preprocessing: Preprocessing,
        shuffle: bool,
        seed: int,
        augmentation: Augmentation | None = None,
        mixing: Mixing | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        drop_last: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ArgumentError(f"batch_size={batch_size}: at least 1 is needed")
        if not 0 <= seed < 2**64:
            raise ArgumentError(f"seed={seed}: an integer from 0 to 2**64 - 1 is needed")
        self._split = split
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._augmentation = augmentation
        self._mixing = mixing
        self._device = torch.device(device)
        self._dtype = torch.get_default_dtype() if dtype is None else dtype
        self._drop_last = drop_last
        self._rank, self._ranks = rank, ranks
        self._preprocess = preprocessing.on(self._device, self._dtype)
        self._epoch = 0
        if len(self) == 0:
            raise ArgumentError(
                f"{len(split)} samples make no batch of {batch_size}"
                + (" (drop_last leaves out a smaller one)" if drop_last and len(split) else "")
            )

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(len(self._split), self._batch_size)
        return full + (rest > 0 and not self._drop_last)

    @property
    def batch_size(self) -> int:
        """Samples of all ranks in every batch but possibly the last."""
        return self._batch_size

    @property
    def samples(self) -> int:
        """Number of samples that all ranks together draw in an epoch."""
        count = len(self._split)
        return len(self) * self._batch_size if self._drop_last else count

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch the next iteration draws; it does not advance by itself."""
        if epoch < 0:
            raise ArgumentError(f"epoch={epoch}: a non-negative integer is needed")
        self._epoch = epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.iterate()

    def iterate(self, start_batch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw the epoch's batches from ``start_batch`` on, as if the earlier ones had been drawn.

        Yields:
            Inputs (b, *input_shape) and targets: (b,) int64, or (b, q) of their own dtype, or
            where samples are mixed (b, K) of the inputs' dtype; b is the size of this rank's part,
            which may be 0.
        """
        epoch = self._epoch  # a set_epoch during the iteration concerns the next one
        order = self._order(epoch)
        for batch in range(start_batch, len(self)):
            whole = order[batch * self._batch_size : (batch + 1) * self._batch_size]
            part = share(len(whole), self._rank, self._ranks)
            drawn = part if self._mixing is None else slice(0, len(whole))
            chosen = whole[drawn]
            inputs = self._split.inputs[chosen]
            targets = self._split.targets[chosen].to(self._device)
            if self._augmentation is not None:
                inputs = self._augmentation(inputs, (self._seed, epoch, batch), first=drawn.start)
            inputs = self._preprocess(inputs)
            if self._mixing is not None:
                inputs, targets = self._mixing(inputs, targets, (self._seed, epoch, batch))
                inputs, targets = inputs[part], targets[part]
            yield inputs, targets

    def _order(self, epoch: int) -> Tensor:
        count = len(self._split)
        if not self._shuffle:
            order = torch.arange(count)
        else:
            order = torch.from_numpy(random_permutation(count, Purpose.ORDER, self._seed, epoch))
        return order.to(self._split.inputs.device)
