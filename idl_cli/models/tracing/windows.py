"""Where the windows of a convolution or pooling lie along one axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idl_cli.errors import UnsupportedModelError


@dataclass(frozen=True)
class Axis:
    """Windows along one axis of an image or a series.

    Attributes:
        size: entries of the axis.
        kernel: entries of a window.
        stride: from one window to the next.
        before: padding before the first entry.
        after: padding behind the last.
        dilation: from one entry of a window to the next.
        ceil: whether the last window may hang over, as torch's ``ceil_mode`` lets it.
    """

    size: int
    kernel: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1
    ceil: bool = False

    @property
    def windows(self) -> int:
        """How many there are.

        Raises:
            UnsupportedModelError: the axis is shorter than a window.
        """
        room = self.size + self.before + self.after - self.dilation * (self.kernel - 1) - 1
        if room < 0:
            raise UnsupportedModelError(
                f"a window of {self.kernel} entries {self.dilation} apart is longer than an axis "
                f"of {self.size} with padding {self.before} and {self.after}"
            )
        if not self.ceil:
            return room // self.stride + 1
        count = -(-room // self.stride) + 1
        # A window that begins behind the entries and the padding before them is left out.
        return count - ((count - 1) * self.stride >= self.size + self.before)

    @property
    def starts(self) -> np.ndarray:
        """Where each window begins, negative in the padding (windows,)."""
        return np.arange(self.windows) * self.stride - self.before

    @property
    def entries(self) -> np.ndarray:
        """The entries of each window, −1 for those of the padding (windows, kernel)."""
        places = self.starts[:, None] + np.arange(self.kernel) * self.dilation
        return np.where((places >= 0) & (places < self.size), places, -1)

    @property
    def padded_counts(self) -> np.ndarray:
        """Entries of each window within the axis and its padding (windows,)."""
        starts = self.starts
        counts: np.ndarray = np.minimum(starts + self.kernel, self.size + self.after) - starts
        return counts


def adaptive_entries(size: int, windows: int) -> np.ndarray:
    """Entries of the windows of adaptive pooling, −1 behind shorter ones (windows, longest)."""
    number = np.arange(windows)
    starts, stops = number * size // windows, -(-(number + 1) * size // windows)
    places = starts[:, None] + np.arange((stops - starts).max(initial=0))
    return np.where(places < stops[:, None], places, -1)
