"""Runs of `redone-train sft`: the loss by hand, what is left out, steps, and what is refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="redone-train sft needs the packages of redone[train]")

import torch
from small_cpt import logged
from small_post import conversations, messages, write_lines, write_sft
from tiny_model import write_model
from torch.nn import functional

from redone_data.errors import RedoneError
from redone_train.data.conversations import trained_tasks
from redone_train.sft import open_step, read_step, resolved, run_sft, step_configs
from redone_train.train.config import load_run
from redone_train.train.export import export
from redone_train.train.masks import check_masks
from redone_train.train.post_config import SftConfig
from redone_train.train.post_trainer import next_log_probs

ONE_STEP = "steps=[{name: all, data: [all.jsonl]}]"


@pytest.fixture(autouse=True)
def _accelerator() -> Iterator[None]:
    """DeepSpeed is told here that there is no GPU."""
    before = os.environ.get("DS_ACCELERATOR")
    yield
    if before is None:
        os.environ.pop("DS_ACCELERATOR", None)


def evaluations(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "evaluation.jsonl").read_text(encoding="utf-8").splitlines()]


def by_hand(folder: Path, rows: list[dict[str, Any]]) -> tuple[float, int]:
    """Nats of all answer tokens, and how many: each conversation alone, a plain model, tokens put together here."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    nats, count = 0.0, 0
    for row in rows:
        tokens, learnt = [], []
        for message in row["messages"]:
            head = tokenizer(f"<|im_start|>{message['role']}\n").input_ids
            said = [*tokenizer(message["content"]).input_ids, tokenizer.eos_token_id]
            after = tokenizer("\n").input_ids
            tokens += [*head, *said, *after]
            learnt += [False] * len(head) + [message["role"] == "assistant"] * len(said) + [False] * len(after)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1]
        losses = functional.cross_entropy(logits, torch.tensor(tokens[1:]), reduction="none")
        nats += float(losses[torch.tensor(learnt[1:])].double().sum())
        count += sum(learnt)
    return nats, count


@pytest.mark.parametrize("packing", [True, False])
def test_the_loss_of_ten_conversations_is_the_one_computed_by_hand(packing: bool, tmp_path: Path) -> None:
    path = write_sft(
        tmp_path, {"data.packing": packing, "data.length": 256, "steps": [{"name": "ten", "data": ["ten.jsonl"]}]}
    )
    rows = [{"messages": row["messages"]} for row in conversations(10)]
    write_lines(tmp_path / "ten.jsonl", rows)
    write_lines(tmp_path / "held.jsonl", conversations(12))
    batch = "batch={rows: 3, rows_per_device: 1}" if packing else "batch={rows: 10, rows_per_device: 5}"
    assert run_sft(path, (batch, "evaluation.data=[held.jsonl]"))
    nats, tokens = by_hand(tmp_path / "model", rows)
    assert logged(tmp_path / "sft" / "ten") == {1: pytest.approx(nats / tokens, rel=1e-5)}
    (first, _) = evaluations(tmp_path / "sft" / "ten")
    for name, wanted in (("all", (0, 1)), ("general", (0,)), ("content_understanding/words", (1,))):
        nats, tokens = by_hand(tmp_path / "model", [r for n, r in enumerate(conversations(12)) if n % 2 in wanted])
        assert first["nats_per_token"][name] == pytest.approx(nats / tokens, rel=1e-5)


def test_the_second_step_starts_where_the_first_ended_and_neither_is_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sft(tmp_path, {"evaluation.data": ["all.jsonl"], "evaluation.every": 0})
    rate = "steps=[{name: all, data: [all.jsonl], epochs: 2}, {name: more, data: [more.jsonl], learning_rate: 0.002}]"
    assert run_sft(path, (rate,))
    first, second = (evaluations(tmp_path / "sft" / name) for name in ("all", "more"))
    assert first[-1]["nats_per_token"]["general"] < first[0]["nats_per_token"]["general"]
    rates = [max(logged(tmp_path / "sft" / name, "learning_rate").values()) for name in ("all", "more")]
    assert rates == [0.01, 0.002]
    exported = next((tmp_path / "sft" / "more" / "start").iterdir())
    held_out = [row for row in conversations(40, seed=3) if row["split"] == "held_out"]
    nats, tokens = by_hand(exported, [*held_out, *conversations(60)])
    assert second[0]["nats_per_token"]["all"] == pytest.approx(nats / tokens, rel=1e-5)
    logs = {path: path.stat().st_mtime_ns for path in (tmp_path / "sft").rglob("log.jsonl")}
    capsys.readouterr()
    assert run_sft(path, (rate,))
    assert capsys.readouterr().err.count("is finished") == 2
    assert {path: path.stat().st_mtime_ns for path in logs} == logs
    with pytest.raises(RedoneError, match="seed was 1, is 2"):
        run_sft(path, (rate, "seed=2"))
    write_lines(tmp_path / "all.jsonl", conversations(61))
    with pytest.raises(RedoneError, match=r"this run differs from the one that wrote it: data\.files was"):
        run_sft(path, (rate,))


def test_conversations_that_are_too_long_are_counted_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sft(tmp_path, {"data.most_dropped": 0.2})
    long = {"messages": messages([("user", "x" * 200), ("assistant", "y")])}
    write_lines(tmp_path / "all.jsonl", [*conversations(8), long])
    assert run_sft(path, (ONE_STEP,))
    said = capsys.readouterr().err
    assert "conversations: 6 of" in said
    assert "1 too long, left out" in said
    with pytest.raises(RedoneError, match=r"1 of 7 conversations \(14\.3%\) are longer.*allows 10\.0%"):
        run_sft(path, (ONE_STEP, "output=strict", "data.most_dropped=0.1"))
    with pytest.raises(RedoneError, match=r"all 7 conversations are longer than 20 tokens; raise data\.length"):
        run_sft(path, (ONE_STEP, "output=short", "data.length=20"))


def test_adapters_are_merged_for_the_next_step(tmp_path: Path) -> None:
    path = write_sft(tmp_path, {"model.lora": {"rank": 4}, "evaluation.data": ["held.jsonl"], "data.packing": False})
    write_lines(tmp_path / "held.jsonl", conversations(8))
    assert run_sft(path)
    first, second = (evaluations(tmp_path / "sft" / name) for name in ("all", "more"))
    assert (tmp_path / "sft" / "all" / "checkpoints").is_dir()
    assert not next((tmp_path / "sft" / "more" / "start").iterdir()).joinpath("adapter_config.json").exists()
    # General conversations are those of held.jsonl and of the step's own file: of the last, both steps have others.
    assert second[0]["nats_per_token"]["all"] < first[0]["nats_per_token"]["all"] - 0.1


@pytest.mark.parametrize("lora", ["null", "{rank: 2}"])
def test_an_exported_model_stops_at_the_token_that_ended_the_answers(lora: str, tmp_path: Path) -> None:
    path = write_sft(tmp_path, {"steps": [{"name": "all", "data": ["all.jsonl"], "epochs": 0.2}]})
    file = tmp_path / "chat.jinja"
    body = "{% generation %}{{ message.content + '<user>' }}{% endgeneration %}"
    file.write_text(
        "{% for message in messages %}{% if message.role == 'assistant' %}" + body + "{% else %}{{ message.content }}"
        "{% endif %}{% endfor %}"
    )
    assert run_sft(path, ("data.template=chat.jinja", f"model.lora={lora}"))
    export(tmp_path / "sft", tmp_path / "exported", merge=lora != "null")
    config, generation = (
        json.loads((tmp_path / "exported" / name).read_text()) for name in ("config.json", "generation_config.json")
    )
    assert config["eos_token_id"] == 1, "<user>, and not <end>, which is 0"
    assert generation["eos_token_id"] == [1, 0]
    assert (tmp_path / "exported" / "chat_template.jinja").read_text() == file.read_text()


BAD_ROWS: dict[str, tuple[str, str]] = {
    "not JSON": ('{"messages": [', r"bad\.jsonl line 2: not valid JSON"),
    "no object": ("[]", r"bad\.jsonl line 2: a JSON object is expected"),
    "no messages": ('{"text": "a"}', r"bad\.jsonl line 2: messages: a list of messages is expected"),
    "empty": ('{"messages": []}', r"bad\.jsonl line 2: messages: a list of messages is expected"),
    "no role": ('{"messages": [{"content": "a"}]}', r"line 2: messages: message 1 must have the keys role and content"),
    "no assistant": (
        '{"messages": [{"role": "user", "content": "a"}]}',
        r"bad\.jsonl line 2: the messages must end with one of the assistant",
    ),
    "a role of its own": (
        '{"messages": [{"role": "bot", "content": "a"}]}',
        r"bad\.jsonl line 2: messages: message 1: role: 'bot' is not allowed",
    ),
    "a task that is no text": (
        json.dumps({"messages": messages([("user", "a"), ("assistant", "b")]), "task": 3}),
        r"line 2: capability and task: text is expected",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_row_that_cannot_be_learnt_is_named_by_file_and_line(name: str, tmp_path: Path) -> None:
    line, message = BAD_ROWS[name]
    path = write_sft(tmp_path)
    good = json.dumps({"messages": messages([("user", "a"), ("assistant", "b")])})
    (tmp_path / "bad.jsonl").write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(RedoneError, match=message):
        run_sft(path, ("steps=[{name: all, data: [bad.jsonl]}]",))
    assert not list((tmp_path / "sft").rglob("*.arrow"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps=[{name: all, data: [nowhere.jsonl]}]", r"nowhere\.jsonl: no such file"),
        ("steps=[{name: all, data: [empty.jsonl]}]", r"empty\.jsonl: there are no conversations to train on"),
        ("steps=[]", "steps: at least one is needed"),
        ("steps=[{name: a, data: [x]}, {name: a, data: [y]}]", "2 are named 'a'"),
        ("steps=[{name: a/b, data: [x]}]", "'a/b' cannot name a folder"),
        ("steps=[{name: a, data: []}]", r"steps\[0\]: data: at least one file is needed"),
        ("steps=[{name: a, data: [x], epochs: 0}]", r"steps\[0\]: epochs is 0; more than 0"),
        ("optimizer.z_loss=0.1", r"optimizer\.z_loss: it belongs to `redone-train cpt`"),
        ("data.most_dropped=2", "most_dropped is 2; a share"),
        ("model.start=1m", "1m is a new model, which has read nothing"),
        ("model.start=bare", r"no tokenizer\.json; the model's own tokenizer is needed"),
        ("data.length=1000", "reads 256 at most"),
        ("data.template=nowhere.jinja", r"nowhere\.jinja: cannot be read"),
        ("model.start=unmarked", "does not mark what the assistant says, and TRL has none"),
        ("batch={rows: 3, rows_per_device: 2}", "3 rows cannot be 1 ranks x 2 rows"),
        ("model.start=halted", "halted: neither a checkpoint nor a run that has one"),
    ],
)
def test_what_cannot_be_trained_is_said_before_the_first_step(setting: str, message: str, tmp_path: Path) -> None:
    path = write_sft(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "halted" / "checkpoints").mkdir(parents=True)
    write_model(tmp_path / "unmarked")
    write_model(tmp_path / "bare")
    (tmp_path / "bare" / "tokenizer.json").unlink()
    with pytest.raises(RedoneError, match=message):
        run_sft(path, (setting,))
    assert not list((tmp_path / "sft").rglob("log.jsonl"))


def test_the_probe_finds_conversations_that_see_one_another_by_the_head_that_trains(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    model = AutoModelForCausalLM.from_pretrained(write_model(tmp_path / "model"), attn_implementation="sdpa")
    add_fused_lm_head(model)
    positions = torch.cat([torch.arange(size) for size in (20, 5, 31, 8)]).unsqueeze(0)
    batch = {"input_ids": torch.randint(5, 200, (1, 64)), "position_ids": positions}

    def unmasked(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        return next_log_probs(lambda position_ids, **inputs: model(**inputs), inputs)

    assert check_masks(model, batch, "sdpa", torch.float32, next_log_probs) < 1e-5
    with pytest.raises(RedoneError, match="the documents of a row see one another"):
        check_masks(model, batch, "sdpa", torch.float32, unmasked)


def test_a_bad_step_is_told_by_the_lines_of_its_conversations(tmp_path: Path) -> None:
    path = write_sft(tmp_path, {"guard.spike": 1e-9})
    assert run_sft(path, ("steps=[{name: all, data: [all.jsonl], epochs: 2}]",))
    (first, *_) = map(json.loads, (tmp_path / "sft" / "all" / "skipped.jsonl").read_text().splitlines())
    assert first["step"] == 11
    places = [name.rpartition(" line ") for name in first["documents"]]
    assert {Path(file).name for file, _, _ in places} == {"all.jsonl"}
    held_out = {number for number, row in enumerate(conversations(60), 1) if row["split"] == "held_out"}
    assert not held_out & {int(number) for _, _, number in places}
    entropies = logged(tmp_path / "sft" / "all", "entropy")
    assert 11 not in entropies, "a step that is left out has no part in what is logged"


def test_a_dry_run_says_what_would_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from redone_train.post_dry_run import dry_run_sft

    dry_run_sft(write_sft(tmp_path), ("batch.rows=16",), gpus=8)
    said = capsys.readouterr().out
    assert "step all: template: ChatML" in said
    assert "torchrun --standalone --nproc-per-node 8 -m redone_train sft" in said
    assert not list((tmp_path / "sft").rglob("log.jsonl"))


def test_an_arm_trains_on_some_tasks_and_is_measured_on_all(tmp_path: Path) -> None:
    def lengths(**chosen: Any) -> tuple[Any, dict[str, int]]:
        config = resolved(
            load_run(SftConfig, write_sft(tmp_path, {f"data.{k}": v for k, v in chosen.items()})), tmp_path
        )
        step = step_configs(config)[0]
        start, identity = open_step(step, tmp_path)
        return read_step(step, start, identity), trained_tasks(Path(step.output) / "data", identity["data"])

    whole, tasks = lengths()
    assert set(tasks) == {"general", "content_understanding/words"}
    one, only = lengths(only=["words"])
    assert only == {"content_understanding/words": tasks["content_understanding/words"]}
    assert (one.lengths.rows, one.lengths.not_chosen) == (only["content_understanding/words"], tasks["general"])
    assert one.held_out_lengths == whole.held_out_lengths
    assert lengths(without=["general"])[1] == only
    with pytest.raises(RedoneError, match=r"data\.without: 'generl': no conversation has it; did you mean 'general'"):
        lengths(without=["generl"])
