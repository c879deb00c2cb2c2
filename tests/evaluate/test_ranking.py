"""NDCG and MRR by hand and by brute force; candidates that are a query's own, or drawn where nothing tells them."""

import json
from itertools import pairwise, permutations
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redone_data.config import read_config
from redone_data.errors import RedoneError
from redone_train.evaluate.config import RankingConfig
from redone_train.evaluate.ndcg import ndcg, reciprocal_rank
from redone_train.evaluate.ranking import BM25, MRR, NDCG_1, OVER_BM25, Ranking
from redone_train.evaluate.scored import HEAD, expected_grades

NOTES = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2)), min_size=1, max_size=6)


def test_ndcg_and_reciprocal_rank_of_four_notes_are_what_a_pencil_gives() -> None:
    grades, scores = [0, 3, -1, 2], [0.9, 0.8, 0.7, 0.1]
    best = 7 + 3 / log2(3)
    assert ndcg(grades, scores, 10) == pytest.approx((7 / log2(3) + 3 / log2(5)) / best)
    assert ndcg(grades, scores, 3) == pytest.approx(7 / log2(3) / best)
    assert ndcg(grades, scores, 1) == 0
    assert (reciprocal_rank(grades, scores, 1), reciprocal_rank([2, 0, 3], [3, 2, 1], 3)) == (1 / 2, 1 / 3)
    assert np.isnan(ndcg([0, -1], [1, 2], 10))
    assert reciprocal_rank([0, -1], [1, 2]) == 0


@given(NOTES, st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_equal_scores_give_the_mean_over_their_orders(notes: list[tuple[int, int]], k: int, relevant: int) -> None:
    grades, scores = [grade for grade, _ in notes], [score for _, score in notes]
    orders = [
        [grade for grade, _ in order] for order in permutations(notes) if all(a[1] >= b[1] for a, b in pairwise(order))
    ]
    falling = list(range(len(notes), 0, -1))
    firsts = [next((1 / (i + 1) for i, grade in enumerate(order) if grade >= relevant), 0.0) for order in orders]
    assert reciprocal_rank(grades, scores, relevant) == pytest.approx(np.mean(firsts))
    gains = [sum((2 ** max(g, 0) - 1) / log2(i + 2) for i, g in enumerate(order[:k])) for order in orders]
    best = sum((2 ** max(g, 0) - 1) / log2(i + 2) for i, g in enumerate(sorted(grades, reverse=True)[:k]))
    found = ndcg(grades, scores, k)
    assert found == pytest.approx(np.mean(gains) / best) if best else np.isnan(found)
    assert ndcg(sorted(grades), falling[::-1], k) == pytest.approx(1) if best else True


def test_an_expected_grade_is_of_probabilities_that_sum_to_one() -> None:
    assert expected_grades([[-1.0, -1.0, -1.0], [0.0, -800.0, -800.0], None], [-1, 0, 3]) == [
        pytest.approx(2 / 3),
        pytest.approx(-1),
        None,
    ]


def opened(folder: Path, rows: list[dict[str, Any]] | None = None, shots: int = 0, **changes: Any) -> Ranking:
    pytest.importorskip("bm25s")
    made = [
        {"id": f"n{i}", "title": f"Topic {i} kind {i % 5}", "text": f"here are words on {i % 5} and more of {i}"}
        for i in range(40)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in (made if rows is None else rows))
    (folder / "notes.jsonl").write_text(lines, encoding="utf-8")
    columns = {"query": "title", "text": "text", **({} if rows is None else {"label": "grade"})}
    table = {"paths": ["notes.jsonl"], "columns": columns, "lang": "en", "id": "id"}
    config = read_config(RankingConfig, {"table": table, **changes}, where="e.yaml")
    return Ranking({"notes": config}, folder, 1, shots)


GRADED = [
    {"id": f"g{i}{j}", "title": f"query  {i}" if j % 2 else f"Query {i}", "text": f"note {j} of {i}", "grade": grade}
    for i in range(6)
    for j, grade in enumerate([-1, 3, 1][: 1 + i % 3])
]


def test_rows_of_one_query_are_its_candidates_and_queries_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    items = opened(tmp_path, GRADED, task="query_note_grade", relevant=2).items("notes")
    assert sorted(sorted(item.gold) for item in items) == [[-1, 1, 3]] * 2 + [[-1, 3]] * 2
    for item in items:
        notes = [prompt[-1]["content"] for prompt in item.meta["prompts"]]
        assert [grade for note, grade in zip(notes, item.gold, strict=True) if "note 1 of" in note] == [3]
        assert item.meta["options"] == ["-1", "0", "1", "2", "3"]


def test_a_query_has_its_own_note_and_others_that_do_not_hold_its_words(tmp_path: Path) -> None:
    benchmark = opened(tmp_path, drawn={"number": 4})
    items = benchmark.items("notes")
    assert len(items) == 40
    for item in items:
        assert sorted(item.gold) == [0, 0, 0, 0, 1]
        assert len({prompt[-1]["content"] for prompt in item.meta["prompts"]}) == 5
        assert len({prompt[-1]["content"].split("Post: ")[0] for prompt in item.meta["prompts"]}) == 1
    own = [item.gold.index(1) for item in items]
    assert len(set(own)) == 5  # no place among the candidates is the right one


def test_the_order_of_the_file_and_the_other_queries_change_no_item(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = opened(tmp_path / "a", GRADED, task="query_note_grade").items("notes")
    other = opened(tmp_path / "b", GRADED[::-1], task="query_note_grade").items("notes")
    assert [(i.id, i.gold) for i in one] == [(i.id, i.gold) for i in other]


def answers_of(items: Any, right: str, wrong: str) -> list[str]:
    return [f"[{', '.join(right if grade else wrong for grade in item.gold)}]" for item in items]


def test_a_model_that_knows_has_all_and_one_that_says_the_same_of_all_is_chance(tmp_path: Path) -> None:
    benchmark = opened(tmp_path, drawn={"number": 4})
    items = benchmark.items("notes")
    knows = benchmark.score(items, answers_of(items, "[-0.1, -4]", "[-4, -0.1]"))
    same = benchmark.score(items, answers_of(items, "[-1, -1]", "[-1, -1]"))
    assert knows.score == knows.parts[MRR] == 100
    assert knows.parts[OVER_BM25] == pytest.approx(100 - knows.parts[BM25])
    assert same.score == pytest.approx(same.trivial)
    assert same.parts[NDCG_1] == pytest.approx(20)
    assert same.parts[MRR] == pytest.approx(100 * sum(1 / place for place in range(1, 6)) / 5)
    assert benchmark.score(items, ["not scores"] * 40).parse_rate == 0
    lost = benchmark.score(items, answers_of(items, "null", "[-4, -0.1]"))
    assert lost.parts[MRR] == pytest.approx(20)  # what could not be read is last


def test_notes_that_a_head_is_trained_on_are_candidates_of_no_query_that_is_measured(tmp_path: Path) -> None:
    benchmark = opened(tmp_path, drawn={"number": 4}, head={"rows": 10})
    assert benchmark.tasks == ("notes", "notes" + HEAD)
    texts = [
        {prompt[-1]["content"].split("Post: ")[1] for item in part for prompt in item.meta["prompts"]}
        for part in (benchmark.items("notes" + HEAD), benchmark.training("notes" + HEAD))
    ]
    assert texts[0]
    assert texts[1]
    assert not texts[0] & texts[1]


def test_solved_examples_are_a_right_and_a_wrong_note_of_queries_that_are_not_asked(tmp_path: Path) -> None:
    items = opened(tmp_path, shots=2, drawn={"number": 4}).items("notes")
    assert len(items) == 38
    for item in items:
        for prompt in item.meta["prompts"]:
            assert [turn["content"] for turn in prompt[1:4:2]] == ["Yes", "No"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "no query of 40 has notes of two grades; draw some of other rows"),
        ({"drawn": {}, "task": "offensive"}, "task offensive has no column 'query'"),
        ({"drawn": {}, "task": "hashtag_query"}, "answers of kind text; yes_no or grade is needed"),
        ({"drawn": {"how": "same_group"}}, "drawn: group: the column that rows share is needed"),
        ({"rows": [{**row, "grade": "good"} for row in GRADED]}, "label 'good' is no grade"),
        ({"relevant": 0}, "relevant is 0"),
    ],
)
def test_what_cannot_be_ranked_is_said_with_its_remedy(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(RedoneError, match=message):
        opened(tmp_path, **changes).items("notes")


def test_more_queries_change_no_candidate_of_those_that_were_asked(tmp_path: Path) -> None:
    few = opened(tmp_path, drawn={"number": 4}, max_queries=5).items("notes")
    more = {item.id: item for item in opened(tmp_path, drawn={"number": 4}, max_queries=20).items("notes")}
    assert [more[item.id].meta["prompts"] for item in few] == [item.meta["prompts"] for item in few]
