"""Exact Jaccard similarity of every candidate pair, by an out-of-core join: no task looks a text up at random.

1. near-distinct: all finds of one pair meet; each pair is kept once, and each of its documents is asked of its part.
2. near-letters: a part reads its texts once, in order, and sends the folded letters of what was asked, three fourths of
   its bytes, to the slices that asked.
3. near-verify: a slice has its pairs and all their letters; it compares them and keeps what reaches the threshold.

A document's letters travel once to the slice of its own pairs and once to the slice of each document before it that it
may duplicate. Memory is that of one slice of pairs; at a billion posts of 25 bands: DOCUMENTS_PER_PAIR_SLICE grows to
244,000 documents a slice, about 200 MB.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.corpus import Corpus, Part
from redone_data.curate.bands import BATCH_ROWS
from redone_data.curate.candidates import MOST_TASKS, lefts, pair_slices, rights
from redone_data.curate.groups import part_of
from redone_data.curate.index import Index
from redone_data.curate.likeness import (
    NO_LETTERS,
    Letters,
    column_letters,
    join_letters,
    letters_column,
    letters_of,
    similarities,
    take_letters,
)
from redone_data.curate.near import NearConfig
from redone_data.engine import Output, Step
from redone_data.exchange import Slices, bucket_ranges, concatenated, distinct, write_sliced, write_slices
from redone_data.manifest import atomic

Int64 = npt.NDArray[np.int64]

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
            rows = rows[rows < self.corpus.num_rows]  # an index has the letters of its own documents
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
class LettersStep(Step):
    """The folded letters of the documents asked for, sliced by who asked."""

    name = "near-letters"
    VERSION = 1

    corpus: Corpus
    distinct: Output

    def config(self) -> Any:
        return {}

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
        taken = take_letters(_letters_of(part, rows), rows - part.offset)
        edges = np.searchsorted(slice_ids, np.arange(pair_slices(self.corpus.num_rows) + 1))
        columns = {"row": rows, "letters": letters_column(taken)}
        write_sliced(folder / f"letters-{index:05d}.arrow", edges, columns)
        return {"texts": len(rows), "bytes": len(taken.data)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: sum(result[key] for result in results) for key in ("texts", "bytes")}


@dataclass(frozen=True)
class VerifyStep(Step):
    """Pairs at or above the threshold, each with its similarity."""

    name = "near-verify"
    VERSION = 3

    corpus: Corpus
    distinct: Output
    letters: Output
    near: NearConfig
    index: Index | None = None

    def config(self) -> Any:
        return {"threshold": self.near.threshold}

    def inputs(self) -> dict[str, str]:
        index = {} if self.index is None else {"index": self.index.fingerprint}
        return {"distinct": self.distinct.fingerprint, "letters": self.letters.fingerprint, **index}

    def tasks(self) -> list[tuple[int, int]]:
        return pair_tasks(self.corpus.num_rows)

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        pairs_of = Slices([self.distinct.folder / f"pairs-{index:05d}.arrow"])
        letters_of_slice = Slices(self.letters.files(".arrow"))
        kept, scores, compared = [], [], 0
        for number, slice_id in enumerate(range(*task)):
            pairs = pairs_of.column("pair", number, number + 1)
            rows, letters = _read_letters(letters_of_slice.read(slice_id, slice_id + 1))
            if self.index is not None:
                others = distinct(rights(pairs))
                others = others[others >= self.corpus.num_rows]
                rows = np.concatenate([rows, others])
                letters = join_letters([letters, self.index.letters(others - self.corpus.num_rows)])
            left, right = (np.searchsorted(rows, side) for side in (lefts(pairs), rights(pairs)))
            score = similarities(letters, left, right, self.near.threshold)
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


def _letters_of(part: Part, rows: Int64) -> Letters:
    """A part's documents, with the letters of these (global) rows alone."""
    if not len(rows):
        return NO_LETTERS
    needed = np.zeros(part.rows, dtype=bool)
    needed[rows - part.offset] = True
    pieces, start = [NO_LETTERS], 0
    for batch in part.batches(["text"], BATCH_ROWS):
        pieces.append(letters_of(batch.column("text"), needed[start : start + batch.num_rows]))
        start += batch.num_rows
    return join_letters(pieces)


def _read_letters(table: pa.Table) -> tuple[Int64, Letters]:
    """Rows, ascending, and their letters."""
    pieces = [column_letters(piece) for piece in table["letters"].chunks]
    return table["row"].to_numpy(), join_letters([NO_LETTERS, *pieces])
