"""Conversation and pair files: round trips, and errors that name file, line and field."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from redone_data.errors import RedoneError
from redone_data.instruct.conversation import (
    FRAME,
    Conversation,
    Message,
    Pair,
    read_conversations,
    read_pairs,
    to_frame,
    write_frame,
    write_rows,
)

CONVERSATION = Conversation(
    id="0" * 32,
    messages=(
        Message("system", "Be brief."),
        Message("user", "Is this post happy? 今天真好"),
        Message("assistant", "Yes"),
    ),
    capability="content_understanding",
    task="sentiment",
    lang="zh",
    template="sentiment.zh.1",
    format={"kind": "yes_no", "yes": "Yes", "no": "No"},
    answer=True,
    documents=("post-1",),
    split="train",
)
FREE = Conversation(
    id="1" * 32,
    messages=(Message("user", "Hello"), Message("assistant", 'Hi\n"there" \u2028')),
    capability="general",
    task="chat",
    lang="en",
    template="chat.en.1",
    format=None,
    answer=None,
    documents=(),
    split="held_out",
)
PAIR = Pair(
    id="2" * 32,
    prompt=(Message("user", "Is this post happy?"),),
    chosen=(Message("assistant", "Yes"),),
    rejected=(Message("assistant", "No"),),
    capability="content_understanding",
    task="sentiment",
    lang="en",
    kind="structure",
    weak=False,
    margin=1.0,
    documents=("post-1",),
    split="train",
)


def test_conversations_come_back_as_they_were_written(tmp_path: Path) -> None:
    assert write_rows(tmp_path / "sft.jsonl", [CONVERSATION, FREE]) == 2
    assert list(read_conversations(tmp_path / "sft.jsonl")) == [CONVERSATION, FREE]
    (tmp_path / "sft.jsonl.zst").write_bytes(zstandard.compress((tmp_path / "sft.jsonl").read_bytes()))
    assert list(read_conversations(tmp_path / "sft.jsonl.zst")) == [CONVERSATION, FREE]


def test_columns_are_written_as_rows_are(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [CONVERSATION, FREE])
    frame = to_frame([CONVERSATION, FREE])
    assert frame.schema == FRAME
    write_frame(tmp_path / "frame.jsonl", [frame[:1], frame[1:]])
    assert (tmp_path / "frame.jsonl").read_bytes() == (tmp_path / "rows.jsonl").read_bytes()
    assert pl.read_ndjson(tmp_path / "frame.jsonl")["messages"][0][1]["role"] == "user"


def test_pairs_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_rows(tmp_path / "pairs.jsonl", [PAIR])
    assert list(read_pairs(tmp_path / "pairs.jsonl")) == [PAIR]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": []}, "must end with one of the assistant"),
        ({"messages": [{"role": "user", "content": "a"}]}, "must end with one of the assistant"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "message 1: its role is assistant"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages: message 1: content of a user message"),
        ({"messages": [{"role": "human", "content": "a"}]}, "messages: message 1: role: 'human'"),
        ({"messages": [{"role": "user", "content": 3}]}, "content"),
        ({"messages": "hello"}, "a list of messages"),
        ({"capability": "contents"}, "capability: 'contents'"),
        ({"split": "test"}, "split: 'test'"),
        ({"answer": None}, "both are given, or both are null"),
        ({"format": "choice"}, "format: a mapping"),
        ({"documents": "post-1"}, "documents: a list"),
        ({"id": 3}, "id: text"),
        ({"langs": "zh"}, "field 'langs' is unknown; did you mean 'lang'"),
    ],
)
def test_a_bad_row_names_file_line_and_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_rows(tmp_path / "sft.jsonl", [CONVERSATION])
    good = (tmp_path / "sft.jsonl").read_text(encoding="utf-8")
    (tmp_path / "sft.jsonl").write_text(good + json.dumps({**json.loads(good), **change}) + "\n", encoding="utf-8")
    with pytest.raises(RedoneError, match=r"sft\.jsonl line 2: .*" + message):
        list(read_conversations(tmp_path / "sft.jsonl"))


def test_a_missing_field_a_broken_line_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "sft.jsonl"
    path.write_text('{"id": "1"}\n')
    with pytest.raises(RedoneError, match="line 1: field 'messages' is missing"):
        list(read_conversations(path))
    path.write_text('{"id": \n')
    with pytest.raises(RedoneError, match="line 1: not valid JSON"):
        list(read_conversations(path))
    path.write_text("[1]\n")
    with pytest.raises(RedoneError, match="line 1: a JSON object"):
        list(read_conversations(path))
    with pytest.raises(RedoneError, match=r"none\.jsonl: cannot be read"):
        list(read_conversations(tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rejected": [{"role": "assistant", "content": "Yes"}]}, "the same text"),
        ({"chosen": [{"role": "user", "content": "Yes"}]}, "chosen: exactly one assistant message"),
        ({"prompt": [{"role": "assistant", "content": "Yes"}]}, "message 1: its role"),
        ({"kind": "weak"}, "kind: 'weak'"),
        ({"weak": 1}, "weak: 1"),
        ({"margin": "large"}, "margin: 'large'"),
    ],
)
def test_a_bad_pair_names_file_line_and_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_rows(tmp_path / "pairs.jsonl", [PAIR])
    row = json.loads((tmp_path / "pairs.jsonl").read_text())
    (tmp_path / "pairs.jsonl").write_text(json.dumps({**row, **change}) + "\n")
    with pytest.raises(RedoneError, match=r"pairs\.jsonl line 1: .*" + message):
        list(read_pairs(tmp_path / "pairs.jsonl"))
