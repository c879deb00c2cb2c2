"""The mixture of lowest predicted objective, inside the constraints and no farther from the runs than these support.

Two searches, and the better of both is kept. RegMix's (arXiv 2407.01492): simulate many mixtures with the design's
sampler, bring them inside, take the mean of the best. And constrained descent along the surrogates' own slopes
(descent.py) from several starts; where a surrogate has no slope (trees) weight is moved between two domains at a time
while the prediction falls, with steps from 8 % down to 0.1 %.

A model's own optimum is optimistic, so a trust rule holds throughout: the total-variation distance to the nearest run
may not exceed the largest distance that any run has to its nearest other run. Where the descent ends farther out, it is
repeated within that distance of the runs that promise most. Nothing predicted worse than the prior is ever proposed.
Retention is a limit on a second surface: general loss at most that of the base mix + epsilon. Figures: docs/mixture.md,
benchmarks/planted.py, benchmarks/fit_speed.py.

Shapes: R runs, C candidates, D domains, U units that can be moved, P pairs of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from redone_data.errors import RedoneError
from redone_data.mix.constraints import Constraints
from redone_data.mix.descent import AtMost, Surface, descend
from redone_data.mix.design import DesignConfig, mixture_of, sample_weights
from redone_data.mix.fit import Fit
from redone_data.mix.polytope import Ball
from redone_data.mixture import Mixture
from redone_data.rng import stream

Floats = NDArray[np.float64]

STEPS = (0.08, 0.04, 0.02, 0.01, 0.005, 0.002, 0.001)
MAX_MOVES_PER_STEP = 200
STARTS = 3  # of the descent among the simulated best, beside their mean and the prior
NEAR_RUNS = 2  # runs whose neighbourhood is searched where the descent leaves the trusted region
BEST, ONE_OF = 2048, 8  # simulated mixtures that are kept for finalists and front: the best, and one in so many others
TIE = 1e-9  # a smaller gain is no gain
LIMIT_TOLERANCE = 1e-7  # of a loss
BINDING_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Objective:
    """What is minimised: the weighted mean of metrics, each predicted on its own and then weighted.

    weights: metric -> weight > 0, scaled to sum to one. The metrics should share a unit, bits per byte: then a weight
    of 2 says that a bit saved there is worth two. Nothing is standardised, so a metric that hardly moves hardly counts.
    """

    weights: dict[str, float]

    def __post_init__(self) -> None:
        if not self.weights:
            raise RedoneError("the objective has no metric; give at least one with a positive weight")
        for metric, weight in self.weights.items():
            if not (np.isfinite(weight) and weight > 0):
                raise RedoneError(f"the objective's weight of '{metric}' is {weight}; weights are positive numbers")
        total = sum(self.weights.values())
        object.__setattr__(self, "weights", {name: self.weights[name] / total for name in sorted(self.weights)})

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.weights)

    def predict(self, fit: Fit, weights_CD: Floats) -> Floats:
        """The objective of rows of weights in the order of `fit.domains`."""
        total_C = np.zeros(len(weights_CD))
        for metric, weight in self.weights.items():
            total_C += weight * fit.predict_weights(metric, weights_CD)
        return total_C

    def gradient(self, fit: Fit, weights_CD: Floats) -> Floats:
        """C x D: its slopes."""
        total_CD = np.zeros_like(weights_CD)
        for metric, weight in self.weights.items():
            total_CD += weight * fit.gradient(metric, weights_CD)
        return total_CD

    def half_width(self, fit: Fit, weights_CD: Floats) -> Floats:
        """Half of its interval: half-widths add up as if errors were fully correlated, never too narrow."""
        total_C = np.zeros(len(weights_CD))
        for metric, weight in self.weights.items():
            total_C += weight * fit.half_width(metric, weights_CD)
        return total_C

    def measured(self, fit: Fit) -> Floats:
        """The objective that each run of the swarm measured."""
        total_R = np.zeros(len(fit.swarm.run_ids))
        for metric, weight in self.weights.items():
            total_R += weight * fit.swarm.losses(metric)
        return total_R

    def surface(self, fit: Fit) -> Surface:
        return Surface(lambda rows_CD: self.predict(fit, rows_CD), lambda rows_CD: self.gradient(fit, rows_CD))

    def smooth(self, fit: Fit) -> bool:
        return all(fit.fitted[metric].smooth for metric in self.weights)


@dataclass(frozen=True)
class Keep:
    """General loss that is kept: at most `most`."""

    general: Objective
    most: float

    def holds(self, fit: Fit, weights_CD: Floats) -> NDArray[np.bool_]:
        kept_C: NDArray[np.bool_] = self.general.predict(fit, weights_CD) <= self.most + LIMIT_TOLERANCE
        return kept_C


@dataclass(frozen=True)
class SearchConfig:
    """How the best mixture is looked for.

    candidates: simulated mixtures.
    top: so many of the best are averaged.
    refine: descend from them along the slopes, or where there are none by moving weight between domains.
    """

    candidates: int = 20000
    top: int = 64
    refine: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.top <= self.candidates:
            raise RedoneError(f"search.top is {self.top} of {self.candidates} candidates; it lies between 1 and that")


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The mixture found, and what is predicted for it and for its rivals; the rivals are the ones brought inside.

    nearest_run_distance, trust_distance: total variation; the first is above the second only when the prior was kept
        although no run lies near it.
    binding: the recipe's keys that hold it back.
    found_by: "mean of top", "best candidate" (the mean broke a rule), "descent", "refined" (moves between domains, for
        trees) or "prior".
    skilled: whether every metric of the objective has held-out skill; where not, do not use the mixture.
    space: where it was looked for.
    pool_CD: of what was looked at, inside the constraints and trusted, whether or not it keeps the general loss: the
        ends of the searches, then simulated mixtures, best first: BEST of them, and one in ONE_OF others.
    """

    mixture: Mixture
    predicted: float
    predicted_prior: float
    predicted_uniform: float
    nearest_run_distance: float
    trust_distance: float
    binding: tuple[str, ...]
    found_by: Literal["mean of top", "best candidate", "descent", "refined", "prior"]
    skilled: bool
    space: "Space"
    pool_CD: Floats


def search(
    fit: Fit,
    objective: Objective,
    constraints: Constraints,
    prior: Mixture,
    config: SearchConfig,
    design_config: DesignConfig,
    seed: int,
    *,
    keep: Keep | None = None,
    near: Floats | None = None,
) -> SearchResult:
    """The best mixture inside the constraints and the trust rule; `near` is the runs' weights (None: the fit's)."""
    space = Space.of(fit, objective, constraints, prior, keep, fit.swarm.weights_RD if near is None else near)
    pool_CD = ranked(space, simulated(space, config, design_config, seed))
    candidates_CD = space.best_kept(pool_CD, config.top)
    anchors_2D = constraints.project(fit.weights_of([prior, Mixture.uniform(fit.domains)]))
    if space.keep is not None and not len(candidates_CD):
        candidates_CD = space.least_general(pool_CD, anchors_2D[0], space.keep)
    at_prior, at_uniform = objective.predict(fit, anchors_2D).tolist()

    found: list[tuple[float, Floats, str]] = []

    def offer(rows_CD: Floats, found_by: str) -> None:
        for row_D, value in zip(rows_CD, objective.predict(fit, rows_CD).tolist(), strict=True):
            if space.allowed(row_D[None])[0]:
                found.append((value, row_D, found_by))

    if len(candidates_CD):
        top_1D = constraints.project(candidates_CD[: config.top].mean(axis=0, keepdims=True))
        offer(top_1D, "mean of top")
        offer(candidates_CD[:1], "best candidate")
        if config.refine:
            starts = [*top_1D, *apart(candidates_CD, STARTS)]
            starts_SD = np.array([*starts, *anchors_2D[:1]] if space.smooth else starts[:2])
            offer(np.array(space.improved(starts_SD)), "descent" if space.smooth else "refined")
    best, best_D, found_by = min(found, key=lambda item: item[0], default=(at_prior, anchors_2D[0], "prior"))
    if not best < at_prior - TIE and space.kept(anchors_2D[:1])[0]:
        best, best_D, found_by = at_prior, anchors_2D[0], "prior"
    return SearchResult(
        mixture=mixture_of(fit.domains, best_D),
        predicted=best,
        predicted_prior=at_prior,
        predicted_uniform=at_uniform,
        nearest_run_distance=float(space.distance(best_D[None])[0]),
        trust_distance=space.trust_distance,
        binding=constraints.binding(best_D),
        found_by=found_by,  # type: ignore[arg-type]
        skilled=fit.has_skill(objective.metrics),
        space=space,
        pool_CD=np.vstack(
            [best_D[None], *[row_D[None] for _, row_D, _ in found], pool_CD[:BEST], pool_CD[BEST::ONE_OF]]
        ),
    )


@dataclass(frozen=True, eq=False)
class Space:
    """Where mixtures may lie, and what is predicted there."""

    fit: Fit
    objective: Objective
    constraints: Constraints
    prior: Mixture
    keep: Keep | None
    runs_RD: Floats
    trust_distance: float

    @classmethod
    def of(
        cls,
        fit: Fit,
        objective: Objective,
        constraints: Constraints,
        prior: Mixture,
        keep: Keep | None,
        runs_RD: Floats,
    ) -> "Space":
        if prior.names != fit.domains or constraints.domains != fit.domains:
            odd = sorted(set(prior.names) ^ set(fit.domains) or set(constraints.domains) ^ set(fit.domains))[0]
            raise RedoneError(
                f"domain '{odd}' is in only one of the prior and the swarm; "
                "search with the prior that the swarm was designed with"
            )
        distinct_RD = np.unique(np.round(runs_RD, 9), axis=0)
        between_RR = total_variation(distinct_RD, distinct_RD)
        np.fill_diagonal(between_RR, np.inf)
        trust = float(between_RR.min(axis=1).max()) if len(distinct_RD) > 1 else 0.0
        return cls(fit, objective, constraints, prior, keep, distinct_RD, trust)

    @property
    def smooth(self) -> bool:
        return self.objective.smooth(self.fit) and (self.keep is None or self.keep.general.smooth(self.fit))

    def distance(self, weights_CD: Floats) -> Floats:
        nearest_C: Floats = total_variation(weights_CD, self.runs_RD).min(axis=1)
        return nearest_C

    def trusted(self, weights_CD: Floats) -> NDArray[np.bool_]:
        return self.distance(weights_CD) <= self.trust_distance + TIE

    def kept(self, weights_CD: Floats) -> NDArray[np.bool_]:
        if self.keep is None or not len(weights_CD):
            return np.ones(len(weights_CD), dtype=bool)
        return self.keep.holds(self.fit, weights_CD)

    def best_kept(self, ranked_CD: Floats, enough: int) -> Floats:
        """Those that keep the general loss, of as many of the first as it takes to find enough."""
        kept: list[Floats] = [ranked_CD[:0]]
        for row in range(0, len(ranked_CD), BEST):
            if sum(map(len, kept)) < enough:
                some_CD = ranked_CD[row : row + BEST]
                kept.append(some_CD[self.kept(some_CD)])
        return np.concatenate(kept)

    def allowed(self, weights_CD: Floats) -> NDArray[np.bool_]:
        return self.constraints.holds(weights_CD) & self.trusted(weights_CD) & self.kept(weights_CD)

    def predict(self, weights_CD: Floats) -> Floats:
        return self.objective.predict(self.fit, weights_CD)

    def improved(self, starts_SD: Floats) -> list[Floats]:
        """The ends of a descent from each start: all inside the constraints, the last of them trusted too."""
        if not self.smooth:
            return [_moved(self, start_D) for start_D in starts_SD]
        ends = [self._descended(self.constraints, start_D) for start_D in starts_SD]
        values = self.predict(np.array(ends))
        kept = [i for i in np.argsort(values, kind="stable") if self.kept(ends[i][None])[0]]
        lowest_D = ends[kept[0]] if kept else starts_SD[0]
        if not self.trusted(lowest_D[None])[0]:
            ends += self._descended_near_runs(lowest_D)
        return ends

    def _descended(self, constraints: Constraints, start_D: Floats) -> Floats:
        limit = None if self.keep is None else AtMost(self.keep.general.surface(self.fit), self.keep.most)
        end_D = descend(self.objective.surface(self.fit), constraints, start_D, limit)
        # A limit on a curved surface is met up to the solver's tolerance: the last bit is given back on the line.
        if not self.kept(end_D[None])[0] and self.kept(start_D[None])[0]:
            line_LD = start_D + np.linspace(1, 0, 65)[:, None] * (end_D - start_D)
            end_D = line_LD[np.flatnonzero(self.kept(line_LD))[0]]
        return end_D

    def _descended_near_runs(self, lowest_D: Floats) -> list[Floats]:
        """Within the trusted distance of the runs from which the straight way to the lowest point promises most."""
        away_R = np.maximum(total_variation(lowest_D[None], self.runs_RD)[0], TIE)
        share_R = np.minimum(self.trust_distance * (1 - BINDING_TOLERANCE) / away_R, 1.0)
        pulled_RD = self.runs_RD + share_R[:, None] * (lowest_D - self.runs_RD)
        usable = np.flatnonzero(self.allowed(pulled_RD))
        promising = usable[np.argsort(self.predict(pulled_RD[usable]), kind="stable")][:NEAR_RUNS]
        ends = [pulled_RD[run] for run in promising]
        for run in promising:
            ball = Ball(self.runs_RD[run], self.trust_distance * (1 - BINDING_TOLERANCE), "trust rule")
            ends.append(self._descended(self.constraints.within(ball), pulled_RD[run]))
        return ends

    def least_general(self, pool_CD: Floats, prior_D: Floats, keep: Keep) -> Floats:
        """A mixture that keeps the general loss where no simulated one does. Raises RedoneError when there is none."""
        general = replace(self, objective=keep.general, keep=None)
        starts_SD = prior_D[None]
        if len(pool_CD):
            starts_SD = np.vstack([starts_SD, pool_CD[general.predict(pool_CD).argmin()]])
        seen_CD = np.vstack([starts_SD, *general.improved(starts_SD)])
        # The prior may be proposed though no run lies near it.
        seen_CD = seen_CD[general.allowed(seen_CD) | (np.arange(len(seen_CD)) == 0)]
        losses_C = general.predict(seen_CD)
        over = float(losses_C.min()) - keep.most
        if over > LIMIT_TOLERANCE:
            raise RedoneError(
                "mix.retention.epsilon: no allowed mixture is predicted to keep the general loss at "
                f"{keep.most:.4f} bits per byte; {np.ceil(over * 1e4) / 1e4:.4f} more would do, "
                "or loosen mix.groups, mix.bounds or mix.trust"
            )
        least_1D: Floats = seen_CD[[int(losses_C.argmin())]]
        return least_1D


def simulated(space: Space, config: SearchConfig, design_config: DesignConfig, seed: int) -> Floats:
    """Mixtures of the design's sampler and the runs' own, brought inside."""
    caps = dict(zip(space.fit.domains, space.constraints.most_D.tolist(), strict=True))
    rng = stream(seed, "search")
    sampled_CD = sample_weights(space.prior, caps, design_config, rng, count=config.candidates)
    return space.constraints.project(np.vstack([space.runs_RD, sampled_CD]))


def ranked(space: Space, weights_CD: Floats) -> Floats:
    """Those that are trusted, best first."""
    inside_CD = weights_CD[space.trusted(weights_CD)]
    return inside_CD[np.argsort(space.predict(inside_CD), kind="stable")] if len(inside_CD) else inside_CD


def apart(rows_CD: Floats, count: int, distance: float = 0.1, before: Sequence[Floats] = ()) -> list[Floats]:
    """The first rows that are this far (total variation) from `before` and from each other."""
    chosen: list[Floats] = []
    left_CD = rows_CD
    for row_D in before:
        left_CD = left_CD[total_variation(left_CD, row_D[None])[:, 0] >= distance]
    while len(left_CD) and len(chosen) < count:
        chosen.append(left_CD[0])
        left_CD = left_CD[total_variation(left_CD, left_CD[:1])[:, 0] >= distance]
    return chosen


def _moved(space: Space, start_D: Floats) -> Floats:
    """Move weight from one unit to another, the best of all pairs at a time, while the prediction falls."""
    constraints = space.constraints
    units_UD = constraints.units_UD
    here_D, here = start_D.copy(), float(space.predict(start_D[None])[0])
    giver_P, taker_P = np.nonzero(~np.eye(len(units_UD), dtype=bool))
    for step in STEPS:
        for _ in range(MAX_MOVES_PER_STEP):
            spare_UD = np.where(units_UD > 0, (here_D - constraints.least_D) / np.maximum(units_UD, TIE), np.inf)
            room_UD = np.where(units_UD > 0, (constraints.most_D - here_D) / np.maximum(units_UD, TIE), np.inf)
            moved_P = np.minimum(step, np.minimum(spare_UD.min(axis=1)[giver_P], room_UD.min(axis=1)[taker_P]))
            moves_PD = here_D + moved_P[:, None] * (units_UD[taker_P] - units_UD[giver_P])
            moves_PD = moves_PD[moved_P > BINDING_TOLERANCE]
            moves_PD = moves_PD[space.allowed(moves_PD)] if len(moves_PD) else moves_PD
            if not len(moves_PD):
                break
            predicted_P = space.predict(moves_PD)
            if predicted_P.min() >= here - TIE:
                break
            here_D, here = moves_PD[predicted_P.argmin()], float(predicted_P.min())
    return here_D


def total_variation(left_CD: Floats, right_RD: Floats) -> Floats:
    from scipy.spatial.distance import cdist  # slow to load, and every command reads recipes

    distance_CR: Floats = cdist(left_CD, right_RD, "cityblock") / 2
    return distance_CR
