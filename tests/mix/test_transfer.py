import dataclasses

import numpy as np
import pytest
from planted import Planted

from redone_data.errors import RedoneError
from redone_data.mix.fit import Fit, FitConfig, fit
from redone_data.mix.tables import Swarm
from redone_data.mix.transfer import transfer
from redone_data.rng import stream


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted.draw(5, 2, seed=0)


@pytest.fixture(scope="module")
def fitted(planted: Planted) -> Fit:
    return fit(planted.swarm(32, noise=0.005, seed=0), FitConfig(surrogate="saturating"), seed=0)


def at_target(planted: Planted, runs: int, slope: float, noise: float, seed: int) -> Swarm:
    large = planted.swarm(runs, noise=0.0, seed=seed)
    noisy = slope * large.losses_RM + 0.2 + stream(seed, "target").normal(scale=noise, size=large.losses_RM.shape)
    return dataclasses.replace(large, losses_RM=noisy)


def test_clear_target_runs_decide_the_slope_and_noisy_ones_leave_it_near_one(fitted: Fit, planted: Planted) -> None:
    clear = transfer(fitted, at_target(planted, 10, 0.4, noise=0.001, seed=3), "1b").lines["loss0"]
    assert clear.slope == pytest.approx(0.4, abs=0.1)
    noisy = [
        transfer(fitted, at_target(planted, 5, 0.4, noise=1.0, seed=seed), "1b").lines["loss0"].slope
        for seed in range(10)
    ]
    assert np.abs(np.array(noisy) - 1).mean() < 0.3


def test_target_intervals_cover_what_the_target_scale_measures(fitted: Fit, planted: Planted) -> None:
    covered = []
    for seed in range(5):
        carried = transfer(fitted, at_target(planted, 10, 0.5, noise=0.02, seed=seed), "1b")
        fresh = at_target(planted, 100, 0.5, noise=0.02, seed=seed + 50).in_order()
        _, low, high = carried.predict("loss1", fresh.weights_RD)
        covered.append(((low <= fresh.losses("loss1")) & (fresh.losses("loss1") <= high)).mean())
    assert carried.lines["loss1"].coverage == pytest.approx(10 / 11)
    assert np.mean(covered) > 0.8


def test_target_runs_that_do_not_fit_the_swarm_are_refused_by_name(fitted: Fit, planted: Planted) -> None:
    target = at_target(planted, 6, 1.0, noise=0.0, seed=1)
    with pytest.raises(RedoneError, match="domain 'domain00' is in only one"):
        transfer(fitted, dataclasses.replace(target, domains=("other", *target.domains[1:])), "1b")
    with pytest.raises(RedoneError, match="share no metric with the swarm"):
        transfer(fitted, dataclasses.replace(target, metrics=("accuracy", "f1")), "1b")
    few = dataclasses.replace(
        target, run_ids=target.run_ids[:2], weights_RD=target.weights_RD[:2], losses_RM=target.losses_RM[:2]
    )
    with pytest.raises(RedoneError, match="2 target runs"):
        transfer(fitted, few, "1b")
