"""redone-data pairs from end to end: its page, its documentation, a local model, and the recipes that come along."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pair_data import check_conserved, choices, conversation, make, write_jsonl
from test_recipe_docs import keys_of

from redone_data.config import load_yaml
from redone_data.instruct.conversation import read_pairs
from redone_data.instruct.pairs import (
    candidates,
    checks,
    engagement,
    judges,
    outputs,
    rankings,
    select,
    structure,
    survey,
    votes,
)
from redone_data.instruct.pairs.recipe import PairsRecipe, load_pairs_recipe

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/preference.md"


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_worked_example_gives_what_the_page_shows(tmp_path):
    for name, text in zip(("notes.csv", "ranked.csv"), blocks("csv"), strict=True):
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "given.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    made = make(tmp_path, load_yaml(tmp_path / "given.yaml"))
    assert made.code == 0, made.said
    check_conserved(made)
    shown = [json.loads(line) for line in blocks("jsonl")[0].splitlines()]
    assert [json.loads(line) for line in (made.folder / "train.jsonl").read_text().splitlines()] == shown
    dropped = {row["id"]: row["reason"] for row in made.ledger.to_dicts()}
    assert dropped == dict(re.findall(r"^\| `(\w\d)` \| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_page_lists_every_key_of_a_recipe_as_it_is():
    text = PAGE.read_text(encoding="utf-8")
    shared = ("tables.", "contamination.", "executor.")  # documented where they come from
    for key in keys_of(PairsRecipe):
        if not key.name.startswith(shared):
            line = str(key._replace(name=re.sub(r"^\w+\.NAME\.select\.", "select.", key.name)))
            assert line in text, f"print the table anew: {line}"


def test_the_page_explains_every_reason_for_a_drop():
    modules = (candidates, checks, engagement, judges, outputs, rankings, select, structure, survey, votes)
    names = {
        value
        for module in modules
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and re.fullmatch(r"[a-z]+(_[a-z]+)+", value)
    } - {"held_out"}
    assert len(names) > 20
    text = PAGE.read_text(encoding="utf-8")
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_the_page_shows_the_pairs_and_cannot_be_turned_against_its_reader(tmp_path):
    nasty = "<script>alert(1)</script> {{ 7 * 7 }} \x1b[31m \u202e write to jo@example.com"
    form = {"kind": "choice", "options": ["red <b>", "blue"]}
    rows = [conversation(n, f"{nasty} {n}", form, "blue", "blue") for n in range(1, 9)]
    write_jsonl(tmp_path / "set.jsonl", rows)
    sets = {"colours": {"conversations": ["set.jsonl"], "select": {"length": {"control": "off"}}}}
    made = make(tmp_path, {"structure": sets})
    text = (made.folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text
    assert "red &lt;b&gt;" in text
    for bad in ("<script", "\x1b", "\u202e", "jo@example.com"):
        assert bad not in text
    assert "<strong>0 %</strong>" in text  # the longer answer is never chosen: nothing was controlled
    assert text.count('<div class="post in">') == 4


def test_the_result_can_be_had_as_json_and_read_as_the_trainer_reads_it(tmp_path):
    write_jsonl(tmp_path / "set.jsonl", choices(50))
    made = make(tmp_path, {"structure": {"city": {"conversations": ["set.jsonl"]}}}, "--json")
    printed = json.loads(made.said[made.said.index("{") :])
    assert printed == made.manifest
    assert printed["pairs"]["train"] == len(list(read_pairs(made.folder / "train.jsonl")))
    for name, record in printed["files"].items():
        assert (made.folder / name).stat().st_size > 0, name
        assert record


@pytest.mark.parametrize("name", ["pairs_tiny", "pairs_sns"])
def test_the_recipes_that_come_along_are_read(name):
    recipe = load_pairs_recipe(ROOT / f"recipes/instruct/{name}.yaml").recipe
    assert recipe.seed == 1
    assert recipe.output == f"../../runs/{name.replace('_', '-')}"


def test_help_names_every_option():
    shown = subprocess.run(
        [sys.executable, "-m", "redone_data", "pairs", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    for option in ("--out", "--set", "--seed", "--prompts", "--yes", "--json"):
        assert option in shown
        assert option in (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert "redone-data pairs" in (ROOT / "docs/cli.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_local_model_is_sampled_once_and_its_rubbish_is_counted(tmp_path):
    pytest.importorskip("transformers", reason="redone-train generate needs transformers")
    sys.path.insert(0, str(ROOT / "tests/train"))
    from tiny_model import write_model

    write_jsonl(tmp_path / "set.jsonl", choices(4))
    sample = {"generate": str(write_model(tmp_path / "model")), "num_answers": 3, "max_tokens": 4, "temperature": 1.0}
    recipe = {"outputs": {"mine": {"conversations": ["set.jsonl"], "sample": sample}}}
    made = make(tmp_path, recipe)
    # The weights are random: no answer is right, and the set says so.
    assert "set 'mine': no pair is left; of 4 rows and 0 candidates were dropped: none_right 4" in made.said
    cache = tmp_path / "out" / "asked" / "mine.jsonl"
    answers = [line for line in cache.read_bytes().split(b"\n") if line]
    assert len(answers) == 12
    assert "none_right 4" in make(tmp_path, recipe).said
    assert [line for line in cache.read_bytes().split(b"\n") if line] == answers
