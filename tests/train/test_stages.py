"""The whole way on two DeepSpeed ranks: pre-training, two steps of instruction tuning, preferences; killed in each."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="redone-train sft needs the packages of redone[train]")

from launches import Launches
from small_cpt import write_config
from small_post import BAD, GOOD, WORDS, write_dpo, write_sft
from tiny_model import write_model
from token_data import write_tokens

from redone_train.generate import Sampling, generate
from redone_train.train.export import export

ZERO2 = ("--set", "deepspeed=zero2")
SEEN = ("loss", "grad_norm", "learning_rate", "entropy", "rewards/margins", "lengths/chosen")
ROWS, LENGTH = 8, 64


def write_posts(folder: Path) -> None:
    """Texts in the tokens of the tiny model: folder/posts to train on, folder/held_out to measure on."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    texts = [f"{word} {word} is {(GOOD, BAD)[n % 2]}, said the {word}" for n, word in enumerate(WORDS * 12)]
    documents = [tokenizer(text).input_ids for text in texts]
    write_tokens(folder / "posts", [documents[:100]], len(tokenizer))
    (write_tokens(folder / "held_out", [documents[100:]], len(tokenizer)).folder / "manifest.json").unlink()


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Launches:
    folder = tmp_path_factory.mktemp("way")
    write_model(folder / "model", chat=False)
    write_posts(folder)
    values = {
        "model.start": "model",
        "data": {"sources": {"posts": {"path": "posts"}}, "length": LENGTH, "workers": 0},
        "tokens": 12 * ROWS * LENGTH,
        "batch": {"rows": ROWS, "rows_per_device": 4},
        "evaluation": {"pools": {"posts": "held_out"}, "every": 0},
    }
    config = write_config(folder / "posts_only", values)
    config.rename(folder / "cpt.yaml")
    often = {"checkpoints.every": 2, "evaluation.every": 4}
    write_sft(folder, {**often, "model.start": "cpt", "logging.every": 3})
    write_dpo(folder, {**often, "model.start": "sft", "logging.every": 3})
    runs = Launches(folder, folder / "cpt.yaml")
    runs.add("cpt", "cpt", *ZERO2)
    # Of 8 and 6 steps: killed at the end of the first step, then in the second, when the first is finished.
    runs.add("whole-sft", "whole-sft", *ZERO2, verb="sft")
    runs.add("killed-1", "sft", *ZERO2, verb="sft", killed_at=8)
    runs.add("killed-2", "sft", *ZERO2, verb="sft", killed_at=4)
    runs.add("resumed-sft", "sft", *ZERO2, verb="sft")
    runs.add("zero3-sft", "zero3-sft", "--set", "deepspeed=zero3", verb="sft")
    runs.add("zero3-dpo", "zero3-dpo", "--set", "deepspeed=zero3", verb="dpo")
    runs.add("plain-dpo", "plain-dpo", verb="dpo", ranks=1)
    runs.add("whole-dpo", "whole-dpo", *ZERO2, verb="dpo")
    runs.add("killed-dpo", "dpo", *ZERO2, verb="dpo", killed_at=4)
    runs.add("resumed-dpo", "dpo", *ZERO2, verb="dpo")
    runs.run()
    return runs


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def curve(run: Path) -> list[dict[str, float]]:
    """All that is logged of each step but its speed."""
    seen = [{name: line[name] for name in ("step", *SEEN) if name in line} for line in lines(run / "log.jsonl")]
    assert any("loss" in line for line in seen)
    return seen


@pytest.mark.slow
def test_each_stage_is_better_on_held_out_data_than_what_it_started_from(way: Launches) -> None:
    for name in ("cpt", "whole-sft", "resumed-sft", "whole-dpo", "resumed-dpo"):
        assert way.codes(name) == [0, 0], way.said(name)
    (first, *_, last) = lines(way.folder / "cpt" / "evaluation.jsonl")
    assert last["bits_per_byte"]["posts"] < first["bits_per_byte"]["posts"]
    for step in ("all", "more"):
        (first, *_, last) = lines(way.folder / "sft" / step / "evaluation.jsonl")
        for task in ("all", "general", "content_understanding/words"):
            assert last["nats_per_token"][task] < first["nats_per_token"][task]
    (first, *_, last) = lines(way.folder / "dpo" / "evaluation.jsonl")
    assert first["accuracy"]["all"] == 0.5
    assert last["accuracy"]["all"] > 0.9
    assert last["loss"]["all"] < first["loss"]["all"]


@pytest.mark.slow
def test_each_stage_starts_from_the_one_before(way: Launches) -> None:
    starts = {run: next((way.folder / run / "start").iterdir()).name for run in ("sft/all", "sft/more", "dpo")}
    assert starts["sft/all"].startswith("step-12-fp32-")
    assert starts["sft/more"].startswith("step-8-fp32-")
    assert starts["dpo"].startswith("step-6-fp32-")


@pytest.mark.slow
@pytest.mark.parametrize("run", ["sft/all", "sft/more", "dpo"])
def test_a_stage_that_is_killed_goes_on_to_the_same_losses(way: Launches, run: str) -> None:
    killed, resumed = {
        "sft/all": ("killed-1", "killed-2"),
        "sft/more": ("killed-2", "resumed-sft"),
        "dpo": ("killed-dpo", "resumed-dpo"),
    }[run]
    assert way.codes(killed)[0] == -9
    assert "going on from" in way.said(resumed)
    whole = way.folder / f"whole-{run}"
    assert curve(way.folder / run) == curve(whole)
    assert lines(way.folder / run / "evaluation.jsonl") == lines(whole / "evaluation.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "run"),
    [
        ("zero3-sft/all", "whole-sft/all"),
        ("zero3-sft/more", "whole-sft/more"),
        ("zero3-dpo", "whole-dpo"),
        ("plain-dpo", "whole-dpo"),
    ],
)
def test_neither_ranks_nor_how_states_are_shared_out_change_the_losses(way: Launches, other: str, run: str) -> None:
    assert set(way.codes(other.partition("/")[0])) == {0}, way.said(other.partition("/")[0])
    ours, theirs = curve(way.folder / other), curve(way.folder / run)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for line, known in zip(ours, theirs, strict=True):
        close = {name: value for name, value in known.items() if name in ("loss", "grad_norm", "rewards/margins")}
        found = {name: line[name] for name in close}
        assert found == {name: pytest.approx(value, rel=1e-4, abs=1e-6) for name, value in close.items()}, line["step"]


@pytest.mark.slow
def test_a_finished_step_is_not_run_again_by_the_one_that_goes_on(way: Launches) -> None:
    assert "step all is finished" in way.said("resumed-sft")
    assert "step all is finished" not in way.said("killed-2")


@pytest.mark.slow
def test_the_model_of_the_last_stage_is_exported_and_stops_its_answers(way: Launches, tmp_path: Path) -> None:
    export(way.folder / "dpo", tmp_path / "model")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": f"{WORDS[0]}?", "id": 0}) + "\n", encoding="utf-8")
    generate(tmp_path / "model", prompts, tmp_path / "answers.jsonl", Sampling(1, 8, 0.0, 1.0, 1, False))
    (answer,) = lines(tmp_path / "answers.jsonl")
    assert "<end>" not in answer["answers"][0]
