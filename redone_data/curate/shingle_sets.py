"""What a verification compares: the shingles of some documents, 4 bytes each, sorted.

Hashes are cut to their upper 32 bits, so the similarity of a pair of short posts is off by one shingle once in a
million. A merge of two sets costs 1 ns a shingle.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.exchange import distinct
from redone_data.text.buffers import frozen
from redone_data.text.kernel import kernel
from redone_data.text.minhash import grams

Int64 = npt.NDArray[np.int64]
UInt32 = npt.NDArray[np.uint32]
Float64 = npt.NDArray[np.float64]


class Sets(NamedTuple):
    """Hashes of document ``i`` are ``hashes[offsets[i]:offsets[i + 1]]``, ascending."""

    offsets: Int64
    hashes: UInt32


def sets_of_texts(text: pa.Array, ngram: int) -> Sets:
    """The shingles of each text, cut to their upper 32 bits."""
    # One sort of all, row first, is several times faster than a sort of each row.
    found = grams(text, ngram=ngram)
    rows = np.repeat(np.arange(len(text), dtype=np.uint64), np.diff(found.offsets))
    words = distinct((rows << np.uint64(32)) | (found.hashes >> np.uint64(32)))
    counts = np.bincount((words >> np.uint64(32)).astype(np.int64), minlength=len(text))
    return Sets(np.append(0, np.cumsum(counts)), words.astype(np.uint32))


NO_SETS = Sets(np.zeros(1, np.int64), np.zeros(0, np.uint32))


def join_sets(pieces: Sequence[Sets]) -> Sets:
    """One after another."""
    lengths = np.concatenate([np.diff(piece.offsets) for piece in pieces])
    return Sets(np.append(0, np.cumsum(lengths)), np.concatenate([piece.hashes for piece in pieces]))


def list_sets(lists: pa.LargeListArray) -> Sets:
    """The sets of a column of lists, not copied."""
    return Sets(lists.offsets.to_numpy(), lists.values.to_numpy())


def read_sets(table: pa.Table) -> tuple[Int64, Sets]:
    """Rows, ascending, and their shingles."""
    rows = table["row"].to_numpy()
    pieces = table["shingles"].chunks
    lengths = np.concatenate([piece.value_lengths().to_numpy(zero_copy_only=False) for piece in pieces])
    hashes = np.concatenate([piece.flatten().to_numpy() for piece in pieces])
    return rows, Sets(np.append(0, np.cumsum(lengths)), hashes)


def take_sets(sets: Sets, places: Int64) -> Sets:
    """The sets at these places, in their order."""
    offsets = np.append(0, np.cumsum(np.diff(sets.offsets)[places]))
    return Sets(offsets, _take(frozen(sets.offsets), frozen(sets.hashes), places, offsets))


@kernel
def _take(offsets: Int64, hashes: UInt32, places: Int64, to: Int64) -> UInt32:
    taken = np.empty(to[-1], np.uint32)
    for index in range(len(places)):
        start = offsets[places[index]]
        for k in range(to[index + 1] - to[index]):
            taken[to[index] + k] = hashes[start + k]
    return taken


def similarities(sets: Sets, left: Int64, right: Int64) -> Float64:
    """Shared shingles over all shingles, of the sets left[k] and right[k]."""
    return _similarities(frozen(sets.offsets), frozen(sets.hashes), left, right)


@kernel
def _similarities(offsets: Int64, hashes: UInt32, left: Int64, right: Int64) -> Float64:
    out = np.zeros(len(left), np.float64)
    for pair in range(len(left)):
        a, a_end = offsets[left[pair]], offsets[left[pair] + 1]
        b, b_end = offsets[right[pair]], offsets[right[pair] + 1]
        total = a_end - a + b_end - b
        shared = 0
        while a < a_end and b < b_end:
            x, y = hashes[a], hashes[b]
            shared += x == y
            a += x <= y
            b += x >= y
        if total > 0:
            out[pair] = shared / (total - shared)
    return out
