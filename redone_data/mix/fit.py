"""Which surrogate describes each metric best, judged on runs it has not seen, and how far it may be trusted.

For every metric each surrogate predicts the runs of one fold from those of the others. The lowest out-of-fold RMSE
wins, but the linear baseline stays unless it is beaten by `margin`. A metric has no skill where the winner cannot rank
held-out runs: the proposal then keeps the prior. The interval is the finite-sample quantile of the out-of-fold
residuals (split conformal style); with n runs it cannot promise more than n / (n + 1), and says so in `coverage`.

A fold is drawn from the seed and the run ids, so the order of rows means nothing, and runs of the same mixture
(replicates over seeds) share a fold: else a surrogate would be praised for remembering noise. The winner's own score is
the best of three and so slightly flattering; nested folds would remove that at five times the cost. Chance passes too:
of 100 swarms with shuffled losses each, 18 % counted as skilled at 12 runs, 9 % at 20, 2 % at 32 and at 64. One metric
takes 0.08 s at 6 domains x 20 runs and 1.1 s at 17 x 512. Trained on 20-64 runs of the RegMix tables, the 95 %
intervals cover 97-98 % of the held-out test mixtures.

Shapes: R runs, C candidates, D domains, M metrics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redone_data.errors import RedoneError, did_you_mean
from redone_data.mix.surrogates.base import Fitted
from redone_data.mix.surrogates.linear import LinearSurrogate
from redone_data.mix.surrogates.named import surrogate_named
from redone_data.mix.tables import Swarm
from redone_data.mixture import Mixture
from redone_data.rng import stream, stream_seed

Floats = NDArray[np.float64]

MIN_MIXTURES = 4  # below this, held-out scores say nothing
REPLICATE_DECIMALS = 9
CONSTANT = 1e-12  # a spread below this share of the values is rounding


@dataclass(frozen=True)
class FitConfig:
    """How surrogates are compared and chosen.

    surrogates: compared with each other on the same folds.
    folds: of the held-out predictions; fewer when there are fewer different mixtures.
    min_skill: held-out rank correlation below which a metric has no skill.
    interval: nominal coverage of the intervals.
    margin: share of the linear baseline's held-out RMSE by which another surrogate must beat it.
    surrogate: forces one for all metrics; null compares.
    """

    surrogates: tuple[str, ...] = ("linear", "lightgbm", "saturating")
    folds: int = 5
    min_skill: float = 0.3
    interval: float = 0.95
    margin: float = 0.05
    surrogate: str | None = None

    def __post_init__(self) -> None:
        if not self.surrogates:
            raise RedoneError("fit.surrogates is empty; name at least one, such as linear")
        for name in (*self.surrogates, *([self.surrogate] if self.surrogate is not None else [])):
            surrogate_named(name)
        rules = (
            (len(set(self.surrogates)) == len(self.surrogates), f"fit.surrogates names one twice: {self.surrogates}"),
            (self.folds >= 2, f"fit.folds is {self.folds}; at least 2 are needed to hold runs out"),
            (0 <= self.min_skill < 1, f"fit.min_skill is {self.min_skill}; it lies between 0 and 1"),
            (0 < self.interval < 1, f"fit.interval is {self.interval}; it lies between 0 and 1"),
            (0 <= self.margin < 1, f"fit.margin is {self.margin}; it lies between 0 and 1"),
        )
        for holds, message in rules:
            if not holds:
                raise RedoneError(message)


@dataclass(frozen=True)
class FitRow:
    """One metric under one surrogate, on held-out runs; losses in the metric's own unit.

    coverage: what the half-width promises: the interval asked for, or n / (n + 1) where n runs cannot promise it (the
    half-width is then the largest residual).
    """

    metric: str
    surrogate: str
    spearman: float
    r2: float
    rmse: float
    half_width: float
    coverage: float
    skilled: bool


class Prediction(NamedTuple):
    """Predicted losses of C mixtures with their interval."""

    prediction_C: Floats
    low_C: Floats
    high_C: Floats


@dataclass(frozen=True, eq=False)
class Fit:
    """The chosen surrogate of each metric, fitted to all runs.

    report: a row a metric, of the chosen surrogate. compared: a row a metric and surrogate, chosen or not.
    held_out_RM: out-of-fold predictions of the chosen surrogates, rows and columns as in `swarm`.
    """

    swarm: Swarm
    config: FitConfig
    seed: int
    report: tuple[FitRow, ...]
    compared: tuple[FitRow, ...]
    held_out_RM: Floats
    fitted: dict[str, Fitted]

    @property
    def domains(self) -> tuple[str, ...]:
        return self.swarm.domains

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.swarm.metrics

    def row(self, metric: str) -> FitRow:
        """The report's row of a metric."""
        self._known(metric)
        return next(row for row in self.report if row.metric == metric)

    def has_skill(self, metrics: Sequence[str]) -> bool:
        """Whether held-out runs are ranked well enough on every one of these metrics."""
        return all(self.row(metric).skilled for metric in metrics)

    def predict(self, mixtures: Sequence[Mixture]) -> dict[str, Prediction]:
        """Each metric's predicted losses, a value a mixture, with the interval."""
        weights_CD = self.weights_of(mixtures)
        predictions: dict[str, Prediction] = {}
        for row in self.report:
            middle_C, half_width = self.fitted[row.metric].predict(weights_CD), row.half_width
            predictions[row.metric] = Prediction(middle_C, middle_C - half_width, middle_C + half_width)
        return predictions

    def predict_weights(self, metric: str, weights_CD: Floats) -> Floats:
        """One metric's losses for rows of weights in the order of `domains`; the search's inner loop."""
        self._known(metric)
        return self.fitted[metric].predict(weights_CD)

    def weights_of(self, mixtures: Sequence[Mixture]) -> Floats:
        """Mixtures as rows in the order of `domains`; a domain that a mixture lacks has weight zero."""
        return np.array([[mixture.on(self.domains)[name] for name in self.domains] for mixture in mixtures])

    def _known(self, metric: str) -> None:
        if metric not in self.metrics:
            raise RedoneError(f"metric '{metric}' was not measured by the swarm; {did_you_mean(metric, self.metrics)}")


def fit(swarm: Swarm, config: FitConfig, seed: int) -> Fit:
    """Compare the surrogates on held-out runs, choose one a metric, and fit it to all runs."""
    swarm = swarm.in_order()
    fold_R = fold_of_runs(swarm, config.folds, seed)
    names = config.surrogates if config.surrogate is None else (config.surrogate,)
    compared: list[FitRow] = []
    report: list[FitRow] = []
    fitted: dict[str, Fitted] = {}
    held_out_RM = np.empty_like(swarm.losses_RM)
    for column, metric in enumerate(swarm.metrics):
        losses_R = swarm.losses(metric)
        held_out = {name: _held_out(swarm.weights_RD, losses_R, fold_R, name, metric, seed) for name in names}
        rows = [_judged(metric, name, losses_R, held_out[name], config) for name in names]
        chosen = _chosen(rows, config.margin)
        compared += rows
        report.append(chosen)
        held_out_RM[:, column] = held_out[chosen.surrogate]
        rng = stream(seed, "fit", metric, chosen.surrogate, "all")
        fitted[metric] = surrogate_named(chosen.surrogate).fit(swarm.weights_RD, losses_R, rng)
    return Fit(swarm, config, seed, tuple(report), tuple(compared), held_out_RM, fitted)


def fold_of_runs(swarm: Swarm, folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each run: from the seed and the run ids alone, the same for runs of the same mixture."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for run, weights_D in enumerate(np.round(swarm.weights_RD, REPLICATE_DECIMALS)):
        groups.setdefault(tuple(weights_D.tolist()), []).append(run)
    if len(groups) < MIN_MIXTURES:
        raise RedoneError(
            f"the swarm has {len(groups)} different mixtures; at least {MIN_MIXTURES} are needed to hold runs out "
            "(raise design.runs, or loosen the caps by more epochs)"
        )
    shuffled = sorted(groups.values(), key=lambda runs: stream_seed(seed, "fold", min(swarm.run_ids[r] for r in runs)))
    fold_R = np.empty(len(swarm.run_ids), dtype=np.int64)
    for position, runs in enumerate(shuffled):
        fold_R[runs] = position % min(folds, len(groups))
    return fold_R


def spearman(predicted_R: Floats, measured_R: Floats) -> float:
    """Rank correlation; 0 where either side is constant, for a constant ranks nothing."""
    if _constant(predicted_R) or _constant(measured_R):
        return 0.0
    from scipy.stats import rankdata  # half a second, and every command reads recipes

    return float(np.corrcoef(rankdata(predicted_R), rankdata(measured_R))[0, 1])


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


def _held_out(
    weights_RD: Floats, losses_R: Floats, fold_R: NDArray[np.int64], name: str, metric: str, seed: int
) -> Floats:
    prediction_R = np.empty_like(losses_R)
    for fold in range(int(fold_R.max()) + 1):
        out_R = fold_R == fold
        rng = stream(seed, "fit", metric, name, fold)
        model = surrogate_named(name).fit(weights_RD[~out_R], losses_R[~out_R], rng)
        prediction_R[out_R] = model.predict(weights_RD[out_R])
    return prediction_R


def _judged(metric: str, name: str, losses_R: Floats, predicted_R: Floats, config: FitConfig) -> FitRow:
    residuals_R = losses_R - predicted_R
    rank = spearman(predicted_R, losses_R)
    r2 = 0.0 if _constant(losses_R) else 1 - float((residuals_R**2).mean() / losses_R.var())
    width, coverage = half_width_of(residuals_R, config.interval)
    rmse = float(np.sqrt((residuals_R**2).mean()))
    return FitRow(metric, name, rank, r2, rmse, width, coverage, skilled=rank >= config.min_skill and r2 > 0)


def _chosen(rows: list[FitRow], margin: float) -> FitRow:
    best = min(rows, key=lambda row: row.rmse)
    baseline = next((row for row in rows if row.surrogate == LinearSurrogate.name), best)
    return best if best.rmse < (1 - margin) * baseline.rmse else baseline


def _constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= CONSTANT * max(1.0, float(np.abs(values).max())))
