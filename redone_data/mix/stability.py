"""How far the found weights move when a part of the runs is left out: an honest look at what the search rests on.

The runs are cut into parts; for each, the same surrogates are fitted to the others and the search is repeated. The
spread of the optima is no confidence interval, but what a reader wants to know: a wide one says that the loss hardly
depends on this weight, or that there are too few runs. As many small fits and searches as there are parts.
"""

import contextlib

import numpy as np

from redone_data.errors import RedoneError
from redone_data.mix.choose import rows_of_mixtures
from redone_data.mix.constraints import Constraints
from redone_data.mix.design import DesignConfig
from redone_data.mix.fit import Fit
from redone_data.mix.optimism import MIN_MIXTURES, QUICK
from redone_data.mix.search import Keep, Objective, search
from redone_data.mixture import Mixture
from redone_data.rng import stream

PARTS = 5


def weight_ranges(
    fit: Fit,
    objective: Objective,
    constraints: Constraints,
    prior: Mixture,
    design_config: DesignConfig,
    seed: int,
    keep: Keep | None = None,
) -> dict[str, list[float]]:
    """Domain -> [lowest, highest] weight among the optima; nothing where there are too few runs to leave any out."""
    mixtures = [np.asarray(rows) for rows in rows_of_mixtures(fit.swarm.weights_RD)]
    if len(mixtures) < MIN_MIXTURES:
        return {}
    order = stream(seed, "stability").permutation(len(mixtures))
    optima = []
    for part in range(PARTS):
        keep_R = np.ones(len(fit.swarm.run_ids), dtype=bool)
        for mixture in order[part::PARTS]:
            keep_R[mixtures[mixture]] = False
        some, near = fit.on_runs(keep_R), fit.swarm.weights_RD
        # By these fits' lights nothing may keep the general loss; then they have no optimum to show.
        with contextlib.suppress(RedoneError):
            found = search(some, objective, constraints, prior, QUICK, design_config, seed, keep=keep, near=near)
            optima.append(np.array(found.mixture.shares))
    if not optima:
        return {}
    low_D, high_D = np.min(optima, axis=0), np.max(optima, axis=0)
    return {name: [float(low_D[i]), float(high_D[i])] for i, name in enumerate(fit.domains)}
