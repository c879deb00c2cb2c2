"""The official scorer: the published figures on answers whose score can be worked out by hand, its traps included."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sns_rows import ROWS, result

from redone_train.evaluate import official
from redone_train.evaluate.items import TaskScore
from redone_train.evaluate.literal import NotLiteralError, literal
from redone_train.evaluate.official_reading import _last_result


def scored(file: str, answers: Sequence[str]) -> TaskScore:
    rule = official.RULES[file]
    values = [rule.measure(row, answer) for row, answer in zip(ROWS[file], answers, strict=True)]
    columns = {name: np.array([value.get(name, 0.0) for value in values], float) for name in values[0]}
    return TaskScore(file, "official", columns, rule.combine)


def test_a_label_with_end_in_it_is_never_right() -> None:
    right = scored("Note-Taxonomy-single", ["Weekend Trips", "Answer: Tea, of course"])
    assert (right.score, right.parse_rate) == (50, 0.5)


def test_a_path_is_right_without_its_bars_and_wrong_in_lower_case() -> None:
    assert scored("Note-Taxonomy-multiple", ["Food Drink Tea Green Tea", "home | plants | weekend care"]).score == 50


def test_labels_are_compared_by_case_over_all_answers() -> None:
    # Found 1 of 3 golds with 3 given: 2 * 1 / (3 + 3).
    assert scored("Note-NER", ["winter", "kids, all"]).score == pytest.approx(33.33)


def test_a_hashtag_answer_ends_with_its_first_line() -> None:
    assert scored("Note-Hashtag-multiple", ["Rain, Tea\nCats", "Cats"]).score == 100


def test_yes_in_lower_case_is_wrong() -> None:
    assert scored("Note-Gender", ["yes", "No, it is not"]).score == 50


def test_the_first_digit_is_the_rating_and_ratings_that_are_missing_count_twice() -> None:
    # F1 is 1 for one of five levels; half of the answers can be read: 100 / 5 / 2.
    assert scored("Note-QueryCorr-topic", ["30 out of 100", "no idea"]).score == pytest.approx(10, abs=1e-3)
    # Both wrong: 1 for 3, 0 for -1.
    assert scored("Note-QueryCorr-topic", ["10", "0"]).score == 0


def test_always_an_empty_list_of_highlights_scores_two_thirds_where_two_thirds_are_empty() -> None:
    always = scored("Note-CHLW", ["[]", "[]", "[]"])
    assert always.score == pytest.approx(66.67)
    assert always.parts["success-ratio"] == 100


def test_brackets_within_a_highlight_break_the_list() -> None:
    score = scored("Note-CHLW", ["['folding bike [Topic]#']", "so: []", "[]"])
    assert score.columns["parsed"].tolist() == [0, 1, 1]
    # Two of three can be read, and those are right.
    assert score.score == pytest.approx(200 / 3)


def test_a_short_passage_has_no_bleu_even_when_it_is_right() -> None:
    pytest.importorskip("jieba")
    # jieba: We, open, at, six, full stop and the spaces between: all four orders are there, all five figures in full.
    assert scored("Note-MRC-simple", ['["We open at six."]', "[]"]).score == pytest.approx(100, abs=0.01)
    rule = official.RULES["Note-MRC-simple"].measure
    one = rule({"answer": ["bread"]}, '["bread"]')
    assert one["blue"] < 1e-70
    assert (one["rouge-1"], one["rouge-2"]) == (pytest.approx(1), 0)


def test_a_passage_of_full_stops_counts_nothing_where_the_published_code_raises() -> None:
    pytest.importorskip("jieba")
    score = scored("Note-MRC-simple", ['["..."]', "[]"])
    assert score.parts["published_raises"] == 1
    assert score.score == pytest.approx(20, abs=0.01)  # an answer where one should be: existence F1 alone


def test_options_that_are_missed_cost_nothing() -> None:
    assert scored("Note-MRC-complex", [result(("Blue Door", "")), result()]).score == 100


def test_an_english_option_is_right_in_full_or_not_at_all_and_a_chinese_one_by_characters() -> None:
    # There and empty both as they should be: F1 1; one of two items has nothing of the other two figures.
    part = scored("Note-MRC-complex", [result(("Blue Door Cafe", "")), result()])
    assert part.score == pytest.approx((100 + 50 + 50) / 3)
    rule = official.RULES["Note-MRC-complex"].measure
    # Two of three characters: precision 2/3, recall 1.
    assert rule({"answer": result(("蓝门", "x"))}, result(("蓝门店", "x")))["option-f1"] == pytest.approx(0.8)


def test_options_only_where_there_should_be_none_is_a_zero_where_the_published_code_raises() -> None:
    score = scored("Note-MRC-complex", [result(), result(("Tea", "hot"))])
    assert (score.score, score.parts["published_raises"]) == (0, 1)


def test_edit_distance_takes_the_whole_answer_of_a_query() -> None:
    # 16 characters of 16 + 5 are right, then 11 of 11.
    score = scored("Note-QueryGen", ["tomatoes in pots\nso..", "rye starter"])
    assert score.parts["anls"] == pytest.approx((100 * 16 / 21 + 100) / 2)
    assert score.score is None


@pytest.mark.parametrize("file", ["Note-CHLW", "Note-MRC-simple"])
def test_an_answer_is_never_run(file: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    attacks = [f"__import__('pathlib').Path({str(mark)!r}).touch()", "reference", "[x for x in 'ab']"]
    for attack in attacks:
        assert official.RULES[file].measure(ROWS[file][0], attack)["parsed"] == 0
        with pytest.raises(NotLiteralError):
            literal(attack)
    assert not mark.exists()


@pytest.mark.parametrize(
    "text", ["(" * 5_000, "[" * 5_000, "-" * 5_000 + "1", "'a'" + "+'a'" * 5_000, "'a'*10**9", "\x00"]
)
def test_an_answer_that_would_exhaust_the_parser_is_refused(text: str) -> None:
    with pytest.raises(NotLiteralError):
        literal(text)


@given(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.text(), max_size=4), st.tuples(st.text()))
)
@settings(deadline=None, max_examples=50)
def test_a_literal_is_what_python_writes(value: object) -> None:
    assert literal(repr(value)) == value


RESULTS = st.lists(st.sampled_from(["<Result>", "</Result>", "a", "[]"]), max_size=8).map("".join)


@given(RESULTS)
@settings(deadline=None)
def test_the_last_result_is_that_of_the_published_pattern(text: str) -> None:
    found = re.findall(r"(?<=<Result>).+?(?=</Result>)", text, re.DOTALL)
    assert _last_result(text) == (found[-1] if found else None)


def test_results_that_never_end_take_no_time() -> None:
    assert official.RULES["Note-MRC-complex"].measure(ROWS["Note-MRC-complex"][0], "<Result>" * 20_000)["parsed"] == 0


@given(answer=st.one_of(st.text(max_size=60), st.text("[]<>{}'\"|,. \nResultOptionYes-123茶\ud83d", max_size=40)))
@settings(deadline=None, max_examples=40)
@pytest.mark.parametrize("file", official.RULES)
def test_no_answer_raises_an_exception(file: str, answer: str) -> None:
    if file == "Note-MRC-simple":
        pytest.importorskip("jieba")
    score = scored(file, [answer] * len(ROWS[file]))
    assert 0 <= score.parse_rate <= 1
    assert score.score is None or 0 <= score.score <= 100.0001
