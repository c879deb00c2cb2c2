"""Counts brought to the scale of real runs: the surrogate `screened`."""

import pickle

import numpy as np
import pytest
from test_counting import drawn, model_of

from redone_data.mix.counting.screen import SAMPLES, Calibrated, Screen
from redone_data.mix.scores import spearman
from redone_data.mix.surrogates.base import Beside
from redone_data.mix.surrogates.saturating import SaturatingLaw
from redone_data.mix.surrogates.screened import ScreenedSurrogate
from redone_data.rng import stream


@pytest.fixture(scope="module")
def screen() -> Screen:
    return Screen(model_of(drawn(4, 1), drawn(4, 2)).only("domain1"), 50.0)


WEIGHTS_RD = np.random.default_rng(0).dirichlet(np.full(4, 1.0), size=40)


def test_the_sample_and_the_scale_of_real_runs_are_found(screen: Screen) -> None:
    wanted = SAMPLES.index(2.0)
    losses_R = 3.0 + 0.01 * screen.samples(WEIGHTS_RD)[wanted]
    found = Calibrated.on_runs(screen, WEIGHTS_RD[:8], losses_R[:8])
    assert (found.chosen, found.sample) == (wanted, 100.0)
    np.testing.assert_allclose(found.predict(WEIGHTS_RD), losses_R, rtol=1e-9)
    np.testing.assert_allclose(found.on_known(WEIGHTS_RD), losses_R, rtol=1e-9)


def test_counts_that_contradict_the_runs_predict_their_mean(screen: Screen) -> None:
    losses_R = -screen.samples(WEIGHTS_RD)[3]
    found = Calibrated.on_runs(screen, WEIGHTS_RD[:8], losses_R[:8])
    np.testing.assert_allclose(found.predict(WEIGHTS_RD), losses_R[:8].mean())


def test_from_eight_runs_counts_beat_the_law_alone(screen: Screen) -> None:
    noise_R = stream(0, "noise").normal(scale=0.002, size=len(WEIGHTS_RD))
    losses_R = 3.0 + 0.01 * screen.samples(WEIGHTS_RD)[4] + noise_R
    few_RD, few_R, held_out = WEIGHTS_RD[:8], losses_R[:8], slice(8, None)
    screened = ScreenedSurrogate().fit(few_RD, few_R, stream(0, "fit"), Beside(screen=screen))
    law = SaturatingLaw().fit(few_RD, few_R, stream(0, "fit"))
    errors = [np.abs(model.predict(WEIGHTS_RD[held_out]) - losses_R[held_out]).mean() for model in (screened, law)]
    assert errors[0] < 0.5 * errors[1]
    assert spearman(screened.predict(WEIGHTS_RD[held_out]), losses_R[held_out]) > 0.9


def test_counts_that_know_nothing_leave_the_law_what_it_is(screen: Screen) -> None:
    # A loss that the text of the domains does not explain.
    losses_R = 2.0 + (0.3 + WEIGHTS_RD[:, 3] ** 0.5) ** -0.5
    screened = ScreenedSurrogate().fit(WEIGHTS_RD[:24], losses_R[:24], stream(0, "fit"), Beside(screen=screen))
    law = SaturatingLaw().fit(WEIGHTS_RD[:24], losses_R[:24], stream(0, "fit"))
    errors = [np.abs(model.predict(WEIGHTS_RD[24:]) - losses_R[24:]).mean() for model in (screened, law)]
    assert errors[0] < 1.2 * errors[1]


def test_slopes_of_the_screened_loss_are_right(screen: Screen) -> None:
    losses_R = 3.0 + 0.01 * screen(WEIGHTS_RD) + 0.3 * (0.3 + WEIGHTS_RD[:, 3] ** 0.5) ** -0.5
    fitted = ScreenedSurrogate().fit(WEIGHTS_RD[:20], losses_R[:20], stream(0, "fit"), Beside(screen=screen))
    at_CD = np.random.default_rng(1).dirichlet(np.full(4, 9.0), size=3)
    for domain in range(4):
        step_D = 1e-6 * np.eye(4)[domain]
        rise_C = (fitted.predict(at_CD + step_D) - fitted.predict(at_CD - step_D)) / 2e-6
        np.testing.assert_allclose(fitted.gradient(at_CD)[:, domain], rise_C, rtol=1e-4, atol=1e-6)


def test_a_screen_can_be_sent_to_another_process(screen: Screen) -> None:
    sent = pickle.loads(pickle.dumps(screen))
    np.testing.assert_array_equal(sent(WEIGHTS_RD[:3]), screen(WEIGHTS_RD[:3]))
