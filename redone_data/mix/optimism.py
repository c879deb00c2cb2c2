"""By how much a predicted optimum flatters: what models that did not choose it predict there, less what its own does.

Where a model errs low is where its minimum goes. So the runs are split in halves, each half's models (the same
surrogates, fitted anew) choose their own optimum, and the other half's predict it: the mean difference is the optimism
of models with half of the runs. Runs of one mixture stay together; retention is left out, for it is no part of the
choice that flatters. Four small fits and searches; benchmarks/planted.py
has what it says beside the truth.
"""

import numpy as np

from redone_data.mix.choose import rows_of_mixtures
from redone_data.mix.constraints import Constraints
from redone_data.mix.design import DesignConfig
from redone_data.mix.fit import Fit
from redone_data.mix.search import Objective, SearchConfig, search
from redone_data.mixture import Mixture
from redone_data.rng import stream

SPLITS = 2
MIN_MIXTURES = 8
# Errors of a fit fall with the number of runs, and optimism with their square: a fit to all runs has half of it.
OF_ALL_RUNS = 0.5
QUICK = SearchConfig(candidates=2000, top=32)


def optimism(
    fit: Fit,
    objective: Objective,
    constraints: Constraints,
    prior: Mixture,
    design_config: DesignConfig,
    seed: int,
) -> float | None:
    """In the unit of the objective, to be added to its prediction at the optimum; None: too few runs to split."""
    mixtures = [np.asarray(rows) for rows in rows_of_mixtures(fit.swarm.weights_RD)]
    if len(mixtures) < MIN_MIXTURES:
        return None
    differences = []
    for split in range(SPLITS):
        order = stream(seed, "optimism", split).permutation(len(mixtures))
        first_R = np.zeros(len(fit.swarm.run_ids), dtype=bool)
        for mixture in order[: len(order) // 2]:
            first_R[mixtures[mixture]] = True
        halves = [fit.on_runs(first_R), fit.on_runs(~first_R)]
        for own, other in (halves, halves[::-1]):
            found = search(
                own,
                objective,
                constraints,
                prior,
                QUICK,
                design_config,
                seed,
                near=fit.swarm.weights_RD,
            )
            row_1D = own.weights_of([found.mixture])
            differences.append(float(objective.predict(other, row_1D)[0]) - float(objective.predict(own, row_1D)[0]))
    return OF_ALL_RUNS * float(np.mean(differences))
