"""scikit-learn's checks of inputs, under the names of its versions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import validation

Matrix = npt.NDArray[np.float64]


def checked(estimator: BaseEstimator, X: Any, y: Any = None, *, reset: bool) -> Any:
    """X (m, p) and, where it is given, y as float64 arrays; see ``sklearn.utils.validation``.

    Args:
        estimator: remembers the number and the names of features where ``reset``.
        X: samples.
        y: real targets (m,) or (m, q); None for none.
        reset: whether this is a fit.
    """
    targets = {} if y is None else {"y": y, "multi_output": True, "y_numeric": True}
    current = getattr(validation, "validate_data", None)
    if current is not None:
        return current(estimator, X, reset=reset, dtype=np.float64, **targets)
    return estimator._validate_data(X, reset=reset, dtype=np.float64, **targets)  # before 1.6
