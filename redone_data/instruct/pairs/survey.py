"""Candidates without their text: the hashes, lengths and faults by which pairs are chosen, some 200 bytes each.

A pair's key is the hash of prompt and answers as they read, white space, letter case and spellings of the same text
aside; the key of the reversed pair finds contradictions.
"""

from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.curate.contamination import ContaminationConfig, EvaluationIndex, contamination
from redone_data.engine import Output
from redone_data.instruct.pairs.candidates import CANDIDATES
from redone_data.text.hashing import hash128
from redone_data.text.normalize import normalize

EMPTY, SAME, LEAK = "empty_answer", "same_answer", "evaluation_item"
NARROW = ("id", "kind", "task", "group", "split", "documents", "chosen_position", "rejected_position", "num_options")
_BATCH_ROWS = 20_000


def batches(source: Output) -> Iterator[pl.DataFrame]:
    """The candidates of a source, some thousands at a time."""
    with pq.ParquetFile(source.folder / CANDIDATES) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            yield frame


def survey(source: Output, index: EvaluationIndex | None, config: ContaminationConfig) -> pl.DataFrame:
    """A row a candidate: ``asked``, ``key``, ``reverse``, both lengths, ``reason`` and ``detail``."""
    return pl.concat([_survey(batch, index, config) for batch in batches(source)], how="vertical")


def _survey(batch: pl.DataFrame, index: EvaluationIndex | None, config: ContaminationConfig) -> pl.DataFrame:
    asked = batch["prompt"].list.eval(pl.element().struct.field("content")).list.join("\n\n")
    texts = {"prompt": asked, "chosen": batch["chosen"], "rejected": batch["rejected"]}
    read = pl.DataFrame({name: _normal(text) for name, text in texts.items()})
    folded = read.with_columns(pl.all().str.to_lowercase())
    frame = batch.select(
        *NARROW,
        pl.lit(_hash(folded, "prompt")).alias("asked"),
        pl.lit(_hash(folded, "prompt", "chosen", "rejected")).alias("key"),
        pl.lit(_hash(folded, "prompt", "rejected", "chosen")).alias("reverse"),
        pl.lit(read["chosen"].str.len_chars().cast(pl.Int64)).alias("chosen_chars"),
        pl.lit(read["rejected"].str.len_chars().cast(pl.Int64)).alias("rejected_chars"),
    )
    empty = (folded["chosen"] == "") | (folded["rejected"] == "")
    same = folded["chosen"] == folded["rejected"]
    items = pl.Series([None] * len(batch), dtype=pl.String)
    if index is not None:
        joined = read.select(pl.concat_str(pl.all(), separator="\n\n")).to_series()
        found = contamination(joined.to_arrow().cast(pa.large_string()), index, config).frame
        items = found.select(
            pl.when(pl.col("contamination_fraction") > config.max_fraction).then(pl.col("contamination_item"))
        ).to_series()
    reason = (
        pl.when(empty).then(pl.lit(EMPTY)).when(same).then(pl.lit(SAME)).when(items.is_not_null()).then(pl.lit(LEAK))
    )
    return frame.with_columns(
        reason.otherwise(pl.lit(None, pl.String)).alias("reason"),
        pl.when(~empty & ~same).then(items).otherwise(pl.lit(None, pl.String)).alias("detail"),
    )


def _normal(text: pl.Series) -> pl.Series:
    return pl.Series(normalize(text.to_arrow().cast(pa.large_string())), dtype=pl.String)


def _hash(frame: pl.DataFrame, *names: str) -> pl.Series:
    joined = frame.select(pl.concat_str([pl.col(name) for name in names], separator="\x1f")).to_series()
    return pl.Series(hash128(joined.to_arrow().cast(pa.large_string()))[0], dtype=pl.UInt64)
