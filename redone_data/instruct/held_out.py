"""The held-out split of every task, and the training conversations that give it away.

A document is in one split only (its id decides, for all tasks), and a table has no near-duplicates; what is left is the
same text in two tables, or one post quoted in many threads. So held-out prompts are looked for in all that is trained
on, as evaluation items are (curate/contamination.py): what holds more than `max_fraction` of one goes. Wording that
many prompts share, a template's or a list of options, counts for none; for that some training prompts of each template
stand in the index, too, and are never reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from redone_data.config import plain
from redone_data.curate.contamination import ContaminationConfig, EvaluationIndex, Passage
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.instruct.clean import ROWS, conversations_of, evaluation_index
from redone_data.manifest import atomic
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import from_hex
from redone_data.text.normalize import normalize

LEAKS = "leaks.parquet"
WORDING = "wording"  # the field of those training prompts
WORDING_PROMPTS = 200  # of a template: each order of four options occurs often enough to count as wording
LEAK_SCHEMA = pl.Schema({"id": pl.String(), "value": pl.Float64(), "detail": pl.String()})


@dataclass(frozen=True)
class HeldOutConfig:
    """What is kept from training, to evaluate on."""

    share: float = field(default=0.02, metadata={"help": "of documents; the same documents for every task"})
    max_conversations: int = field(default=500, metadata={"help": "of a task; more are dropped, and counted"})
    max_fraction: float = field(
        default=0.5,
        metadata={"help": "share of a held-out prompt above which a training conversation is dropped"},
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
    """The n-grams of the held-out prompts of all tasks."""

    name = "sft-held-out"
    VERSION = 1

    sources: tuple[Output, ...]
    cleaned: tuple[Output, ...]
    held_out: HeldOutConfig
    contamination: ContaminationConfig
    seed: int

    def config(self) -> Any:
        grams = {key: getattr(self.contamination, key) for key in ("ngram", "min_words", "max_items")}
        return {**grams, "held_out": plain(self.held_out), "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {f"{i:04d}": output.fingerprint for i, output in enumerate(self.cleaned)}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        rows = pl.concat([pl.read_parquet(output.folder / ROWS) for output in self.cleaned])
        chosen = chosen_held_out(rows, self.held_out.max_conversations, self.seed)
        train = rows.filter(pl.col("rule").is_null(), pl.col("split") == "train").sort("template", "id")
        wording = train.filter(pl.int_range(pl.len()).over("template") < WORDING_PROMPTS)
        wanted = pl.concat(
            [
                part.select("id", "task", pl.lit(field).alias("field"))
                for part, field in ((chosen, "prompt"), (wording, WORDING))
            ]
        )
        texts = []
        for source in self.sources:
            for frame in conversations_of(source):
                texts.append(frame.join(wanted.select("id"), on="id", how="semi").select("id", asked=_asked()))
        found = wanted.join(pl.concat(texts), on="id", how="left", maintain_order="left")
        passages = [Passage(f"{task}#{name}", field, text) for name, task, field, text in found.iter_rows()]
        built = EvaluationIndex.of(passages, self.contamination)
        built.write(folder)
        return built.counts()

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]


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
            value, detail = self._found(text)
            leaks = mine.select("id").with_columns(value=value, detail=detail)
            found.append(leaks.filter(pl.col("value") > self.max_fraction))
        leaks = pl.concat(found)
        with atomic(folder / LEAKS) as aside:
            leaks.write_parquet(aside)
        return {"leaks": leaks.height}

    def _found(self, text: pa.Array) -> tuple[pl.Series, pl.Series]:
        """For each text the held-out prompt most of which it holds, and how much."""
        index = evaluation_index(self.index.folder)
        held = np.array([field != WORDING for field in index.fields], bool)
        hits = index.grams.find(text, enough_words=self.contamination.enough_words, min_fraction=self.max_fraction)
        hits = hits.take(np.flatnonzero(held[hits.passages]))
        order = np.lexsort((hits.passages, -hits.fractions, hits.rows))
        rows, first = np.unique(hits.rows[order], return_index=True)
        value, detail = np.zeros(len(text)), np.full(len(text), None, object)
        value[rows] = hits.fractions[order[first]]
        detail[rows] = [index.items[passage] for passage in hits.passages[order[first]].tolist()]
        return pl.Series(value), pl.Series(detail.tolist(), dtype=pl.String)

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]


def _asked() -> pl.Expr:
    """All that is said before the answer, but the system's words: those are the template's."""
    turns = pl.col("messages").list.head(pl.col("messages").list.len() - 1)
    return turns.list.eval(
        pl.element().struct.field("content").filter(pl.element().struct.field("role") != "system")
    ).list.join("\n")


def everything() -> pl.Expr:
    """All that is said in a conversation."""
    return pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n").alias("everything")


def leak_lines(leaks: Sequence[Output]) -> pl.DataFrame:
    """All leaks that were found."""
    return pl.concat([pl.DataFrame(schema=LEAK_SCHEMA), *(pl.read_parquet(o.folder / LEAKS) for o in leaks)])
