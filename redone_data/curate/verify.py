"""Exact Jaccard similarity of every candidate pair, by an out-of-core join: no task looks a text up at random.

1. near-distinct: all finds of one pair meet; each pair is kept once, and each of its documents is asked of its part.
2. near-sets: a part reads its texts once, in order, and sends the shingles of what was asked, 4 bytes each, to the
   slices that asked.
3. near-verify: a slice has its pairs and all their shingles; it merges and keeps what reaches the threshold.

A document's shingles travel once to the slice of its own pairs and once to the slice of each document before it that it
may duplicate. Memory is that of one slice of pairs; at a billion posts of 25 bands: DOCUMENTS_PER_PAIR_SLICE grows to
244,000 documents a slice, about 200 MB.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.corpus import Corpus
from redone_data.curate.bands import BATCH_ROWS
from redone_data.curate.candidates import MOST_TASKS, lefts, pair_slices, rights
from redone_data.curate.groups import part_of
from redone_data.curate.index import Index
from redone_data.curate.near import NearConfig
from redone_data.curate.shingle_sets import NO_SETS, Sets, join_sets, read_sets, sets_of_texts, similarities, take_sets
from redone_data.engine import Output, Step
from redone_data.exchange import Slices, bucket_ranges, concatenated, distinct, write_sliced, write_slices
from redone_data.manifest import atomic

EDGE_SCHEMA = pa.schema([("left", pa.int64()), ("right", pa.int64()), ("similarity", pa.float64())])


def pair_tasks(num_documents: int) -> list[tuple[int, int]]:
    """Slices of pairs, as tasks."""
    num_slices = pair_slices(num_documents)
    return bucket_ranges(num_slices, -(-num_slices // MOST_TASKS), num_slices)


@dataclass(frozen=True)
class DistinctPairsStep(Step):
    """Each candidate pair once, and what must be known of each part to verify it."""

    name = "near-distinct"
    VERSION = 1

    corpus: Corpus
    pairs: Output

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return {"pairs": self.pairs.fingerprint}

    def tasks(self) -> list[tuple[int, int]]:
        return pair_tasks(self.corpus.num_rows)

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        found = Slices(self.pairs.files(".arrow"))
        kept, asked, slices = [], [], []
        for slice_id in range(*task):
            pairs = distinct(found.column("pair", slice_id, slice_id + 1))
            rows = distinct(np.concatenate([lefts(pairs), rights(pairs)]))
            rows = rows[rows < self.corpus.num_rows]  # an index has the shingles of its own documents
            kept.append(pairs)
            asked.append(rows)
            slices.append(np.full(len(rows), slice_id, np.int32))
        lengths = [len(pairs) for pairs in kept]
        edges = np.cumsum([0, *lengths])
        write_sliced(folder / f"pairs-{index:05d}.arrow", edges, {"pair": concatenated(kept, np.uint64)})
        rows = concatenated(asked, np.int64)
        columns = {"row": rows, "slice": concatenated(slices, np.int32)}
        parts = part_of(self.corpus, rows)
        write_slices(folder / f"asked-{index:05d}.arrow", parts, len(self.corpus.parts), columns)
        return {"pairs": sum(lengths), "sets": len(rows)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: sum(result[key] for result in results) for key in ("pairs", "sets")}


@dataclass(frozen=True)
class ShingleSetsStep(Step):
    """The shingles of the documents asked for, sliced by who asked."""

    name = "near-sets"
    VERSION = 2

    corpus: Corpus
    distinct: Output
    near: NearConfig

    def config(self) -> Any:
        return {"ngram": self.near.ngram}

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), "distinct": self.distinct.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        asked = Slices(path for path in self.distinct.files(".arrow") if path.name.startswith("asked"))
        rows = asked.column("row", index, index + 1)
        slice_ids = asked.column("slice", index, index + 1)
        order = np.lexsort((rows, slice_ids))
        rows, slice_ids = rows[order], slice_ids[order]
        needed = np.zeros(part.rows, dtype=bool)
        needed[rows - part.offset] = True
        sets = _sets_of(
            (batch.column("text") for batch in part.batches(["text"], BATCH_ROWS)) if len(rows) else (),
            needed,
            self.near.ngram,
        )
        taken = take_sets(sets, rows - part.offset)
        edges = np.searchsorted(slice_ids, np.arange(pair_slices(self.corpus.num_rows) + 1))
        columns = {"row": rows, "shingles": pa.LargeListArray.from_arrays(taken.offsets, taken.hashes)}
        write_sliced(folder / f"sets-{index:05d}.arrow", edges, columns)
        return {"documents": int(needed.sum()), "sets": len(rows), "shingles": len(taken.hashes)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: sum(result[key] for result in results) for key in ("documents", "sets", "shingles")}


@dataclass(frozen=True)
class VerifyStep(Step):
    """Pairs at or above the threshold, each with its similarity."""

    name = "near-verify"
    VERSION = 2

    corpus: Corpus
    distinct: Output
    sets: Output
    near: NearConfig
    index: Index | None = None

    def config(self) -> Any:
        return {"threshold": self.near.threshold}

    def inputs(self) -> dict[str, str]:
        index = {} if self.index is None else {"index": self.index.fingerprint}
        return {"distinct": self.distinct.fingerprint, "sets": self.sets.fingerprint, **index}

    def tasks(self) -> list[tuple[int, int]]:
        return pair_tasks(self.corpus.num_rows)

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        pairs_of = Slices([self.distinct.folder / f"pairs-{index:05d}.arrow"])
        sets_of = Slices(self.sets.files(".arrow"))
        kept, scores, compared = [], [], 0
        for number, slice_id in enumerate(range(*task)):
            pairs = pairs_of.column("pair", number, number + 1)
            rows, sets = read_sets(sets_of.read(slice_id, slice_id + 1))
            if self.index is not None:
                others = distinct(rights(pairs))
                others = others[others >= self.corpus.num_rows]
                rows = np.concatenate([rows, others])
                sets = join_sets([sets, self.index.sets(others - self.corpus.num_rows)])
            score = similarities(sets, np.searchsorted(rows, lefts(pairs)), np.searchsorted(rows, rights(pairs)))
            near = score >= self.near.threshold
            kept.append(pairs[near])
            scores.append(score[near])
            compared += len(pairs)
        edges = concatenated(kept, np.uint64)
        table = pa.table([lefts(edges), rights(edges), concatenated(scores, np.float64)], schema=EDGE_SCHEMA)
        with atomic(folder / f"edges-{index:05d}.parquet") as aside:
            pq.write_table(table, aside, compression="zstd")
        return {"pairs": compared, "edges": len(edges)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: sum(result[key] for result in results) for key in ("pairs", "edges")}


def _sets_of(texts: Iterable[pa.Array], needed: npt.NDArray[np.bool_], ngram: int) -> Sets:
    pieces, start = [NO_SETS], 0
    for text in texts:
        here = needed[start : start + len(text)]
        start += len(text)
        pieces.append(sets_of_texts(text, ngram, here))
    return join_sets(pieces)


def read_edges(verified: Output) -> pa.Table:
    """All verified pairs: left, right (global rows of distinct texts), similarity."""
    return pa.concat_tables([pq.read_table(path) for path in verified.files(".parquet")])
