"""Personal data is masked before anything is written, in every kind of column, and nowhere else."""

import json
from pathlib import Path

import polars as pl
import pytest

from redone_data.errors import RedoneError
from redone_data.instruct.conversation import MESSAGES
from redone_data.instruct.masking import masked
from redone_data.instruct.recipe import load_sft_recipe
from redone_data.instruct.set import InstructionSet
from redone_data.text.personal_data import ALL

PHONE, MAIL = "call me on 13800138000", "mail ana@example.com today"


def test_texts_lists_and_messages_are_masked_alike_and_nothing_else_changes() -> None:
    turns = [{"role": "user", "content": PHONE}, {"role": "assistant", "content": "no"}]
    frame = pl.DataFrame(
        {
            "text": [PHONE, None, "nothing here"],
            "spans": [[MAIL, "x"], [], None],
            "messages": pl.Series([turns, [], None], dtype=MESSAGES),
            "group": ["13800138000", "a", "b"],
        }
    )
    found, counts = masked(frame, ["text", "spans", "messages"], ALL)
    assert found.schema == frame.schema
    assert "13800138000" not in json.dumps(found.drop("group").to_dicts())
    assert "ana@" not in json.dumps(found.to_dicts())
    assert found["group"].to_list() == frame["group"].to_list()
    assert found["text"].to_list()[1:] == [None, "nothing here"]
    assert found["spans"].to_list()[1:] == [[], None]
    assert found["messages"].to_list()[1:] == [[], None]
    assert sum(counts.values()) == 3
    assert masked(frame, ["text", "spans", "messages"], ())[0].equals(frame)


def test_no_file_of_a_set_holds_what_was_masked(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "instruction": f"Answer letter {n}: {MAIL}", "output": f"{PHONE} number {n}"} for n in range(9)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = "general: {some: {paths: [rows.jsonl], form: instruction, id: id, duplicates: {near: false}}}\n"
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    InstructionSet(load_sft_recipe(tmp_path / "recipe.yaml"), tmp_path / "out").run()
    files = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".json", ".jsonl", ".parquet")]
    tables = [str(pl.read_parquet(path).to_dicts()) for path in files if path.suffix == ".parquet"]
    texts = [*tables, *(path.read_text(encoding="utf-8") for path in files if path.suffix != ".parquet")]
    assert len(texts) > 8
    assert not [text for text in texts if "ana@example" in text or "13800138000" in text]


def test_an_unknown_kind_of_personal_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("general: {a: {paths: [a.jsonl]}}\nredact: [mail]\n", encoding="utf-8")
    with pytest.raises(RedoneError, match="redact: 'mail': "):
        load_sft_recipe(tmp_path / "recipe.yaml")
