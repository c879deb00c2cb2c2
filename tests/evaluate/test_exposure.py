"""Exposure by hand and by brute force: what passes a filter, whatever the order of the file and of equal scores."""

from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_eval import write_posts

from redone_data.config import read_config
from redone_data.errors import RedoneError
from redone_train.evaluate.config import ExposureConfig
from redone_train.evaluate.exposure import Exposure, average_precision, exposure_name, exposures, roc_area
from redone_train.evaluate.scored import HEAD

POSTS = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=6)


def columns(posts: list[tuple[bool, int]]) -> tuple[Any, Any]:
    return np.array([bad for bad, _ in posts], float), np.array([risk for _, risk in posts], float)


def test_exposure_of_six_posts_is_what_counting_gives() -> None:
    harmful = np.array([0, 1, 0, 0, 1, 1.0])
    risk = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert exposures(harmful, risk, [0.5, 0.8]) == pytest.approx([1 / 3, 2 / 5])
    assert roc_area(harmful, risk) == pytest.approx(7 / 9)  # of nine pairs the harmful .2 is below .3 and .4
    assert average_precision(harmful, risk) == pytest.approx((1 + 1 + 3 / 5) / 3)


@given(POSTS, st.sampled_from([0.2, 0.5, 0.9]))
@settings(max_examples=60, deadline=None)
def test_equal_scores_give_the_mean_over_their_orders(posts: list[tuple[bool, int]], rate: float) -> None:
    passed = max(1, int(rate * len(posts) + 0.5))
    found = [
        sum(bad for bad, _ in order[:passed]) / passed
        for order in permutations(posts)
        if all(a[1] <= b[1] for a, b in pairwise(order))
    ]
    assert exposures(*columns(posts), [rate]) == pytest.approx([np.mean(found)])


@given(POSTS)
@settings(max_examples=60, deadline=None)
def test_the_area_is_the_share_of_pairs_in_the_right_order(posts: list[tuple[bool, int]]) -> None:
    pairs = [(a > b) + (a == b) / 2 for bad, a in posts if bad for good, b in posts if not good]
    assert roc_area(*columns(posts)) == pytest.approx(np.mean(pairs) if pairs else np.nan, nan_ok=True)


@given(POSTS, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_file_changes_nothing(posts: list[tuple[bool, int]], random: Any) -> None:
    shuffled = random.sample(posts, len(posts))
    for figure in (lambda *c: exposures(*c, [0.3, 0.7]), roc_area, average_precision):
        assert figure(*columns(shuffled)) == pytest.approx(figure(*columns(posts)), nan_ok=True)


def opened(folder: Path, rows: int = 40, shots: int = 0, **changes: Any) -> Exposure:
    write_posts(folder, rows)
    table = {"paths": ["posts.jsonl"], "columns": {"text": "text", "label": "offensive"}, "lang": "en", "id": "id"}
    config = read_config(ExposureConfig, {"table": table, **changes}, where="e.yaml")
    return Exposure({"rude": config}, folder, 1, shots)


def test_a_model_that_knows_reaches_the_ceiling_and_one_that_says_the_same_of_all_is_chance(tmp_path: Path) -> None:
    benchmark = opened(tmp_path)
    items = benchmark.items("rude")
    knows = benchmark.score(items, ["[[-0.1, -3]]" if item.gold else "[[-3, -0.1]]" for item in items])
    same = benchmark.score(items, ["[[-0.7, -0.7]]"] * len(items))
    assert knows.score == knows.ceiling == pytest.approx(100 - 100 * np.mean([0, 8 / 28, 12 / 32, 16 / 36, 18 / 38]))
    assert same.score == same.trivial == 50
    assert same.parts["area under ROC"] == 50
    assert same.shown[exposure_name(0.9)] == (50, pytest.approx(100 * 16 / 36))
    assert same.of([0, 2, 4]) is not None  # a draw with one kind only still says what passes


def test_what_could_not_be_read_passes(tmp_path: Path) -> None:
    benchmark = opened(tmp_path)
    items = benchmark.items("rude")
    read = ["[[-0.1, -3]]" if item.gold else "[[-3, -0.1]]" for item in items]
    lost = ["[null]" if item.gold else text for item, text in zip(items, read, strict=True)]
    found = benchmark.score(items, lost)
    assert found.parse_rate == 0.5
    assert found.parts[exposure_name(0.5)] == 100


def test_posts_are_asked_in_one_wording_and_keep_the_share_of_their_labels(tmp_path: Path) -> None:
    items = opened(tmp_path, shots=2).items("rude")
    assert len(items) == 38
    assert {item.messages[0]["content"].split("\n")[0] for item in items} == {
        "Is this comment offensive? Answer Yes or No."
    }
    assert {turn["content"] for item in items for turn in item.messages[1:4:2]} == {"Yes", "No"}  # one example a kind
    thin = opened(tmp_path, prevalence=0.1).items("rude")
    assert (len(thin), sum(item.gold for item in thin)) == (22, 2)


def test_a_head_is_trained_on_documents_that_are_not_measured(tmp_path: Path) -> None:
    benchmark = opened(tmp_path, head={"rows": 12})
    assert benchmark.tasks == ("rude", "rude" + HEAD)
    measured = {item.id for item in benchmark.items("rude" + HEAD)}
    assert measured == {item.id for item in benchmark.items("rude")}
    taught = benchmark.training("rude" + HEAD)
    assert len(taught) == 12
    assert not measured & {item.id for item in taught}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"harmful": ["hate"]}, "exposure.rude: harmful: 'hate': "),
        ({"harmful": ["yes", "no"]}, "40 of 40 posts are harmful, and both kinds are needed"),
        ({"task": "highlight_words"}, "answers of kind spans; yes_no is needed"),
        ({"pass_rates": [1.0]}, "pass_rates: 1.0; each between 0 and 1"),
        ({"prevalence": 0}, "prevalence: 0.0; between 0 and 1"),
        ({"head": {"measured": 1}}, "head: rows is 2000 and measured 1"),
    ],
)
def test_what_cannot_be_measured_is_said_with_its_remedy(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(RedoneError, match=message):
        opened(tmp_path, **changes).items("rude")


def test_models_that_get_more_or_fewer_examples_are_asked_about_the_same_posts(tmp_path: Path) -> None:
    benchmark = opened(tmp_path)
    without, some = (Exposure(benchmark.sets, tmp_path, 1, shots, 3) for shots in (0, 2))
    assert len(without.items("rude")) == 37
    assert [(item.id, item.messages[-1]) for item in without.items("rude")] == [
        (item.id, item.messages[-1]) for item in some.items("rude")
    ]
    assert all("post number" in text for item in some.items("rude") for text in some.texts(item).values())
