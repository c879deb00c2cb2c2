"""docs/instruction-data.md and docs/cli.md on redone-data sft: what they show runs as it stands there."""

import json
import re
from pathlib import Path

import pytest
from small_set import write_small_set
from typer.testing import CliRunner

from redone_data.cli import app
from redone_data.instruct.conversation import SNS_CAPABILITIES, read_conversations
from redone_data.instruct.recipe import load_sft_recipe
from redone_data.instruct.task import find_task
from redone_data.mix.proposal import Proposal
from redone_data.recipe import load_recipe

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


def test_a_set_becomes_a_recipe_for_the_shares_of_its_capabilities_and_a_step_takes_what_is_proposed(
    tmp_path: Path,
) -> None:
    """The way of "Shares from losses", but for the swarm between its commands."""
    recipe, out = write_small_set(tmp_path / "in"), tmp_path / "out"
    command = ["sft", str(recipe), "--out", str(out)]
    assert CliRunner().invoke(app, [*command, "--shares"]).exit_code == 0
    shares = out / "shares" / "recipe.yaml"
    names = ["content_understanding", "dialogue", "general"]
    assert sorted(load_recipe(shares).recipe.domains) == names
    trained = {row.id for row in read_conversations(out / "step1.jsonl")}
    files = [out / "shares" / f"{name}.jsonl" for name in names]
    texts = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    assert {text["id"] for text in texts} == trained, "nothing that is held out"
    done = CliRunner().invoke(app, ["tokenize", str(shares)])
    assert done.exit_code == 0, done.output

    wanted = {"content_understanding": 0.5, "dialogue": 0.3, "general": 0.2}
    proposal = Proposal(wanted, wanted, wanted, {}, 1, "planted")
    (tmp_path / "proposal.json").write_text(proposal.to_json(), encoding="utf-8")
    given = f"steps.step2={{conversations: 80, max_repetitions: 3, proposal: {tmp_path / 'proposal.json'}}}"
    done = CliRunner().invoke(app, [*command, "--set", given])
    assert done.exit_code == 0, done.output
    tokens = dict.fromkeys(names, 0)
    for row in read_conversations(out / "step2.jsonl"):
        tokens[row.capability] += sum(len(message.content.encode()) for message in row.messages)
    for name, share in wanted.items():
        assert abs(tokens[name] / sum(tokens.values()) - share) < 0.1, "shares of tokens, not of conversations"


def test_the_recipe_of_real_data_names_every_capability() -> None:
    path = ROOT / "recipes" / "instruct" / "sns.yaml"
    tasks = [find_task(name, path.parent) for name in load_sft_recipe(path).recipe.tasks]
    assert {task.capability for task in tasks} == set(SNS_CAPABILITIES)
    assert len(tasks) >= 12
