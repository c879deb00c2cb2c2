"""Ridge regression on the weights: the baseline that must be beaten. 1 ms a fit at any size."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from redone_data.mix.surrogates.base import NOTHING, Beside, Fitted, Floats, Surrogate


@final
@dataclass(frozen=True)
class LinearSurrogate(Surrogate):
    """Ridge regression on the weights; its penalty is the one with the least leave-one-out error, in closed form.

    penalties: tried, as multiples of the largest squared singular value of the centred weights.
    """

    name: ClassVar[str] = "linear"
    penalties: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)

    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator, beside: Beside = NOTHING) -> Fitted:
        mean_D, mean = weights_RD.mean(axis=0), float(losses_R.mean())
        left_RK, singular_K, right_KD = np.linalg.svd(weights_RD - mean_D, full_matrices=False)
        if singular_K[0] <= 1e-12:
            return _Linear(mean_D, np.zeros_like(mean_D), mean)
        projected_K = left_RK.T @ (losses_R - mean)
        best_error, best_D = np.inf, np.zeros_like(mean_D)
        for penalty in self.penalties:
            shrink_K = singular_K**2 / (singular_K**2 + penalty * singular_K[0] ** 2)
            leverage_R = (left_RK**2 * shrink_K).sum(axis=1) + 1 / len(losses_R)
            residual_R = (losses_R - mean - left_RK @ (shrink_K * projected_K)) / np.maximum(1 - leverage_R, 1e-6)
            error = float((residual_R**2).mean())
            if error < best_error:
                inverse_K = singular_K / (singular_K**2 + penalty * singular_K[0] ** 2)
                best_error, best_D = error, right_KD.T @ (inverse_K * projected_K)
        return _Linear(mean_D, best_D, mean)


@final
@dataclass(frozen=True)
class _Linear(Fitted):
    mean_D: Floats
    slope_D: Floats
    intercept: float

    def predict(self, weights_CD: Floats) -> Floats:
        prediction_C: Floats = self.intercept + (weights_CD - self.mean_D) @ self.slope_D
        return prediction_C

    def gradient(self, weights_CD: Floats) -> Floats:
        return np.tile(self.slope_D, (len(weights_CD), 1))
