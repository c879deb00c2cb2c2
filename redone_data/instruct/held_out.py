"""The held-out split of every task, and the training conversations that give it away.

A document is in one split only (its id decides, for all tasks), and a table has no near-duplicates; what is left is the
same text in two tables, or one post quoted in many threads. So what the held-out conversations are about (the longest
text of their row; of general data the prompt) is looked for in all that is trained on, as evaluation items are
(curate/contamination.py): what holds more than `max_fraction` of one goes. Texts of rows, not prompts: of a short post
in a template most words are the template's, and options are other rows' texts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from redone_data.config import plain
from redone_data.curate.contamination import ContaminationConfig, EvaluationIndex, Passage, contamination
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.instruct.alike import text_columns
from redone_data.instruct.clean import ROWS, conversations_of, evaluation_index
from redone_data.instruct.making import TABLE
from redone_data.instruct.tables import RESERVED
from redone_data.manifest import atomic
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import from_hex
from redone_data.text.normalize import normalize

LEAKS = "leaks.parquet"
LEAK_SCHEMA = pl.Schema({"id": pl.String(), "value": pl.Float64(), "detail": pl.String()})


@dataclass(frozen=True)
class HeldOutConfig:
    """What is kept from training, to evaluate on."""

    share: float = field(default=0.02, metadata={"help": "of documents; the same documents for every task"})
    max_conversations: int = field(default=500, metadata={"help": "of a task; more are dropped, and counted"})
    max_fraction: float = field(
        default=0.5,
        metadata={"help": "share of a held-out text above which a training conversation that holds it is dropped"},
    )

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 0.5:
            raise RedoneError(f"share: {self.share}; between 0 and 0.5")
        if self.max_conversations < 1:
            raise RedoneError(f"max_conversations: {self.max_conversations}; at least 1 (or share: 0 for none)")
        if not 0 < self.max_fraction <= 1:
            raise RedoneError(f"max_fraction: {self.max_fraction}; above 0 and at most 1")


def chosen_held_out(rows: pl.DataFrame, most: int, seed: int) -> pl.DataFrame:
    """Of the held-out rows that stay, at most so many of each task, by a hash of the id; in the order of that hash."""
    held = rows.filter(pl.col("rule").is_null(), pl.col("split") == "held_out")
    draw = keyed_uniform(seed, "held_out", from_hex(held["id"].to_arrow())[1]) if held.height else np.zeros(0)
    held = held.with_columns(pl.Series("draw", draw, pl.Float64)).sort("task", "draw", "id")
    return held.filter(pl.int_range(pl.len()).over("task") < most).drop("draw")


@dataclass(frozen=True)
class HeldOutIndexStep(Step):
    """The n-grams of what the held-out conversations are about. tables: of each source, None for general data."""

    name = "sft-held-out"
    VERSION = 1

    sources: tuple[Output, ...]
    cleaned: tuple[Output, ...]
    tables: tuple[Output | None, ...]
    held_out: HeldOutConfig
    contamination: ContaminationConfig
    seed: int

    def config(self) -> Any:
        grams = {key: getattr(self.contamination, key) for key in ("ngram", "min_words", "max_items")}
        return {**grams, "held_out": plain(self.held_out), "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        tables = {f"table.{i:04d}": output.fingerprint for i, output in enumerate(self.tables) if output is not None}
        return tables | {f"{i:04d}": output.fingerprint for i, output in enumerate(self.cleaned)}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        rows = pl.concat(
            pl.read_parquet(output.folder / ROWS).with_columns(source=pl.lit(number))
            for number, output in enumerate(self.cleaned)
        )
        chosen = chosen_held_out(rows, self.held_out.max_conversations, self.seed)
        texts: dict[str, Passage] = {}
        for number, (source, table) in enumerate(zip(self.sources, self.tables, strict=True)):
            mine = chosen.filter(pl.col("source") == number)
            found = _prompts(source, mine) if table is None else _row_texts(table, mine)
            for task_name, name, field_name, text in found:
                # One text is one item, however many conversations are about it: else it would count as wording.
                texts.setdefault(text, Passage(f"{task_name}#{name}", field_name, text))
        built = EvaluationIndex.of(list(texts.values()), self.contamination)
        built.write(folder)
        return built.counts()

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]


Found = Iterator[tuple[str, str, str, str]]  # task, id, field, text


def _prompts(source: Output, chosen: pl.DataFrame) -> Found:
    """All that is said before the last answer, but the system's words."""
    turns = pl.col("messages").list.head(pl.col("messages").list.len() - 1)
    spoken = pl.element().struct.field("content").filter(pl.element().struct.field("role") != "system")
    for frame in conversations_of(source):
        mine = frame.join(chosen.select("id"), on="id", how="semi", maintain_order="left")
        for task, name, text in mine.select("task", "id", turns.list.eval(spoken).list.join("\n")).iter_rows():
            yield task, name, "prompt", text


def _row_texts(table: Output, chosen: pl.DataFrame) -> Found:
    """The longest text of each row that the conversations were made of: the note, not the query beside it."""
    rows = pl.read_parquet(table.folder / TABLE)
    said = rows.select("row", *text_columns(rows, [name for name in rows.columns if name not in RESERVED]))
    named = chosen.select("task", "id", pl.col("documents").alias("row")).explode("row")
    found = said.join(named.unique("row", keep="first", maintain_order=True), on="row", maintain_order="left")
    columns = [name for name in said.columns if name != "row"]
    for task, name, *texts in found.select("task", "id", *columns).iter_rows():
        column = max(range(len(columns)), key=lambda place: len(texts[place]))
        yield task, name, columns[column], texts[column]


@dataclass(frozen=True)
class LeaksStep(Step):
    """The training conversations of one source that hold a held-out prompt: leaks.parquet."""

    name = "sft-leaks"
    VERSION = 1

    source: Output
    cleaned: Output
    index: Output
    contamination: ContaminationConfig
    max_fraction: float

    def config(self) -> Any:
        return {"enough_words": self.contamination.enough_words, "max_fraction": self.max_fraction}

    def inputs(self) -> dict[str, str]:
        return {"cleaned": self.cleaned.fingerprint, "index": self.index.fingerprint}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        rows = pl.read_parquet(self.cleaned.folder / ROWS, columns=["id", "rule", "split"])
        train = rows.filter(pl.col("rule").is_null(), pl.col("split") == "train").select("id")
        found = [pl.DataFrame(schema=LEAK_SCHEMA)]
        for frame in conversations_of(self.source):
            mine = frame.join(train, on="id", how="semi", maintain_order="left")
            text = normalize(mine.select(everything())["everything"].to_arrow().cast(pa.large_string()))
            held = contamination(text, evaluation_index(self.index.folder), self.contamination).frame
            leaks = mine.select("id").with_columns(
                value=held["contamination_fraction"].cast(pl.Float64), detail=held["contamination_item"]
            )
            found.append(leaks.filter(pl.col("value") > self.max_fraction))
        leaks = pl.concat(found)
        with atomic(folder / LEAKS) as aside:
            leaks.write_parquet(aside)
        return {"leaks": leaks.height}


def everything() -> pl.Expr:
    """All that is said in a conversation."""
    return pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n").alias("everything")


def leak_lines(leaks: Sequence[Output]) -> pl.DataFrame:
    """All leaks that were found."""
    return pl.concat([pl.DataFrame(schema=LEAK_SCHEMA), *(pl.read_parquet(o.folder / LEAKS) for o in leaks)])
