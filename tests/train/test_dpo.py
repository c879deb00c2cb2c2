"""Runs of `redone-train dpo`: losses by hand, the reference kept, when a run stops, and what is refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="redone-train dpo needs the packages of redone[train]")

import torch
from datasets import Dataset
from small_cpt import logged
from small_post import BAD, GOOD, messages, pairs, write_dpo, write_lines
from torch.nn import functional
from transformers import TrainerControl, TrainerState

from redone_data.errors import RedoneError
from redone_train.data.batches import BatchShape
from redone_train.dpo import run_dpo
from redone_train.train import checkpoints
from redone_train.train.post_config import PreferenceLossConfig
from redone_train.train.post_evaluation import PairEvaluation
from redone_train.train.stages import result_of


@pytest.fixture(autouse=True)
def _accelerator() -> Iterator[None]:
    """DeepSpeed is told here that there is no GPU."""
    before = os.environ.get("DS_ACCELERATOR")
    yield
    if before is None:
        os.environ.pop("DS_ACCELERATOR", None)


def evaluations(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "evaluation.jsonl").read_text(encoding="utf-8").splitlines()]


def log_probability(model: Any, tokenizer: Any, question: str, answer: str) -> tuple[float, int]:
    """Of an answer and its end token, and how many tokens they are."""
    prompt = tokenizer(f"<|im_start|>user\n{question}").input_ids
    prompt += [tokenizer.eos_token_id, *tokenizer("\n<|im_start|>assistant\n").input_ids]
    said = [*tokenizer(answer).input_ids, tokenizer.eos_token_id]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1]
    found = torch.log_softmax(logits.double(), -1)[range(len(said)), said]
    return float(found.sum()), len(said)


@pytest.mark.parametrize(("kind", "likelihood"), [("sigmoid", 0.0), ("sigmoid", 0.5), ("ipo", 0.0)])
def test_rewards_and_losses_are_those_computed_by_hand(kind: str, likelihood: float, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loss = {"kind": kind, "beta": 0.3, "likelihood": likelihood}
    rows = [{**row, "split": "train"} for row in pairs(6)]
    rows[0]["rejected"] = messages([("assistant", "it is evil")])
    path = write_dpo(tmp_path, {"loss": loss, "batch": {"rows": 6, "rows_per_device": 6}, "epochs": 2})
    held_out = [{**row, "split": "held_out"} for row in rows]
    write_lines(tmp_path / "pairs.jsonl", [*rows, *held_out])
    assert run_dpo(path)
    output = tmp_path / "dpo"
    tokenizer = AutoTokenizer.from_pretrained(output / "checkpoints" / "step-2")
    trained, reference = (
        AutoModelForCausalLM.from_pretrained(folder)
        for folder in (output / "checkpoints" / "step-2", tmp_path / "model")
    )
    margins, losses, likelier, nats, tokens = [], [], [], 0.0, 0
    for row in rows:
        scores, lengths, own = [], [], []
        for side in ("chosen", "rejected"):
            question, answer = row["prompt"][0]["content"], row[side][0]["content"]
            after, length = log_probability(trained, tokenizer, question, answer)
            before, _ = log_probability(reference, tokenizer, question, answer)
            scores.append(after - before)
            lengths.append(length)
            own.append(after)
            if side == "chosen":
                nats, tokens = nats - before, tokens + length
        margins.append(0.3 * (scores[0] - scores[1]))
        each = scores[0] / lengths[0] - scores[1] / lengths[1]
        sigmoid = -functional.logsigmoid(torch.tensor(margins[-1])).item()
        losses.append(sigmoid if kind == "sigmoid" else (each - 1 / 0.6) ** 2)
        likelier.append(float(own[0] > own[1]))
    first, last = evaluations(output)
    wanted = {"margin": margins, "loss": losses, "likelier": likelier, "accuracy": [float(m > 0) for m in margins]}
    for name, values in wanted.items():
        assert last[name]["all"] == pytest.approx(sum(values) / len(values), rel=1e-3, abs=1e-6), name
    assert first["accuracy"] == {"all": 0.5, "content_understanding": 0.5, "content_understanding/words": 0.5}
    # Before the first step all margins are 0, and the likelihood of chosen answers is the reference's.
    start = (0.6931472 if kind == "sigmoid" else (1 / 0.6) ** 2) + likelihood * nats / tokens
    assert logged(output)[1] == pytest.approx(start, rel=1e-5)
    assert logged(output, "lengths/chosen")[1] == 5.0
    assert logged(output, "lengths/rejected")[1] == pytest.approx(6.0)


def test_a_run_goes_on_as_it_would_have_and_asks_the_reference_once(tmp_path: Path) -> None:
    path = write_dpo(tmp_path, {"checkpoints.every": 2, "logging.every": 3, "evaluation.every": 3})
    assert run_dpo(path)
    output = tmp_path / "dpo"
    names = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "lengths/chosen", "num_tokens")
    before = [logged(output, name) for name in names]
    evaluated = evaluations(output)
    for folder in checkpoints.folders(output):
        if folder.name != "step-2":
            checkpoints.remove(folder)
    (output / "result.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in (output / "data").glob("*.arrow")}
    assert len([path for path in kept if path.name.startswith("cache-")]) == 2
    assert run_dpo(path)
    assert {path: path.stat().st_mtime_ns for path in (output / "data").glob("*.arrow")} == kept
    assert [logged(output, name) for name in names] == before
    assert evaluations(output) == evaluated
    with pytest.raises(RedoneError, match=r"loss\.beta was 0\.1, is 0\.2"):
        run_dpo(path, ("loss.beta=0.2",))


def test_a_run_stops_when_held_out_accuracy_falls_and_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held out are pairs that want the other answer."""
    values = {"evaluation": {"every": 1, "patience": 3}, "checkpoints": {"every": 1, "keep": 1}, "epochs": 5}
    path = write_dpo(tmp_path, {**values, "evaluation.data": ["held.jsonl"]})
    write_lines(tmp_path / "pairs.jsonl", [{**row, "split": "train"} for row in pairs(16)])
    write_lines(tmp_path / "held.jsonl", pairs(3, chosen=BAD, rejected=GOOD))
    assert run_dpo(path)
    output = tmp_path / "dpo"
    assert [line["accuracy"]["all"] for line in evaluations(output)] == [0.5, 0.0, 0.0, 0.0]
    assert {folder.name for folder in checkpoints.folders(output)} == {"step-1", "step-3"}, "the best, and the newest"
    assert result_of(output).step == 1
    assert "margin" in capsys.readouterr().out, "a table at the end"
    assert run_dpo(path)
    assert "the run is finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("accuracies", "stops", "result"),
    [
        ([0.5, 0.6, 0.7, 0.8], False, 3),
        ([0.5, 0.6, 0.8, 0.7, 0.7], True, 2),
        ([0.5, 0.8, 0.7, 0.8, 0.7], False, 1),  # of equals, the one with the lower loss
        ([0.5, 0.4], False, 1),
        ([0.5, 0.9, 0.8], False, 1),
    ],
)
def test_a_run_is_patient_for_as_many_measurements_as_it_is_told(
    accuracies: list[float], stops: bool, result: int
) -> None:
    kept: list[int] = []
    rows = Dataset.from_dict({"chosen_ids": [[1]], "task": ["words"]})
    where: dict[str, Any] = {"every": 1, "rows_per_device": 1, "output": Path(), "log": print}
    evaluation = PairEvaluation(rows, list, **where, loss=PreferenceLossConfig(), patience=2, keep=kept.append)
    state, control = TrainerState(max_steps=100), TrainerControl()
    evaluation.history = []
    for step, accuracy in enumerate(accuracies):
        state.global_step = step
        evaluation.history.append({"step": step, "accuracy": {"all": accuracy}, "loss": {"all": 0.6 + step}})
        if step:
            evaluation.judge(state, control)
    assert control.should_training_stop is stops
    assert evaluation.result() == result
    assert kept[-1] == result


def test_weak_and_long_pairs_are_counted_and_left_out(tmp_path: Path, capsys: Any) -> None:
    path = write_dpo(tmp_path, {"data.weak": False, "data.most_dropped": 0.1})
    long = {**pairs(2)[1], "rejected": messages([("assistant", "x" * 200)])}
    write_lines(tmp_path / "pairs.jsonl", [*pairs(20), long])
    assert run_dpo(path)
    said = capsys.readouterr().err
    assert "pairs: 15;" in said
    assert "1 too long, left out; 2 weak, left out" in said
    with pytest.raises(RedoneError, match=r"1 of 16 pairs \(6\.2%\) are longer than 128 tokens.*allows 1\.0%"):
        run_dpo(path, ("data.most_dropped=0.01", "output=strict"))


def test_adapters_learn_preferences_beside_the_reference(tmp_path: Path) -> None:
    path = write_dpo(tmp_path, {"model.lora": {"rank": 4}, "optimizer.learning_rate": 0.02, "epochs": 3})
    assert run_dpo(path)
    first, last = evaluations(tmp_path / "dpo")
    assert last["loss"]["all"] < first["loss"]["all"]
    files = {path.name for path in result_of(tmp_path / "dpo").folder.iterdir()}
    assert "adapter_model.safetensors" in files
    assert "ref" not in files, "no copy of the adapters is trained or kept"


BAD_PAIRS: dict[str, tuple[dict[str, Any], str]] = {
    "no prompt": ({"prompt": None}, "line 1: prompt: a list of messages is expected"),
    "prompt that ends with an answer": (
        {"prompt": messages([("user", "a"), ("assistant", "b")])},
        "line 1: the messages must end with one of the user",
    ),
    "two answers": ({"chosen": messages([("assistant", "a"), ("assistant", "b")])}, "chosen: exactly one assistant"),
    "the same": ({"rejected": messages([("assistant", GOOD)])}, "line 1: chosen and rejected are the same text"),
}


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_a_pair_that_cannot_be_learnt_is_named_by_file_and_line(name: str, tmp_path: Path) -> None:
    values, message = BAD_PAIRS[name]
    path = write_dpo(tmp_path)
    write_lines(tmp_path / "pairs.jsonl", [{**pairs(1)[0], **values}])
    with pytest.raises(RedoneError, match=rf"pairs\.jsonl {message}" if message.startswith("line") else message):
        run_dpo(path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.files=[nowhere.jsonl]", r"nowhere\.jsonl: no such file"),
        ("data.files=[]", "data: files: at least one file is needed"),
        ("data.files=[empty.jsonl]", r"empty\.jsonl: there are no pairs to train on"),
        ("data.length=20", "all 34 pairs are longer than 20 tokens"),
        ("loss.beta=0", "loss: beta is 0 and likelihood 0; above 0, and 0 or more"),
        ("loss.kind=hinge", "loss.kind: 'hinge' is not allowed"),
        ("epochs=-1", "epochs is -1; more than 0"),
        ("batch.rows_per_device=3", "8 rows cannot be 1 ranks x 3 rows"),
    ],
)
def test_what_cannot_be_trained_is_said_before_the_first_step(setting: str, message: str, tmp_path: Path) -> None:
    path = write_dpo(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(RedoneError, match=message):
        run_dpo(path, (setting,))
    assert not (tmp_path / "dpo" / "log.jsonl").exists()


def test_a_dry_run_counts_a_pair_as_two_rows(tmp_path: Path, capsys: Any) -> None:
    from redone_train.post_dry_run import dry_run_dpo

    dry_run_dpo(write_dpo(tmp_path))
    said = capsys.readouterr().out
    assert "the chosen one is longer in 0% of the pairs" in said
    assert f"5 steps x {2 * BatchShape(8, 2).rows} rows x 128" in said
