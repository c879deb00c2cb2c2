"""docs/instruction-data.md and docs/cli.md on redone-data sft: what they show runs as it stands there."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_set import write_small_set
from typer.testing import CliRunner

from redone_data.cli import app
from redone_data.instruct.conversation import SNS_CAPABILITIES, read_conversations
from redone_data.instruct.recipe import load_sft_recipe
from redone_data.instruct.set import InstructionSet
from redone_data.instruct.task import find_task
from redone_data.rng import stream

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "instruction-data.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_the_worked_example_is_a_recipe(tmp_path: Path) -> None:
    task, recipe, *_ = blocks("yaml")
    for name, text in (("places.jsonl", blocks("jsonl")[0]), ("recommends.yaml", task), ("places.yaml", recipe)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["sft", str(tmp_path / "places.yaml"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "recommends" in done.output
    assert "missing value" in done.output
    for step in ("step1", "step2"):
        assert {row.documents for row in read_conversations(tmp_path / "out" / f"{step}.jsonl")} == {
            ("n1",),
            ("n2",),
            ("n3",),
            ("n4",),
        }


def test_every_option_of_the_verb_is_in_its_section() -> None:
    section = (
        (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").split("\n## redone-data sft\n")[1].split("\n## ")[0]
    )
    shown = CliRunner().invoke(app, ["sft", "--help"]).output
    for option in set(re.findall(r"--[a-z]+", shown)) - {"--help"}:
        assert f"| `{option}" in section, option


@pytest.mark.parametrize("name", ["tiny", "sns"])
def test_the_recipes_that_come_along_are_read(name: str) -> None:
    recipe = load_sft_recipe(ROOT / "recipes" / "instruct" / f"{name}.yaml").recipe
    assert recipe.general
    assert recipe.steps.step2.general_share


def test_shares_of_blends_and_their_losses_are_fitted_and_a_better_blend_is_predicted_to_be_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of "Shares from losses" on planted losses: shares reached by the verb, then `redone-data fit`."""
    monkeypatch.chdir(tmp_path)
    recipe = write_small_set(tmp_path / "in")
    names = ["content_understanding", "dialogue", "general"]
    for number, weights in enumerate(stream(1, "blends").dirichlet([2.0] * 3, 24)):
        shares = ", ".join(f"{name}: {weight:.4f}" for name, weight in zip(names, weights, strict=True))
        given = [f"steps.step2={{conversations: 80, shares: {{{shares}}}, max_repetitions: 2}}"]
        folder = Path("runs") / f"blend-{number:02d}"
        if number < 2:  # the others differ in their shares alone
            InstructionSet(load_sft_recipe(recipe, given), folder).run()
        else:
            folder.mkdir(parents=True)
            text = (Path("runs") / "blend-00" / "manifest.json").read_text(encoding="utf-8")
            (folder / "manifest.json").write_text(_with_shares(text, dict(zip(names, weights.tolist(), strict=True))))
    (block,) = blocks("python")
    exec(compile(block, "docs/instruction-data.md", "exec"), {})
    runs = pl.read_csv("runs.csv")
    assert runs.columns == ["run_id", *names]
    assert np.allclose(runs.select(names).sum_horizontal(), 1.0)
    with Path("losses.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["run_id", *names])
        for run, *shares in runs.iter_rows():
            table.writerow([run, *(3.0 - share**0.5 for share in shares)])
    Path("mixtures.csv").write_text(f"run_id,{','.join(names)}\nmore_dialogue,.2,.6,.2\nless_dialogue,.6,.1,.3\n")
    command = re.search(r"\$ redone-data (fit runs\.csv .*)", PAGE)
    assert command is not None
    done = CliRunner().invoke(app, [*command[1].split(), "--surrogate", "linear"])
    assert done.exit_code == 0, done.output
    found = pl.read_csv("fitted/predictions.csv")
    dialogue = dict(found.filter(pl.col("metric") == "dialogue").select("run_id", "prediction").iter_rows())
    assert dialogue["more_dialogue"] < dialogue["less_dialogue"]


def _with_shares(manifest: str, shares: dict[str, float]) -> str:
    values = json.loads(manifest)
    for name, share in shares.items():
        values["steps"]["step2"]["capabilities"][name]["reached"] = share
    return json.dumps(values)


def test_the_recipe_of_real_data_names_every_capability() -> None:
    path = ROOT / "recipes" / "instruct" / "sns.yaml"
    tasks = [find_task(name, path.parent) for name in load_sft_recipe(path).recipe.tasks]
    assert {task.capability for task in tasks} == set(SNS_CAPABILITIES)
    assert len(tasks) >= 12
