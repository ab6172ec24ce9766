"""Which part of a whole each rank works on."""

from __future__ import annotations

from idl_cli.errors import ArgumentError


def share(count: int, rank: int, size: int) -> slice:
    """Return the contiguous share of ``count`` items that belongs to ``rank``.

    Shares differ by one item at most, the larger ones first; with fewer items than ranks the last
    shares are empty. Together, in the order of ranks, they are the whole, so that what
    ``Group.gather_rows`` puts together is in the order of the items.

    Args:
        count: number of items.
        rank: from 0 to ``size - 1``.
        size: number of ranks.

    Raises:
        ArgumentError: there is no such rank, or ``count`` is negative.
    """
    if count < 0 or not 0 <= rank < size:
        raise ArgumentError(
            f"share(count={count}, rank={rank}, size={size}): count must not be negative, and rank "
            "must be from 0 to size - 1"
        )
    quotient, remainder = divmod(count, size)
    start = rank * quotient + min(rank, remainder)
    return slice(start, start + quotient + (rank < remainder))
