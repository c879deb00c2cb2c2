"""From a file to a table, results and a page; killed, it goes on; what cannot be measured is said first."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_cpt import write_config as write_cpt
from small_eval import ROWS, config, endpoint, write_config
from sns_rows import write_bench
from tiny_model import write_model
from typer.testing import CliRunner

from redone_data.errors import RedoneError
from redone_train.cli import app
from redone_train.evaluate.compare import compare
from redone_train.evaluate.config import load_evaluation
from redone_train.evaluate.general import scored, task_names
from redone_train.evaluate.models import open_model
from redone_train.evaluate.results import Answered, Results
from redone_train.evaluate.sns_bench import FILES, SnsBench, averages, gold_answer
from redone_train.evaluate.sns_sets import SnsSets
from redone_train.evaluation import averages_of, run_evaluation
from redone_train.generate import LocalModel


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {"base": str(write_model(folder / "a", chat=False)), "tuned": str(write_model(folder / "b", seed=3))}


def invoke(*arguments: Any) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_file_becomes_a_table_results_and_a_page_and_results_can_be_compared(tmp_path: Path, models: Any) -> None:
    path = write_config(tmp_path, models)
    shown = invoke("eval", path, "--set", "max_items=6")
    assert "rude" in shown
    assert "retention" in shown
    assert "not measured: give bits.pools" in shown
    results = Results.read(tmp_path / "out")
    task = results.tasks["sets/rude"]
    assert len(task["items"]) == 6
    assert task["ceiling"] == 100
    assert task["trivial_rule"].startswith("always")
    assert len(results.scores["tuned"]["sets/rude"]["answers"]) == 6
    assert (tmp_path / "out" / "page.html").is_file()
    shutil.copytree(tmp_path / "out", tmp_path / "again")
    found = invoke("eval", "--compare", tmp_path / "out", tmp_path / "again", "--out", tmp_path / "difference.json")
    assert "again/tuned − out/base" in found
    same = json.loads((tmp_path / "difference.json").read_text(encoding="utf-8"))["rows"]["sets/rude"]["differences"]
    assert same["again/base"]["interval"] == [0, 0]


def test_killed_in_the_second_model_it_ends_with_the_results_of_a_run_that_was_not(
    tmp_path: Path, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    run_evaluation(write_config(whole, models))
    path = write_config(tmp_path, models)
    original, made = LocalModel.answers, list[int]()

    def mortal(self: LocalModel, texts: Any, *arguments: Any) -> Any:
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(len(texts))
        return original(self, texts, *arguments)

    monkeypatch.setattr(LocalModel, "answers", mortal)
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(path)
    assert not (tmp_path / "out" / "results.json").exists()
    made.clear()
    run_evaluation(path)
    assert sum(made) == 2 * ROWS - 16 - 2  # four batches, one of them short, and one of the second model, were kept
    written = [json.loads((folder / "out" / "results.json").read_text()) for folder in (whole, tmp_path)]
    assert written[0]["scores"] == written[1]["scores"]


def test_the_average_of_sns_bench_is_the_papers_and_is_given_without_the_task_that_silence_wins(
    tmp_path: Path,
) -> None:
    benchmark = SnsBench(write_bench(tmp_path), scorer="official")
    results = Results(["model"], seed=1, resamples=20)
    for task in benchmark.tasks:
        items = benchmark.items(task)
        texts = [gold_answer(items[0].meta["row"])] * len(items)
        results.add("model", items, [Answered(text) for text in texts], benchmark.score(items, texts))
    scores = {file: results.score("model", f"sns_bench/{file}").value for file in FILES}
    expected = averages(scores)
    found = {one.name: results.average("model", one) for one in averages_of(benchmark, results)}
    assert list(found) == ["SNS average of 7", "SNS average of 6, no CHLW"]  # no embeddings
    whole, without = found.values()
    assert whole.value == pytest.approx(expected["without_querygen"])
    assert without.value == pytest.approx(expected["without_both"])
    assert whole.interval is not None


def test_an_endpoint_is_a_model_beside_the_others(tmp_path: Path, models: Any) -> None:
    with endpoint() as server:
        api = {"base_url": f"http://127.0.0.1:{server.server_port}/v1", "model": "rule"}
        path = write_config(tmp_path, {"api": api, "base": models["base"]}, stop=["\n"])
        with pytest.raises(RedoneError, match=f"this would take {ROWS} calls"):
            run_evaluation(path)
        results = run_evaluation(path, confirmed=True)
    assert results.score("api", "sets/rude").value == 100
    assert results.scores["api"]["sets/rude"]["parse_rate"] == 1


def test_shots_are_rows_that_are_not_asked_about_and_the_same_for_all(tmp_path: Path, models: Any) -> None:
    given = load_evaluation(write_config(tmp_path, models))
    plain, shown = (SnsSets(given.sets, tmp_path, seed=1, shots=shots).items("rude") for shots in (0, 2))
    assert len(plain) == ROWS
    assert len(shown) == ROWS - 2
    assert len({json.dumps(item.messages[-5:-1]) for item in shown}) == 1
    asked = {item.messages[-1]["content"].split("post number ")[1].split(" ")[0] for item in shown}
    examples = {item["content"] for item in shown[0].messages[:-1] if "post number" in item["content"]}
    assert len(examples) == 2
    assert not any(f"post number {number} " in example for number in asked for example in examples)


def test_a_base_model_with_shots_is_compared_with_a_tuned_one_without_on_the_same_items(
    tmp_path: Path, models: Any
) -> None:
    few = {"path": models["base"], "shots": 2}
    results = run_evaluation(write_config(tmp_path, {"base": few, "tuned": models["tuned"]}, shots=0))
    task = results.tasks["sets/rude"]
    assert len(task["items"]) == ROWS - 2  # what the base model is shown, the other is not asked either
    assert [len(item["messages"]) - len(task["prompts"]["0"][n]) for n, item in enumerate(task["items"])] == [4] * 12
    assert results.shots == {"base": 2, "tuned": 0}
    alone = tmp_path / "alone"
    alone.mkdir()
    run_evaluation(write_config(alone, {"tuned": {**few, "path": models["tuned"]}}))
    assert len(compare([tmp_path / "out", alone / "out"]).rows) == 1
    with pytest.raises(RedoneError, match=r"models\.base\.shot: unknown key; did you mean 'shots'"):
        run_evaluation(write_config(tmp_path, {"base": {"path": "x", "shot": 2}}))
    with pytest.raises(RedoneError, match=r"models\.base: shots: -1; at least 0"):
        run_evaluation(write_config(tmp_path, {"base": {**few, "shots": -1}}))


def test_a_run_of_the_trainer_can_be_measured_before_it_is_exported(tmp_path: Path) -> None:
    from redone_train.cpt import run_cpt

    run_cpt(write_cpt(tmp_path, {"checkpoints.every": 3, "tokens": 3 * 8 * 32}))
    run = tmp_path / "run"
    opened = open_model("cpt", run, tmp_path / "out", device="cpu", precision="auto")
    assert (opened.folder / "model.safetensors").is_file()
    again = open_model("cpt", run / "checkpoints" / "step-3", tmp_path / "out", device="cpu", precision="auto")
    assert again.folder == opened.folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {}}, "models: at least one"),
        ({"sets": {}}, "nothing to measure"),
        ({"task": 1}, "task: unknown key"),
        ({"models": {"base": "nowhere"}}, "models.base: .*nowhere: neither a Hugging Face folder"),
        ({"general": {"tasks": ["mmlu"]}}, r"general: needs the package lm_eval .*pip install 'redone\[eval\]'"),
        ({"sets": {"x": {"task": "offensive"}}}, "give either files .*or task and table"),
        ({"sns_bench": {"path": "nowhere"}}, "none of SNS-Bench's files is here"),
        (
            {"answers": "likelihood", "models": {"api": {"base_url": "http://x/v1", "model": "m"}}},
            "'api' is an endpoint",
        ),
    ],
)
def test_what_cannot_be_measured_is_said_before_the_first_model_is_loaded(
    tmp_path: Path, models: Any, changes: dict, message: str
) -> None:
    if "general" in changes:
        import importlib.util

        if importlib.util.find_spec("lm_eval") is not None:
            pytest.skip("lm_eval is installed here")
    values = {**config(models), **changes}
    write_config(tmp_path, models)
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(RedoneError, match=message):
        run_evaluation(tmp_path / "eval.yaml")


def test_the_suite_is_written_out_and_never_runs_what_a_model_wrote(tmp_path: Path, models: Any) -> None:
    given = load_evaluation(write_config(tmp_path, models, general={"tasks": ["redone", "mathematics", "arc_easy"]}))
    assert given.general is not None
    names = task_names(given.general)
    assert len(set(names)) == len(names)
    assert {"mmlu", "cmmlu", "gsm8k", "ifeval", "arc_easy"} <= set(names)
    assert not {"humaneval", "mbpp"} & set(names)
    found = scored({"acc,none": 0.5, "acc_stderr,none": 0.1, "alias": "x"}, 25)
    assert found["score"] == 50
    assert found["interval"] == pytest.approx([30.4, 69.6], abs=0.01)
