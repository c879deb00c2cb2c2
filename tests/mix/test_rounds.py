from dataclasses import replace

import numpy as np
import pytest
from planted import SHARED_DATA, Planted

from redone_data.errors import RedoneError
from redone_data.mix.batch import Batch, expected_improvement, next_batch
from redone_data.mix.config import MixConfig
from redone_data.mix.constraints import Bound, Constraints, Group
from redone_data.mix.design import DesignConfig, capped
from redone_data.mix.fit import Fit, FitConfig, fit
from redone_data.mix.limits import Limits
from redone_data.mix.rounds import RoundsConfig, design_runs, proxies
from redone_data.mix.tables import Swarm, load_swarm
from redone_data.mixture import Mixture

LAW = FitConfig(surrogate="saturating")
PLANTED = Planted.draw(6, 3, seed=0)
WANTED = dict.fromkeys(PLANTED.metrics, 1.0)
LIMITS = Limits({name: round(1e6 * share) for name, share in PLANTED.prior.items()}, 1_000_000, 4.0)
ANY = Constraints.caps(LIMITS.prior.names, LIMITS.max_weights)


def measured(weights_RD: np.ndarray, noise: float, seed: int, first: int = 0) -> Swarm:
    losses_RM = PLANTED.losses(weights_RD)
    losses_RM = losses_RM + np.random.default_rng([seed, first]).normal(scale=noise, size=losses_RM.shape)
    ids = tuple(f"run{first + r:03d}" for r in range(len(weights_RD)))
    return Swarm(ids, PLANTED.prior.names, PLANTED.metrics, weights_RD, losses_RM)


def fitted(noise: float, runs: int = 20, again: int = 2) -> Fit:
    designed = design_runs(LIMITS, DesignConfig(runs=runs, replicates=again), {}, seed=1)
    return fit(measured(np.array([run.mixture.shares for run in designed]), noise, seed=1), LAW, seed=1)


def batch_of(fit_: Fit, runs: int = 8, seed: int = 1) -> Batch:
    return next_batch(fit_, WANTED, LIMITS, ANY, DesignConfig(), runs, seed)


def distances(left: list[Mixture], right: list[Mixture]) -> np.ndarray:
    return np.array([[sum(abs(a[name] - b[name]) for name in a) / 2 for b in right] for a in left])


def test_a_batch_keeps_to_the_caps_and_repeats_no_run_but_the_one_it_means_to() -> None:
    fit_ = fitted(noise=0.001)
    batch = batch_of(fit_)
    assert batch.stopped is None
    assert [run.kind for run in batch.planned] == ["improving"] * 5 + ["diverse"] * 2 + ["again"]
    caps = LIMITS.max_weights
    assert all(run.mixture[name] <= cap + 1e-6 for run in batch.planned for name, cap in caps.items())
    new = [run.mixture for run in batch.planned if run.kind != "again"]
    runs = [Mixture.of(dict(zip(fit_.domains, row, strict=True))) for row in fit_.swarm.weights_RD]
    between = distances(new, new) + np.eye(len(new))
    assert between.min() > 0.01
    assert distances(new, runs).min() > 0.01
    (again,) = [run.mixture for run in batch.planned if run.kind == "again"]
    best = runs[int(fit_.swarm.losses_RM.mean(axis=1).argmin())]
    assert again.shares == pytest.approx(best.shares)


def test_what_is_to_improve_keeps_to_the_groups_and_bounds_of_the_recipe() -> None:
    mix = MixConfig(groups={"few": Group(("domain00", "domain01"), max=0.2)}, bounds={"domain05": Bound(min=0.1)})
    constraints = Constraints.of(mix, LIMITS)
    batch = next_batch(fitted(noise=0.001), WANTED, LIMITS, constraints, DesignConfig(), 8, 1)
    rows_RD = np.array([run.mixture.shares for run in batch.planned])
    assert constraints.holds(rows_RD).all()
    assert rows_RD[:5, :2].sum(axis=1).max() > 0.15


def test_a_batch_finds_better_mixtures_than_the_runs_before_it() -> None:
    fit_ = fitted(noise=0.001)
    before = min(PLANTED.losses(fit_.swarm.weights_RD).mean(axis=1))
    found = min(PLANTED.objective(run.mixture) for run in batch_of(fit_).planned if run.kind == "improving")
    assert found < before - 0.01


def test_what_a_search_would_propose_is_measured_though_no_sample_comes_near_it() -> None:
    """The sampler keeps rare domains rare; else their repetition is first seen in the proposal."""
    narrow = DesignConfig(max_ratio=1.5)
    batch = next_batch(fitted(noise=0.001), WANTED, LIMITS, ANY, narrow, 8, 1)
    rarest = min(LIMITS.prior, key=lambda name: LIMITS.prior[name])
    shares = [run.mixture[rarest] for run in batch.planned if run.kind == "improving"]
    assert max(shares) > 3 * LIMITS.prior[rarest]


def test_noise_that_drowns_the_expected_gain_ends_the_rounds_and_says_so() -> None:
    quiet = fitted(noise=0.001)
    prior_D = np.array(capped(LIMITS.prior, LIMITS.max_weights).shares)
    rows_R = np.abs(quiet.swarm.weights_RD - prior_D).sum(axis=1) < 1e-9
    losses_RM = quiet.swarm.losses_RM.copy()
    losses_RM[rows_R] += np.array([[-1.0], [0.0], [1.0]])
    batch = batch_of(replace(quiet, swarm=replace(quiet.swarm, losses_RM=losses_RM)))
    assert batch.planned == ()
    assert batch.stopped is not None
    assert "is under the noise floor, 1" in batch.stopped


def test_without_replicates_there_is_no_noise_floor_to_stop_at() -> None:
    batch = batch_of(fitted(noise=0.001, again=0))
    assert batch.noise_floor is None
    assert batch.stopped is None


def test_without_skill_the_next_runs_spread_out_instead_of_chasing_noise() -> None:
    fit_ = fitted(noise=0.001)
    blind = replace(fit_, report=tuple(replace(row, skilled=False) for row in fit_.report))
    batch = batch_of(blind)
    assert {run.kind for run in batch.planned} == {"diverse"}
    assert batch.expected_gain is None


def test_a_batch_depends_on_the_runs_and_the_seed_alone() -> None:
    fit_ = fitted(noise=0.001)
    assert batch_of(fit_) == batch_of(fit_)
    assert batch_of(fit_) != batch_of(fit_, seed=2)


def test_caps_that_leave_nothing_new_end_the_rounds() -> None:
    fit_ = fitted(noise=0.001, again=0)
    batch = next_batch(fit_, WANTED, LIMITS, ANY, DesignConfig(), 4, 1, only_CD=fit_.swarm.weights_RD)
    assert batch.stopped == "the caps leave no mixture that differs from the runs"


def test_expected_improvement_is_that_of_many_draws() -> None:
    draws = np.random.default_rng(0).normal(0.95, 0.1, size=200_000)
    simulated = np.maximum(1.0 - draws, 0).mean()
    assert expected_improvement(1.0, np.array([0.95]), np.array([0.1]))[0] == pytest.approx(simulated, rel=0.02)


def test_runs_of_all_rounds_have_names_and_seeds_of_their_own() -> None:
    first = design_runs(LIMITS, DesignConfig(runs=16), {}, seed=1)
    later = proxies([first[0].mixture] * 4, len(first), seed=1)
    runs = [*first, *later]
    assert len(first) == 16
    assert len({run.run_id for run in runs}) == len({run.seed for run in runs}) == 20
    assert [run.run_id for run in later] == ["run-0016", "run-0017", "run-0018", "run-0019"]


def test_the_prior_is_trained_with_further_seeds_for_the_noise_floor() -> None:
    runs = design_runs(LIMITS, DesignConfig(runs=20), {}, seed=1)
    assert [i for i, run in enumerate(runs) if run.mixture == runs[0].mixture] == [0, 18, 19]
    few = design_runs(LIMITS, DesignConfig(runs=4), {}, seed=1)
    assert len({run.mixture for run in few}) == 4


def test_reused_runs_take_the_place_of_samples_but_never_of_the_anchors() -> None:
    whole = design_runs(LIMITS, DesignConfig(runs=16), {}, seed=1)
    fewer = design_runs(LIMITS, DesignConfig(runs=16), {}, seed=1, reused=5)
    assert [run.mixture for run in fewer] == [run.mixture for run in whole[:9]] + [run.mixture for run in whole[14:]]
    most = design_runs(LIMITS, DesignConfig(runs=16), {}, seed=1, reused=100)
    assert [run.mixture for run in most[:2]] == [run.mixture for run in whole[:2]]
    assert len(most) == 4


def test_a_bad_setting_of_rounds_is_refused_with_its_name() -> None:
    with pytest.raises(RedoneError, match=r"rounds\.max is -1"):
        RoundsConfig(max=-1)
    with pytest.raises(RedoneError, match=r"rounds\.runs is 0"):
        RoundsConfig(runs=0)


@pytest.mark.skipif(
    not (SHARED_DATA / "regmix").is_dir(), reason="the published RegMix tables are not beside the repository"
)
@pytest.mark.parametrize("seed", [0, 1])
def test_two_batches_find_a_better_published_mixture_than_as_many_random_runs(seed: int) -> None:
    folder = SHARED_DATA / "regmix"
    table = load_swarm(folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv")
    metric = next(name for name in table.metrics if "pile_cc" in name)
    truth_R, order = table.losses(metric), np.random.default_rng(seed).permutation(len(table.run_ids))
    limits, anywhere = Limits(dict.fromkeys(table.domains, 1), 1, 1.0), Constraints.caps(table.domains, {})
    runs = order[:20]
    for _ in range(2):
        ids = tuple(table.run_ids[run] for run in runs)
        swarm = Swarm(ids, table.domains, (metric,), table.weights_RD[runs], truth_R[runs, None])
        batch = next_batch(
            fit(swarm, LAW, seed),
            {metric: 1.0},
            limits,
            anywhere,
            DesignConfig(),
            10,
            seed,
            only_CD=table.weights_RD,
        )
        chosen = [np.abs(table.weights_RD - run.mixture.shares).sum(axis=1).argmin() for run in batch.planned]
        runs = np.unique([*runs, *chosen])
    assert len(runs) <= 40
    assert truth_R[runs].min() < truth_R[order[:60]].min()
