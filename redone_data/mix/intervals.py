"""Prediction intervals from the errors on held-out runs, adapted to the mixture, and the noise floor.

Split-conformal style (Lei et al. 2018, doi:10.1080/01621459.2017.1307116): the half-width is a quantile of held-out
errors, each divided by the scale that is expected there. The scale is exp(slopes . features), fitted to the logarithms
of the errors: they grow with the predicted loss (the law is steep where helpful domains are absent) and with the
mixture's leverage, the distance from the middle of the runs in the directions they vary in. Below MIN_SCALED mixtures
the scale is one everywhere. With n runs nobody can promise more than n / (n + 1); `coverage` says what is promised.

Models of folds saw fewer runs than the final one and err more, so their errors are too wide by a few percent. How much
is known at no cost: the nested models saw fewer still, and the power law through both is drawn on to all runs
(`growth`).

On the published RegMix 1M tables (benchmarks/intervals.py, law_gp, 64 runs, mean of 50 draws and 13 metrics) the 95 %
intervals cover .950 at an interval score of .764; plain conformal .971 at .979, the Gaussian process's variance .927
at 1.438, the bootstrap .744 at .997.

Shapes: R runs, C candidates, D domains, F features.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

MIN_SCALED = 24
LEVERAGE_RIDGE = 1e-2  # of the mean variance
SLOPE_RIDGE = 20.0  # in runs: with that few, a slope is halved
OF_FEATURES = ("slopes", "middle", "width", "low", "high")
ERROR_FLOOR = 0.1  # of the median error: an error of nothing is luck, and has no logarithm


@dataclass(frozen=True, eq=False)
class Leverage:
    """How far a mixture lies from the middle of the runs, on square roots of weights; logarithm."""

    mean_D: Floats
    inverse_DD: Floats

    @classmethod
    def of(cls, weights_RD: Floats) -> "Leverage":
        roots_RD = np.sqrt(weights_RD)
        mean_D = roots_RD.mean(axis=0)
        around_RD = roots_RD - mean_D
        squares_DD = around_RD.T @ around_RD
        ridge = LEVERAGE_RIDGE * max(float(np.trace(squares_DD)) / len(mean_D), 1e-9)
        return cls(mean_D, np.linalg.inv(squares_DD + ridge * np.eye(len(mean_D))))

    def at(self, weights_CD: Floats) -> Floats:
        around_CD = np.sqrt(np.maximum(weights_CD, 0.0)) - self.mean_D
        log_C: Floats = np.log(np.einsum("cd,de,ce->c", around_CD, self.inverse_DD, around_CD) + 1e-6)
        return log_C


@dataclass(frozen=True, eq=False)
class Interval:
    """The half-widths of one metric's predictions.

    quantile: the half-width where the scale is one. coverage: what it promises: the interval asked for, or n / (n + 1)
    where n runs cannot promise it (it is then the largest error).
    slopes_F: of the logarithm of the scale, on features standardised by middle_F and width_F and held within low_F and
    high_F, what the runs have: beyond it nothing is known, so nothing is drawn on.
    """

    quantile: float
    coverage: float
    leverage: Leverage
    slopes_F: Floats
    middle_F: Floats
    width_F: Floats
    low_F: Floats
    high_F: Floats

    @classmethod
    def of(
        cls,
        weights_RD: Floats,
        predicted_R: Floats,
        losses_R: Floats,
        fold_R: Rows,
        mixtures: int,
        interval: float,
        growth: float,
    ) -> "Interval":
        """From held-out predictions, NaN where none is; growth: the final model's error as a share of a fold's."""
        log_leverage_R = np.empty_like(losses_R)
        for fold in range(int(fold_R.max()) + 1):
            out_R = fold_R == fold
            log_leverage_R[out_R] = Leverage.of(weights_RD[~out_R]).at(weights_RD[out_R])
        known_R = np.isfinite(predicted_R)
        features_RF = np.stack([predicted_R, log_leverage_R], axis=1)[known_R]
        error_R = np.abs(losses_R - predicted_R)[known_R]
        middle_F, width_F = features_RF.mean(axis=0), np.maximum(features_RF.std(axis=0), 1e-12)
        standard_RF = (features_RF - middle_F) / width_F
        slopes_F = np.zeros(2)
        if mixtures >= MIN_SCALED and error_R.max() > 0:
            log_R = np.log(error_R + max(ERROR_FLOOR * float(np.median(error_R)), 1e-9 * float(error_R.max())))
            squares_FF = standard_RF.T @ standard_RF + SLOPE_RIDGE * np.eye(2)
            slopes_F = np.linalg.solve(squares_FF, standard_RF.T @ (log_R - log_R.mean()))
        quantile, coverage = conformal_quantile(error_R / np.exp(standard_RF @ slopes_F), interval)
        return cls(
            quantile * growth,
            coverage,
            Leverage.of(weights_RD),
            slopes_F,
            middle_F,
            width_F,
            standard_RF.min(axis=0),
            standard_RF.max(axis=0),
        )

    def record(self) -> dict[str, Any]:
        """All but the leverage, which the runs' weights have."""
        named = {name: getattr(self, f"{name}_F").tolist() for name in OF_FEATURES}
        return {"quantile": self.quantile, "coverage": self.coverage, **named}

    @classmethod
    def read(cls, record: Mapping[str, Any], weights_RD: Floats) -> "Interval":
        """From its record and the runs."""
        named = {f"{name}_F": np.array(record[name]) for name in OF_FEATURES}
        return cls(quantile=record["quantile"], coverage=record["coverage"], leverage=Leverage.of(weights_RD), **named)

    def at(self, weights_CD: Floats, predicted_C: Floats) -> Floats:
        """The half-width at each mixture."""
        features_CF = np.stack([predicted_C, self.leverage.at(weights_CD)], axis=1)
        standard_CF = np.clip((features_CF - self.middle_F) / self.width_F, self.low_F, self.high_F)
        half_C: Floats = self.quantile * np.exp(standard_CF @ self.slopes_F)
        return half_C


def conformal_quantile(errors_R: Floats, interval: float) -> tuple[float, float]:
    """The finite-sample quantile of absolute errors, and the coverage it can promise.

    The (n + 1) * interval-th smallest of n, interpolated; where n is too small for that to exist, the largest.

    >>> conformal_quantile(np.arange(1.0, 100.0), 0.95)
    (95.0, 0.95)
    >>> conformal_quantile(np.array([1.0, 3.0, 2.0]), 0.95)
    (3.0, 0.75)
    """
    count, ascending_R = len(errors_R), np.sort(errors_R)
    rank = (count + 1) * interval
    if math.ceil(rank - 1e-9) > count:
        return float(ascending_R[-1]), count / (count + 1)
    return float(np.interp(rank, np.arange(1, count + 1), ascending_R)), interval


def growth(fold_errors: Floats, pair_errors: Floats, folds: int) -> float:
    """The error with all runs as a share of that with one fold left out; at most one.

    pair_errors: those with two folds left out. Error is taken for a power of the number of runs, at most the inverse:
    a steeper fall is a few pairs that went wrong (a planted law on 40 runs had intervals that covered .42).

    >>> round(growth(np.array([0.8]), np.array([1.0]), folds=5), 2)
    0.84
    >>> growth(np.array([0.2]), np.array([1.0]), folds=5)
    0.8
    """
    fewer, fewest = float(np.abs(fold_errors).mean()), float(np.abs(pair_errors).mean())
    if not 0 < fewer < fewest:
        return 1.0
    all_to_fold, fold_to_pair = folds / (folds - 1), (folds - 1) / (folds - 2)
    power = math.log(fewest / fewer) / math.log(fold_to_pair)
    return float(all_to_fold ** -min(power, 1.0))


def noise_floor(losses_R: Floats, mixtures: Sequence[Rows]) -> float | None:
    """The standard deviation over seeds of one mixture, pooled over the replicated ones; None: nothing is replicated.

    mixtures: the rows of each different mixture.
    """
    squares, freedom = 0.0, 0
    for rows in mixtures:
        if len(rows) > 1:
            squares += float(((losses_R[rows] - losses_R[rows].mean()) ** 2).sum())
            freedom += len(rows) - 1
    return math.sqrt(squares / freedom) if freedom else None
