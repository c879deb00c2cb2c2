"""The fit: each metric's loss as a function of the mixture, judged on held-out runs, with intervals and a noise floor.

A metric has skill where its nested held-out predictions rank the runs better than chance does in 99 of 100 swarms
(`chance_rank`), better than `min_skill`, and err less than the mean does; where it has none the search keeps the prior.
choose.py says how surrogates are compared, intervals.py what the intervals promise.

Shapes: R runs, C candidates, D domains, M metrics.
"""

import os
import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from multiprocessing import get_context
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redone_data.errors import RedoneError, did_you_mean
from redone_data.mix.choose import Choice, MetricRuns, choose, fold_of_runs, rows_of_mixtures
from redone_data.mix.intervals import Interval, noise_floor
from redone_data.mix.scores import chance_rank, r_squared, rmse, spearman
from redone_data.mix.surrogates.base import NOTHING, Beside, Fitted
from redone_data.mix.surrogates.named import surrogate_named
from redone_data.mix.tables import Swarm
from redone_data.mixture import Mixture
from redone_data.processes import end_with

Floats = NDArray[np.float64]

# A process a core, and a thread a process: matrices this small take ten times longer with more.
BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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

    surrogates: tuple[str, ...] = ("linear", "lightgbm", "loglinear", "saturating", "law_gp")
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
            (
                self.folds >= 3,
                f"fit.folds is {self.folds}; at least 3 are needed to choose and to judge",
            ),
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

    half_width: median over the runs; `Fit.half_width` has that of any mixture.
    coverage: what it promises: the interval asked for, or n / (n + 1) where n runs cannot promise it.
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

    report: a row a metric, of the chosen surrogate; its scores are nested. compared: a row a metric and surrogate,
    chosen or not, by plain cross-validation.
    held_out_RM: nested predictions of each run, rows and columns as in `swarm`.
    fitted, intervals, noise: by metric. noise: standard deviation over seeds of one mixture; None: no replicates.
    """

    swarm: Swarm
    config: FitConfig
    seed: int
    report: tuple[FitRow, ...]
    compared: tuple[FitRow, ...]
    held_out_RM: Floats
    fitted: dict[str, Fitted]
    intervals: dict[str, Interval]
    noise: dict[str, float | None]
    beside: Mapping[str, Beside]

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
        for metric in self.metrics:
            middle_C, width_C = self.predict_weights(metric, weights_CD), self.half_width(metric, weights_CD)
            predictions[metric] = Prediction(middle_C, middle_C - width_C, middle_C + width_C)
        return predictions

    def predict_weights(self, metric: str, weights_CD: Floats) -> Floats:
        """One metric's losses for rows of weights in the order of `domains`; the search's inner loop."""
        self._known(metric)
        return self.fitted[metric].predict(weights_CD)

    def gradient(self, metric: str, weights_CD: Floats) -> Floats:
        """C x D: how one metric's loss changes with each weight."""
        self._known(metric)
        return self.fitted[metric].gradient(weights_CD)

    def half_width(self, metric: str, weights_CD: Floats) -> Floats:
        """Half the interval of one metric at each mixture."""
        self._known(metric)
        return self.intervals[metric].at(weights_CD, self.fitted[metric].predict(weights_CD))

    def spread(self, metric: str, weights_CD: Floats) -> Floats:
        """Standard deviation of each prediction: the one whose normal interval is the calibrated one."""
        normal = NormalDist().inv_cdf((1 + self.intervals[metric].coverage) / 2)
        return self.half_width(metric, weights_CD) / normal

    def on_runs(self, keep_R: NDArray[np.bool_]) -> "Fit":
        """The same surrogates fitted to some of the runs; scores, intervals and noise stay those of all runs."""
        swarm = replace(
            self.swarm,
            run_ids=tuple(run_id for run_id, keep in zip(self.swarm.run_ids, keep_R, strict=True) if keep),
            weights_RD=self.swarm.weights_RD[keep_R],
            losses_RM=self.swarm.losses_RM[keep_R],
        )
        fold_R = np.zeros(len(swarm.run_ids), dtype=np.int64)
        fitted = {
            row.metric: MetricRuns(
                row.metric,
                swarm.weights_RD,
                swarm.losses(row.metric),
                fold_R,
                self.beside.get(row.metric, NOTHING),
                self.seed,
            ).fitted(row.surrogate)
            for row in self.report
        }
        return replace(self, swarm=swarm, held_out_RM=self.held_out_RM[keep_R], fitted=fitted)

    def weights_of(self, mixtures: Sequence[Mixture]) -> Floats:
        """Mixtures as rows in the order of `domains`; a domain that a mixture lacks has weight zero."""
        return np.array([[mixture.on(self.domains)[name] for name in self.domains] for mixture in mixtures])

    def _known(self, metric: str) -> None:
        if metric not in self.metrics:
            raise RedoneError(f"metric '{metric}' was not measured by the swarm; {did_you_mean(metric, self.metrics)}")


def fit(
    swarm: Swarm, config: FitConfig, seed: int, beside: Mapping[str, Beside] | None = None, *, workers: int = 1
) -> Fit:
    """Compare the surrogates on held-out runs, choose one a metric, and fit it to all runs.

    beside: by metric, what is known beside the runs; columns of its arrays in the sorted order of the domains.
    workers: processes that share the metrics; the result does not depend on them. A script that asks for more than one
        needs the usual `if __name__ == "__main__"`.
    """
    swarm = swarm.in_order()
    known = beside or {}
    mixtures = rows_of_mixtures(swarm.weights_RD)
    fold_R = fold_of_runs(swarm.run_ids, mixtures, config.folds, seed)
    names = config.surrogates if config.surrogate is None else (config.surrogate,)
    tasks = [
        MetricRuns(metric, swarm.weights_RD, swarm.losses(metric), fold_R, known.get(metric, NOTHING), seed)
        for metric in swarm.metrics
    ]
    choices = _choices(tasks, names, config.margin, workers)
    least_rank = max(config.min_skill, chance_rank(len(mixtures)))
    report, compared, intervals = [], [], {}
    for runs, choice in zip(tasks, choices, strict=True):
        for name in names:
            plain = _interval(runs, choice.held_out[name], len(mixtures), config.interval)
            compared.append(_judged(runs, name, choice.held_out[name], plain, least_rank))
        chosen = _interval(runs, choice.nested_R, len(mixtures), config.interval, choice.growth)
        report.append(_judged(runs, choice.chosen, choice.nested_R, chosen, least_rank))
        intervals[runs.metric] = chosen
    return Fit(
        swarm=swarm,
        config=config,
        seed=seed,
        report=tuple(report),
        compared=tuple(compared),
        held_out_RM=np.stack([choice.nested_R for choice in choices], axis=1),
        fitted={runs.metric: choice.fitted for runs, choice in zip(tasks, choices, strict=True)},
        intervals=intervals,
        noise={metric: noise_floor(swarm.losses(metric), mixtures) for metric in swarm.metrics},
        beside=known,
    )


def _choices(tasks: Sequence[MetricRuns], names: Sequence[str], margin: float, workers: int) -> list[Choice]:
    workers = min(workers, len(tasks))
    if workers < 2 or not _can_be_sent(tasks):
        return [choose(runs, names, margin) for runs in tasks]
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))
    try:
        context = get_context("spawn")  # what a fork would inherit, polars' threads, may hang
        with ProcessPoolExecutor(workers, context, initializer=end_with, initargs=(os.getpid(),)) as pool:
            return list(pool.map(choose, tasks, repeat(names), repeat(margin)))
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _can_be_sent(tasks: Sequence[MetricRuns]) -> bool:
    # What lies beside the runs may hold a function of this process.
    try:
        pickle.dumps([runs.beside for runs in tasks])
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def _interval(runs: MetricRuns, predicted_R: Floats, mixtures: int, interval: float, shrinks: float = 1.0) -> Interval:
    return Interval.of(runs.weights_RD, predicted_R, runs.losses_R, runs.fold_R, mixtures, interval, shrinks)


def _judged(runs: MetricRuns, name: str, predicted_R: Floats, interval: Interval, least_rank: float) -> FitRow:
    rank, r2 = spearman(predicted_R, runs.losses_R), r_squared(predicted_R, runs.losses_R)
    half_width = float(np.median(interval.at(runs.weights_RD, predicted_R)))
    error = rmse(predicted_R, runs.losses_R)
    skilled = rank >= least_rank and r2 > 0
    return FitRow(runs.metric, name, rank, r2, error, half_width, interval.coverage, skilled)
