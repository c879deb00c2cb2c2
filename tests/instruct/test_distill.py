"""The best of n samples in place of a general answer: files out, files in."""

import json
from pathlib import Path

import pytest

from redone_data.errors import RedoneError
from redone_data.instruct.conversation import Conversation, read_conversations
from redone_data.instruct.recipe import load_sft_recipe
from redone_data.instruct.set import InstructionSet

SUMS = [
    f"What is {n} plus {n}, when {word} is the only word?" for n, word in enumerate(["river", "garden", "window"] * 4)
]
RECIPE = """\
general:
  sums:
    paths: [sums.jsonl]
    form: instruction
    duplicates: {near: false}
    distilled: {answers: answers.jsonl, %s}
held_out: {share: 0}
"""


def prepared(folder: Path, how: str) -> Path:
    rows = [{"instruction": text, "output": f"It is {2 * n}."} for n, text in enumerate(SUMS)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE % how, encoding="utf-8")
    return folder / "recipe.yaml"


def asked(folder: Path) -> dict[str, int]:
    """Of each prompt that the verb wrote: its id and its number."""
    lines = (folder / "out" / "prompts" / "sums.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = [json.loads(line) for line in lines]
    return {prompt["id"]: SUMS.index(prompt["prompt"][-1]["content"]) for prompt in prompts}


def jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def made(folder: Path) -> dict[int, Conversation]:
    InstructionSet(load_sft_recipe(folder / "recipe.yaml"), folder / "out").run()
    rows = read_conversations(folder / "out" / "step1.jsonl")
    return {SUMS.index(row.messages[0].content): row for row in rows}


def test_prompts_are_written_and_the_command_to_sample_them_is_named(tmp_path: Path) -> None:
    prepared(tmp_path, "metric: exact_match")
    with pytest.raises(RedoneError, match=r"redone-train generate MODEL .*prompts/sums.jsonl --out .*answers.jsonl"):
        made(tmp_path)
    assert sorted(asked(tmp_path).values()) == list(range(12))


def test_by_a_metric_the_first_right_sample_is_taken_and_else_the_reference_stays(tmp_path: Path) -> None:
    prepared(tmp_path, r"metric: exact_match, extract: '(\d+)\D*$'")
    with pytest.raises(RedoneError):
        made(tmp_path)
    samples = [
        {"id": name, "answers": [f"So {2 * n + 1}.", f"Twice {n} makes {2 * n}.", f"{2 * n}"] if n % 2 else ["no idea"]}
        for name, n in asked(tmp_path).items()
    ]
    jsonl(tmp_path / "answers.jsonl", samples[:-1])  # a prompt that did not fit has no answers
    found = made(tmp_path)
    missing = asked(tmp_path)[str(samples[-1]["id"])]
    for n, row in found.items():
        expected = f"Twice {n} makes {2 * n}." if n % 2 and n != missing else f"It is {2 * n}."
        assert row.messages[-1].content == expected
    assert len(found) == 12


def test_by_a_reward_what_is_not_good_enough_is_dropped_and_counted(tmp_path: Path) -> None:
    prepared(tmp_path, "scores: scores.jsonl, least: 0.4, otherwise: drop")
    with pytest.raises(RedoneError):
        made(tmp_path)
    jsonl(tmp_path / "answers.jsonl", [{"id": i, "answers": ["aa bb", "cc dd"]} for i in asked(tmp_path)])
    jsonl(
        tmp_path / "scores.jsonl",
        [{"id": i, "scores": [0.1, 0.9] if n < 9 else [0.1, 0.2]} for i, n in asked(tmp_path).items()],
    )
    found = made(tmp_path)
    assert {row.messages[-1].content for row in found.values()} == {"cc dd"}
    assert sorted(found) == list(range(9))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert manifest["drops"] == {"build/no_good_sample": 3}
    assert manifest["sources"][0]["distilled"] == 9


def test_scores_that_do_not_match_the_samples_are_an_error(tmp_path: Path) -> None:
    prepared(tmp_path, "scores: scores.jsonl")
    with pytest.raises(RedoneError):
        made(tmp_path)
    jsonl(tmp_path / "answers.jsonl", [{"id": i, "answers": ["aa bb", "cc dd"]} for i in asked(tmp_path)])
    jsonl(tmp_path / "scores.jsonl", [{"id": i, "scores": [1.0]} for i in asked(tmp_path)])
    with pytest.raises(RedoneError, match="2 scores are needed, one a sample"):
        made(tmp_path)


def test_one_way_to_tell_the_best_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RedoneError, match="give one of metric, scores and judge"):
        made(prepared(tmp_path, "least: 1").parent)
