"""Results in the paper's layout: what is averaged, what a gain is over, what is marked, and that it can be read."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_eval import items
from typer.testing import CliRunner

from redone_data.errors import RedoneError
from redone_train.cli import app
from redone_train.evaluate.items import Item, TaskScore
from redone_train.evaluate.layout import against_without_general, chains, columns_of, num_tasks
from redone_train.evaluate.results import FILE, Answered, Results
from redone_train.evaluate.sns_bench import FILES
from redone_train.evaluate.tables import MARK, by_file, grids
from redone_train.evaluate.task_plot import score_by_tasks
from redone_train.evaluate.together import together
from redone_train.evaluate.trained_on import statement

ITEMS, DRAWS = 40, 100
SHARES = {"base": 0.5, "sft": 0.8, "without_general": 0.9}  # of the answers that are right
TASKS = {"general/chat": 30, "content/offensive": 20, "content/topic": 10}


def ladder(shares: Mapping[str, float] = SHARES, **trivial: float) -> Results:
    """Made-up results of a ladder. trivial: of a file, the score of the answer that does not look; else 15."""
    results = Results(list(shares), seed=1, resamples=DRAWS, shots={"base": 2, "sft": 0, "without_general": 0})
    names = [("sns_bench", file) for file in FILES] + [("trans_bench", "zh-en"), ("trans_bench", "en-zh")]
    names += [("sets", "irony"), ("sets", "rumour"), ("sets", "held_out/offensive")]
    for model, share in shares.items():
        for benchmark, task in names:
            asked = [Item(**{**vars(item), "benchmark": benchmark}) for item in items(ITEMS, task)]
            right = [100.0 * (place < share * ITEMS) for place in range(ITEMS)]
            floor = trivial.get(task.replace("-", "_"), 15.0)
            results.add(model, asked, [Answered("x")] * ITEMS, _scored(task, right, floor))
    results.bits = {
        model: {"wiki": {"bits_per_byte": {"value": bits, "draws": [bits] * DRAWS}, "documents": 3, "digest": "wiki"}}
        for model, bits in zip(shares, (1.0, 1.005, 1.02), strict=False)
    }
    results.general_domains = ["wiki"]
    stage = {"after": "base", "run": "sft sft.yaml", "settings": {}, "tasks": TASKS}
    arm = {**stage, "settings": {"data.without": ["general"]}, "tasks": {"content/offensive": 20}}
    first = {"after": None, "run": None, "settings": {}, "tasks": {}}
    results.about = {
        "config": {"sets": {"held_out": {"files": ["a"]}, "irony": {"task": "irony"}, "rumour": {"task": "rumour"}}},
        "ladder": {"stages": {"base": first, "sft": stage, "without_general": arm}, "order": list(SHARES)},
    }
    return results


def _scored(task: str, right: list[float], trivial: float) -> TaskScore:
    columns = {"parsed": np.ones(len(right)), "item_score": np.array(right)}
    return TaskScore(task, "made", columns, lambda c: {"score": float(np.mean(c["item_score"]))}, trivial, "a", 100.0)


def test_the_columns_are_the_papers_eight_tasks_then_translation_then_what_was_never_trained_on() -> None:
    columns = columns_of(ladder())
    sns = [one.name for one in columns if one.block == "SNS-Bench"]
    assert sns[:8] == ["Taxonomy", "Hashtag", "QueryCorr", "MRC", "NER", "Gender", "CHLW", "QueryGen"]
    assert sns[8:] == ["average", "average of 7, no CHLW"]
    assert [one.name for one in columns if one.block == "Translation of SNS text"] == ["zh-en", "en-zh", "average"]
    assert [one.name for one in columns if one.block == "Out of distribution"] == ["irony", "rumour", "average"]
    assert [one.name for one in columns if one.block == "Held-out rows"] == ["held_out/offensive"]


def test_a_set_whose_task_an_arm_was_trained_on_is_not_out_of_distribution() -> None:
    results = ladder()
    results.about["config"]["sets"]["irony"] = {"task": "topic"}
    columns = columns_of(results)
    assert "irony" in [one.name for one in columns if one.block == "Held-out rows"]
    results.about["config"]["out_of_distribution"] = ["offensive"]  # what is said goes before what is inferred
    assert [one.name for one in columns_of(results) if one.block == "Out of distribution"] == ["held_out/offensive"]


def test_a_gain_is_over_the_better_of_the_first_model_and_the_trivial_answer() -> None:
    trivial = {"Note_CHLW": 70.0, "Note_NER": 10.0}
    of = {one.name: one for one in columns_of(ladder(**trivial)) if one.block == "SNS-Bench"}
    assert of["CHLW"].gain("sft").value == pytest.approx(10)  # 80 over the trivial 70
    assert of["NER"].gain("sft").value == pytest.approx(30)  # over the base's 50
    whole = of["average"]
    assert whole.gain("sft").value == pytest.approx(30)  # the base's average is the better one
    assert whole.gain_by_task("sft").value == pytest.approx(30 - 20 / 8)  # in each file: CHLW's floor is 70
    low, high = whole.gain("sft").interval or (0, 0)
    assert 0 < low < 30 < high


def test_what_the_base_model_does_no_better_than_chance_at_is_marked() -> None:
    of = {one.name: one for one in columns_of(ladder(Note_NER=45.0)) if one.block == "SNS-Bench"}
    assert of["NER"].above_chance is False  # 50 against 45: less than three standard errors of 40 items
    assert of["Gender"].above_chance is True
    shown = next(grid for grid in grids(ladder(Note_NER=45.0)) if grid.title == "SNS-Bench")
    assert [name for name in shown.columns if MARK in name] == [f"NER {MARK}"]
    assert any(MARK in note for note in shown.notes)


def test_retention_is_against_the_base_and_against_training_without_general_data() -> None:
    results = ladder()
    assert against_without_general(results)["without_general"]["sft"].value == pytest.approx(100 * (1.005 / 1.02 - 1))
    shown = next(grid for grid in grids(results) if grid.title == "Retention")
    of = {row[0]: row[1:] for row in shown.rows}
    assert of["sft"][1].startswith("+0.50")
    assert (of["sft"][2], of["without_general"][2]) == ("yes", "no")
    assert of["sft"][3].startswith("−1.47")
    assert of["without_general"][3] == "–"


def test_the_number_of_tasks_is_counted_in_what_a_stage_was_trained_on() -> None:
    results = ladder()
    assert {name: num_tasks(stage) for name, stage in chains(results).items()} == {
        "base": 0,
        "sft": 2,
        "without_general": 1,
    }
    axes = score_by_tasks(results).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]
    assert len(score_by_tasks(Results(["a"], 1, 2)).axes) == 1  # nothing to show is said


def test_tables_are_shown_and_written_with_their_plots_and_again_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    ladder().write(folder / FILE)
    shown = _invoke(folder)
    for title in ("The ladder", "SNS-Bench", "Gains", "Retention", "Stages"):
        assert title in shown
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    written = []
    for _ in range(2):
        _invoke(folder / FILE, "--markdown", page)
        written.append({path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()})
    assert written[0] == written[1]
    text = page.read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    plots = re.findall(r"\]\((results/[^)]+\.svg)\)", text)
    assert len(plots) == 4
    assert all((page.parent / plot).is_file() for plot in plots)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert 12 in {line.count("|") for line in rows if line.startswith("| base | ")}  # SNS-Bench: ten columns
    with pytest.raises(RedoneError, match="two results lie in folders named 'small'"):
        _invoke(folder, folder, "--markdown", page)


def test_more_tasks_than_a_page_is_wide_stand_one_below_the_other() -> None:
    results = ladder()
    for number in range(13):
        for kept in (results.tasks, *results.scores.values()):
            kept[f"sets/more{number}"] = kept["sets/irony"]
    shown = next(grid for grid in grids(results) if grid.title == "Out of distribution")
    assert shown.columns == ("", "items", "trivial answer", "ceiling", *SHARES)
    assert len(shown.rows) == 2 + 13 + 1


def test_every_file_is_listed_with_its_number_of_items_and_how_many_answers_could_be_read() -> None:
    found = by_file(ladder())
    assert len(found.rows) == len(FILES) + 5
    assert [row[0] for row in found.rows[:2]] == list(FILES[:2])  # as the benchmark has them
    assert found.rows[0][1:5] == ("made", str(ITEMS), "15.0 a", "100.0")
    assert found.rows[0][5].endswith("; 100 %")


def test_results_of_one_model_without_a_ladder_are_shown_too(tmp_path: Path) -> None:
    results = ladder({"base": 0.5})
    results.about = {}
    results.bits = {}
    assert next(grid.title for grid in grids(results)) == "Summary"
    assert not {"Gains", "Stages", "Retention"} & {grid.title for grid in grids(results)}
    results.write(tmp_path / FILE)
    assert "Summary" in _invoke(tmp_path)


def test_models_that_were_measured_apart_are_compared_as_if_together(tmp_path: Path) -> None:
    whole = ladder()
    for name, shares in {"a": {"base": 0.5}, "b": {"sft": 0.8}}.items():
        (tmp_path / name).mkdir()
        apart = ladder(shares)
        apart.about["ladder"] = {"stages": {}, "order": []}
        if name == "b":
            apart.tasks["sets/irony"]["digest"] = "of other items"
        apart.write(tmp_path / name / FILE)
    shown = _invoke(tmp_path / "a", tmp_path / "b", "--together")
    assert "Not measured alike, and left out: sets/irony." in shown
    joined = together([(tmp_path / name, Results.read(tmp_path / name)) for name in "ab"])
    of = [{one.name: one for one in columns_of(results)} for results in (joined, whole)]
    gains = [columns["average of 7, no CHLW"].gain("sft") for columns in of]
    assert gains[0].mapping() == gains[1].mapping()
    with pytest.raises(RedoneError, match="two models are named 'base'"):
        _invoke(tmp_path / "a", tmp_path / "a", "--together")


def test_what_models_were_trained_on_is_said_of_those_that_were_measured_apart_too() -> None:
    def apart(model: str, *found: str) -> tuple[Path, Results]:
        results = ladder({model: 0.5})
        leaks = {item: {"models": [model], "files": {"a.jsonl": 1}, "documents": []} for item in found}
        irony = {"n": ITEMS, "short": ["i1"], "found": leaks}
        files = {"files": [{"file": f"{model}.jsonl", "documents": 7}]}
        results.trained_on = {"rule": "half of it", "models": {model: files}, "tasks": {"sets/irony": irony}}
        results.trained_on["left_out"] = {"sets/rumour": 3}
        return Path(model), results

    said = together([apart("base", "i2"), apart("sft", "i2")])
    assert said.removed("sets/irony") == ["i2"]
    assert said.trained_on is not None
    assert said.trained_on["left_out"] == {"sets/rumour": 3}
    assert [line.split(":")[0] for line in statement(said.trained_on, said.models)[:2]] == ["base", "sft"]
    assert "sft: 1 of 40 items stand in what it was trained on: 7 documents" in statement(said.trained_on, ["sft"])[0]
    first = ladder({"base": 0.5})
    assert together([(Path("base"), first), apart("sft")]).trained_on is not None
    with pytest.raises(RedoneError, match=r"other items were trained on in one file \(0\) than in the other"):
        together([(Path("base"), first), apart("sft", "i2")])


def _invoke(*arguments: Any) -> str:
    done = CliRunner().invoke(app, ["results", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output
