"""The fit: each metric's loss as a function of the mixture, judged on held-out runs, with intervals and a noise floor.

A metric has skill where its nested held-out predictions rank the runs better than noise does in 199 of 200 swarms
(`chance_rank`), better than `min_skill`, and err less than the mean does; where it has none the search keeps the prior.
choose.py says how surrogates are compared, intervals.py what the intervals promise.

Shapes: R runs, C candidates, D domains, M metrics.
"""

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
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
from redone_data.mix.scores import chance_rank, mean_error, r_squared, rmse, spearman
from redone_data.mix.surrogates.base import NOTHING, Beside, Fitted
from redone_data.mix.surrogates.named import surrogate_named
from redone_data.mix.tables import Swarm
from redone_data.mixture import Mixture
from redone_data.processes import end_with

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

# A process a core, and a thread a process: matrices this small take ten times longer with more.
BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
BLOCK = 512  # mixtures predicted at once: mixtures x runs in the cache is twice as fast as in memory


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
    chosen or not, by plain cross-validation. dropped: metric -> surrogate -> held-out runs after which it had lost the
    race (choose.py); its row in `compared` is of these.
    held_out_RM: nested predictions of each run, rows and columns as in `swarm`.
    fitted, intervals, noise: by metric. noise: standard deviation over seeds of one mixture; None: no replicates.
    """

    swarm: Swarm
    config: FitConfig
    seed: int
    report: tuple[FitRow, ...]
    compared: tuple[FitRow, ...]
    dropped: dict[str, dict[str, int]]
    held_out_RM: Floats
    fitted: Mapping[str, Fitted]
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
        fitted, rows = self.fitted[metric], len(weights_CD)
        if rows <= BLOCK:
            return fitted.predict(weights_CD)
        return np.concatenate([fitted.predict(weights_CD[row : row + BLOCK]) for row in range(0, rows, BLOCK)])

    def gradient(self, metric: str, weights_CD: Floats) -> Floats:
        """C x D: how one metric's loss changes with each weight."""
        self._known(metric)
        return self.fitted[metric].gradient(weights_CD)

    def half_width(self, metric: str, weights_CD: Floats) -> Floats:
        """Half the interval of one metric at each mixture."""
        self._known(metric)
        return self.intervals[metric].at(weights_CD, self.predict_weights(metric, weights_CD))

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
        models = {
            row.metric: (one_metric(swarm, row.metric, self.beside, self.seed), row.surrogate) for row in self.report
        }
        return replace(self, swarm=swarm, held_out_RM=self.held_out_RM[keep_R], fitted=WhenAsked(models))

    def weights_of(self, mixtures: Sequence[Mixture]) -> Floats:
        """Mixtures as rows in the order of `domains`; a domain that a mixture lacks has weight zero."""
        return np.array([[mixture.on(self.domains)[name] for name in self.domains] for mixture in mixtures])

    def _known(self, metric: str) -> None:
        if metric not in self.metrics:
            raise RedoneError(f"metric '{metric}' was not measured by the swarm; {did_you_mean(metric, self.metrics)}")


class WhenAsked(Mapping[str, Fitted]):
    """Surrogates by metric, each fitted when it is first asked for: who searches asks for the targets alone."""

    def __init__(self, models: Mapping[str, tuple[MetricRuns, str]]) -> None:
        self._models = models
        self._fitted: dict[str, Fitted] = {}

    def __getitem__(self, metric: str) -> Fitted:
        if metric not in self._fitted:
            runs, surrogate = self._models[metric]
            self._fitted[metric] = runs.fitted(surrogate)
        return self._fitted[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def one_metric(
    swarm: Swarm, metric: str, beside: Mapping[str, Beside], seed: int, fold_R: Rows | None = None
) -> MetricRuns:
    """What the surrogates of one metric see; without folds none can be left out."""
    folds_R = np.zeros(len(swarm.run_ids), dtype=np.int64) if fold_R is None else fold_R
    return MetricRuns(metric, swarm.weights_RD, swarm.losses(metric), folds_R, beside.get(metric, NOTHING), seed)


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
    tasks = [one_metric(swarm, metric, known, seed, fold_R) for metric in swarm.metrics]
    choices = _choices(tasks, names, config.margin, workers)
    least_rank = max(config.min_skill, chance_rank(len(mixtures)))
    report, compared, dropped, intervals = [], [], {}, {}
    for runs, choice in zip(tasks, choices, strict=True):
        for name in names:
            plain = _interval(runs, choice.held_out[name], len(mixtures), config.interval)
            compared.append(_judged(runs, name, choice.held_out[name], plain, least_rank))
        seen = {name: int(np.isfinite(choice.held_out[name]).sum()) for name in names}
        dropped[runs.metric] = {name: count for name, count in seen.items() if count < len(swarm.run_ids)}
        chosen = _interval(runs, choice.nested_R, len(mixtures), config.interval, choice.growth)
        report.append(_judged(runs, choice.chosen, choice.nested_R, chosen, least_rank))
        intervals[runs.metric] = chosen
    return Fit(
        swarm=swarm,
        config=config,
        seed=seed,
        report=tuple(report),
        compared=tuple(compared),
        dropped=dropped,
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
    known_R = np.isfinite(predicted_R)
    predicted_R, losses_R = predicted_R[known_R], runs.losses_R[known_R]
    rank, r2 = spearman(predicted_R, losses_R), r_squared(predicted_R, losses_R)
    half_width = float(np.median(interval.at(runs.weights_RD[known_R], predicted_R)))
    constant_R = np.full_like(losses_R, np.median(losses_R))
    skilled = rank >= least_rank and mean_error(predicted_R, losses_R) < mean_error(constant_R, losses_R)
    return FitRow(runs.metric, name, rank, r2, rmse(predicted_R, losses_R), half_width, interval.coverage, skilled)
