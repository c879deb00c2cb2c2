"""The next batch of proxies, chosen by the fit of those before, or why there is none.

Most of a batch has the largest expected improvement (Jones et al. 1998, doi:10.1023/A:1008306431147) over the best
mixture so far, kept apart from each other and from the runs; a quarter is diverse, the mixtures farthest from all runs,
so that the model is not only asked where it is already sure; one in a batch of four or more is the best measured
mixture with another seed, for the best of many noisy runs is partly luck. No batch follows once the best expected
improvement is under the noise floor (the spread over seeds of one mixture): what it would find could not be told from
luck. benchmarks/rounds.py compares batches with as many random runs.

Candidates are the design's samples, where a search along the fit would end, and blends of the best of both. Without
the search's ends a domain that the sampler keeps rare is never repeated before the proposal repeats it: on a planted
surface of 60 domains with harm from repetition the regret was .46 of a bit, and is .003 (benchmarks/planted.py).

The error that matters is that of the model, so the noise of a run is taken out of the spread of the predictions; and
errors of several metrics partly cancel, by as much as they do on the held-out runs.

Shapes: R runs, C candidates, D domains, M metrics.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from redone_data.mix.choose import rows_of_mixtures
from redone_data.mix.constraints import Constraints
from redone_data.mix.design import DesignConfig, mixture_of, sample_weights
from redone_data.mix.fit import Fit
from redone_data.mix.intervals import noise_floor
from redone_data.mix.limits import Limits
from redone_data.mix.search import Objective, Space, total_variation
from redone_data.mix.tables import Swarm
from redone_data.mixture import Mixture
from redone_data.rng import stream

Floats = NDArray[np.float64]
Kind = Literal["improving", "diverse", "again"]

DIVERSE_SHARE = 4  # one run in so many is diverse, and one a batch of at least so many is the best with another seed
SAMPLED, BLENDED, PARENTS = 4000, 1000, 64
GENERATIONS = 2
APART = 0.5  # of the runs' median distance to their nearest run: so far apart are the runs of a batch, where possible
ENOUGH_SEEDS = 3
WEIGHT_DECIMALS = 6
NOTHING_NEW = "the caps leave no mixture that differs from the runs"


class Planned(NamedTuple):
    """A run of the next batch, and why it is in it."""

    kind: Kind
    mixture: Mixture


@dataclass(frozen=True)
class Batch:
    """What the fit says after a round: losses of the objective, in its own unit.

    expected_gain: expected improvement of the best candidate over the best run, both as predicted; None: no skill.
    noise_floor: spread over seeds of one mixture; None: nothing is replicated.
    stopped: why there is no further batch; None: `planned` is the next one.
    """

    runs: int
    expected_gain: float | None
    noise_floor: float | None
    best_predicted: float | None
    best_measured: float | None
    stopped: str | None
    planned: tuple[Planned, ...]


def next_batch(
    fit: Fit,
    wanted: Mapping[str, float],
    limits: Limits,
    constraints: Constraints,
    config: DesignConfig,
    runs: int,
    seed: int,
    only_CD: Floats | None = None,
) -> Batch:
    """Choose so many runs by the fit, or say why none would pay.

    wanted: metric -> weight of the objective. only_CD: the mixtures to choose from; None: all that the constraints
    allow.
    """
    swarm, mixtures = fit.swarm, rows_of_mixtures(fit.swarm.weights_RD)
    rng = stream(seed, "round", len(swarm.run_ids))
    skilled = {metric: weight for metric, weight in wanted.items() if fit.has_skill([metric])}
    if only_CD is None:
        sampled_CD = sample_weights(limits.prior, limits.max_weights, config, rng, count=SAMPLED)
        candidates_CD = constraints.project(sampled_CD)
    else:
        candidates_CD = only_CD
    runs_RD = np.array([swarm.weights_RD[rows[0]] for rows in mixtures])
    if not skilled:
        chosen = _farthest([], candidates_CD, runs_RD, runs)
        fill = tuple(Planned("diverse", mixture_of(fit.domains, weights_D)) for weights_D in chosen)
        return Batch(len(swarm.run_ids), None, None, None, None, None if fill else NOTHING_NEW, fill)

    objective = Objective(skilled)
    if only_CD is None:
        candidates_CD = np.vstack([candidates_CD, _optima(fit, objective, constraints, limits.prior, candidates_CD)])
        for _ in range(GENERATIONS):
            candidates_CD = _blended(candidates_CD, objective.predict(fit, candidates_CD), rng)
        candidates_CD = np.unique(np.round(candidates_CD, WEIGHT_DECIMALS), axis=0)
    measured_R = _weighted(objective, {metric: swarm.losses(metric) for metric in objective.metrics})
    floor = noise_floor(measured_R, mixtures)
    # Runs of the design lie anywhere within the caps; the best mixture is one that the recipe allows.
    allowed_R = constraints.holds(runs_RD)
    rivals_RD = runs_RD[allowed_R] if allowed_R.any() else constraints.project(np.array([limits.prior.shares]))
    best = float(objective.predict(fit, rivals_RD).min())
    predicted_C = objective.predict(fit, candidates_CD)
    gain_C = expected_improvement(best, predicted_C, _spread(fit, objective, candidates_CD, measured_R, floor))
    order_C = np.argsort(-gain_C, kind="stable")
    diverse, again = runs // DIVERSE_SHARE, int(runs >= DIVERSE_SHARE)
    improving = _apart(candidates_CD[order_C], runs_RD, runs - diverse - again)
    far = _farthest(improving, candidates_CD, runs_RD, diverse)
    planned = [Planned("improving", mixture_of(fit.domains, weights_D)) for weights_D in improving]
    planned += [Planned("diverse", mixture_of(fit.domains, weights_D)) for weights_D in far]
    if again:
        rivals = [rows for rows, holds in zip(mixtures, allowed_R, strict=True) if holds] or mixtures
        planned.append(Planned("again", mixture_of(fit.domains, _best_measured(swarm, rivals, measured_R))))
    gain = float(gain_C.max())
    stopped = None
    if floor is not None and gain < floor:
        stopped = f"the expected gain of a further run, {gain:.2g}, is under the noise floor, {floor:.2g}"
    elif not improving:
        stopped = NOTHING_NEW
    return Batch(
        runs=len(swarm.run_ids),
        expected_gain=gain,
        noise_floor=floor,
        best_predicted=float(predicted_C.min()),
        best_measured=min(float(measured_R[rows].mean()) for rows in mixtures),
        stopped=stopped,
        planned=() if stopped else tuple(planned),
    )


def expected_improvement(best: float, predicted_C: Floats, spread_C: Floats) -> Floats:
    """How much lower than `best` a loss is expected to be, where it is normal around the prediction; never negative.

    >>> expected_improvement(1.0, np.array([0.9, 1.0, 5.0]), np.array([0.0, 0.1, 0.1])).round(3).tolist()
    [0.1, 0.04, 0.0]
    """
    from scipy.special import ndtr  # half a second, and every command reads recipes

    spread_C = np.maximum(spread_C, 1e-12)
    z_C = (best - predicted_C) / spread_C
    gain_C: Floats = spread_C * (z_C * ndtr(z_C) + np.exp(-(z_C**2) / 2) / math.sqrt(2 * math.pi))
    return np.maximum(gain_C, 0.0)


def _spread(fit: Fit, objective: Objective, weights_CD: Floats, measured_R: Floats, floor: float | None) -> Floats:
    """The model's error of the objective at each candidate: what predictions err by, less the noise of the runs."""
    held_out = {metric: fit.held_out_RM[:, fit.metrics.index(metric)] for metric in objective.metrics}
    together_error = float(np.sqrt(((measured_R - _weighted(objective, held_out)) ** 2).mean()))
    apart = {metric: float(np.sqrt(((fit.swarm.losses(metric) - held_out[metric]) ** 2).mean())) for metric in held_out}
    apart_error = sum(weight * apart[metric] for metric, weight in objective.weights.items())
    cancelled = together_error / apart_error if apart_error > 0 else 1.0
    spread_C = cancelled * _weighted(objective, {m: fit.spread(m, weights_CD) for m in objective.metrics})
    latent_C: Floats = np.sqrt(np.maximum(spread_C**2 - (floor or 0.0) ** 2, 0.0))
    return latent_C


def _weighted(objective: Objective, values: Mapping[str, Floats]) -> Floats:
    total = np.zeros_like(next(iter(values.values())))
    for metric, weight in objective.weights.items():
        total += weight * values[metric]
    return total


def _optima(fit: Fit, objective: Objective, constraints: Constraints, prior: Mixture, candidates_CD: Floats) -> Floats:
    """Where a search would end: what it would propose is measured, though the sampler may never come near.

    The trust rule holds here too: beyond it a fit of 20 runs once promised a third of a bit, and the runs that went
    there taught the next fit nothing about the middle.
    """
    space = Space.of(fit, objective, constraints, prior, None, fit.swarm.weights_RD)
    best_D = candidates_CD[int(space.predict(candidates_CD).argmin())]
    ends_ED = np.array(space.improved(np.array([best_D, constraints.project(fit.weights_of([prior]))[0]])))
    return ends_ED[space.trusted(ends_ED)]


def _blended(candidates_CD: Floats, predicted_C: Floats, rng: np.random.Generator) -> Floats:
    """With blends of three of the best: a blend keeps to every cap and group that its parents keep to."""
    parents_PD = candidates_CD[np.argsort(predicted_C, kind="stable")[:PARENTS]]
    chosen_B3 = rng.integers(len(parents_PD), size=(BLENDED, 3))
    shares_B3 = rng.dirichlet(np.ones(3), size=BLENDED)
    return np.vstack([candidates_CD, np.einsum("bp,bpd->bd", shares_B3, parents_PD[chosen_B3])])


def _apart(ranked_CD: Floats, runs_RD: Floats, count: int) -> list[Floats]:
    """The first candidates that keep their distance from the runs and each other; nearer ones where too few do."""
    between_RR = total_variation(runs_RD, runs_RD)
    np.fill_diagonal(between_RR, np.inf)
    apart = APART * float(np.median(between_RR.min(axis=1))) if len(runs_RD) > 1 else 0.0
    nearest_C = total_variation(ranked_CD, runs_RD).min(axis=1)
    chosen: list[Floats] = []
    while len(chosen) < count and apart > 10**-WEIGHT_DECIMALS:
        for row in np.flatnonzero(nearest_C >= apart):
            if len(chosen) < count and nearest_C[row] >= apart:
                chosen.append(ranked_CD[row])
                nearest_C = np.minimum(nearest_C, total_variation(ranked_CD, ranked_CD[row][None])[:, 0])
        apart /= 2
    return chosen


def _farthest(beside: list[Floats], candidates_CD: Floats, runs_RD: Floats, count: int) -> list[Floats]:
    """One after another, the candidate farthest from the runs, from `beside`, and from those chosen."""
    nearest_C = total_variation(candidates_CD, np.vstack([runs_RD, *beside])).min(axis=1)
    chosen: list[Floats] = []
    while len(chosen) < count and nearest_C.max() > 10**-WEIGHT_DECIMALS:
        farthest_D = candidates_CD[int(nearest_C.argmax())]
        chosen.append(farthest_D)
        nearest_C = np.minimum(nearest_C, total_variation(candidates_CD, farthest_D[None])[:, 0])
    return chosen


def _best_measured(swarm: Swarm, mixtures: Sequence[NDArray[np.int64]], measured_R: Floats) -> Floats:
    """The mixture that measured best, but for those that were measured often enough."""
    open_ = [rows for rows in mixtures if len(rows) < ENOUGH_SEEDS] or list(mixtures)
    best = min(open_, key=lambda rows: float(measured_R[rows].mean()))
    weights_D: Floats = swarm.weights_RD[best[0]]
    return weights_D
