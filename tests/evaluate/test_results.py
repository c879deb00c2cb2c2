"""Intervals cover what they say, averages weigh groups and not files, and a results file reads back as it was."""

import io
import json

import numpy as np
import pytest
from rich.console import Console
from small_eval import items, mean_score

from redone_data.errors import RedoneError
from redone_train.evaluate.estimate import Estimate, difference, mean_of, relative_change, resampled
from redone_train.evaluate.page import write_page
from redone_train.evaluate.results import Answered, Average, Results
from redone_train.evaluate.terminal import results_table, with_interval

ANSWERS = [Answered("x")] * 40


def results(**scores: dict[str, list[float]]) -> Results:
    """model -> task -> what each item scores."""
    found = Results(list(scores), seed=1, resamples=400)
    for model, tasks in scores.items():
        for task, values in tasks.items():
            found.add(model, items(len(values), task), ANSWERS[: len(values)], mean_score(task, values))
    return found


def of_items(values: np.ndarray, seed: int = 1) -> Estimate:
    return resampled(
        float(values.mean()), lambda at: float(values[at].mean()), len(values), seed=seed, name="t", draws=400
    )


def test_an_interval_has_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = of_items((rng.random(60) < 0.4).astype(float), seed=trial).interval or (0, 0)
        hits += low <= 0.4 <= high
    assert 180 <= hits <= 199


def test_an_interval_is_that_of_the_score_verb_and_of_the_seed_alone() -> None:
    values = np.random.default_rng(0).random(30)
    score = mean_score("t", values.tolist())
    ours = resampled(score.score, score.of, score.n, seed=3, name="t", draws=1000)
    assert ours.interval == pytest.approx(score.interval(3))
    assert of_items(values).interval == of_items(values).interval != of_items(values, seed=2).interval


def test_two_models_on_the_same_items_draw_the_same_ones() -> None:
    """What is hard for both cancels out: a gain on every item is a gain without doubt, however the items differ."""
    hard = np.random.default_rng(0).random(50) * 80
    gain = difference(of_items(hard + 5), of_items(hard))
    assert gain.interval == pytest.approx((5, 5))
    assert gain.above_zero == 1
    alone = of_items(hard).interval
    assert alone is not None
    assert alone[1] - alone[0] > 10


def test_a_mean_with_a_part_that_has_no_score_has_none() -> None:
    scored, missing = of_items(np.ones(4)), Estimate(None, np.full(400, np.nan))
    assert mean_of([scored, missing]).value is None
    assert mean_of([scored, missing]).interval is None
    assert mean_of([scored, scored]).value == 1


def test_an_average_is_of_groups_each_the_mean_of_its_tasks() -> None:
    found = results(base={"a": [100.0] * 20, "b": [0.0] * 20, "c": [30.0] * 20})
    average = Average("all", {"ab": ("made/a", "made/b"), "c": ("made/c",)})
    assert found.average("base", average).value == 40
    assert found.reference(average, "trivial") == 25


def test_the_average_has_an_interval_of_its_own_narrower_than_its_tasks() -> None:
    rng = np.random.default_rng(0)
    found = results(base={task: (100 * rng.random(40)).tolist() for task in "abcdefgh"})
    whole = found.average("base", Average("all", {task: (f"made/{task}",) for task in "abcdefgh"})).interval
    one = found.score("base", "made/a").interval
    assert whole is not None
    assert one is not None
    assert whole[1] - whole[0] < 0.6 * (one[1] - one[0])


def test_results_read_back_with_every_prompt_answer_and_score(tmp_path) -> None:
    found = results(base={"a": [0.0, 50.0, 100.0]})
    found.averages = [Average("all", {"a": ("made/a",)})]
    found.write(tmp_path / "results.json")
    again = Results.read(tmp_path)
    assert again.score("base", "made/a").interval == pytest.approx(found.score("base", "made/a").interval)
    assert again.averages == found.averages
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [item["messages"][0]["content"] for item in written["tasks"]["made/a"]["items"]][2] == "question 2?"
    assert [line["score"] for line in written["scores"]["base"]["made/a"]["answers"]] == [0, 50, 100]
    (tmp_path / "results.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RedoneError, match="schema_version None, not 1"):
        Results.read(tmp_path)


def bits(value: float, spread: float = 0.01) -> dict:
    draws = value + spread * np.random.default_rng(0).standard_normal(400)
    return {"bits_per_byte": Estimate(value, draws).mapping(), "documents": 9, "bytes": 99, "digest": "d"}


def test_retention_is_the_change_of_general_text_alone_and_is_told_where_it_was_not_measured(tmp_path) -> None:
    found = results(base={"a": [0.0, 50.0]}, cpt={"a": [50.0, 50.0]})
    assert found.retention("cpt") is None
    assert "not measured" in _shown(found)
    found.bits = {"base": {"wiki": bits(1.0), "notes": bits(2.0)}, "cpt": {"wiki": bits(1.01), "notes": bits(1.0)}}
    found.general_domains = ["wiki"]
    kept = found.retention("cpt")
    assert kept is not None
    assert kept.value == pytest.approx(1)
    assert relative_change(found.domain_bits("cpt", "notes"), found.domain_bits("base", "notes")).value == -50
    assert with_interval(kept, 2, sign=True).startswith("+1.00 [+0.9")
    assert "retention" in _shown(found)


def _shown(found: Results) -> str:
    out = io.StringIO()
    Console(width=200, file=out).print(results_table(found))
    return out.getvalue()


def test_the_page_escapes_what_models_write_and_marks_trivial_answer_and_ceiling(tmp_path) -> None:
    found = results(**{name: {task: [0.0, 50.0, 100.0] for task in "abc"} for name in ("base", "<b>tuned")})
    found.scores["base"]["made/a"]["answers"][0]["answer"] = "<script>alert(1)</script>"
    found.averages = [Average("all", {task: (f"made/{task}",) for task in "abc"})]
    write_page(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>tuned" not in page
    assert page.count("<svg") == 3
    assert "dashed: the trivial answer; triangle: the ceiling" in page
    assert "not measured" in page
