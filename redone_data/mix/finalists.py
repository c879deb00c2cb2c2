"""Which mixtures are worth measuring: the predicted best, others nearly as good but different, the best one measured.

The model cannot tell those whose prediction lies within the interval of the best; training them can. They are at least
a tenth of all weight apart, else they would be measured as the same.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redone_data.mix.search import SearchResult, apart

Floats = NDArray[np.float64]

MOST = 8
APART = 0.1  # total variation


class Finalist(NamedTuple):
    """A mixture to be measured. name: best, near-1, near-2, ..., best-measured. predicted: the objective."""

    name: str
    weights_D: Floats
    predicted: float


def finalists(result: SearchResult, best_D: Floats) -> list[Finalist]:
    """At most `MOST`, the best first, the best measured one last; it is left out where it is the best."""
    space, fit = result.space, result.space.fit
    best = Finalist("best", best_D, float(space.predict(best_D[None])[0]))
    pool_CD = result.pool_CD[space.allowed(result.pool_CD)]
    predicted_C = space.predict(pool_CD)
    within_C = predicted_C <= best.predicted + space.objective.half_width(fit, best_D[None])[0]
    order = np.argsort(predicted_C[within_C], kind="stable")
    near_CD = pool_CD[within_C][order]
    measured = _best_measured(result)
    taken = [best_D, *([] if measured is None else [measured.weights_D])]
    others = apart(near_CD, MOST - len(taken), APART, taken) if len(near_CD) else []
    values = space.predict(np.array(others)).tolist() if others else []
    named = [Finalist(f"near-{i + 1}", row_D, values[i]) for i, row_D in enumerate(others)]
    new = measured is not None and np.abs(measured.weights_D - best_D).sum() / 2 >= APART / 10
    return [best, *named, *([measured] if measured is not None and new else [])]


def _best_measured(result: SearchResult) -> Finalist | None:
    """The allowed mixture of the swarm with the lowest measured objective, a mean over its seeds."""
    space, swarm = result.space, result.space.fit.swarm
    losses_R = space.objective.measured(space.fit)
    distinct_XD, which_R = np.unique(np.round(swarm.weights_RD, 9), axis=0, return_inverse=True)
    mean_X = np.bincount(which_R.ravel(), losses_R) / np.bincount(which_R.ravel())
    allowed = np.flatnonzero(space.allowed(distinct_XD))
    if not len(allowed):
        return None
    row_D = distinct_XD[allowed[mean_X[allowed].argmin()]]
    return Finalist("best-measured", row_D, float(space.predict(row_D[None])[0]))
