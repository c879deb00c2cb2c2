"""What a person asks of a fit: would more runs help, and which domain moves which metric?

Shapes: R runs, D domains, M metrics.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from redone_data.mix.choose import fold_of_runs, rows_of_mixtures
from redone_data.mix.fit import Fit
from redone_data.mix.scores import spearman
from redone_data.mixture import Mixture
from redone_data.rng import stream

Floats = NDArray[np.float64]

SHARES = (0.25, 0.5, 0.75, 1.0)
MIN_RUNS = 6  # below this a fit is not worth a point of the curve
MANY_RUNS = 200  # above this two of the folds are enough, and keep it to seconds
POINT = 0.01  # a percentage point of a weight


def learning_curve(fit: Fit, seed: int) -> list[tuple[str, int, float]]:
    """(metric, runs, Spearman) for fits to a quarter, half, three quarters and all of the runs outside each fold.

    The chosen surrogates are refitted; the held-out folds stay the same, so points differ by what was seen only.
    """
    swarm = fit.swarm
    mixtures = rows_of_mixtures(swarm.weights_RD)
    fold_R = fold_of_runs(swarm.run_ids, mixtures, fit.config.folds, seed)
    runs = len(swarm.run_ids)
    folds = range(int(fold_R.max()) + 1 if runs <= MANY_RUNS else 2)
    out_R = np.isin(fold_R, list(folds))
    outside = min(int((fold_R != fold).sum()) for fold in folds)
    points = []
    for size in sorted({round(share * outside) for share in SHARES}):
        if size < MIN_RUNS:
            continue
        predicted_RM = np.full(swarm.losses_RM.shape, np.nan)
        for fold in folds:
            seen = stream(seed, "learning", fold).permutation(np.flatnonzero(fold_R != fold))[:size]
            keep_R = np.zeros(runs, dtype=bool)
            keep_R[seen] = True
            part = fit.on_runs(keep_R)
            for column, metric in enumerate(swarm.metrics):
                here_R = fold_R == fold
                predicted_RM[here_R, column] = part.predict_weights(metric, swarm.weights_RD[here_R])
        points += [
            (metric, size, spearman(predicted_RM[out_R, column], swarm.losses_RM[out_R, column]))
            for column, metric in enumerate(swarm.metrics)
        ]
    return points


def effects(fit: Fit, mixture: Mixture) -> Mapping[str, Mapping[str, float]]:
    """domain -> metric -> the change in loss for one more percentage point, the others giving way in proportion.

    The direction of a domain d is (e_d - w) / (1 - w_d): its weight grows, the others keep their proportions.
    """
    weights_1D = fit.weights_of([mixture])
    weights_D = weights_1D[0]
    table: dict[str, dict[str, float]] = {domain: {} for domain in fit.domains}
    for metric in fit.metrics:
        slope_D: Floats = fit.gradient(metric, weights_1D)[0]
        along = float(weights_D @ slope_D)
        for column, domain in enumerate(fit.domains):
            rest = max(1 - float(weights_D[column]), 1e-9)
            table[domain][metric] = POINT * (float(slope_D[column]) - along) / rest
    return table
