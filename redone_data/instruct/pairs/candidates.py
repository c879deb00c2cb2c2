"""Candidate pairs as columns: what every kind of source hands to the checks, and the drops it has counted itself.

A candidate is a pair that its source believes in; whether it stays is decided once for all kinds (checks.py). What a
source could not use (a conversation without wrong options, a prompt whose answers are all right) is a drop with its
reason, so that rows in = rows used + rows dropped.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa

from redone_data.engine import Output, Step
from redone_data.instruct.conversation import MESSAGES
from redone_data.manifest import atomic
from redone_data.text.hashing import hash128, to_hex

CANDIDATE = pl.Schema(
    {
        "id": pl.String(),
        "prompt": MESSAGES,
        "chosen": pl.String(),
        "rejected": pl.String(),
        "capability": pl.String(),
        "task": pl.String(),
        "lang": pl.String(),
        "kind": pl.String(),
        "weak": pl.Boolean(),
        "margin": pl.Float64(),
        "documents": pl.List(pl.String()),
        "split": pl.String(),
        "group": pl.String(),  # the prompt that it is one of at most k pairs of
        # Places of the two answers among the options that the prompt lists, from 0.
        "chosen_position": pl.Int32(),
        "rejected_position": pl.Int32(),
        "num_options": pl.Int32(),
    }
)
# What a source need not say.
_PLACES = ("chosen_position", "rejected_position", "num_options")
_ABSENT = ("margin", *_PLACES)
DROP = pl.Schema({"row": pl.String(), "reason": pl.String(), "detail": pl.String()})
CANDIDATES, DROPS = "candidates.parquet", "drops.parquet"


@dataclass
class Rows:
    """Gathers candidates and drops of one source; `used` counts rows that gave a candidate."""

    seen: int = 0
    used: int = 0
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in CANDIDATE if name != "id"})
    dropped: list[tuple[str, str, str | None]] = field(default_factory=list)

    def add(self, shared: Mapping[str, Any], pairs: Iterable[Mapping[str, Any]]) -> None:
        """A row's candidates: what they share, and each one's own columns."""
        before = len(self.columns["chosen"])
        for own in pairs:
            for name, column in self.columns.items():
                column.append(own[name] if name in own else shared.get(name) if name in _ABSENT else shared[name])
        assert len(self.columns["chosen"]) > before
        self.seen += 1
        self.used += 1

    def drop(self, row: str, reason: str, detail: str | None = None) -> None:
        """A row that gives no candidate, and why."""
        self.seen += 1
        self.dropped.append((row, reason, detail))

    def write(self, folder: Path) -> dict[str, Any]:
        """Both files of a source, and its counts."""
        schema = {name: kind for name, kind in CANDIDATE.items() if name != "id"}
        return write_candidates(folder, pl.DataFrame(self.columns, schema=schema), self.dropped, self.seen, self.used)


def write_candidates(
    folder: Path, frame: pl.DataFrame, dropped: Sequence[tuple[str, str, str | None]], seen: int, used: int
) -> dict[str, Any]:
    """Write candidates under their ids, and drops; what a source's statistics hold."""
    assert seen == used + len(dropped), "rows in = rows used + rows dropped"
    frame = with_ids(frame)
    with atomic(folder / CANDIDATES) as aside:
        frame.write_parquet(aside, compression="zstd")
    with atomic(folder / DROPS) as aside:
        pl.DataFrame(dropped, schema=DROP, orient="row").write_parquet(aside, compression="zstd")
    reasons = Counter(reason for _, reason, _ in dropped)
    return {"rows": seen, "rows_used": used, "rows_dropped": dict(sorted(reasons.items())), "candidates": len(frame)}


def unplaced() -> list[pl.Expr]:
    """The columns of places, for answers that no prompt lists."""
    return [pl.lit(None, CANDIDATE[name]).alias(name) for name in _PLACES]


def with_ids(frame: pl.DataFrame) -> pl.DataFrame:
    """Candidates in the order of their ids: the 128-bit hash of kind, group, prompt and both answers."""
    prompt = pl.col("prompt").list.eval(pl.element().struct.json_encode()).list.join("\x1e")
    key = frame.select(
        pl.concat_str([pl.col("kind"), pl.col("group"), prompt, pl.col("chosen"), pl.col("rejected")], separator="\x1f")
    ).to_series()
    hashes = to_hex(*hash128(key.to_arrow().cast(pa.large_string())))
    ids = pl.Series("id", hashes, dtype=pl.String())
    # Equal pairs of one group: the second says nothing new.
    return frame.insert_column(0, ids).select(list(CANDIDATE)).unique("id", keep="first").sort("id")


@dataclass(frozen=True)
class PairSource(Step):
    """One set of a recipe: rows in, candidates out. Final subclasses say how."""

    # Part of the step's name, so that a folder tells which set it holds.
    name: ClassVar[str] = "candidates"

    def tasks(self) -> list[None]:
        return [None]

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]


def read_candidates(output: Output) -> pl.LazyFrame:
    """The candidates of a finished source."""
    return pl.scan_parquet(output.folder / CANDIDATES)


def read_drops(output: Output) -> pl.DataFrame:
    """The rows that a finished source did not use."""
    return pl.read_parquet(output.folder / DROPS)
