from dataclasses import replace

import numpy as np
import pytest
from planted import Planted
from scipy.optimize import minimize

from redone_data.errors import RedoneError
from redone_data.mix.constraints import Constraints
from redone_data.mix.design import DesignConfig, capped
from redone_data.mix.fit import Fit, FitConfig, fit
from redone_data.mix.search import BEST, Keep, Objective, SearchConfig, SearchResult, search
from redone_data.mixture import Mixture
from redone_data.rng import stream

QUICK = SearchConfig(candidates=4000, top=32)
LAW = FitConfig(surrogates=("linear", "saturating"))


def true_optimum(planted: Planted, caps: dict[str, float]) -> float:
    names = planted.prior.names
    bounds = [(1e-9, caps.get(name, 1.0)) for name in names]
    found = minimize(
        lambda w: planted.losses(np.array([w])).mean(),
        np.full(len(names), 1 / len(names)),
        bounds=bounds,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
    )
    return float(found.fun)


def capped_at(planted: Planted, caps: dict[str, float]) -> Constraints:
    return Constraints.caps(planted.prior.names, caps)


def searched(
    planted: Planted, caps: dict[str, float], *, runs: int, noise: float, seed: int
) -> tuple[Fit, SearchResult]:
    fitted = fit(planted.swarm(runs, noise, seed, caps), LAW, seed)
    objective = Objective(dict.fromkeys(planted.metrics, 1.0))
    return fitted, search(fitted, objective, capped_at(planted, caps), planted.prior, QUICK, DesignConfig(), seed)


@pytest.mark.parametrize(("domains", "runs"), [(5, 24), (12, 64)])
@pytest.mark.parametrize("caps", [{}, {"domain00": 0.25}])
def test_a_planted_optimum_is_found_and_beats_prior_and_uniform(
    domains: int, runs: int, caps: dict[str, float]
) -> None:
    planted = Planted.draw(domains, 3, seed=domains)
    fitted, result = searched(planted, caps, runs=runs, noise=0.01, seed=1)
    assert fitted.has_skill(planted.metrics)
    at_prior = planted.objective(capped(planted.prior, caps))
    at_uniform = planted.objective(capped(Mixture.uniform(planted.prior.names), caps))
    best, reached = true_optimum(planted, caps), planted.objective(result.mixture)
    assert reached < min(at_prior, at_uniform)
    # What is left is mostly the trust rule: no run lies nearer to the corner where the optimum is.
    assert (reached - best) / (at_prior - best) < 0.15
    assert all(result.mixture[name] <= cap + 1e-9 for name, cap in caps.items())


def test_a_binding_cap_is_named() -> None:
    planted = Planted.draw(5, 2, seed=0)
    _, result = searched(planted, {"domain00": 0.2}, runs=24, noise=0.005, seed=0)
    assert result.binding == ("mix.max_epochs (domain00)",)


def test_the_proposal_stays_where_runs_are() -> None:
    planted = Planted.draw(12, 2, seed=3)
    _, result = searched(planted, {}, runs=20, noise=0.01, seed=3)
    assert result.nearest_run_distance <= result.trust_distance + 1e-9


def test_refining_never_predicts_worse_than_the_mean_of_the_top() -> None:
    planted = Planted.draw(6, 2, seed=4)
    fitted = fit(planted.swarm(24, 0.01, 4), LAW, 4)
    objective = Objective(dict.fromkeys(planted.metrics, 1.0))
    plain, refined = (
        search(
            fitted,
            objective,
            capped_at(planted, {}),
            planted.prior,
            SearchConfig(4000, 32, refine=refine),
            DesignConfig(),
            4,
        )
        for refine in (False, True)
    )
    assert refined.predicted <= plain.predicted <= plain.predicted_prior


def test_the_prior_is_kept_where_nothing_is_predicted_to_be_better() -> None:
    planted = Planted.draw(4, 1, seed=0)
    swarm = planted.swarm(12, 0.0, 0)
    away = np.abs(swarm.weights_RD - np.array(planted.prior.shares)).sum(axis=1)
    swarm.losses_RM[:, 0] = 1.0
    result = search(
        fit(swarm, LAW, 0), Objective({"loss0": 1.0}), capped_at(planted, {}), planted.prior, QUICK, DesignConfig(), 0
    )
    assert away.max() > 0
    assert result.found_by == "prior"
    assert result.mixture == planted.prior
    assert not result.skilled


def test_caps_that_move_everything_away_from_the_runs_end_at_the_prior() -> None:
    planted = Planted.draw(4, 1, seed=0)
    fitted = fit(planted.swarm(12, 0.01, 0, {"domain00": 0.02, "domain01": 0.02}), LAW, 0)
    caps = {"domain02": 0.01, "domain03": 0.01}
    result = search(
        fitted, Objective({"loss0": 1.0}), capped_at(planted, caps), planted.prior, QUICK, DesignConfig(), 0
    )
    assert result.found_by == "prior"
    assert result.nearest_run_distance > result.trust_distance


def test_mixtures_that_keep_the_general_loss_are_found_however_far_down_the_ranking() -> None:
    planted = Planted.draw(5, 2, seed=0)
    fitted, result = searched(planted, {}, runs=24, noise=0.005, seed=0)
    pool_CD = stream(0, "pool").dirichlet(np.ones(5), 3 * BEST)
    pool_CD = pool_CD[np.argsort(result.space.predict(pool_CD))]
    general = Objective({"loss1": 1.0})
    losses_C = general.predict(fitted, pool_CD)
    worst_CD = pool_CD[np.argsort(-losses_C)]
    space = replace(result.space, keep=Keep(general, float(np.quantile(losses_C, 0.1))))
    found_CD = space.best_kept(worst_CD, 64)
    assert np.array_equal(found_CD, worst_CD[space.kept(worst_CD)])
    # None of the first BEST keeps it; all that are looked at come in the order of the ranking.
    assert not space.kept(worst_CD[:BEST]).any()
    assert len(found_CD) >= 64


def test_the_same_seed_gives_the_same_proposal() -> None:
    planted = Planted.draw(5, 1, seed=0)
    first, second = (searched(planted, {}, runs=16, noise=0.01, seed=2)[1] for _ in range(2))
    assert first.mixture == second.mixture
    assert first.predicted == second.predicted


def test_an_objective_is_a_weighted_mean_and_refuses_weights_that_mean_nothing() -> None:
    assert Objective({"b": 3.0, "a": 1.0}).weights == {"a": 0.25, "b": 0.75}
    with pytest.raises(RedoneError, match="weight of 'a' is 0"):
        Objective({"a": 0.0})
    with pytest.raises(RedoneError, match="no metric"):
        Objective({})


def test_a_prior_over_other_domains_than_the_swarm_is_refused() -> None:
    planted = Planted.draw(4, 1, seed=0)
    fitted = fit(planted.swarm(8, 0.01, 0), LAW, 0)
    with pytest.raises(RedoneError, match="is in only one of the prior and the swarm"):
        search(
            fitted,
            Objective({"loss0": 1.0}),
            capped_at(planted, {}),
            Mixture.of({"other": 1}),
            QUICK,
            DesignConfig(),
            0,
        )
