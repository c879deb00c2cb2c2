"""From the proxies' scale to the target's: a straight line a metric, from a handful of runs at the target scale.

measured = middle + slope * (predicted - its mean), the slope drawn to one: it has a normal prior around one, so
with few or noisy runs the proxies' own differences stay, and with many the runs decide. The level is free.

The interval is that of the proxies at each mixture, stretched by the largest ratio of a left-out run's error to it:
it promises n / (n + 1) with n target runs, or what was asked for where these are enough.

Shapes: R target runs, C candidates, D domains.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redone_data.errors import RedoneError
from redone_data.mix.fit import Fit, Prediction
from redone_data.mix.intervals import conformal_quantile
from redone_data.mix.scores import spearman
from redone_data.mix.tables import Swarm

Floats = NDArray[np.float64]

SLOPE_SD = 0.3  # of the prior around one
MIN_TARGET_RUNS = 4


@dataclass(frozen=True)
class Line:
    """One metric's map from the proxies' loss to the target's.

    stretch: of the proxies' half-widths. coverage: what the interval then promises.
    spearman: of the target runs, each predicted by the line of the others.
    """

    mean: float
    middle: float
    slope: float
    stretch: float
    coverage: float
    spearman: float

    def at(self, predicted_C: Floats) -> Floats:
        """The target's loss for the proxies'."""
        return self.middle + self.slope * (predicted_C - self.mean)


@dataclass(frozen=True, eq=False)
class Transfer:
    """Predictions at the scale of the target runs. scale: its name, which every figure carries; lines: by metric."""

    fit: Fit
    scale: str
    runs: int
    lines: dict[str, Line]

    def predict(self, metric: str, weights_CD: Floats) -> Prediction:
        """One metric's losses at the target scale, with their interval."""
        line = self.lines[metric]
        middle_C = line.at(self.fit.predict_weights(metric, weights_CD))
        half_C = line.stretch * self.fit.half_width(metric, weights_CD)
        return Prediction(middle_C, middle_C - half_C, middle_C + half_C)


def transfer(fit: Fit, target: Swarm, scale: str) -> Transfer:
    """The map of every skilled metric that the target runs have measured, too."""
    target = target.in_order()
    odd = sorted(set(target.domains) ^ set(fit.domains))
    if odd:
        raise RedoneError(
            f"target runs: domain '{odd[0]}' is in only one of the swarm ({', '.join(fit.domains)}) "
            f"and the target runs ({', '.join(target.domains)}); both need the same domains"
        )
    if len(target.run_ids) < MIN_TARGET_RUNS:
        raise RedoneError(f"{len(target.run_ids)} target runs; a line with an error needs at least {MIN_TARGET_RUNS}")
    skilled = [metric for metric in fit.metrics if metric in target.metrics and fit.has_skill([metric])]
    if not skilled:
        raise RedoneError(
            f"target runs: they share no metric with the swarm that it can predict; it has {', '.join(fit.metrics)}, "
            f"they have {', '.join(target.metrics)}"
        )
    lines = {metric: _line(fit, metric, target.weights_RD, target.losses(metric)) for metric in skilled}
    return Transfer(fit, scale, len(target.run_ids), lines)


def _line(fit: Fit, metric: str, weights_RD: Floats, losses_R: Floats) -> Line:
    predicted_R = fit.predict_weights(metric, weights_RD)
    left_out_R = np.empty_like(losses_R)
    for run in range(len(losses_R)):
        others_R = np.arange(len(losses_R)) != run
        mean, middle, slope = straight(predicted_R[others_R], losses_R[others_R])
        left_out_R[run] = middle + slope * (predicted_R[run] - mean)
    half_R = np.maximum(fit.half_width(metric, weights_RD), 1e-12)
    stretch, coverage = conformal_quantile(np.abs(losses_R - left_out_R) / half_R, fit.config.interval)
    mean, middle, slope = straight(predicted_R, losses_R)
    return Line(mean, middle, slope, stretch, coverage, spearman(left_out_R, losses_R))


def straight(predicted_R: Floats, losses_R: Floats) -> tuple[float, float, float]:
    """The mean prediction, the mean loss, and the slope between them, drawn to one."""
    mean, middle = float(predicted_R.mean()), float(losses_R.mean())
    squares = float(((predicted_R - mean) ** 2).sum())
    if squares <= 0:
        return mean, middle, 1.0
    shared = float(((predicted_R - mean) * (losses_R - middle)).sum())
    free_R = losses_R - middle - shared / squares * (predicted_R - mean)
    pull = float((free_R**2).sum()) / max(len(losses_R) - 2, 1) / SLOPE_SD**2
    return mean, middle, (shared + pull) / (squares + pull)
