"""Duplicates among the rows of one table, in memory: equal texts, and near ones by what curation finds them with.

The same candidates (MinHash bands, curate/near.py), verification (Jaccard similarity of character 5-grams,
curate/likeness.py) and order (curate/resolve.py) as for a corpus, without its out-of-core joins: five million short
rows take some 2 GB. Rows are compared by what they say, before a template adds its own words: of two short posts in
one template most words are the template's.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from redone_data.curate.bands import Packing, keys_of_texts, pack_keys
from redone_data.curate.candidates import bucket_pairs, crowd_pairs, lefts, members_of, rights
from redone_data.curate.likeness import letters_of, similarities
from redone_data.curate.near import NearConfig
from redone_data.curate.resolve import keep_greedily
from redone_data.curate.standing import Standing
from redone_data.exchange import concatenated, distinct
from redone_data.instruct.conversation import MESSAGES
from redone_data.text.buffers import large_strings
from redone_data.text.hashing import hash128
from redone_data.text.normalize import normalize

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DuplicateRowsConfig:
    """What counts as a duplicate among the rows of one table."""

    enabled: bool = field(default=True, metadata={"help": "false: rows that say the same stay, as in threads"})
    by: tuple[str, ...] = field(
        default=(),
        metadata={"help": "columns that are compared, all of which must be alike; default: all that hold text"},
    )
    near: bool = field(default=True, metadata={"help": "false: only equal rows are duplicates"})
    threshold: float = field(
        default=0.7, metadata={"help": "Jaccard similarity of character 5-grams from which two columns are alike"}
    )

    def __post_init__(self) -> None:
        _ = self.near_config  # its own check of the threshold

    @property
    def near_config(self) -> NearConfig:
        return NearConfig(enabled=self.near, threshold=self.threshold)


class Duplicates(NamedTuple):
    """For each row the row that it repeats (-1: it stays), and how alike they are (1 and `exact`: the same text)."""

    keeper: Int64
    similarity: npt.NDArray[np.float64]
    exact: npt.NDArray[np.bool_]


def find_duplicates(columns: Sequence[pa.Array], ids: pa.Array, near: NearConfig) -> Duplicates:
    """Of rows that are alike in every column the one whose id hashes least stays, whatever the order of the rows.

    A note asked about twice is two rows while the questions differ. Rows without any text stay.
    """
    columns = [normalize(large_strings(column)) for column in columns]
    text = pc.binary_join_element_wise(*columns, pa.scalar("\n", pa.large_string())) if len(columns) > 1 else columns[0]
    rank = hash128(ids.cast(pa.large_string()))[1]
    order = np.lexsort((rank,)).astype(np.int32)
    first = _first_with(text)
    said = np.array([bool(value.strip()) for value in text.to_pylist()], bool) if len(text) else np.zeros(0, bool)
    left, right, similarity = _near_pairs(text, columns, first, rank, near) if near.enabled else _none()
    keeper, score = keep_greedily(
        order,
        said,
        first.astype(np.int32),
        left.astype(np.int32),
        right.astype(np.int32),
        similarity.astype(np.float32),
    )
    kept = keeper.astype(np.int64)
    same = (kept >= 0) & (first == first[np.maximum(kept, 0)])
    return Duplicates(kept, np.where(kept >= 0, score, 0.0).astype(np.float64).round(4), same)


def distinct_rows(
    frame: pl.DataFrame, columns: Sequence[pa.Array], config: DuplicateRowsConfig
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that stay, and what the ledger says of the others (id, documents, rule, value, bound, detail).

    frame: with `id`; `documents` if it has them, else the id is the document.
    """
    if not config.enabled or not columns or frame.is_empty():
        return frame, frame.head(0).select("id", pl.lit(None, pl.String).alias("rule"))
    ids = frame["id"].to_arrow()
    found = find_duplicates(columns, ids, config.near_config)
    gone = found.keeper >= 0
    lines = frame.filter(pl.Series(gone)).select(
        "id",
        pl.col("documents") if "documents" in frame.columns else pl.concat_list("id").alias("documents"),
        pl.Series("rule", np.where(found.exact[gone], "exact_duplicate", "near_duplicate").tolist(), pl.String),
        pl.Series("value", found.similarity[gone], pl.Float64),
        pl.lit(config.threshold).alias("bound"),
        pl.Series("detail", ids.take(pa.array(found.keeper[gone]))).cast(pl.String),
    )
    return frame.filter(pl.Series(~gone)), lines


def text_columns(frame: pl.DataFrame, names: Sequence[str]) -> list[pl.Expr]:
    """Those of the columns that hold text, lists of texts or messages, as texts."""
    found = []
    for name in names:
        kind, column = frame.schema[name], pl.col(name)
        if kind == MESSAGES:
            column = column.list.eval(pl.element().struct.field("content")).list.join("\n")
        elif kind == pl.List(pl.String()):
            column = column.list.join("\n")
        elif kind != pl.String():
            continue
        found.append(column.fill_null("").alias(name))
    return found


def _first_with(text: pa.Array) -> Int64:
    """For each row the first row with the same text."""
    hi, lo = hash128(text)
    pairs = np.empty(len(hi), np.dtype([("hi", np.uint64), ("lo", np.uint64)]))
    pairs["hi"], pairs["lo"] = hi, lo
    _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], np.int64)


def _near_pairs(
    text: pa.Array, columns: Sequence[pa.Array], first: Int64, rank: UInt64, near: NearConfig
) -> tuple[Int64, Int64, Float64]:
    """Verified pairs of distinct texts."""
    rows = np.flatnonzero(first == np.arange(len(first)))
    if len(rows) < 2:
        return _none()
    texts = text.take(pa.array(rows))
    packing = Packing.of(len(rows), near.bands)
    records, edges = pack_keys(keys_of_texts(texts, near), np.arange(len(rows)), packing.slice_bits, packing.row_bits)
    mask = np.uint64((1 << packing.row_bits) - 1)
    found = []
    for start, end in itertools.pairwise(edges.tolist()):
        bucket = np.sort(records[start:end])
        pairs, crowds = bucket_pairs(bucket, packing.row_bits, len(rows))
        members = bucket[members_of(crowds)] & mask
        best = rank[rows[members.astype(np.int64)]]
        none = np.zeros(len(members), np.int64)
        standing = Standing(none, none.astype(np.float64), best)
        found += [pairs, crowd_pairs(members, np.diff(crowds, axis=1).ravel(), standing)]
    pairs = distinct(concatenated(found, np.uint64))
    left, right = lefts(pairs), rights(pairs)
    similarity = np.ones(len(left))
    for column in columns:
        letters = letters_of(column.take(pa.array(rows)))
        silent = np.diff(letters.offsets) == 0
        alike = similarities(letters, left, right, near.threshold)
        similarity = np.minimum(similarity, np.where(silent[left] & silent[right], 1.0, alike))
    near_enough = similarity >= near.threshold
    return rows[left[near_enough]], rows[right[near_enough]], similarity[near_enough]


def _none() -> tuple[Int64, Int64, Float64]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
