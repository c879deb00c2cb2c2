"""A difference is of the same items, by the same scorer; anything else is refused, and said."""

from pathlib import Path

import pytest
from small_eval import items, mean_score

from redone_data.errors import RedoneError
from redone_train.evaluate.compare import compare
from redone_train.evaluate.results import Answered, Average, Results
from redone_train.evaluate.terminal import comparison_table

VALUES = [float(i % 7) * 10 for i in range(30)]


def write(
    folder: Path, model: str, gain: float = 0.0, *, seed: int = 1, tasks: str = "ab", n: int = 30, scorer: str = "exact"
) -> Path:
    results = Results([model], seed=seed, resamples=100)
    for task in tasks:
        score = mean_score(task, [value + gain for value in VALUES[:n]])
        object.__setattr__(score, "scorer", scorer)
        results.add(model, items(n, task), [Answered("x")] * n, score)
    results.averages = [Average("all", {task: (f"made/{task}",) for task in tasks})]
    folder.mkdir()
    results.write(folder / "results.json")
    return folder / "results.json"


def test_a_gain_on_every_item_is_a_gain_with_its_interval(tmp_path: Path) -> None:
    comparison = compare([write(tmp_path / "a", "base"), write(tmp_path / "b", "tuned", 5.0)])
    rows = comparison.mapping()["rows"]
    assert set(rows) == {"made/a", "made/b", "all"}
    for row in rows.values():
        assert row["differences"]["tuned"]["value"] == pytest.approx(5)
        assert row["differences"]["tuned"]["interval"] == pytest.approx((5, 5), abs=1e-4)
        assert row["differences"]["tuned"]["above_zero"] == 1
    assert comparison_table(comparison).row_count == 3


def test_models_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    comparison = compare([write(tmp_path / name, "model") for name in "abc"])
    assert [entrant.name for entrant in comparison.entrants] == ["a/model", "b/model", "c/model"]
    assert comparison.rows[0].differences[1].interval == (0, 0)


def test_a_task_that_one_lacks_is_left_out_with_the_averages_over_it(tmp_path: Path) -> None:
    comparison = compare([write(tmp_path / "a", "base"), write(tmp_path / "b", "tuned", tasks="a")])
    assert [row.name for row in comparison.rows] == ["made/a"]
    assert comparison.left_out == ["made/b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 20}, r"made/a: not the same items in .*b/results.json .*10 items are in one of them only"),
        ({"scorer": "fixed"}, "made/a: scored by 'fixed' in .* and by 'exact'"),
        ({"seed": 2}, "seed 2, and .* has 1: their draws are not of the same items"),
        ({"tasks": "c"}, "no task in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    paths = [write(tmp_path / "a", "base"), write(tmp_path / "b", "tuned", **change)]
    with pytest.raises(RedoneError, match=message):
        compare(paths)


def test_one_model_is_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(RedoneError, match="has one model; give at least two"):
        compare([write(tmp_path / "a", "base")])
