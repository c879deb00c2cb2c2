"""Candidate pairs: documents that share a band key, compared all with all in small buckets, with the best in crowds.

A bucket is the documents under one key. Up to ALL_PAIRS_LIMIT of them are compared all with all. Of a larger crowd (one
template, a thousand times) each is compared with the best of each domain only: cost grows with the crowd, not with its
square, and the crowd still ends with one survivor when all of it meet the one that stays. Who that is is decided later
(a rule may drop the very best), by domain first; hence the best few of each domain.

A pair is one 64-bit word, the smaller row first. Pairs are sliced by a hash of that row, so that all finds of one pair
meet in one slice (curate/verify.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.corpus import Corpus
from redone_data.curate.bands import KEY_BITS, Packing
from redone_data.curate.index import Index
from redone_data.curate.standing import Standing, standing_of
from redone_data.engine import Output, Step
from redone_data.exchange import Slices, bucket_ranges, concatenated, distinct, slices_for, write_sliced
from redone_data.text.hashing import mix64
from redone_data.text.kernel import kernel

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

ALL_PAIRS_LIMIT = 12
BEST_OF_A_CROWD = 5
MOST_TASKS = 256
DOCUMENTS_PER_PAIR_SLICE = 1 << 16
PAIR_SHIFT, PAIR_MASK = np.uint64(32), np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class CandidatesStep(Step):
    """Pairs of documents under one band key, each pair at least once."""

    name = "near-pairs"
    VERSION = 2

    corpus: Corpus
    bands: Output
    standing: Output
    packing: Packing
    index: Index | None = None

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        index = {} if self.index is None else {"index": self.index.fingerprint}
        return {"bands": self.bands.fingerprint, "standing": self.standing.fingerprint, **index}

    def tasks(self) -> list[tuple[int, int]]:
        # A task takes slice after slice, so memory is that of one; few tasks open few files.
        num_slices = self.packing.num_slices
        return bucket_ranges(num_slices, -(-num_slices // MOST_TASKS), num_slices)

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        bands = Slices(self.bands.files(".arrow"))
        pairs, crowd_sizes = [], []
        for slice_id in range(*task):
            records = self._with_old(np.sort(bands.column("record", slice_id, slice_id + 1)), slice_id)
            found, crowds = bucket_pairs(records, self.packing.row_bits, self.corpus.num_rows)
            members = records[members_of(crowds)] & np.uint64((1 << self.packing.row_bits) - 1)
            sizes = np.diff(crowds, axis=1).ravel()
            starred = crowd_pairs(members, sizes, self._standing_of(members.astype(np.int64)))
            pairs += [found, starred[lefts(starred) < self.corpus.num_rows]]
            crowd_sizes.append(sizes)
        unique = distinct(concatenated(pairs, np.uint64))
        num_slices = pair_slices(self.corpus.num_rows)
        words, edges = slice_pairs(unique, num_slices)
        write_sliced(folder / f"pairs-{index:05d}.arrow", edges, {"pair": words})
        sizes = concatenated(crowd_sizes, np.int64)
        return {
            "pairs_found": sum(len(words) for words in pairs),
            "pairs": len(unique),
            "crowded_buckets": len(sizes),
            "crowded_keys": int(sizes.sum()),
            "largest_bucket": int(sizes.max(initial=0)),
        }

    def _with_old(self, records: UInt64, slice_id: int) -> UInt64:
        """The records and those of all documents of the index that have one of their keys."""
        if self.index is None:
            return records
        place = np.uint64(self.packing.row_bits)
        within = distinct(records >> place)
        keys = within | np.uint64(slice_id << (KEY_BITS - self.packing.slice_bits))
        at, documents = self.index.members(keys)
        old = (within[at] << place) | (documents + self.corpus.num_rows).astype(np.uint64)
        return np.sort(np.concatenate([records, old]))

    def _standing_of(self, rows: Int64) -> Standing:
        own = rows < self.corpus.num_rows
        ours = standing_of(self.corpus, self.standing, rows[own])
        if self.index is None or own.all():
            return ours
        theirs = self.index.standing(rows[~own] - self.corpus.num_rows)
        back = np.argsort(np.concatenate([np.flatnonzero(own), np.flatnonzero(~own)]))
        return Standing(*(np.concatenate(pair)[back] for pair in zip(ours, theirs, strict=True)))

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        summed = ("pairs_found", "pairs", "crowded_buckets", "crowded_keys")
        largest = max((result["largest_bucket"] for result in results), default=0)
        return {**{key: sum(result[key] for result in results) for key in summed}, "largest_bucket": largest}


def pair_slices(num_documents: int) -> int:
    """How many slices the pairs of so many documents take."""
    return slices_for(num_documents, DOCUMENTS_PER_PAIR_SLICE)


def lefts(pairs: UInt64) -> Int64:
    """The smaller row of each pair."""
    return (pairs >> PAIR_SHIFT).astype(np.int64)


def rights(pairs: UInt64) -> Int64:
    """The larger row of each pair."""
    return (pairs & PAIR_MASK).astype(np.int64)


@kernel
def bucket_pairs(records: UInt64, row_bits: int, first_old: int) -> tuple[UInt64, Int64]:
    """All pairs of small buckets, and (start, end) of each crowd. records: ascending, a bucket's rows together.

    Rows from `first_old` on are of an index: they have been compared with each other before.
    """
    place, mask = np.uint64(row_bits), np.uint64((1 << row_bits) - 1)
    # The most there can be; pages of memory that are never touched cost nothing.
    pairs = np.empty(len(records) * (ALL_PAIRS_LIMIT - 1) // 2, np.uint64)
    crowds = np.empty((len(records) // ALL_PAIRS_LIMIT, 2), np.int64)
    num_pairs = num_crowds = start = 0
    while start < len(records):
        key = records[start] >> place
        end = start + 1
        while end < len(records) and records[end] >> place == key:
            end += 1
        if end - start > ALL_PAIRS_LIMIT:
            crowds[num_crowds, 0], crowds[num_crowds, 1] = start, end
            num_crowds += 1
        else:
            for left in range(start, end):
                if np.int64(records[left] & mask) >= first_old:
                    break
                for right in range(left + 1, end):
                    if records[left] != records[right]:
                        pairs[num_pairs] = ((records[left] & mask) << PAIR_SHIFT) | (records[right] & mask)
                        num_pairs += 1
        start = end
    return pairs[:num_pairs].copy(), crowds[:num_crowds].copy()


def members_of(crowds: Int64) -> Int64:
    """The places of all members, crowd by crowd."""
    sizes = np.diff(crowds, axis=1).ravel()
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.asarray(np.repeat(crowds[:, 0], sizes) + within)


def crowd_pairs(members: UInt64, sizes: Int64, standing: Standing) -> UInt64:
    """Each member of a crowd with the best of each domain in it. members: rows, crowd by crowd."""
    if not len(members):
        return np.zeros(0, np.uint64)
    crowd = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((standing.key, -standing.value, standing.domain, crowd))
    fresh = np.append(True, np.diff(crowd[order]) | np.diff(standing.domain[order]) != 0)
    starts = np.flatnonzero(fresh)
    position = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    best = order[position < BEST_OF_A_CROWD]
    first = np.cumsum(sizes) - sizes
    times = sizes[crowd[best]]
    left = np.repeat(members[best], times)
    within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    right = members[np.repeat(first[crowd[best]], times) + within]
    two = left != right
    left, right = left[two], right[two]
    return np.asarray((np.minimum(left, right) << PAIR_SHIFT) | np.maximum(left, right))


@kernel
def slice_of_row(row: np.uint64, slice_bits: int) -> np.uint64:
    """A slice for the pairs of a row: neighbours are spread, since early rows stand first in more pairs."""
    return (mix64(row + np.uint64(1)) >> np.uint64(1)) >> np.uint64(63 - slice_bits)


@kernel
def _slice_pairs(pairs: UInt64, slice_bits: int) -> tuple[UInt64, Int64]:
    edges = np.zeros((1 << slice_bits) + 1, np.int64)
    for pair in pairs:
        edges[slice_of_row(pair >> PAIR_SHIFT, slice_bits) + np.uint64(1)] += 1
    for index in range(len(edges) - 1):
        edges[index + 1] += edges[index]
    to = edges[:-1].copy()
    words = np.empty(len(pairs), np.uint64)
    for pair in pairs:
        slice_id = slice_of_row(pair >> PAIR_SHIFT, slice_bits)
        words[to[slice_id]] = pair
        to[slice_id] += 1
    return words, edges


def slice_pairs(pairs: UInt64, num_slices: int) -> tuple[UInt64, Int64]:
    """Pairs in the order of their slices, and the edges of the slices."""
    return _slice_pairs(pairs, (num_slices - 1).bit_length())
