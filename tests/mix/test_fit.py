import dataclasses

import numpy as np
import pytest
from planted import Planted

from redone_data.errors import RedoneError
from redone_data.mix.choose import fold_of_runs, rows_of_mixtures
from redone_data.mix.fit import Fit, FitConfig, fit
from redone_data.mix.tables import Swarm
from redone_data.mixture import Mixture
from redone_data.rng import stream

FAST = FitConfig(surrogates=("linear", "saturating"))


def shuffled_rows(swarm: Swarm, seed: int) -> Swarm:
    order = stream(seed, "order").permutation(len(swarm.run_ids))
    run_ids = tuple(swarm.run_ids[r] for r in order)
    return dataclasses.replace(
        swarm, run_ids=run_ids, weights_RD=swarm.weights_RD[order], losses_RM=swarm.losses_RM[order]
    )


def test_the_order_of_runs_domains_and_metrics_changes_nothing() -> None:
    planted = Planted.draw(5, 2, seed=0)
    swarm = planted.swarm(24, noise=0.01, seed=0)
    turned = shuffled_rows(swarm, seed=1)
    turned = dataclasses.replace(
        turned,
        domains=turned.domains[::-1],
        metrics=turned.metrics[::-1],
        weights_RD=turned.weights_RD[:, ::-1],
        losses_RM=turned.losses_RM[:, ::-1],
    )
    first, second = fit(swarm, FitConfig(), seed=7), fit(turned, FitConfig(), seed=7)
    assert first.report == second.report
    mixtures = [planted.prior, Mixture.uniform(planted.prior.names)]
    for metric, prediction in first.predict(mixtures).items():
        assert np.array_equal(prediction.prediction_C, second.predict(mixtures)[metric].prediction_C)


def test_replicates_of_a_mixture_share_a_fold() -> None:
    swarm = Planted.draw(5, 1, seed=0).swarm(12, noise=0.01, seed=0)
    doubled = Swarm(
        (*swarm.run_ids, *(f"{name}-again" for name in swarm.run_ids)),
        swarm.domains,
        swarm.metrics,
        np.vstack([swarm.weights_RD] * 2),
        np.vstack([swarm.losses_RM] * 2),
    )
    folds = fold_of_runs(doubled.run_ids, rows_of_mixtures(doubled.weights_RD), 5, seed=3)
    assert np.array_equal(folds[:12], folds[12:])
    assert sorted(np.bincount(folds[:12])) == [2, 2, 2, 3, 3]


def test_noise_repeated_over_replicates_is_not_taken_for_skill() -> None:
    swarm = Planted.draw(5, 1, seed=0).swarm(16, noise=0.0, seed=0)
    run_ids = (*swarm.run_ids, *(f"{name}-again" for name in swarm.run_ids))
    ranks = []
    for seed in range(8):
        noise = stream(seed, "noise").normal(size=(16, 1))
        weights, losses = np.vstack([swarm.weights_RD] * 2), np.vstack([noise, noise])
        doubled = Swarm(run_ids, swarm.domains, swarm.metrics, weights, losses)
        ranks.append(fit(doubled, FitConfig(surrogate="lightgbm"), seed=0).report[0].spearman)
    # Trees that had seen the replicate would remember it: a rank correlation near one.
    assert np.mean(ranks) < 0.2


@pytest.mark.parametrize("runs", [12, 48])
def test_noise_is_taken_for_skill_in_few_of_a_hundred_metrics(runs: int) -> None:
    swarm = Planted.draw(6, 1, seed=0).swarm(runs, noise=0.0, seed=0)
    metrics = tuple(f"noise{m}" for m in range(40))
    noise = stream(runs, "labels").normal(size=(runs, len(metrics)))
    config = FitConfig(surrogates=("linear", "loglinear"))
    result = fit(dataclasses.replace(swarm, metrics=metrics, losses_RM=noise), config, seed=0)
    # Held-out predictions of noise lean to the negative: what a fold lacks, the mean of the others has too much of.
    assert -0.4 < np.mean([row.spearman for row in result.report]) < 0.1
    assert np.mean([row.skilled for row in result.report]) <= 0.05


def test_the_reported_score_is_not_that_of_the_luckiest_surrogate() -> None:
    swarm = Planted.draw(6, 1, seed=0).swarm(16, noise=0.0, seed=0)
    metrics = tuple(f"noise{m}" for m in range(30))
    noise = stream(0, "labels").normal(size=(16, len(metrics)))
    config = FitConfig(surrogates=("linear", "loglinear"), margin=0.0)
    result = fit(dataclasses.replace(swarm, metrics=metrics, losses_RM=noise), config, seed=0)
    plain = {(row.metric, row.surrogate): row.rmse for row in result.compared}
    flattery = [row.rmse / plain[row.metric, row.surrogate] for row in result.report]
    assert np.mean(flattery) > 1.001  # by the plain score it would be one


def test_the_true_kind_of_surface_has_skill_and_the_linear_baseline_loses() -> None:
    swarm = Planted.draw(6, 2, seed=0).swarm(32, noise=0.005, seed=0)
    result = fit(swarm, FitConfig(), seed=0)
    assert result.has_skill(swarm.metrics)
    assert {row.surrogate for row in result.report} <= {"saturating", "law_gp"}
    assert len(result.compared) == 2 * len(FitConfig().surrogates)


def test_the_linear_baseline_is_kept_where_nothing_beats_it_by_the_margin() -> None:
    swarm = Planted.draw(6, 1, seed=0).swarm(40, noise=0.0, seed=0)
    slope = np.array([0.3, -0.2, 0.1, 0.4, -0.5, 0.0])
    noise = stream(0, "noise").normal(scale=0.02, size=(40, 1))
    straight = dataclasses.replace(swarm, losses_RM=(swarm.weights_RD @ slope)[:, None] + 2 + noise)
    result = fit(straight, FitConfig(), seed=0)
    assert result.report[0].surrogate == "linear"
    assert result.has_skill(swarm.metrics)


def test_a_surrogate_that_is_clearly_worse_is_dropped_and_judged_on_the_runs_it_saw() -> None:
    swarm = Planted.draw(6, 1, seed=0).swarm(80, noise=0.005, seed=0)
    config = FitConfig(surrogates=("linear", "lightgbm", "saturating"))
    result, alone = fit(swarm, config, seed=0), fit(swarm, FitConfig(surrogate="saturating"), seed=0)
    # Of five folds of 16 runs; the baseline stays, however bad it is.
    assert set(result.dropped["loss0"]) == {"lightgbm"}
    assert result.dropped["loss0"]["lightgbm"] in (16, 32)
    rows = {row.surrogate: row for row in result.compared}
    assert rows["lightgbm"].rmse > 2 * rows["saturating"].rmse
    assert 0 < rows["lightgbm"].half_width < np.ptp(swarm.losses_RM)
    # Who else ran changes nothing for the winner.
    assert result.report == alone.report
    assert np.array_equal(result.held_out_RM, alone.held_out_RM)


def test_a_surrogate_as_good_as_the_best_is_not_dropped_by_luck() -> None:
    dropped = 0
    for seed in range(10):
        swarm = Planted.draw(5, 2, seed).swarm(60, noise=0.05, seed=seed)
        result = fit(swarm, FitConfig(surrogates=("saturating", "law_gp")), seed)
        dropped += sum(len(names) for names in result.dropped.values())
    # Two of 20 metrics at most: one in 200 a fold, and the two differ a little.
    assert dropped <= 2


def test_many_runs_are_judged_on_neighbouring_folds_alone_and_no_worse() -> None:
    swarm = Planted.draw(5, 1, seed=0).swarm(240, noise=0.01, seed=0)
    result = fit(swarm, FAST, seed=0)
    assert np.isfinite(result.held_out_RM).all()
    assert result.row("loss0").surrogate == "saturating"
    assert result.row("loss0").rmse == pytest.approx(0.01, rel=0.2)


def test_a_forced_surrogate_is_the_only_one_fitted() -> None:
    swarm = Planted.draw(5, 2, seed=0).swarm(20, noise=0.01, seed=0)
    result = fit(swarm, FitConfig(surrogate="lightgbm"), seed=0)
    assert {row.surrogate for row in result.compared} == {"lightgbm"}


def test_metrics_spread_over_processes_give_the_same_fit_to_the_last_bit() -> None:
    swarm = Planted.draw(5, 2, seed=0).swarm(16, noise=0.01, seed=0)
    alone, spread = fit(swarm, FAST, seed=0), fit(swarm, FAST, seed=0, workers=2)
    assert alone.report == spread.report
    assert np.array_equal(alone.held_out_RM, spread.held_out_RM)


def test_the_noise_floor_comes_from_replicated_mixtures_alone() -> None:
    swarm = Planted.draw(5, 1, seed=0).swarm(16, noise=0.0, seed=0)
    assert fit(swarm, FAST, seed=0).noise == {"loss0": None}
    apart = np.where(np.arange(16) < 8, 0.03, 0.0)[:, None]
    doubled = Swarm(
        (*swarm.run_ids, *(f"{name}-again" for name in swarm.run_ids)),
        swarm.domains,
        swarm.metrics,
        np.vstack([swarm.weights_RD] * 2),
        np.vstack([swarm.losses_RM, swarm.losses_RM + apart]),
    )
    # Two losses d apart have variance d^2 / 2; half of the mixtures have none.
    assert fit(doubled, FAST, seed=0).noise["loss0"] == pytest.approx(0.03 / 2)


def test_a_fit_on_some_of_the_runs_keeps_the_choice_and_knows_only_these_runs() -> None:
    planted = Planted.draw(5, 2, seed=0)
    swarm = planted.swarm(24, noise=0.01, seed=0)
    whole = fit(swarm, FAST, seed=0)
    keep = np.arange(24) % 2 == 0
    part = whole.on_runs(keep)
    assert part.report == whole.report
    assert len(part.swarm.run_ids) == 12
    spoiled = dataclasses.replace(swarm, losses_RM=np.where(keep[:, None], swarm.losses_RM, 9.0))
    again = dataclasses.replace(whole, swarm=spoiled.in_order()).on_runs(keep)
    weights = whole.swarm.weights_RD
    assert np.array_equal(part.predict_weights("loss0", weights), again.predict_weights("loss0", weights))


def test_intervals_are_wider_where_errors_are_larger() -> None:
    planted = Planted.draw(6, 1, seed=0)
    swarm = planted.swarm(80, noise=0.0, seed=0)
    # Noise that grows with the loss, as the errors on the published swarms do.
    loud = (swarm.losses_RM - swarm.losses_RM.min()) * 0.2
    noisy = dataclasses.replace(swarm, losses_RM=swarm.losses_RM + loud * stream(0, "noise").normal(size=loud.shape))
    result = fit(noisy, FAST, seed=0)
    weights = result.swarm.weights_RD
    width, predicted = result.half_width("loss0", weights), result.predict_weights("loss0", weights)
    order = np.argsort(predicted)
    assert width[order[-20:]].mean() > 2 * width[order[:20]].mean()
    assert result.spread("loss0", weights) == pytest.approx(width / 1.96, rel=1e-3)


def test_intervals_cover_new_mixtures_about_as_often_as_they_say() -> None:
    covered = []
    for seed in range(6):
        planted = Planted.draw(6, 1, seed=seed)
        result = fit(planted.swarm(40, noise=0.01, seed=seed), FitConfig(surrogate="saturating"), seed)
        fresh = planted.swarm(200, noise=0.01, seed=seed + 100)
        mixtures = [Mixture(fresh.domains, tuple(weights / weights.sum())) for weights in fresh.weights_RD]
        _, low, high = result.predict(mixtures)["loss0"]
        covered.append(((low <= fresh.losses_RM[:, 0]) & (fresh.losses_RM[:, 0] <= high)).mean())
    assert 0.88 < np.mean(covered) <= 1.0


def test_few_runs_promise_less_coverage() -> None:
    swarm = Planted.draw(4, 1, seed=0).swarm(12, noise=0.01, seed=0)
    assert fit(swarm, FAST, seed=0).report[0].coverage == pytest.approx(12 / 13)


def test_a_constant_metric_has_no_skill() -> None:
    swarm = Planted.draw(4, 1, seed=0).swarm(12, noise=0.0, seed=0)
    flat = dataclasses.replace(swarm, losses_RM=np.full((12, 1), 1.5))
    result: Fit = fit(flat, FitConfig(), seed=0)
    assert not result.has_skill(["loss0"])
    assert result.predict([Mixture.uniform(swarm.domains)])["loss0"].prediction_C == pytest.approx(1.5)


def test_too_few_mixtures_and_unknown_metrics_are_refused() -> None:
    swarm = Planted.draw(5, 1, seed=0).swarm(3, noise=0.0, seed=0)
    with pytest.raises(RedoneError, match="3 different mixtures; at least 4"):
        fit(swarm, FAST, seed=0)
    result = fit(Planted.draw(5, 1, seed=0).swarm(8, noise=0.0, seed=0), FAST, seed=0)
    with pytest.raises(RedoneError, match="did you mean 'loss0'"):
        result.has_skill(["loss_0"])
    with pytest.raises(RedoneError, match="no surrogate 'spline'"):
        FitConfig(surrogate="spline")
