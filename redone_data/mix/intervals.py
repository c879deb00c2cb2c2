"""Prediction intervals from the errors on held-out runs (split-conformal style), and the noise floor.

The half-width is the finite-sample quantile of the absolute held-out errors; with n runs it cannot promise more than
n / (n + 1), and says so in `coverage`.

Shapes: R runs, C candidates, D domains, M metrics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """The half-width of a metric's predictions.

    coverage: what it promises: the interval asked for, or n / (n + 1) where n runs cannot promise it (the half-width is
    then the largest error).
    """

    half_width: float
    coverage: float

    def at(self, weights_CD: Floats) -> Floats:
        """The half-width at each mixture."""
        return np.full(len(weights_CD), self.half_width)


def half_width_of(residuals_R: Floats, interval: float) -> tuple[float, float]:
    """The finite-sample quantile of absolute residuals, and the coverage it can promise.

    The ceil((n + 1) * interval)-th smallest of n; where n is too small for that to exist, the largest.

    >>> half_width_of(np.arange(1.0, 100.0), 0.95)
    (95.0, 0.95)
    >>> half_width_of(np.array([1.0, -3.0, 2.0]), 0.95)
    (3.0, 0.75)
    """
    count = len(residuals_R)
    rank = math.ceil((count + 1) * interval - 1e-9)
    width = float(np.sort(np.abs(residuals_R))[min(rank, count) - 1])
    return width, interval if rank <= count else count / (count + 1)


def noise_floor(losses_R: Floats, mixtures: Sequence[NDArray[np.int64]]) -> float | None:
    """The standard deviation over seeds of one mixture, pooled over the replicated ones; None: nothing is replicated.

    mixtures: the rows of each different mixture.
    """
    squares, freedom = 0.0, 0
    for rows in mixtures:
        if len(rows) > 1:
            squares += float(((losses_R[rows] - losses_R[rows].mean()) ** 2).sum())
            freedom += len(rows) - 1
    return math.sqrt(squares / freedom) if freedom else None
