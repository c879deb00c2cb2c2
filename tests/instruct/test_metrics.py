"""Metrics: bounds, agreement with definitions, unreadable answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redone_data.errors import RedoneError
from redone_data.instruct.metrics import METRICS, aggregate, parse_rate, score, signature, tokens

GOLDS = {
    "accuracy": "joy",
    "exact_match": ["a", "b"],
    "macro_f1": 2,
    "set_f1": ["tea", "cake"],
    "token_f1": "今天 so happy",
    "rouge_l": "今天 so happy",
    "bleu": "The weather is lovely today, is it not?",
    "chrf": "The weather is lovely today, is it not?",
}


@pytest.mark.parametrize("metric", METRICS)
def test_a_right_answer_scores_one_and_an_unreadable_one_nothing(metric: str) -> None:
    gold = GOLDS[metric]
    assert score(metric, gold, gold) == pytest.approx(1)
    assert aggregate(metric, [gold, gold], [gold, gold]) == pytest.approx(1)
    assert score(metric, None, gold) == 0
    assert aggregate(metric, [None], [gold]) == 0


def test_an_empty_set_is_right_where_nothing_is_to_be_found() -> None:
    assert score("set_f1", [], []) == 1
    assert score("set_f1", ["a"], []) == 0
    assert score("set_f1", None, []) == 0


def test_set_f1_of_a_set_of_answers_is_micro() -> None:
    assert aggregate("set_f1", [["a", "x"], ["b"]], [["a"], ["b", "c", "d"]]) == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))


def test_macro_f1_gives_each_class_of_the_golds_the_same_weight() -> None:
    # class 0: tp 1, given 2, there 1 -> 2/3; class 1: tp 1, given 1, there 2 -> 2/3
    assert aggregate("macro_f1", [0, 1, 0], [0, 1, 1]) == pytest.approx(2 / 3)
    assert aggregate("macro_f1", [0, 0, 0, 0], [0, 0, 0, 1]) == pytest.approx((6 / 7 + 0) / 2)


def test_true_is_not_the_grade_one() -> None:
    assert score("accuracy", True, 1) == 0


def test_one_field_of_an_answer_is_scored() -> None:
    assert score("verdict:accuracy", {"verdict": True, "why": "x"}, {"verdict": True, "why": "y"}) == 1
    assert aggregate("verdict:accuracy", [None, {"verdict": True}], [{"verdict": True}, {"verdict": True}]) == 0.5


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_rouge_l_is_that_of_the_longest_common_subsequence(ours: list[str], theirs: list[str]) -> None:
    table = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    total = len(ours) + len(theirs)
    expected = 2 * table[-1][-1] / total if total else 1.0
    assert score("rouge_l", " ".join(ours), " ".join(theirs)) == pytest.approx(expected)


def test_chinese_and_english_are_scored_with_their_own_tokenizer() -> None:
    assert "tok:zh" in signature("bleu", ["今天天气很好"])
    assert "tok:13a" in signature("bleu", ["lovely weather"])
    assert aggregate("bleu", ["今天天气真好"], ["今天天气很好啊"]) > 0
    assert tokens("今天, don't") == ["今", "天", "don", "t"]


def test_the_parse_rate_is_told_apart() -> None:
    assert parse_rate([None, "a", [], False]) == 0.75


def test_a_bad_metric_and_an_empty_set_are_named_errors() -> None:
    with pytest.raises(RedoneError, match="did you mean 'accuracy'"):
        score("acuracy", "a", "a")
    with pytest.raises(RedoneError, match="no answers"):
        aggregate("accuracy", [], [])
    with pytest.raises(RedoneError, match="no answers"):
        parse_rate([])
