"""How well held-out runs are predicted, and whether chance alone would do as well.

Shapes: R runs.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONSTANT = 1e-12  # a spread below this share of the values is rounding
# How often a rank correlation of noise may pass. Held-out predictions vary more than independent ones: two to three
# times as many pass.
CHANCE = 0.005
# Fewer mixtures have too few orders for any of them to be rarer than CHANCE: 5! = 120, 6! = 720.
MIN_RANKED = 6


def spearman(predicted_R: Floats, measured_R: Floats) -> float:
    """Rank correlation; 0 where either side is constant, for a constant ranks nothing."""
    if is_constant(predicted_R) or is_constant(measured_R):
        return 0.0
    return float(np.corrcoef(_ranks(predicted_R), _ranks(measured_R))[0, 1])


def chance_rank(mixtures: int) -> float:
    """The rank correlation that noise exceeds with probability CHANCE; above 1 where even a perfect order may be luck.

    >>> [round(chance_rank(mixtures), 2) for mixtures in (4, 12, 20, 64)]
    [1.1, 0.71, 0.56, 0.32]
    """
    if mixtures < MIN_RANKED:
        return 1.1
    from scipy.special import stdtrit  # scipy.stats has it too, and takes most of a second to load

    quantile = float(stdtrit(mixtures - 2, 1 - CHANCE))
    return quantile / math.sqrt(mixtures - 2 + quantile**2)


def r_squared(predicted_R: Floats, measured_R: Floats) -> float:
    """Share of the variance that is predicted; 0 where there is none, below 0 where the mean predicts better."""
    if is_constant(measured_R):
        return 0.0
    return 1 - float(((measured_R - predicted_R) ** 2).mean() / measured_R.var())


def rmse(predicted_R: Floats, measured_R: Floats) -> float:
    """Root mean squared error."""
    return float(np.sqrt(((measured_R - predicted_R) ** 2).mean()))


def mean_error(predicted_R: Floats, measured_R: Floats) -> float:
    """Mean absolute error."""
    return float(np.abs(measured_R - predicted_R).mean())


def is_constant(values: Floats) -> bool:
    """Whether all values are one, but for rounding."""
    return bool(np.ptp(values) <= CONSTANT * max(1.0, float(np.abs(values).max())))


def _ranks(values: Floats) -> Floats:
    """From one; equal values share the mean of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return ranks
