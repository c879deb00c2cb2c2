"""Duplicates among the rows of one table, in memory: equal texts, and near ones by what curation finds them with.

The same candidates (MinHash bands, curate/near.py), verification (Jaccard similarity of character 5-grams,
curate/likeness.py) and order (curate/resolve.py) as for a corpus, without its out-of-core joins: five million short
rows take some 2 GB. Rows are compared by what they say, before a template adds its own words: of two short posts in
one template most words are the template's.
"""

import itertools
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from redone_data.curate.bands import Packing, keys_of_texts, pack_keys
from redone_data.curate.candidates import bucket_pairs, crowd_pairs, lefts, members_of, rights
from redone_data.curate.likeness import letters_of, similarities
from redone_data.curate.near import NearConfig
from redone_data.curate.resolve import keep_greedily
from redone_data.curate.standing import Standing
from redone_data.exchange import concatenated, distinct
from redone_data.text.buffers import large_strings
from redone_data.text.hashing import hash128
from redone_data.text.normalize import normalize

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class DuplicateRowsConfig:
    """What counts as a duplicate among the rows of one table."""

    enabled: bool = field(default=True, metadata={"help": "false: rows that say the same stay, as in threads"})
    by: tuple[str, ...] = field(
        default=(), metadata={"help": "columns whose text is compared; default: all that hold text"}
    )
    near: NearConfig = field(default_factory=lambda: NearConfig(threshold=0.7))


class Duplicates(NamedTuple):
    """For each row the row that it repeats (-1: it stays), and how alike they are (1 and `exact`: the same text)."""

    keeper: Int64
    similarity: npt.NDArray[np.float64]
    exact: npt.NDArray[np.bool_]


def find_duplicates(text: pa.Array, ids: pa.Array, near: NearConfig) -> Duplicates:
    """Of rows with like texts the one whose id hashes least stays, whatever the order of the rows. Blank rows stay."""
    text = normalize(large_strings(text))
    rows = len(text)
    rank = hash128(ids.cast(pa.large_string()))[1]
    order = np.lexsort((rank,)).astype(np.int32)
    first = _first_with(text)
    blank = np.array([not value for value in text.to_pylist()], bool) if rows else np.zeros(0, bool)
    left, right, similarity = _near_pairs(text, first, rank, near) if near.enabled else _none()
    keeper, score = keep_greedily(
        order,
        ~blank,
        first.astype(np.int32),
        left.astype(np.int32),
        right.astype(np.int32),
        similarity.astype(np.float32),
    )
    kept = keeper.astype(np.int64)
    same = (kept >= 0) & (first == first[np.maximum(kept, 0)])
    return Duplicates(kept, np.where(kept >= 0, score, 0.0).astype(np.float64).round(4), same)


def distinct_rows(
    frame: pl.DataFrame, text: pa.Array, config: DuplicateRowsConfig
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that stay, and what the ledger says of the others (id, documents, rule, value, bound, detail).

    frame: with `id`; `documents` if it has them, else the id is the document.
    """
    if not config.enabled or frame.is_empty():
        return frame, frame.head(0).select("id", pl.lit(None, pl.String).alias("rule"))
    ids = frame["id"].to_arrow()
    found = find_duplicates(text, ids, config.near)
    gone = found.keeper >= 0
    lines = frame.filter(pl.Series(gone)).select(
        "id",
        pl.col("documents") if "documents" in frame.columns else pl.concat_list("id").alias("documents"),
        pl.Series("rule", np.where(found.exact[gone], "exact_duplicate", "near_duplicate").tolist(), pl.String),
        pl.Series("value", found.similarity[gone], pl.Float64),
        pl.lit(config.near.threshold).alias("bound"),
        pl.Series("detail", ids.take(pa.array(found.keeper[gone]))).cast(pl.String),
    )
    return frame.filter(pl.Series(~gone)), lines


def _first_with(text: pa.Array) -> Int64:
    """For each row the first row with the same text."""
    hi, lo = hash128(text)
    pairs = np.empty(len(hi), np.dtype([("hi", np.uint64), ("lo", np.uint64)]))
    pairs["hi"], pairs["lo"] = hi, lo
    _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], np.int64)


def _near_pairs(
    text: pa.Array, first: Int64, rank: UInt64, near: NearConfig
) -> tuple[Int64, Int64, npt.NDArray[np.float64]]:
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
    similarity = similarities(letters_of(texts), left, right, near.threshold)
    near_enough = similarity >= near.threshold
    return rows[left[near_enough]], rows[right[near_enough]], similarity[near_enough]


def _none() -> tuple[Int64, Int64, npt.NDArray[np.float64]]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
