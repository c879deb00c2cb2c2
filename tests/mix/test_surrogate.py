import numpy as np
import pytest
from planted import SHARED_DATA, Planted
from scipy.optimize import approx_fprime

from redone_data.errors import RedoneError
from redone_data.mix.scores import spearman
from redone_data.mix.surrogates.gp import _Likelihood
from redone_data.mix.surrogates.named import SURROGATES, surrogate_named
from redone_data.mix.surrogates.repetition import Repetition
from redone_data.mix.surrogates.saturating import SaturatingLaw, _Terms
from redone_data.mix.surrogates.trees import LightGBMSurrogate
from redone_data.mix.tables import Swarm, load_swarm
from redone_data.rng import stream


@pytest.mark.parametrize("name", sorted(SURROGATES))
def test_the_same_runs_and_stream_give_the_same_model(name: str) -> None:
    swarm = Planted.draw(6, 1, seed=0).swarm(runs=20, noise=0.01, seed=0)
    fits = [surrogate_named(name).fit(swarm.weights_RD, swarm.losses_RM[:, 0], stream(0, "fit")) for _ in range(2)]
    assert np.array_equal(fits[0].predict(swarm.weights_RD), fits[1].predict(swarm.weights_RD))


@pytest.mark.parametrize("name", sorted(SURROGATES))
def test_constant_losses_and_equal_mixtures_are_predicted_as_they_are(name: str) -> None:
    weights = np.full((8, 3), 1 / 3)
    model = surrogate_named(name).fit(weights, np.full(8, 2.5), stream(0, "fit"))
    assert np.allclose(model.predict(np.array([[0.0, 0.0, 1.0]])), 2.5)
    model = surrogate_named(name).fit(weights, np.arange(8.0), stream(0, "fit"))
    assert model.predict(weights) == pytest.approx(3.5, abs=0.5)


@pytest.mark.parametrize("name", sorted(SURROGATES))
def test_a_search_that_follows_the_slopes_goes_where_the_predictions_fall(name: str) -> None:
    swarm = Planted.draw(5, 1, seed=0).swarm(runs=40, noise=0.01, seed=0)
    model = surrogate_named(name).fit(swarm.weights_RD, swarm.losses_RM[:, 0], stream(0, "fit"))
    weights = stream(1, "slopes").dirichlet(np.full(5, 5.0), size=7)
    slopes = model.gradient(weights)
    assert slopes.shape == weights.shape
    assert np.isfinite(model.gradient(np.eye(5))).all()
    if model.smooth:
        numeric = [approx_fprime(mixture, lambda w: float(model.predict(w[None])[0]), 1e-7) for mixture in weights]
        assert np.allclose(slopes, numeric, atol=1e-4)


@pytest.mark.parametrize("name", ["gp", "law_gp", "saturating"])
def test_a_mixture_far_from_all_runs_is_predicted_less_surely(name: str) -> None:
    swarm = Planted.draw(5, 1, seed=0).swarm(runs=30, noise=0.01, seed=0)
    near = swarm.weights_RD[:, 0] < np.median(swarm.weights_RD[:, 0])
    model = surrogate_named(name).fit(swarm.weights_RD[near], swarm.losses_RM[near, 0], stream(0, "fit"))
    spread = model.spread(np.vstack([swarm.weights_RD[near], np.eye(5)[0]]))
    assert spread is not None
    assert spread[-1] > 1.05 * np.median(spread[:-1])


@pytest.mark.parametrize("name", ["gp", "law_gp"])
def test_the_spread_covers_the_losses_of_new_runs_about_as_often_as_it_says(name: str) -> None:
    planted = Planted.draw(6, 1, seed=3)
    train, test = planted.swarm(40, noise=0.02, seed=3), planted.swarm(300, noise=0.02, seed=4)
    model = surrogate_named(name).fit(train.weights_RD, train.losses_RM[:, 0], stream(0, "fit"))
    spread = model.spread(test.weights_RD)
    assert spread is not None
    inside = np.abs(model.predict(test.weights_RD) - test.losses_RM[:, 0]) < 1.96 * spread
    assert 0.85 < inside.mean() < 0.995


def test_the_likelihood_s_gradient_is_that_of_its_value() -> None:
    rng = stream(0, "likelihood")
    likelihood = _Likelihood(np.sqrt(rng.dirichlet(np.full(4, 0.5), size=12)), rng.normal(size=12), np.zeros(6), 1.0)
    hyper = rng.normal(scale=0.5, size=6)
    numeric = approx_fprime(hyper, lambda h: likelihood(h)[0], 1e-6)
    assert np.allclose(likelihood(hyper)[1], numeric, atol=1e-4)


@pytest.mark.parametrize("epochs", [None, np.array([1.0, 3.0, 30.0, 12.0])])
def test_the_law_s_jacobian_is_that_of_its_losses(epochs: np.ndarray | None) -> None:
    rng = stream(0, "jacobian")
    weights = rng.dirichlet(np.full(4, 0.5), size=3)
    weights[0, 1] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    repetition = Repetition.seen(np.tile(weights, (2, 1)), epochs)
    terms = _Terms(weights, repetition)
    theta = rng.normal(size=11 + repetition.num_parameters)
    numeric = np.array([approx_fprime(theta, lambda t, r=run: terms.loss(t)[r], 1e-7) for run in range(3)])
    assert np.allclose(terms.jacobian(theta), numeric, atol=1e-5)


@pytest.mark.parametrize("domains", [5, 12])
def test_the_law_recovers_its_own_kind_of_surface_from_few_runs(domains: int) -> None:
    planted = Planted.draw(domains, 1, seed=1)
    train, test = planted.swarm(24, noise=0.005, seed=1), planted.swarm(300, noise=0.0, seed=2)
    model = SaturatingLaw().fit(train.weights_RD, train.losses_RM[:, 0], stream(0, "fit"))
    assert spearman(model.predict(test.weights_RD), test.losses_RM[:, 0]) > 0.97


def test_the_law_stays_finite_where_no_helpful_domain_is_present() -> None:
    planted = Planted.draw(6, 1, seed=2)
    train = planted.swarm(20, noise=0.01, seed=2)
    model = SaturatingLaw().fit(train.weights_RD, train.losses_RM[:, 0], stream(0, "fit"))
    span = np.ptp(train.losses_RM[:, 0])
    assert np.abs(model.predict(np.eye(6)) - train.losses_RM[:, 0].mean()).max() < 5 * span


@pytest.mark.parametrize("runs", [20, 32, 64])
def test_the_trees_do_not_predict_a_constant_from_few_runs(runs: int) -> None:
    swarm = Planted.draw(5, 1, seed=0).swarm(runs, noise=0.005, seed=0)
    model = LightGBMSurrogate().fit(swarm.weights_RD, swarm.losses_RM[:, 0], stream(0, "fit"))
    assert len(np.unique(model.predict(swarm.weights_RD))) > 4


def test_an_unknown_surrogate_is_named_with_the_known_ones() -> None:
    with pytest.raises(RedoneError, match="did you mean 'linear'"):
        surrogate_named("linaer")


def regmix() -> tuple[Swarm, Swarm]:
    folder = SHARED_DATA / "regmix"
    train = load_swarm(folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv")
    return train, load_swarm(folder / "test_mixture_1m.csv", folder / "test_pile_loss_1m.csv")


@pytest.mark.skipif(
    not (SHARED_DATA / "regmix").is_dir(), reason="the published RegMix tables are not beside the repository"
)
@pytest.mark.parametrize(("runs", "least"), [(32, 0.97), (64, 0.98)])
def test_the_law_ranks_the_published_regmix_test_mixtures_from_few_runs(runs: int, least: float) -> None:
    train, test = regmix()
    metric = next(name for name in train.metrics if "pile_cc" in name)
    scores = []
    for subset in range(5):
        rows = np.random.default_rng(subset).choice(512, runs, replace=False)
        model = SaturatingLaw().fit(train.weights_RD[rows], train.losses(metric)[rows], stream(subset, "fit"))
        scores.append(spearman(model.predict(test.weights_RD), test.losses(metric)))
    assert np.mean(scores) >= least
