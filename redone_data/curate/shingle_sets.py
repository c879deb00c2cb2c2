"""What a verification compares: the shingles of some documents, 4 bytes each, without repeats and in no order.

Hashes are cut to their upper 32 bits, so the similarity of a pair of short posts is off by one shingle once in a
million. The first set of a pair is hashed into a small table in which the other looks itself up, which costs what a
merge of sorted sets would and spares the sorting, the larger half of making a set.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.text.buffers import frozen
from redone_data.text.kernel import kernel
from redone_data.text.minhash import CHAIN_FACTOR, short_shingles

Int64 = npt.NDArray[np.int64]
UInt32 = npt.NDArray[np.uint32]
Float64 = npt.NDArray[np.float64]

SPREAD = CHAIN_FACTOR


class Sets(NamedTuple):
    """Hashes of document ``i`` are ``hashes[offsets[i]:offsets[i + 1]]``, each once."""

    offsets: Int64
    hashes: UInt32


def sets_of_texts(text: pa.Array, ngram: int, wanted: npt.NDArray[np.bool_] | None = None) -> Sets:
    """The shingles of each text, cut to their upper 32 bits; none of the texts that are not wanted."""
    return Sets(*short_shingles(text, np.ones(len(text), dtype=bool) if wanted is None else wanted, ngram))


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
    """Shared shingles over all shingles, of the sets left[k] and right[k]. Cheaper in the order of ``left``."""
    return _similarities(frozen(sets.offsets), frozen(sets.hashes), left, right)


@kernel
def _similarities(offsets: Int64, hashes: UInt32, left: Int64, right: Int64) -> Float64:
    longest = 0
    for index in range(len(offsets) - 1):
        longest = max(longest, offsets[index + 1] - offsets[index])
    # A slot holds a shingle below and the number of its table above, so that none is ever cleared.
    slots, number, bits = np.zeros(8 * longest + 2, np.uint64), np.uint64(0), 1
    half, one = np.uint64(32), np.uint64(1)
    shift, mask = np.uint64(0), np.uint64(0)
    out = np.zeros(len(left), np.float64)
    for pair in range(len(left)):
        a, a_end = offsets[left[pair]], offsets[left[pair] + 1]
        b, b_end = offsets[right[pair]], offsets[right[pair] + 1]
        if pair == 0 or left[pair] != left[pair - 1]:
            number += one
            bits = 1
            while 1 << bits < 4 * (a_end - a):
                bits += 1
            shift, mask = np.uint64(64 - bits), np.uint64((1 << bits) - 1)
            for index in range(a, a_end):
                slot = (np.uint64(hashes[index]) * SPREAD) >> shift
                while slots[slot] >> half == number:
                    slot = (slot + one) & mask
                slots[slot] = (number << half) | np.uint64(hashes[index])
        shared = 0
        for index in range(b, b_end):
            entry = (number << half) | np.uint64(hashes[index])
            slot = (np.uint64(hashes[index]) * SPREAD) >> shift
            while slots[slot] != entry and slots[slot] >> half == number:
                slot = (slot + one) & mask
            shared += slots[slot] == entry
        total = a_end - a + b_end - b
        if total > 0:
            out[pair] = shared / (total - shared)
    return out
