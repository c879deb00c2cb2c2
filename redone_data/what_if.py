"""What would a mixture give? By counted n-grams, beside the prior and uniform weights, without training anything.

Reading to tokenizing runs where it is not done; then counting, once; then an answer takes a fraction of a second.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from redone_data.mix.counting.model import SAMPLE_SHARE
from redone_data.mix.limits import OBJECTIVE, PRIOR, UNIFORM
from redone_data.mix.measured import COUNTED_ONLY
from redone_data.mixture import Mixture
from redone_data.pipeline import Run

WARNING = (
    COUNTED_ONLY.strip() + " Orders of mixtures mostly hold, heights of losses do not; "
    "where mixtures are close together, not even the order: train proxies before you decide."
)


@dataclass(frozen=True)
class WhatIf:
    """Counted losses: mixture -> metric -> bits per byte, the objective first; epochs of the mixture asked for."""

    weights: dict[str, dict[str, float]]
    epochs: dict[str, float]
    losses: dict[str, dict[str, float]]


def what_if(run: Run, weights: Mapping[str, float]) -> WhatIf:
    """Answer for a recipe's run; `weights` are scaled to sum to one, a domain left out has none."""
    run.execute("tokenize")
    limits, mix = run.limits, run.mix
    asked = Mixture.of(dict(weights)).on(tuple(limits.tokens))
    mixtures = {"asked": asked, **limits.baselines()}
    model = run.count().model()
    weights_CD = np.array([[mixture[name] for name in model.domains] for mixture in mixtures.values()])
    losses_CM = model.losses(weights_CD, mix.swarm.proxy.tokens * SAMPLE_SHARE)
    wanted = mix.objective(model.domains)
    total = sum(wanted.values())
    losses: dict[str, dict[str, float]] = {}
    for name, losses_M in zip(mixtures, losses_CM.tolist(), strict=True):
        by_metric = dict(zip(model.metrics, losses_M, strict=True))
        objective = sum(weight * by_metric[metric] for metric, weight in wanted.items()) / total
        losses[name] = {OBJECTIVE: objective, **by_metric}
    return WhatIf({name: dict(mixture) for name, mixture in mixtures.items()}, limits.epochs(asked), losses)


COLUMNS = ("asked", PRIOR, UNIFORM)
