"""What a person reads off a fit must be true of the surface under it."""

import numpy as np
import pytest
from planted import Planted

from redone_data.mix.diagnostics import POINT, effects, learning_curve
from redone_data.mix.fit import FitConfig, fit
from redone_data.mixture import Mixture

FAST = FitConfig(surrogates=("linear", "saturating"))


def test_more_runs_are_said_to_rank_better_where_they_do() -> None:
    planted = Planted.draw(5, 2, seed=0)
    points = learning_curve(fit(planted.swarm(64, noise=0.02, seed=0), FAST, seed=1), seed=1)
    sizes = sorted({runs for _, runs, _ in points})
    assert len(sizes) == 4
    mean = {size: np.mean([rank for _, runs, rank in points if runs == size]) for size in sizes}
    assert mean[sizes[-1]] > mean[sizes[0]]
    assert mean[sizes[-1]] > 0.9


def test_an_effect_is_the_change_that_moving_the_mixture_brings() -> None:
    planted = Planted.draw(4, 2, seed=1)
    fitted = fit(planted.swarm(32, noise=0.001, seed=1), FAST, seed=1)
    mixture = Mixture.uniform(planted.prior.names)
    for domain, by_metric in effects(fitted, mixture).items():
        rest = {name: share for name, share in mixture.items() if name != domain}
        scale = (1 - mixture[domain] - POINT) / sum(rest.values())
        moved = Mixture.of({domain: mixture[domain] + POINT, **{n: s * scale for n, s in rest.items()}})
        predicted = fitted.predict([mixture, moved])
        for metric, change in by_metric.items():
            before, after = predicted[metric].prediction_C
            assert change == pytest.approx(after - before, abs=0.002)
            # The domain that the metric is about helps it most.
    own = {metric: min(names, key=names.__getitem__) for metric, names in _by_metric(effects(fitted, mixture)).items()}
    assert own == {"loss0": planted.prior.names[0], "loss1": planted.prior.names[1]}


def _by_metric(table: object) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for domain, by_metric in table.items():  # type: ignore[attr-defined]
        for metric, change in by_metric.items():
            found.setdefault(metric, {})[domain] = change
    return found
