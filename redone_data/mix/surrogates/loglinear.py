"""The data mixing law L(w) = c + k exp(sum_j t_j w_j) (arXiv 2403.16952), regularised. 2 ms for 64 runs of 17 domains.

Shapes: R runs, C candidates, D domains, T parameters (c, log k, t_1..D).
"""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from scipy.optimize import least_squares

from redone_data.mix.surrogates.base import NOTHING, Beside, Fitted, Floats, Surrogate

LARGEST = 30.0  # of an exponent: beyond it a step of the fit overflows


@final
@dataclass(frozen=True)
class LogLinearLaw(Surrogate):
    """L(w) = c + k exp(sum_j t_j w_j) by regularised non-linear least squares, losses scaled to a sd of 0.5.

    The weights sum to one, so k only shifts every t_j; its centre and theirs make the fit unique. The published fit
    has no pull and many starts; on few runs it runs away.

    strength: weight of the pull of the parameters to their centres, in scaled losses for each width.
    starts: from the centre, and from so many less one random points near it.
    """

    name: ClassVar[str] = "loglinear"
    strength: float = 0.05
    starts: int = 2

    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator, beside: Beside = NOTHING) -> Fitted:
        mean, scale = float(losses_R.mean()), 2 * float(losses_R.std())
        domains = weights_RD.shape[1]
        centre_T, width_T = np.zeros(domains + 2), np.concatenate([[1.0, 1.0], np.full(domains, 2.0)])
        centre_T[0] = -1.0
        if scale <= 1e-12:
            return _LogLinear(centre_T, mean, 0.0)
        target_R = (losses_R - mean) / scale
        pull_T = self.strength / width_T

        def residuals(theta_T: Floats) -> Floats:
            return np.concatenate([theta_T[0] + _height(theta_T, weights_RD) - target_R, pull_T * (theta_T - centre_T)])

        def jacobian(theta_T: Floats) -> Floats:
            height_R = _height(theta_T, weights_RD)
            data_RT = np.column_stack([np.ones(len(height_R)), height_R, height_R[:, None] * weights_RD])
            return np.concatenate([data_RT, np.diag(pull_T)])

        best_cost, best_T = np.inf, centre_T
        for start in range(self.starts):
            begin_T = centre_T + (rng.normal(size=centre_T.size) * np.minimum(width_T, 1.0) if start else 0.0)
            found = least_squares(residuals, begin_T, jacobian, method="lm", xtol=1e-7, ftol=1e-8, max_nfev=200)
            if np.isfinite(found.cost) and found.cost < best_cost:
                best_cost, best_T = float(found.cost), found.x
        return _LogLinear(best_T, mean, scale)


@final
@dataclass(frozen=True)
class _LogLinear(Fitted):
    theta_T: Floats
    mean: float
    scale: float

    def predict(self, weights_CD: Floats) -> Floats:
        prediction_C: Floats = self.mean + self.scale * (self.theta_T[0] + _height(self.theta_T, weights_CD))
        return prediction_C

    def gradient(self, weights_CD: Floats) -> Floats:
        slopes_CD: Floats = self.scale * _height(self.theta_T, weights_CD)[:, None] * self.theta_T[2:]
        return slopes_CD


def _height(theta_T: Floats, weights_RD: Floats) -> Floats:
    height_R: Floats = np.exp(np.minimum(theta_T[1] + weights_RD @ theta_T[2:], LARGEST))
    return height_R
