"""One post in one task once: rows that say what another row of the task says, whichever table they come from.

A table has no duplicates (alike.py), but two crawls share posts, and a task may read fewer columns than a table has.
So what a task reads of its rows is compared, over all its tables, before a template adds words of its own; general
sources are compared with one another by what is asked. The same post in two tasks stays: several tasks on one post is
what a multi-task set is for. Of recipes/instruct/sns.yaml 147 of 195,533 rows go, 76 of them tweets that stand twice
in one table under two emotions; 8 s.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from redone_data.config import plain
from redone_data.engine import Output, Step
from redone_data.instruct.alike import DuplicateRowsConfig, distinct_rows, text_columns
from redone_data.instruct.general import prompts_of
from redone_data.instruct.ledger import CONVERSATIONS, SELECTED
from redone_data.manifest import atomic

REPEATS = "repeats.parquet"
# A line a row that goes: the table it is of, its place there, and what the ledger says.
REPEAT_SCHEMA = pl.Schema(
    {
        "source": pl.String(),
        "place": pl.UInt32(),
        "rule": pl.String(),
        "value": pl.Float64(),
        "bound": pl.Float64(),
        "detail": pl.String(),
    }
)


@dataclass(frozen=True)
class RepeatsStep(Step):
    """repeats.parquet, of one task or of all general data.

    sources: the selected rows of each table, or each general source's conversations. columns: what the task reads as
    text; none: prompts of general data.
    """

    name = "sft-repeats"
    VERSION = 1

    sources: tuple[tuple[str, Output], ...]
    columns: tuple[str, ...]
    duplicates: DuplicateRowsConfig

    def config(self) -> Any:
        names = [name for name, _ in self.sources]
        return {"sources": names, "columns": list(self.columns), "duplicates": plain(self.duplicates)}

    def inputs(self) -> dict[str, str]:
        return {f"{i:04d}": output.fingerprint for i, (_, output) in enumerate(self.sources)}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        rows = pl.concat([self._schema().to_frame(), *(self._said(name, output) for name, output in self.sources)])
        compared = [rows[name].to_arrow().cast(pa.large_string()) for name in self.compared]
        # A table may name two rows alike: with its place each has a name of its own.
        named = rows.select(
            "source",
            "place",
            row=pl.concat_str("source", "row", separator="#"),
            id=pl.concat_str("source", "row", "place", separator="#"),
            documents=pl.concat_list("row"),
        )
        _, lines = distinct_rows(named, compared, self.duplicates)
        gone = (
            lines.join(named.select("id", "source", "place"), on="id", maintain_order="left")
            .join(named.select(detail="id", kept="row"), on="detail", maintain_order="left")
            .select("source", "place", "rule", "value", "bound", detail="kept")
            if lines.height
            else pl.DataFrame(schema=REPEAT_SCHEMA)
        )
        with atomic(folder / REPEATS) as aside:
            gone.write_parquet(aside, compression="zstd")
        return {"compared": rows.height, "repeats": gone.height}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]

    @property
    def compared(self) -> tuple[str, ...]:
        return self.columns or ("prompt",)

    def _schema(self) -> pl.Schema:
        texts = dict.fromkeys(self.compared, pl.String())
        return pl.Schema({"source": pl.String(), "place": pl.UInt32(), "row": pl.String(), **texts})

    def _said(self, name: str, output: Output) -> pl.DataFrame:
        """The rows of one table: id, place, and the texts that are compared."""
        if not self.columns:
            frame = pl.concat([pl.read_parquet(path) for path in output.files(CONVERSATIONS)])
            texts = pl.DataFrame({"row": frame["id"], "prompt": pl.Series(prompts_of(frame))})
        else:
            frame = pl.read_parquet(output.folder / SELECTED)
            absent = [pl.lit("").alias(column) for column in self.columns if column not in frame.columns]
            there = [column for column in self.columns if column in frame.columns]
            texts = frame.select("row", *text_columns(frame, there), *absent)
        texts = texts.with_row_index("place").with_columns(source=pl.lit(name))
        return texts.select(list(self._schema()))


def repeats_of(repeats: Output, source: str) -> pl.DataFrame:
    """The lines of one table."""
    return pl.read_parquet(repeats.folder / REPEATS).filter(pl.col("source") == source)
