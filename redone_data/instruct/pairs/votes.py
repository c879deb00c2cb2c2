"""Pairs that people judged, and those that a judge may be asked about: the same pair has the same id in both."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from redone_data.config import plain
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.instruct.pairs.candidates import DROP, DROPS
from redone_data.instruct.pairs.rankings import (
    MAX_RANKED,
    MISSING,
    ONE,
    TIE,
    RankedColumns,
    agreement_of,
    as_messages,
    check_columns,
    gathered,
    votes_of,
)
from redone_data.instruct.pairs.tables import Tables
from redone_data.manifest import atomic
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import from_hex

PAIRS = "judged.parquet"
BY_PEOPLE, BEYOND = "judged_by_people", "beyond_pairs_asked"


@dataclass(frozen=True)
class UnjudgedColumns:
    """Answers that nobody ranked, of which the judge is asked."""

    table: str = field(metadata={"help": "of the recipe's tables"})
    prompt: str = field(default="prompt", metadata={"help": "column: text, or chat messages"})
    answers: str | None = field(default=None, metadata={"help": "column: a list of answers"})
    answer: str | None = field(default=None, metadata={"help": "column: one answer; rows of one prompt are compared"})
    pairs_asked: int = field(default=2, metadata={"help": "pairs of one prompt that are asked about, at most"})

    def __post_init__(self) -> None:
        if (self.answers is None) == (self.answer is None):
            raise RedoneError("give answers (a list in each row) or answer (one in each row)")
        if self.pairs_asked < 1:
            raise RedoneError(f"pairs_asked: {self.pairs_asked}; at least 1")


@dataclass(frozen=True)
class VotesStep(Step):
    """What people said about pairs of answers: judged.parquet and drops.parquet."""

    name = "pairs-votes"
    VERSION = 1

    tables: Tables
    rankings: RankedColumns

    def config(self) -> Any:
        return {"tables": self.tables.config(), "rankings": plain(self.rankings)}

    def inputs(self) -> dict[str, str]:
        return self.tables.inputs()

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        table = self.tables.read(self.rankings.table)
        votes, dropped = votes_of(table.frame, self.rankings, f"tables.{self.rankings.table}")
        decided = votes.filter(pl.col("votes_first") != pl.col("votes_second"))
        used = set(decided["rows"].explode().to_list())
        tied = set(range(len(table.frame))) - used - {row for row, _, _ in dropped}
        names = table.frame["row"].to_list()
        lines = [(names[row], reason, detail) for row, reason, detail in dropped]
        lines += [(names[row], TIE, None) for row in sorted(tied)]
        lines += table.dropped.select("row", "rule", "detail").rows()
        _write(folder, decided, lines)
        return {"rows": len(names) + len(table.dropped), "pairs": len(decided), "raters": agreement_of(votes).record()}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]


@dataclass(frozen=True)
class UnjudgedStep(Step):
    """The pairs that the judge may be asked about: judged.parquet, and rows that give none in drops.parquet."""

    name = "pairs-unjudged"
    VERSION = 1

    tables: Tables
    unjudged: UnjudgedColumns
    votes: Output
    seed: int

    def config(self) -> Any:
        return {"tables": self.tables.config(), "unjudged": plain(self.unjudged), "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {"votes": self.votes.fingerprint, **self.tables.inputs()}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        columns, where = self.unjudged, f"tables.{self.unjudged.table}"
        table = self.tables.read(columns.table)
        answer = columns.answers or columns.answer
        assert answer is not None
        check_columns(table.frame, [columns.prompt, answer], where)
        frame = as_messages(table.frame, columns.prompt, where).with_row_index("_row")
        if columns.answers is not None and frame.schema[answer] != pl.List(pl.String):
            raise RedoneError(
                f"{where}: column '{answer}': a list of texts is expected; one text a row goes under answer"
            )
        every = frame.drop_nulls(["_prompt", answer])
        if columns.answers is not None:
            every = every.explode(answer)
        every = every.filter(pl.col(answer).str.strip_chars() != "")
        made = self._pairs(every, answer)
        new = made.join(pl.read_parquet(self.votes.folder / PAIRS), on="id", how="anti", maintain_order="left")
        taken = self._drawn(new)
        used, fresh, paired = (set(some["rows"].explode().to_list()) for some in (taken, new, made))
        # Why a row is in no pair that is asked: the first of these that it is in.
        several = every.filter(pl.col(answer).n_unique().over("_prompt") > 1)
        reasons = ((fresh, BEYOND), (paired, BY_PEOPLE), (set(several["_row"]), BEYOND), (set(every["_row"]), ONE))
        names = table.frame["row"].to_list()
        lines: list[tuple[str | None, str, str | None]] = []
        for row, name in enumerate(names):
            if row not in used:
                lines.append((name, next((reason for rows, reason in reasons if row in rows), MISSING), None))
        lines += table.dropped.select("row", "rule", "detail").rows()
        taken = taken.with_columns(
            row_names=pl.col("rows").map_elements(lambda rows: [names[row] for row in rows], pl.List(pl.String))
        )
        _write(folder, taken, lines)
        return {"rows": len(names) + len(table.dropped), "pairs": len(taken)}

    def _pairs(self, every: pl.DataFrame, answer: str) -> pl.DataFrame:
        """All pairs of different answers to one prompt, by the ids that people's pairs have."""
        said = every["_prompt"].list.eval(pl.element().struct.json_encode()).list.join("\x1e")
        every = every.select(
            pl.lit(said).alias("said"),
            pl.col("_prompt").alias("prompt"),
            pl.col(answer).alias("text"),
            "lang",
            "document",
            "documents",
            "_row",
        )
        # Of the answers to a prompt that has very many, the first in code points: pairs grow with their square.
        every = every.filter(pl.col("text").rank("dense").over("said") <= MAX_RANKED)
        both = every.join(every.select("said", "text", "documents", "_row"), on="said", suffix="_other")
        both = both.filter(pl.col("text") < pl.col("text_other"))
        return gathered(
            both.select(
                "prompt",
                "lang",
                "document",
                pl.concat_list("documents", "documents_other").list.unique(maintain_order=True).alias("documents"),
                pl.concat_list("_row", "_row_other").cast(pl.List(pl.Int64)).alias("rows"),
                pl.col("text").alias("first"),
                pl.col("text_other").alias("second"),
                pl.lit(0, pl.Int64).alias("votes_first"),
                pl.lit(0, pl.Int64).alias("votes_second"),
            )
        )

    def _drawn(self, pairs: pl.DataFrame) -> pl.DataFrame:
        if not len(pairs):
            return pairs
        draw = keyed_uniform(self.seed, "asked", from_hex(pairs["id"].to_arrow())[0])
        said = pairs["prompt"].list.eval(pl.element().struct.json_encode()).list.join("\x1e")
        ranked = pairs.with_columns(pl.Series("draw", draw), pl.lit(said).alias("said")).sort("said", "draw", "id")
        return (
            ranked.filter(pl.int_range(pl.len()).over("said") < self.unjudged.pairs_asked)
            .drop("draw", "said")
            .sort("id")
        )

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]


def _write(folder: Path, pairs: pl.DataFrame, dropped: Sequence[tuple[str | None, str, str | None]]) -> None:
    for name, frame in ((PAIRS, pairs), (DROPS, pl.DataFrame(dropped, schema=DROP, orient="row"))):
        with atomic(folder / name) as aside:
            frame.write_parquet(aside, compression="zstd")


def pairs_of(output: Output) -> pl.DataFrame:
    """The pairs of a finished step of this file."""
    return pl.read_parquet(output.folder / PAIRS)
