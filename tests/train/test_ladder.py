"""`redone-train ladder`: the order of stages, what is laid over their runs, what is refused before any training."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluate"))

from small_eval import write_config
from small_post import write_dpo, write_sft
from typer.testing import CliRunner

from redone_data.errors import RedoneError
from redone_data.manifest import read_json
from redone_train.cli import app
from redone_train.evaluate.config import load_evaluation
from redone_train.evaluate.results import Results
from redone_train.ladder import KINDS, evaluation_settings, open_ladder, run_ladder, settings_text, trained_on
from redone_train.ladder_config import flat, load_ladder
from redone_train.train.config import load_run

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes" / "ladder").glob("*.yaml") if not path.stem.startswith("eval_"))
ARMS: dict[str, Any] = {
    "base": {"start": "model", "shots": 2},
    "dpo": {"after": "sft", "dpo": "dpo.yaml"},  # before the stage that it needs
    "sft": {"after": "base", "sft": "sft.yaml"},
    "without_general": {"after": "base", "sft": "sft.yaml", "set": {"data.without": ["general"]}},
}


def write_ladder(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    write_sft(folder)
    write_dpo(folder)
    write_config(folder, {"x": "x"}, shots=0)
    values = {"output": "ladder", "evaluation": "eval.yaml", "stages": ARMS, **changes}
    path = folder / "ladder.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def shown(*arguments: Any) -> str:
    done = CliRunner().invoke(app, ["ladder", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_each_stage_is_trained_after_the_one_that_it_starts_from(tmp_path: Path) -> None:
    path = write_ladder(tmp_path, settings={"sft": {"batch": {"rows": 8}}})
    _, stages = open_ladder(path)
    assert [stage.name for stage in stages] == ["base", "sft", "dpo", "without_general"]
    of = {stage.name: stage for stage in stages}
    configs = {name: stage.config for name, stage in of.items() if stage.config is not None}
    assert configs["dpo"].model.start == configs["sft"].output == str(tmp_path / "ladder" / "stages" / "sft")
    assert configs["sft"].model.start == str(tmp_path / "model")
    assert configs["sft"].batch.rows == configs["without_general"].batch.rows == 8
    assert configs["sft"].batch.rows_per_device == 1  # the file's own
    assert "data.without" not in " ".join(of["sft"].settings)
    told = shown(path, "--dry-run")
    assert "3. dpo: dpo after sft; to do" in told
    assert "then eval.yaml of base, dpo, sft, without_general" in told
    assert not (tmp_path / "ladder").exists()


def test_what_is_measured_is_looked_for_in_all_that_a_stage_and_those_before_it_have_read(tmp_path: Path) -> None:
    path = write_ladder(tmp_path)
    config, stages = open_ladder(path)
    files = trained_on(stages, tmp_path)
    assert files["sft"] == ["all.jsonl", "more.jsonl"]
    assert files["dpo"] == ["all.jsonl", "more.jsonl", "pairs.jsonl"]
    assert "base" not in files
    laid = evaluation_settings(config, stages, path)
    assert set(load_evaluation(tmp_path / "eval.yaml", laid).trained_on) == {"sft", "dpo", "without_general"}


def test_some_stages_come_with_what_they_stand_on(tmp_path: Path) -> None:
    path = write_ladder(tmp_path)
    assert [stage.name for stage in open_ladder(path, only=("dpo",))[1]] == ["base", "sft", "dpo"]
    with pytest.raises(RedoneError, match="--only dop: did you mean 'dpo'"):
        open_ladder(path, only=("dop",))


def test_what_was_asked_of_a_stage_changes_with_what_is_before_it_and_with_its_data(tmp_path: Path) -> None:
    path = write_ladder(tmp_path)

    def asked() -> dict[str, str]:
        marks: dict[str, str] = {}
        for stage in open_ladder(path)[1]:
            before = marks.get(stage.after or "", "")
            marks[stage.name] = "" if stage.config is None else stage.asked(before)
        return marks

    first = asked()
    assert asked() == first
    more = (tmp_path / "more.jsonl").read_text(encoding="utf-8")
    (tmp_path / "more.jsonl").write_text(more + more.splitlines()[0] + "\n", encoding="utf-8")
    assert {name for name, mark in asked().items() if mark != first[name]} == {"sft", "dpo", "without_general"}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"a": {"after": "bass", "sft": "sft.yaml"}, "base": {"start": "model"}}, r"stages\.a\.after: 'bass': did you"),
        (
            {"a": {"after": "b", "sft": "sft.yaml"}, "b": {"after": "a", "sft": "sft.yaml"}},
            r"stages\.a\.after: they go round: a after b after a",
        ),
        ({"a": {"after": "a", "sft": "sft.yaml"}}, "they go round: a after a"),
        ({"a": {"start": "model", "sft": "sft.yaml", "dpo": "dpo.yaml"}}, "sft and dpo: a stage is one run"),
        ({"a": {"start": "model", "sft": "none.yaml"}}, r"stage 'a': .*none\.yaml: cannot be read: No such file"),
        ({"a": {"start": "nothing"}}, "stage 'a': nothing: there is no such model"),
        ({"a": {"sft": "sft.yaml"}}, r"stages\.a: give either start \(a model\) or after"),
        ({"a": {"start": "model"}, "b": {"after": "a"}}, "after 'a' it does nothing"),
        ({"a": {"start": "model", "set": {"seed": 2}}}, "there is no run whose keys these could be"),
        ({"a": {"start": "model"}, "A": {"start": "model"}}, "'a' and 'A' would share a folder"),
        ({"a b": {"start": "model"}}, "'a b' cannot name a folder"),
        ({"a": {"start": "model", "sft": "sft.yaml", "set": {"sed": 1}}}, r"stage 'a': .*sed: unknown key.*'seed'"),
        ({"a": {"start": "model", "sft": "sft.yaml", "set": {"output": "x"}}}, "set: output is the ladder's own"),
        ({"a": {"start": "model", "evaluate": False}}, "none is evaluated"),
        (
            {"a": {"start": "model", "dpo": "dpo.yaml", "set": {"data.files": ["lost.jsonl"]}}},
            r"stage 'a': .*lost\.jsonl: no such file; make the data first",
        ),
    ],
)
def test_what_is_wrong_with_a_ladder_is_said_before_anything_is_trained(
    tmp_path: Path, stages: dict[str, Any], message: str
) -> None:
    path = write_ladder(tmp_path, stages=stages)
    with pytest.raises(RedoneError, match=message):
        run_ladder(path)
    assert not (tmp_path / "ladder").exists()


def test_a_stage_named_twice_is_refused(tmp_path: Path) -> None:
    path = write_ladder(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + "  sft: {start: model}\n", encoding="utf-8")
    with pytest.raises(RedoneError, match="key 'sft' is given twice"):
        open_ladder(path)


def test_a_run_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "import sys; print('out of luck'); sys.exit(3)"]
    path = write_ladder(tmp_path, launcher=failing)
    log = tmp_path / "ladder" / "logs" / "sft.log"
    with pytest.raises(RedoneError, match=f"stage 'sft': sft ended with exit code 3; its log is {log}, .*out of luck"):
        run_ladder(path)
    stopped = [sys.executable, "-c", "import sys; sys.exit(75)"]
    assert run_ladder(write_ladder(tmp_path, launcher=stopped)) is None
    with pytest.raises(RedoneError, match="launcher: no-such-launcher: cannot be started"):
        run_ladder(write_ladder(tmp_path, launcher=["no-such-launcher"]))


@pytest.mark.on_demand
def test_arms_are_trained_measured_together_and_not_trained_again(tmp_path: Path) -> None:
    path = write_ladder(tmp_path)
    shown(path)
    output = tmp_path / "ladder"
    results = Results.read(output)
    assert results.models == list(ARMS)
    assert results.shots == {"base": 2, "dpo": 0, "sft": 0, "without_general": 0}
    told = results.about["ladder"]["stages"]
    assert set(told["dpo"]["tasks"]) == set(told["sft"]["tasks"]) == {"general", "content_understanding/words"}
    assert set(told["without_general"]["tasks"]) == {"content_understanding/words"}
    logs = {log.name: log.read_bytes() for log in (output / "logs").iterdir()}
    assert set(logs) == {"sft.log", "dpo.log", "without_general.log"}
    (output / "results.json").unlink()
    shown(path)
    assert {log.name: log.read_bytes() for log in (output / "logs").iterdir()} == logs
    again = Results.read(output)
    assert json.dumps(again.scores) == json.dumps(results.scores)
    assert read_json(output / "stages" / "sft" / "stage.json")["tasks"] == told["sft"]["tasks"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_a_ladder_is_read_and_so_is_the_run_of_each_stage(path: Path) -> None:
    config = load_ladder(path)
    for name in config.order():
        if (run := config.stages[name].run) is not None:
            load_run(KINDS[run[0]], path.parent / run[1], settings_text(config.settings_of(name)))
    models = dict.fromkeys(config.stages, "x")
    evaluation = {**dict(flat(config.settings.eval)), "models": models, "trained_on": {}}
    read = load_evaluation(path.parent / config.evaluation, settings_text(evaluation))
    assert read.bits.pools  # or retention is not measured


def test_the_arms_of_the_ablation_differ_in_what_they_are_named_for() -> None:
    config = load_ladder(ROOT / "recipes" / "ladder" / "ablations.yaml")
    laid = {name: config.settings_of(name) for name, stage in config.stages.items() if stage.run}
    assert len(laid["sft"]["steps"]) == 2
    assert len(laid["sft_one_step"]["steps"]) == 1
    assert [len(laid[f"tasks_{n:02}"]["data.only"]) - 1 for n in (1, 4, 16)] == [1, 4, 16]
    kept = {name: set(laid[name]["data.without"]) for name in ("sft", "without_general")}
    assert kept["without_general"] - kept["sft"] == {"general"}
    sources = [laid[name].get("data.sources.social.path") for name in ("cpt", "cpt_natural", "cpt_uniform")]
    assert len(set(sources)) == 3
