"""Rules: each end of a bound, the first that objects gives the reason, and what a recipe may say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redone_data.config import read_config
from redone_data.curate.language import LanguageConfig
from redone_data.curate.ledger import ValidationConfig
from redone_data.curate.policy import DomainPolicy
from redone_data.curate.rules import PRESETS, Bound, RulesConfig, judge, reason
from redone_data.errors import RedoneError
from redone_data.text.features import METRICS


@pytest.mark.parametrize("limit", [0.1, 0.3, 0.34, 0.5, 3, 100_000, 1 / 3])
def test_both_ends_of_a_bound_are_allowed_values_and_their_neighbours_are_not(limit):
    stored = np.float32(limit)  # metrics are stored in 32 bits
    values = np.array([np.nextafter(stored, -np.inf), stored, np.nextafter(stored, np.inf)], dtype=np.float64)
    for metric in ("num_words", "emoji_fraction"):
        low = judge({metric: values}, {metric: Bound(min=limit)}, 3)
        assert low.broken.tolist() == [0, -1, -1]
        high = judge({metric: values}, {metric: Bound(max=limit)}, 3)
        assert high.broken.tolist() == [-1, -1, 0]
        assert (low.value[0], low.bound[0]) == (values[0], limit)
        assert (high.value[2], high.bound[2]) == (values[2], limit)
        assert np.isnan(low.value[1:]).all()


BOUNDS = st.dictionaries(
    st.sampled_from(["num_words", "num_chars", "url_fraction"]),
    st.tuples(st.none() | st.integers(0, 5), st.none() | st.integers(5, 9)),
)


@given(BOUNDS, st.lists(st.tuples(*[st.integers(0, 10)] * 3), max_size=10))
def test_the_first_broken_rule_in_order_gives_reason_value_and_bound(bounds, rows):
    names = ["num_words", "num_chars", "url_fraction"]
    metrics = {name: np.array([row[i] for row in rows], dtype=float) for i, name in enumerate(names)}
    limits = {name: Bound(*pair) for name, pair in bounds.items()}
    verdict = judge(metrics, limits, len(rows))
    for i in range(len(rows)):
        expected = next(
            (
                (reason(name, end), metrics[name][i], float(limit))
                for name, pair in bounds.items()
                for end, limit in zip(("min", "max"), pair, strict=True)
                if limit is not None and (metrics[name][i] < limit if end == "min" else metrics[name][i] > limit)
            ),
            None,
        )
        broken = verdict.broken[i]
        found = (verdict.reasons[broken], verdict.value[i], verdict.bound[i]) if broken >= 0 else None
        assert found == expected


def test_every_metric_and_end_has_a_reason_of_its_own_that_says_what_is_wrong():
    reasons = [reason(metric, end) for metric in METRICS for end in ("min", "max")]
    assert len(set(reasons)) == len(reasons)
    assert all(name.startswith(("too_few_", "too_many_")) for name in reasons)


def test_an_empty_bound_switches_a_rule_of_the_preset_off_and_zero_does_not():
    rules = read_config(RulesConfig, {"bounds": {"num_words": {}, "url_fraction": {"max": 0}}}, where="here")
    bounds = rules.effective()
    assert list(bounds) == list(PRESETS["sns"])
    metrics = {name: np.zeros(2) for name in bounds} | {"url_fraction": np.array([0, 0.1])}
    metrics |= {"alpha_fraction": np.ones(2)}
    verdict = judge(metrics, bounds, 2)
    assert [None if i < 0 else verdict.reasons[i] for i in verdict.broken] == [None, "too_many_urls"]


def test_presets_name_metrics_that_exist():
    assert all(metric in METRICS for preset in PRESETS.values() for metric in preset)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"num_word": {}}, r"bounds\.num_word: unknown metric; did you mean 'num_words'"),
        ({"num_words": {"min": 5, "max": 3}}, r"bounds\.num_words: min 5 is above max 3"),
        ({"num_words": {"min": math.nan}}, r"bounds\.num_words.*(finite|number)"),
        ({"num_words": {"max": math.inf}}, r"bounds\.num_words.*(finite|number)"),
        ({"num_words": {"mim": 3}}, r"bounds\.num_words\.mim: unknown key; did you mean 'min'"),
        ({"num_words": 3}, r"bounds\.num_words: expected keys and values"),
    ],
)
def test_bounds_that_mean_nothing_are_refused_with_their_place(bounds, message):
    with pytest.raises(RedoneError, match=message):
        read_config(RulesConfig, {"bounds": bounds}, where="here")


@pytest.mark.parametrize("code", ["english", "ZH", "z", "zh-cn", "中文"])
def test_a_language_that_no_model_gives_is_refused(code):
    with pytest.raises(RedoneError, match="is not a language code"):
        DomainPolicy(languages=(code,))


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_confidence_that_is_no_share_is_refused(share):
    with pytest.raises(RedoneError, match="min_confidence"):
        LanguageConfig(min_confidence=share)


@given(
    st.integers(0, 10**6),
    st.floats(0, 0.5),
    st.integers(0, 100),
    st.integers(100, 3000),
)
def test_validation_never_takes_more_than_allowed(documents, fraction, least, most):
    share = ValidationConfig(fraction, least, most).share(documents)
    assert 0 <= share <= max(0.2, fraction)
    assert share * documents <= most + 1e-6
    if fraction == 0 or documents == 0:
        assert share == 0
    elif least <= fraction * documents <= most:
        assert share == pytest.approx(fraction)


@pytest.mark.parametrize(
    ("documents", "share"), [(0, 0), (10, 0.2), (100, 0.2), (1000, 0.05), (10_000, 0.02), (10**6, 0.002)]
)
def test_small_domains_hold_out_a_fifth_at_most_and_large_ones_2000_documents(documents, share):
    assert ValidationConfig().share(documents) == pytest.approx(share)


@pytest.mark.parametrize("given", [{"fraction": 0.6}, {"fraction": -1}, {"min_documents": 9, "max_documents": 8}])
def test_validation_settings_that_contradict_are_refused(given):
    with pytest.raises(RedoneError):
        ValidationConfig(**given)
