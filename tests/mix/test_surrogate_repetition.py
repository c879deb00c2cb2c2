"""Shapes: R runs, D domains."""

import numpy as np
import pytest
from planted import Floats, Planted
from scipy.optimize import approx_fprime

from redone_data.mix.design import DesignConfig, sample_weights
from redone_data.mix.scores import spearman
from redone_data.mix.surrogates.base import Beside
from redone_data.mix.surrogates.named import surrogate_named
from redone_data.mix.surrogates.repetition import Repetition
from redone_data.mix.surrogates.saturating import SaturatingLaw
from redone_data.rng import stream

EPOCHS_D = np.array([2.0, 40.0, 5.0, 20.0, 60.0, 10.0])


def planted_runs(
    runs: int, harm: float, seed: int, *, onset: float = 4.0, power: float = 1.0, cap: float = 60.0
) -> tuple[Floats, Floats]:
    """Weights and losses where passes e add `harm` x (e - onset)^power, and noise of 3 % of their spread."""
    planted = Planted.draw(6, 1, seed=0)
    caps = {name: min(cap / epochs, 1.0) for name, epochs in zip(planted.prior.names, EPOCHS_D, strict=True)}
    weights_RD = sample_weights(planted.prior, caps, DesignConfig(), stream(seed, "weights"), count=runs)
    worth_RD = Repetition.seen(weights_RD, EPOCHS_D).worth(weights_RD)
    excess_RD = np.maximum(weights_RD * EPOCHS_D - onset, 0)
    losses_R = planted.losses(worth_RD)[:, 0] + harm * (excess_RD**power).sum(axis=1)
    return weights_RD, losses_R + stream(seed, "noise").normal(scale=0.03 * losses_R.std(), size=runs)


@pytest.mark.parametrize("name", ["saturating", "law_gp"])
def test_harm_of_repetition_is_found_where_it_is_and_the_loss_rises_again(name: str) -> None:
    weights_RD, losses_R = planted_runs(32, harm=0.03, seed=0)
    test_RD, test_R = planted_runs(500, harm=0.03, seed=1)
    blind = surrogate_named(name).fit(weights_RD, losses_R, stream(0, "fit"))
    seeing = surrogate_named(name).fit(weights_RD, losses_R, stream(0, "fit"), Beside(epochs_D=EPOCHS_D))
    errors = [float(((model.predict(test_RD) - test_R) ** 2).mean() ** 0.5) for model in (blind, seeing)]
    assert errors[1] < 0.6 * errors[0]
    assert spearman(seeing.predict(test_RD), test_R) > 0.98
    assert seeing.harm_D is not None
    often = EPOCHS_D >= 20
    most = float((weights_RD * EPOCHS_D).max())
    assert seeing.harm_D[often] == pytest.approx(0.03 * (most - 4), rel=0.25)
    assert seeing.gradient(np.array([[0.05, 0.05, 0.05, 0.05, 0.75, 0.05]]))[0, 4] > 0


@pytest.mark.parametrize("name", ["saturating", "law_gp"])
def test_no_harm_is_reported_where_repetition_does_none(name: str) -> None:
    weights_RD, losses_R = planted_runs(32, harm=0.0, seed=0)
    model = surrogate_named(name).fit(weights_RD, losses_R, stream(0, "fit"), Beside(epochs_D=EPOCHS_D))
    assert model.harm_D is None


@pytest.mark.parametrize(("onset", "power"), [(1.0, 1.0), (2.0, 2.0), (6.0, 1.0), (6.0, 2.5)])
def test_harm_is_found_wherever_it_begins_and_however_fast_it_grows(onset: float, power: float) -> None:
    harm = 0.5 / 20**power
    weights_RD, losses_R = planted_runs(32, harm, seed=0, onset=onset, power=power)
    test_RD, test_R = planted_runs(500, harm, seed=1, onset=onset, power=power)
    model = SaturatingLaw().fit(weights_RD, losses_R, stream(0, "fit"), Beside(epochs_D=EPOCHS_D))
    predicted_R = model.predict(test_RD)
    assert float(((predicted_R - test_R) ** 2).mean() ** 0.5) < 0.12 * test_R.std()
    assert test_R[predicted_R.argmin()] - test_R.min() < 0.15 * test_R.std()


def test_harm_that_begins_early_is_found_under_the_usual_cap_of_four_passes() -> None:
    harm = {"harm": 0.15, "onset": 2.0, "cap": 4.0}
    weights_RD, losses_R = planted_runs(32, seed=0, **harm)
    test_RD, test_R = planted_runs(500, seed=1, **harm)
    blind = SaturatingLaw().fit(weights_RD, losses_R, stream(0, "fit"))
    seeing = SaturatingLaw().fit(weights_RD, losses_R, stream(0, "fit"), Beside(epochs_D=EPOCHS_D))
    errors = [float(((model.predict(test_RD) - test_R) ** 2).mean() ** 0.5) for model in (blind, seeing)]
    assert errors[1] < 0.5 * errors[0]


def test_a_law_with_harm_is_convex_so_that_a_search_from_anywhere_ends_at_one_optimum() -> None:
    weights_RD, losses_R = planted_runs(32, harm=0.03, seed=0)
    model = SaturatingLaw().fit(weights_RD, losses_R, stream(0, "fit"), Beside(epochs_D=EPOCHS_D))
    ends_CD = stream(0, "ends").dirichlet(np.full(6, 0.5), size=2 * 500).reshape(2, 500, 6)
    middle_C = model.predict(ends_CD.mean(axis=0))
    assert (middle_C <= (model.predict(ends_CD[0]) + model.predict(ends_CD[1])) / 2 + 1e-9).all()


def test_the_fit_follows_the_true_slopes_of_the_harm_by_its_parameters() -> None:
    weights_RD, _ = planted_runs(32, harm=0.03, seed=0)
    repetition = Repetition.seen(weights_RD, EPOCHS_D)
    passes_RD = weights_RD * EPOCHS_D
    parameters_K = stream(0, "parameters").normal(scale=0.5, size=repetition.num_parameters)

    def added(parameters_K: Floats) -> Floats:
        harm_R: Floats = repetition.harm(passes_RD, parameters_K).added_RD @ repetition.roots(parameters_K) ** 2
        return harm_R

    numeric_RK = approx_fprime(parameters_K, added, 1e-7)
    assert repetition.by_parameters(passes_RD, parameters_K) == pytest.approx(numeric_RK, abs=1e-5)


def test_runs_that_hardly_repeat_say_nothing_of_harm_and_predict_as_if_epochs_were_unknown() -> None:
    weights_RD, losses_R = planted_runs(24, harm=0.0, seed=0)
    few = SaturatingLaw().fit(weights_RD, losses_R, stream(0, "fit"), Beside(epochs_D=np.full(6, 0.9)))
    unknown = SaturatingLaw().fit(weights_RD, losses_R, stream(0, "fit"))
    assert few.harm_D is None
    assert np.array_equal(few.predict(weights_RD), unknown.predict(weights_RD))


def test_a_domain_that_the_runs_never_repeat_is_expected_to_be_harmed_as_the_others_are() -> None:
    weights_RD, losses_R = planted_runs(48, harm=0.03, seed=0)
    seldom = weights_RD[:, 4] * EPOCHS_D[4] <= 4
    model = SaturatingLaw().fit(weights_RD[seldom], losses_R[seldom], stream(0, "fit"), Beside(epochs_D=EPOCHS_D))
    assert model.harm_D is not None
    assert model.harm_D[4] > 0.01


def test_the_slopes_of_a_law_with_harm_are_those_of_its_predictions() -> None:
    weights_RD, losses_R = planted_runs(32, harm=0.03, seed=0)
    model = SaturatingLaw().fit(weights_RD, losses_R, stream(0, "fit"), Beside(epochs_D=EPOCHS_D))
    mixture_D = np.array([0.1, 0.25, 0.15, 0.05, 0.3, 0.15])
    numeric_D = approx_fprime(mixture_D, lambda w: float(model.predict(w[None])[0]), 1e-7)
    assert model.gradient(mixture_D[None])[0] == pytest.approx(numeric_D, abs=1e-4)
    assert np.isfinite(model.gradient(np.eye(6))).all()


def test_tokens_seen_once_are_worth_themselves_and_the_sixteenth_pass_much_less() -> None:
    once, often = Repetition.seen(np.eye(1), np.array([1.0])), Repetition.seen(np.eye(1), np.array([1000.0]))
    assert once.worth(np.array([[0.3], [1.0]])) == pytest.approx(np.array([[0.3], [1.0]]))
    assert often.worth(np.array([[1.0]]))[0, 0] == pytest.approx(16.4 / 1000)


def test_runs_at_a_cap_of_two_epochs_do_not_make_rounding_into_harm() -> None:
    rng = stream(0, "cap")
    epochs_D = np.array([3.3, 5.1, 2.9, 4.7])
    weights_RD = rng.dirichlet(np.ones(4), size=24)
    weights_RD[:12, 0] = np.nextafter(2.0 / epochs_D[0], 1.0)
    weights_RD[:12, 1:] *= (1 - weights_RD[:12, :1]) / weights_RD[:12, 1:].sum(axis=1, keepdims=True)
    weights_RD[:, 1:] = np.minimum(weights_RD[:, 1:], 2.0 / epochs_D[1:])
    assert (weights_RD * epochs_D)[:12, 0].max() > 2
    weights_RD[12:, 0] = np.minimum(weights_RD[12:, 0], 2.0 / epochs_D[0])
    assert Repetition.seen(weights_RD, epochs_D).most == 0
