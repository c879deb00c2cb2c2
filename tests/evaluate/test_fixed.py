"""Our scorer: what the official one gets wrong, right; and nothing that a model writes raises."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sns_rows import ROWS, result

from redone_data.instruct.metrics import aggregate
from redone_train.evaluate import fixed
from redone_train.evaluate.items import TaskScore
from redone_train.evaluate.sns_bench import gold_answer


def scored(file: str, answers: Sequence[str]) -> TaskScore:
    rule = fixed.RULES[file]
    values = [rule.measure(row, answer) for row, answer in zip(ROWS[file], answers, strict=True)]
    columns = {name: np.array([value.get(name, 0.0) for value in values], float) for name in values[0]}
    return TaskScore(file, "fixed", columns, rule.combine)


@pytest.mark.parametrize("file", [file for file in ROWS if file != "Note-QueryGen"])
def test_the_gold_answers_score_a_hundred(file: str) -> None:
    score = scored(file, [gold_answer(row) for row in ROWS[file]])
    assert (score.score, score.parse_rate) == (pytest.approx(100), 1)


def test_labels_with_end_or_commas_in_them_can_be_right() -> None:
    assert scored("Note-Taxonomy-single", ["weekend trips.", "**Tea**"]).score == 100
    assert scored("Note-Hashtag-single", ["Acme Co., Ltd.", "Answer: Tea"]).score == 100


def test_a_path_needs_its_three_levels() -> None:
    score = scored("Note-Taxonomy-multiple", ["Food Drink Tea Green Tea", "home | plants | weekend care"])
    assert (score.score, score.parse_rate) == (50, 0.5)


def test_entities_are_found_whatever_their_case() -> None:
    # 2 of 3 found with 3 given.
    assert scored("Note-NER", ["winter", "kids, all"]).score == pytest.approx(100 * 4 / 6)


def test_an_unreadable_rating_is_missed_once_and_levels_that_no_gold_has_do_not_count() -> None:
    # F1 is 1 for level 3 and 0 for -1.
    score = scored("Note-QueryCorr-topic", ["3", "no idea"])
    assert (score.score, score.parse_rate, score.parts["accuracy"]) == (50, 0.5, 50)


def test_always_an_empty_list_of_highlights_scores_nothing() -> None:
    silent = scored("Note-CHLW", ["[]", "[]", "[]"])
    assert silent.score == 0
    assert silent.parts["silent-where-there-are-none"] == 100


def test_highlights_where_there_are_none_cost_precision() -> None:
    # 1 right of 2 given, 1 gold.
    score = scored("Note-CHLW", ["I would say ['folding bike'] fits", "['fun']", "nothing"])
    assert score.score == pytest.approx(100 * 2 / 3)
    assert score.parts["f1-where-there-are-words"] == 100
    assert score.parts["silent-where-there-are-none"] == 0
    assert score.parse_rate == pytest.approx(2 / 3)


def test_brackets_within_a_passage_do_not_break_the_list() -> None:
    rule = fixed.RULES["Note-CHLW"].measure
    assert rule({"answer": "['bike [Topic]']"}, "['bike [Topic]']")["hits"] == 1


def test_options_that_are_missed_are_missed() -> None:
    score = scored("Note-MRC-complex", ['<Result>```json [{"Option": "blue door"}]', result()])
    assert score.score == pytest.approx(100 * 2 / 3)
    assert score.parts["silent-where-there-are-none"] == 100


def test_a_passage_scores_by_its_words_and_silence_only_where_there_is_no_answer() -> None:
    # 2 of the 4 words, nothing else: F1 2/3; then an answer where there is none.
    score = scored("Note-MRC-simple", ['["we open"]', '["sunset"]'])
    assert score.score == pytest.approx(100 * (2 / 3) / 2)
    assert score.item_scores == pytest.approx([100 * 2 / 3, 0])


def test_only_the_first_line_of_a_query_counts() -> None:
    score = scored("Note-QueryGen", ['Search term: "tomatoes in pots"\nsince it fits', "rye starter"])
    assert score.parts["anls"] == 100


TAGS = st.lists(st.sampled_from(["Rain", "Tea", "Cats", "Bread"]), unique=True, min_size=1)


@given(st.lists(TAGS, min_size=2, max_size=2))
@settings(deadline=None, max_examples=30)
def test_the_score_of_sets_is_that_of_the_instruction_metrics(given_N: list[list[str]]) -> None:
    golds = [row["answer"].split(", ") for row in ROWS["Note-Hashtag-multiple"]]
    ours = scored("Note-Hashtag-multiple", [", ".join(labels) for labels in given_N])
    assert ours.score == pytest.approx(100 * aggregate("set_f1", given_N, golds))


@given(answer=st.one_of(st.text(max_size=60), st.text("[]<>{}'\"|,. \nResultOptionYes-123茶\ud83d", max_size=40)))
@settings(deadline=None, max_examples=40)
@pytest.mark.parametrize("file", fixed.RULES)
def test_no_answer_raises_an_exception(file: str, answer: str) -> None:
    score = scored(file, [answer] * len(ROWS[file]))
    assert 0 <= score.parse_rate <= 1
    assert score.score is None or 0 <= score.score <= 100


def test_a_file_with_a_single_candidate_is_scored() -> None:
    row = {"candidates": "Tea", "answer": "Tea"}
    assert fixed.RULES["Note-Hashtag-single"].measure(row, "tea")["item_score"] == 100
    assert fixed.RULES["Note-Hashtag-multiple"].measure(row, "Tea")["hits"] == 1
