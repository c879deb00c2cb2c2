"""Made-up conversations and tables for the tests of preference pairs, and a run of the verb."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import yaml
from typer.testing import CliRunner

from redone_data.cli import app
from redone_data.instruct.conversation import Pair, read_pairs

LETTERS = "ABCD"
CITIES = ("Lyon", "Oslo", "Cusco", "Hanoi", "Accra")


def conversation(number: int, question: str, form: dict[str, Any] | None, answer: Any, text: str, **given: Any) -> dict:
    """One row of a conversation file."""
    row = {
        "id": f"{number:032x}",
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": text}],
        "capability": "content_understanding",
        "task": "city",
        "lang": "en",
        "template": "city.en.1",
        "format": form,
        "answer": answer,
        "documents": [f"doc-{number}"],
        "split": "held_out" if number % 10 == 0 else "train",
    }
    return {**row, **given}


def choices(count: int, **given: Any) -> list[dict]:
    """Multiple choice by letter; options change their places."""
    rows = []
    for number in range(count):
        options = [CITIES[(number + step * (1 + number % 2)) % 5] for step in range(4)]
        right = options[(number // 4) % 4]
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True))
        question = f"Note {number}: a week in {right}, {'very ' * (number % 7)}rainy. Which city?\n{listed}"
        form = {"kind": "choice", "options": options, "by": "letter"}
        rows.append(conversation(number, question, form, right, LETTERS[options.index(right)], **given))
    return rows


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


class Made(NamedTuple):
    """A finished run of the verb."""

    code: int
    said: str
    folder: Path

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.folder / "manifest.json").read_text())

    @property
    def pairs(self) -> list[Pair]:
        return [pair for split in ("train", "held_out") for pair in read_pairs(self.folder / f"{split}.jsonl")]

    @property
    def ledger(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "ledger.parquet")

    def files(self) -> dict[str, bytes]:
        """Everything but what times and texts for people may differ in."""
        names = ("train.jsonl", "held_out.jsonl", "ledger.parquet", "manifest.json", "report.html")
        return {name: (self.folder / name).read_bytes() for name in names}


def make(folder: Path, recipe: dict[str, Any], *options: str, out: str = "out") -> Made:
    """Run ``redone-data pairs`` on a recipe written into `folder`."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    result = CliRunner().invoke(app, ["pairs", str(path), "--out", str(folder / out), *options])
    said = result.output + (str(result.exception) if result.exception else "")
    return Made(result.exit_code, said, folder / out)


def check_conserved(made: Made) -> None:
    """Rows in = used + dropped, candidates = pairs + dropped, and the ledger has every drop with its reason."""
    ledger = made.ledger
    for name, one in made.manifest["sets"].items():
        source, mine = one["source"], ledger.filter(pl.col("set") == name)
        assert source["rows"] == source["rows_used"] + sum(source["rows_dropped"].values())
        assert one["candidates"] == one["pairs"] + sum(one["dropped"].values())
        for unit, reasons in (("row", source["rows_dropped"]), ("pair", one["dropped"])):
            assert dict(mine.filter(pl.col("unit") == unit)["reason"].value_counts().iter_rows()) == reasons
    assert sum(one["pairs"] for one in made.manifest["sets"].values()) == len(made.pairs)
