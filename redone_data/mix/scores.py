"""How well held-out runs are predicted, and whether chance alone would do as well.

Shapes: R runs.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONSTANT = 1e-12  # a spread below this share of the values is rounding
CHANCE = 0.01  # how often a rank correlation of noise may pass
# Fewer mixtures have too few orders for any of them to be rarer than CHANCE: 4! = 24, 5! = 120.
MIN_RANKED = 5


def spearman(predicted_R: Floats, measured_R: Floats) -> float:
    """Rank correlation; 0 where either side is constant, for a constant ranks nothing."""
    if is_constant(predicted_R) or is_constant(measured_R):
        return 0.0
    from scipy.stats import rankdata  # half a second, and every command reads recipes

    return float(np.corrcoef(rankdata(predicted_R), rankdata(measured_R))[0, 1])


def chance_rank(mixtures: int) -> float:
    """The rank correlation that noise exceeds with probability CHANCE; above 1 where even a perfect order may be luck.

    >>> [round(chance_rank(mixtures), 2) for mixtures in (4, 12, 20, 64)]
    [1.1, 0.66, 0.52, 0.29]
    """
    if mixtures < MIN_RANKED:
        return 1.1
    from scipy.stats import t

    quantile = float(t.ppf(1 - CHANCE, mixtures - 2))
    return quantile / math.sqrt(mixtures - 2 + quantile**2)


def r_squared(predicted_R: Floats, measured_R: Floats) -> float:
    """Share of the variance that is predicted; 0 where there is none, below 0 where the mean predicts better."""
    if is_constant(measured_R):
        return 0.0
    return 1 - float(((measured_R - predicted_R) ** 2).mean() / measured_R.var())


def rmse(predicted_R: Floats, measured_R: Floats) -> float:
    """Root mean squared error."""
    return float(np.sqrt(((measured_R - predicted_R) ** 2).mean()))


def is_constant(values: Floats) -> bool:
    """Whether all values are one, but for rounding."""
    return bool(np.ptp(values) <= CONSTANT * max(1.0, float(np.abs(values).max())))
