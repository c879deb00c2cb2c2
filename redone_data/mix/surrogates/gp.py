"""A Gaussian process on the square roots of the weights: no form assumed, and its own idea of how sure it is.

Constant mean, Matern 5/2 with a length for each domain, noise; lengths, signal and noise by penalised marginal
likelihood with its analytic gradient (Rasmussen and Williams 2006, chapter 5), on a drawn subset of the runs where
these are many. The square root spreads small weights apart, where most of a loss is decided.

Shapes: R runs, C candidates, D domains, H hyperparameters (log length_1..D, log signal, log noise).
"""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from redone_data.mix.surrogates.base import NOTHING, SMALLEST, Beside, Fitted, Floats, Surrogate

JITTER = 1e-6  # of the signal's variance: keeps equal mixtures from making the kernel singular
ROOT5 = np.sqrt(5.0)


@final
@dataclass(frozen=True)
class GaussianProcess(Surrogate):
    """Matern 5/2 on sqrt(w), hyperparameters drawn to their centres; losses are scaled to a standard deviation of one.

    length, signal, noise: centres; width: how far they may lie from them, in logarithms.
    likelihood_runs: hyperparameters are learnt on at most so many runs.
    iterations: of L-BFGS.
    """

    name: ClassVar[str] = "gp"
    length: float = 1.0
    signal: float = 1.0
    noise: float = 0.1
    width: float = 1.0
    likelihood_runs: int = 256
    iterations: int = 15

    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator, beside: Beside = NOTHING) -> Fitted:
        return self.fit_process(weights_RD, losses_R, rng)

    def fit_process(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator) -> "Process":
        """The same, with the type that says more."""
        mean, scale = float(losses_R.mean()), float(losses_R.std())
        domains = weights_RD.shape[1]
        centre_H = np.log([*[self.length] * domains, self.signal, self.noise])
        if scale <= 1e-12:
            return Process.at(centre_H, weights_RD, np.zeros_like(losses_R), mean, 0.0)
        target_R = (losses_R - mean) / scale
        rows_R = np.sort(rng.permutation(len(target_R))[: self.likelihood_runs])
        likelihood = _Likelihood(np.sqrt(weights_RD[rows_R]), target_R[rows_R], centre_H, self.width)
        bounds = [(centre - 4 * self.width, centre + 4 * self.width) for centre in centre_H]
        found = minimize(
            likelihood, centre_H, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": self.iterations}
        )
        return Process.at(found.x, weights_RD, target_R, mean, scale)


@final
class _Likelihood:
    """Minus the penalised log marginal likelihood of the hyperparameters, and its gradient."""

    def __init__(self, roots_RD: Floats, target_R: Floats, centre_H: Floats, width: float) -> None:
        self.roots_RD, self.target_R, self.centre_H, self.width = roots_RD, target_R, centre_H, width

    def __call__(self, hyper_H: Floats) -> tuple[float, Floats]:
        lengths_D, signal, noise = np.exp(hyper_H[:-2]), np.exp(2 * hyper_H[-2]), np.exp(2 * hyper_H[-1])
        scaled_RD = self.roots_RD / lengths_D
        shape_RR, slope_RR = _matern(_squared_distance(scaled_RD, scaled_RD))
        runs = len(self.target_R)
        kernel_RR = signal * shape_RR
        kernel_RR[np.diag_indices(runs)] += noise + JITTER * signal
        factor = cho_factor(kernel_RR, lower=True, check_finite=False)
        inverse_RR = cho_solve(factor, np.eye(runs), check_finite=False)
        alpha_R = inverse_RR @ self.target_R
        away_H = (hyper_H - self.centre_H) / self.width
        loss = 0.5 * self.target_R @ alpha_R + np.log(np.diag(factor[0])).sum() + 0.5 * away_H @ away_H
        # d loss / d K = (K^-1 - alpha alpha') / 2; what follows contracts it with dK / d hyper.
        outer_RR = (inverse_RR - np.outer(alpha_R, alpha_R)) / 2
        by_distance_RR = outer_RR * slope_RR * signal
        squares_D = by_distance_RR.sum(axis=1) @ scaled_RD**2
        gradient_H = np.empty_like(hyper_H)
        gradient_H[:-2] = -4 * (squares_D - ((by_distance_RR @ scaled_RD) * scaled_RD).sum(axis=0))
        gradient_H[-2] = 2 * ((outer_RR * shape_RR).sum() + JITTER * np.trace(outer_RR)) * signal
        gradient_H[-1] = 2 * np.trace(outer_RR) * noise
        return float(loss), gradient_H + away_H / self.width


@final
@dataclass(frozen=True)
class Process(Fitted):
    """The posterior: kernel weights alpha of the runs, and the factor of their kernel for the spread."""

    lengths_D: Floats
    signal: float
    noise: float
    scaled_RD: Floats
    alpha_R: Floats
    factor_RR: Floats
    mean: float
    scale: float

    @classmethod
    def at(cls, hyper_H: Floats, weights_RD: Floats, target_R: Floats, mean: float, scale: float) -> "Process":
        lengths_D, signal, noise = np.exp(hyper_H[:-2]), float(np.exp(2 * hyper_H[-2])), float(np.exp(2 * hyper_H[-1]))
        scaled_RD = np.sqrt(weights_RD) / lengths_D
        kernel_RR = signal * _matern(_squared_distance(scaled_RD, scaled_RD))[0]
        kernel_RR[np.diag_indices(len(target_R))] += noise + JITTER * signal
        factor_RR = np.asarray(np.linalg.cholesky(kernel_RR), dtype=np.float64)
        alpha_R = cho_solve((factor_RR, True), target_R, check_finite=False)
        return cls(lengths_D, signal, noise, scaled_RD, alpha_R, factor_RR, mean, scale)

    def predict(self, weights_CD: Floats) -> Floats:
        scaled_CD = np.sqrt(np.maximum(weights_CD, 0.0)) / self.lengths_D
        shape_CR, _ = _matern(_squared_distance(scaled_CD, self.scaled_RD))
        prediction_C: Floats = self.mean + self.scale * self.signal * (shape_CR @ self.alpha_R)
        return prediction_C

    def gradient(self, weights_CD: Floats) -> Floats:
        roots_CD = np.sqrt(np.maximum(weights_CD, SMALLEST))
        scaled_CD = np.sqrt(np.maximum(weights_CD, 0.0)) / self.lengths_D
        _, slope_CR = _matern(_squared_distance(scaled_CD, self.scaled_RD))
        pulls_CR = slope_CR * self.alpha_R
        by_scaled_CD = 2 * (scaled_CD * pulls_CR.sum(axis=1)[:, None] - pulls_CR @ self.scaled_RD)
        slopes_CD: Floats = self.scale * self.signal * by_scaled_CD / (2 * roots_CD * self.lengths_D)
        return slopes_CD

    def spread(self, weights_CD: Floats) -> Floats:
        return self.scale * np.sqrt(self.variance(weights_CD) + self.noise)

    def variance(self, weights_CD: Floats) -> Floats:
        """Of the surface, without noise, in scaled losses."""
        scaled_CD = np.sqrt(np.maximum(weights_CD, 0.0)) / self.lengths_D
        shape_CR, _ = _matern(_squared_distance(scaled_CD, self.scaled_RD))
        known_RC = solve_triangular(self.factor_RR, self.signal * shape_CR.T, lower=True, check_finite=False)
        variance_C: Floats = np.maximum(self.signal - (known_RC**2).sum(axis=0), 0.0)
        return variance_C


def _squared_distance(left_CD: Floats, right_RD: Floats) -> Floats:
    squared_CR = (left_CD**2).sum(axis=1)[:, None] + (right_RD**2).sum(axis=1) - 2 * (left_CD @ right_RD.T)
    clipped_CR: Floats = np.maximum(squared_CR, 0.0)
    return clipped_CR


def _matern(squared_CR: Floats) -> tuple[Floats, Floats]:
    """Matern 5/2 of the squared distance, and its derivative by the squared distance."""
    distance_CR = ROOT5 * np.sqrt(squared_CR)
    decay_CR = np.exp(-distance_CR)
    slope_CR: Floats = -5 / 6 * (1 + distance_CR) * decay_CR
    shape_CR: Floats = (1 + distance_CR + distance_CR**2 / 3) * decay_CR
    return shape_CR, slope_CR
