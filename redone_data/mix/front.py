"""The trade between gain in the targets and what is kept in general: retention, and the Pareto front of both.

The front is found by the epsilon-constraint method: the objective is minimised under a sweep of limits on the general
loss, from the lowest that can be reached to the one at the free optimum, each from the end of the one before and from
the best simulated mixture. Simulated mixtures fill it where a surrogate has no slopes. Both sides are predictions.

Shapes: C candidates, D domains.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from redone_data.errors import RedoneError
from redone_data.mix.search import Keep, Objective, Space

Floats = NDArray[np.float64]

CHECKPOINT = "checkpoint"  # the reference that is no mixture: what swarm.init measured untouched
POINTS = 15
SAME = 1e-6  # bits per byte


@dataclass(frozen=True)
class Retention:
    """General ability is kept: the predicted general loss is at most that of the base mix + epsilon."""

    metrics: dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "domain -> weight of its loss in the general loss; default: the domains that are no target"},
    )
    epsilon: float = field(default=0.01, metadata={"help": "bits per byte that the general loss may rise"})
    reference: dict[str, float] | Literal["checkpoint"] | None = field(
        default=None,
        metadata={
            "help": "weights of the base mix; checkpoint: what swarm.init measured untouched; null: the natural shares "
            "within max_epochs"
        },
    )

    def __post_init__(self) -> None:
        if self.epsilon < 0:
            raise RedoneError(f"epsilon: {self.epsilon:g}; 0 or more")
        if any(weight <= 0 for weight in self.metrics.values()):
            raise RedoneError("metrics: weights are above 0; leave a domain out instead")
        if isinstance(self.reference, dict) and (
            any(weight < 0 for weight in self.reference.values()) or not sum(self.reference.values()) > 0
        ):
            raise RedoneError("reference: weights are 0 or more, and one of them above 0")


@dataclass(frozen=True, eq=False)
class FrontPoint:
    """A mixture that nothing seen beats in both; `chosen` is the proposal."""

    weights_D: Floats
    objective: float
    retention: float
    chosen: bool = False


def pareto_front(space: Space, general: Objective, pool_CD: Floats, chosen_D: Floats) -> list[FrontPoint]:
    """From the least general loss to the least objective, about `POINTS` mixtures, the chosen one among them."""
    free = replace(space, keep=None)
    lowest = replace(free, objective=general)
    seen_CD = pool_CD[free.allowed(pool_CD)]
    general_C = general.predict(space.fit, seen_CD)
    ends = [_best(lowest, [seen_CD[int(general_C.argmin())]]), _best(free, [seen_CD[0]])]
    least, most = (float(general.predict(space.fit, end_D[None])[0]) for end_D in ends)
    found = [*ends]
    here_D = ends[0]
    for limit in np.linspace(least, most, POINTS)[1:-1]:
        held = replace(free, keep=Keep(general, float(limit)))
        under_CD = seen_CD[general_C <= limit]
        starts = [here_D] if not len(under_CD) else [here_D, under_CD[int(free.predict(under_CD).argmin())]]
        here_D = _best(held, starts)
        found.append(here_D)
    rows_CD = np.array([chosen_D, *found])
    objective_C, general_C = free.predict(rows_CD), general.predict(space.fit, rows_CD)
    points = [FrontPoint(rows_CD[0], float(objective_C[0]), float(general_C[0]), chosen=True)]
    for row in np.lexsort((general_C[1:], objective_C[1:])) + 1:
        point = FrontPoint(rows_CD[row], float(objective_C[row]), float(general_C[row]))
        if not any(_beaten(point, other) for other in points):
            points.append(point)
    return sorted(points, key=lambda point: (point.retention, point.objective))


def general_objective(general: Mapping[str, float], skilled: Mapping[str, float]) -> Objective | None:
    """The general loss over the metrics that held-out runs bear out; None where there is none."""
    known = {metric: weight for metric, weight in general.items() if metric in skilled}
    return Objective(known) if known else None


def _best(space: Space, starts: list[Floats]) -> Floats:
    rows_CD = np.array([*starts, *space.improved(np.array(starts))])
    rows_CD = rows_CD[space.allowed(rows_CD)] if space.allowed(rows_CD).any() else rows_CD[:1]
    lowest_D: Floats = rows_CD[int(space.predict(rows_CD).argmin())]
    return lowest_D


def _beaten(point: FrontPoint, other: FrontPoint) -> bool:
    """Whether the other is at least as good in both, up to what no one could measure."""
    return other.objective <= point.objective + SAME and other.retention <= point.retention + SAME
