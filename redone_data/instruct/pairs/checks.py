"""All sets of a recipe together: which candidate pairs stay, written as pair files with a ledger of the rest.

The same questions for every kind, in one order, each with its reason: is an answer empty, or are both the same once
normalised; does the pair hold an evaluation item; is a document or the prompt of a pair to train on held out elsewhere;
does somebody have it the other way round (then all of it goes: it says nothing) or does another set have it; then,
within each set, select.py.
Rows = rows used + rows dropped, candidates = pairs + pairs dropped. 5 million candidates take minutes, in one process.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from redone_data.config import plain
from redone_data.curate.contamination import ContaminationConfig, EvaluationIndex
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.instruct.conversation import Message, Pair, write_rows
from redone_data.instruct.pairs.candidates import read_drops
from redone_data.instruct.pairs.select import SelectConfig, select
from redone_data.instruct.pairs.survey import batches, survey
from redone_data.manifest import atomic

KINDS = ("structure", "outputs", "judge", "engagement")  # whose pair stays where two sets have it
SPLITS = ("train", "held_out")
BOTH_SPLITS, PROMPT_HELD_OUT = "document_in_both_splits", "prompt_held_out"
CONTRADICTION, DUPLICATE = "contradiction", "duplicate"
LEDGER = "ledger.parquet"
LEDGER_SCHEMA = pl.Schema(
    {
        "set": pl.String(),
        "unit": pl.String(),  # row: of the source; pair: a candidate
        "id": pl.String(),
        "reason": pl.String(),
        "detail": pl.String(),
    }
)


@dataclass(frozen=True)
class CandidateSet:
    """A named set of candidates, and how it is chosen from."""

    name: str
    source: Output
    select: SelectConfig


@dataclass(frozen=True)
class PairsStep(Step):
    """train.jsonl, held_out.jsonl and ledger.parquet of all sets."""

    name = "pairs"
    VERSION = 1

    sets: tuple[CandidateSet, ...]
    seed: int
    contamination: ContaminationConfig
    index: Output | None  # of evaluation items

    def config(self) -> Any:
        sets = [[one.name, plain(one.select)] for one in self.sets]
        limits = {key: getattr(self.contamination, key) for key in ("enough_words", "max_fraction")}
        return {"sets": sets, "seed": self.seed, "contamination": limits}

    def inputs(self) -> dict[str, str]:
        index = {} if self.index is None else {"index": self.index.fingerprint}
        return {**{f"set.{one.name}": one.source.fingerprint for one in self.sets}, **index}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        for one in self.sets:
            if not one.source.statistics["candidates"]:
                raise RedoneError(_none_left(one, {"candidates": 0, "dropped": {}}))
        known = None if self.index is None else EvaluationIndex.open(self.index.folder)
        surveys = [
            survey(one.source, known, self.contamination).with_columns(set=pl.lit(one.name)) for one in self.sets
        ]
        frame = across_sets(pl.concat(surveys), [one.name for one in self.sets])
        statistics, verdicts = {}, {}
        for one in self.sets:
            mine = frame.filter(pl.col("set") == one.name)
            verdicts[one.name], statistics[one.name] = select(mine, one.select, self.seed)
            # A source that chose among more than it hands on says what it chose from.
            if before := one.source.statistics.get("length_before"):
                statistics[one.name]["length"]["before"] = before
            if not statistics[one.name]["pairs"]:
                raise RedoneError(_none_left(one, statistics[one.name]))
        kept = {name: set(verdict.filter(pl.col("reason").is_null())["id"]) for name, verdict in verdicts.items()}
        counts = {split: write_rows(folder / f"{split}.jsonl", self._pairs(split, kept)) for split in SPLITS}
        self._write_ledger(folder, pl.concat(list(verdicts.values())))
        return {"sets": statistics, **counts}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]

    def _pairs(self, split: str, kept: dict[str, set[str]]) -> Iterator[Pair]:
        for one in self.sets:
            for batch in batches(one.source):
                for row in batch.filter(pl.col("split") == split).iter_rows(named=True):
                    if row["id"] in kept[one.name]:
                        yield _pair(row)

    def _write_ledger(self, folder: Path, verdicts: pl.DataFrame) -> None:
        rows = [
            read_drops(one.source).select(
                pl.lit(one.name).alias("set"),
                pl.lit("row").alias("unit"),
                pl.col("row").alias("id"),
                "reason",
                "detail",
            )
            for one in self.sets
        ]
        pairs = verdicts.filter(pl.col("reason").is_not_null()).select(
            "set", pl.lit("pair").alias("unit"), "id", "reason", "detail"
        )
        with atomic(folder / LEDGER) as aside:
            lines = pl.concat([*rows, pairs]).match_to_schema(LEDGER_SCHEMA)
            lines.sort("set", "unit", "id", "reason", "detail").write_parquet(aside, compression="zstd")


def across_sets(frame: pl.DataFrame, sets: list[str]) -> pl.DataFrame:
    """The faults that show only beside other pairs: splits that share a document, contradictions, duplicates."""
    sound = pl.col("reason").is_null()
    by_document = frame.filter(sound).select("documents", "split").explode("documents")
    shared = by_document.group_by("documents").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1)["documents"]
    in_both = pl.col("documents").list.eval(pl.element().is_in(shared.implode())).list.any() & (
        pl.col("split") == "train"
    )
    frame = _dropped(frame, sound & in_both, BOTH_SPLITS, pl.lit(None, pl.String))

    # Of engagement many posts answer one and the same prompt: there it gives nothing away.
    strong = pl.col("kind") != "engagement"
    held = frame.filter(sound & strong & (pl.col("split") == "held_out"))["asked"].unique()
    in_held = strong & (pl.col("split") == "train") & pl.col("asked").is_in(held.implode())
    frame = _dropped(frame, sound & in_held, PROMPT_HELD_OUT, pl.lit(None, pl.String))

    others = frame.filter(sound).group_by("key").agg(pl.col("id").min().alias("other"))
    frame = frame.join(others, left_on="reverse", right_on="key", how="left", maintain_order="left")
    frame = _dropped(frame, sound & pl.col("other").is_not_null(), CONTRADICTION, pl.col("other")).drop("other")

    order = (
        pl.col("kind").replace_strict(KINDS, range(len(KINDS)), return_dtype=pl.Int64),
        pl.col("set").replace_strict(sets, range(len(sets)), return_dtype=pl.Int64),
        pl.col("id"),
    )
    first = (
        frame.filter(sound)
        .sort(order)
        .group_by("key", maintain_order=True)
        .agg(pl.col("set").first().alias("first_set"), pl.col("id").first().alias("first"))
    )
    frame = frame.join(first, on="key", how="left", maintain_order="left")
    again = sound & ((pl.col("first") != pl.col("id")) | (pl.col("first_set") != pl.col("set")))
    return _dropped(frame, again, DUPLICATE, pl.col("first")).drop("first", "first_set")


def _dropped(frame: pl.DataFrame, which: pl.Expr, reason: str, detail: pl.Expr) -> pl.DataFrame:
    return frame.with_columns(
        pl.when(which).then(pl.lit(reason)).otherwise("reason").alias("reason"),
        pl.when(which).then(detail).otherwise("detail").alias("detail"),
    )


def _pair(row: dict[str, Any]) -> Pair:
    names = ("id", "capability", "task", "lang", "kind", "weak", "margin", "split")
    return Pair(
        prompt=tuple(Message(**message) for message in row["prompt"]),
        chosen=(Message("assistant", row["chosen"]),),
        rejected=(Message("assistant", row["rejected"]),),
        documents=tuple(row["documents"]),
        **{name: row[name] for name in names},
    )


def _none_left(one: CandidateSet, statistics: dict[str, Any]) -> str:
    """The commonest reasons, for a set of which nothing stays."""
    source = one.source.statistics
    reasons = {**source["rows_dropped"], **statistics["dropped"]}
    most = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:4]
    told = ", ".join(f"{reason} {number:,}" for reason, number in most) or "none, there were none"
    return (
        f"set '{one.name}': no pair is left; of {source['rows']:,} rows and {statistics['candidates']:,} candidates "
        f"were dropped: {told}"
    )
