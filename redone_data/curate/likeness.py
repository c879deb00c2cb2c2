"""How alike two posts are: the exact Jaccard similarity of the character 5-grams of their folded letters.

Folded (text/folding.py): letters and digits in lower case; fewer than five are one gram. Grams are told apart by 32
bits of a hash, so the similarity of a pair of posts is off by one gram once in a million. The first post of a pair is
hashed into a small table in which the second looks itself up, and most unlike pairs are given up after a third: 1.2 ms
per MB of corpus.

Why characters: two swapped words change most word 3-grams of a short post and fewer of its characters, and three
Chinese characters are too few to tell posts apart (docs/curation/duplicates.md has both compared).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.text.buffers import Bytes, Float64, Int64, UInt32, UInt64, frozen
from redone_data.text.characters import decode
from redone_data.text.folding import folded
from redone_data.text.kernel import inlined, kernel, lean
from redone_data.text.simd import load8, load64

CHARACTERS = 5
# Odd, with no pattern in their bits.
FIRST, LAST = 0xD6E8FEB86659FD93, 0x9E3779B97F4A7C15
BITS, THREE, HALF = np.uint64(21), np.uint64((1 << 63) - 1), np.uint64(32)


class Letters(NamedTuple):
    """Folded letters of document ``i`` are ``data[offsets[i]:offsets[i + 1]]``, UTF-8."""

    offsets: Int64
    data: Bytes


NO_LETTERS = Letters(np.zeros(1, np.int64), np.zeros(0, np.uint8))


def letters_of(text: pa.Array, wanted: npt.NDArray[np.bool_] | None = None) -> Letters:
    """The folded letters of each text; none of the texts that are not wanted."""
    return Letters(*folded(text, np.ones(len(text), dtype=bool) if wanted is None else wanted))


def join_letters(pieces: Sequence[Letters]) -> Letters:
    """One after another."""
    lengths = np.concatenate([np.diff(piece.offsets) for piece in pieces])
    used = [piece.data[piece.offsets[0] : piece.offsets[-1]] for piece in pieces]
    return Letters(np.append(0, np.cumsum(lengths)), np.concatenate(used))


def take_letters(letters: Letters, places: Int64) -> Letters:
    """Those of the documents at these places, in their order."""
    offsets = np.append(0, np.cumsum(np.diff(letters.offsets)[places]))
    return Letters(offsets, _take(frozen(letters.offsets), frozen(letters.data), places, offsets))


def letters_column(letters: Letters) -> pa.Array:
    """As Arrow stores them, not copied."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(letters.offsets)), pa.py_buffer(letters.data)]
    return pa.Array.from_buffers(pa.large_binary(), len(letters.offsets) - 1, buffers)


def column_letters(column: pa.Array) -> Letters:
    """What :func:`letters_column` made a column of, or a slice of it, not copied."""
    if len(column) == 0:
        return NO_LETTERS
    _, offsets, data = column.buffers()
    rows = np.frombuffer(offsets, np.int64, len(column) + 1, 8 * column.offset)
    return Letters(rows, np.frombuffer(data, np.uint8) if data is not None and data.size else NO_LETTERS.data)


def similarities(letters: Letters, left: Int64, right: Int64, least: float = 0.0) -> Float64:
    """Shared grams over all grams of documents left[k] and right[k]; 0 where they are less alike than ``least``.

    Cheaper in the order of ``left``.
    """
    return _similarities(frozen(letters.offsets), frozen(letters.data), left, right, least)


@kernel
def _take(offsets: Int64, data: Bytes, places: Int64, to: Int64) -> Bytes:
    taken = np.empty(to[-1], np.uint8)
    for index in range(len(places)):
        start = offsets[places[index]]
        taken[to[index] : to[index + 1]] = data[start : start + to[index + 1] - to[index]]
    return taken


@inlined
def equal_bytes(data: Bytes, a: int, b: int, size: int) -> bool:
    """Whether ``size`` bytes from ``a`` and from ``b`` on are the same."""
    index = 0
    while index + 8 <= size:
        if load64(data, a + index) != load64(data, b + index):
            return False
        index += 8
    while index < size:
        if data[a + index] != data[b + index]:
            return False
        index += 1
    return True


@lean
def write_grams(data: Bytes, position: int, end: int, threes: UInt64, grams: UInt32) -> int:
    """Writes a hash of each run of five characters, or of all if they are fewer, and gives the number of runs.

    A run is its last three characters and its first three, 21 bits each: multilinear hashing, and no loop-carried
    product, so that the compiler can use vectors.
    """
    first, last = np.uint64(FIRST), np.uint64(LAST)
    count, three = 0, np.uint64(0)
    while position < end:
        code = load8(data, position)
        if code < 0x80:
            position += 1
        else:
            code, position = decode(data, position, end)
        three = ((three << BITS) | np.uint64(code)) & THREE
        threes[count] = three
        count += 1
    if 0 < count < CHARACTERS:
        value = threes[count - 1] * last + threes[max(0, count - 3)] * first + np.uint64(count) * (first ^ last)
        grams[0] = np.uint32(value >> HALF)
        return 1
    runs = max(0, count - CHARACTERS + 1)
    for run in range(runs):
        grams[run] = np.uint32((threes[run + 4] * last + threes[run + 2] * first) >> HALF)
    return runs


@inlined
def table_bits(count: int) -> int:
    """A table of so many bits is at most a fourth full of ``count`` grams, and has at most 8 slots for each."""
    bits = 1
    while 1 << bits < 4 * count:
        bits += 1
    return bits


@inlined
def slot_of(table: UInt64, bits: int, mark: np.uint64, gram: np.uint32) -> int:
    """The slot of the gram in the table that ``mark`` (a number from bit 32 on) made, or the free one it belongs in.

    Slots of another mark are free, so that no table is ever cleared.
    """
    entry, mask = mark | np.uint64(gram), (1 << bits) - 1
    slot: int = np.int64(gram >> np.uint32(32 - bits))  # type: ignore[assignment]
    while table[slot] != entry and table[slot] >> HALF == mark >> HALF:
        slot = (slot + 1) & mask
    return slot


@kernel
def _similarities(offsets: Int64, data: Bytes, left: Int64, right: Int64, least: float) -> Float64:
    longest = 0
    for index in range(len(offsets) - 1):
        longest = max(longest, offsets[index + 1] - offsets[index])
    threes, grams = np.empty(longest, np.uint64), np.empty(longest, np.uint32)
    room = 8 * longest + 2
    own, rest, seen_in = np.zeros(room, np.uint64), np.zeros(room, np.uint64), np.zeros(room, np.int64)
    out = np.zeros(len(left), np.float64)
    mark, num_own, own_bits = np.uint64(0), 0, 1
    tabled = np.int64(-1)
    for pair in range(len(left)):
        a, b = offsets[left[pair]], offsets[right[pair]]
        size, b_end = offsets[left[pair] + 1] - a, offsets[right[pair] + 1]
        if size == b_end - b and equal_bytes(data, a, b, size):
            out[pair] = 1.0 if size > 0 else 0.0
            continue
        if left[pair] != tabled:
            tabled, num_own = left[pair], 0
            mark = np.uint64(pair + 1) << HALF
            count = write_grams(data, a, a + size, threes, grams)
            own_bits = table_bits(count)
            for index in range(count):
                slot = slot_of(own, own_bits, mark, grams[index])
                num_own += own[slot] >> HALF != mark >> HALF
                own[slot] = mark | np.uint64(grams[index])
        count = write_grams(data, b, b_end, threes, grams)
        rest_mark, rest_bits = np.uint64(pair + 1) << HALF, table_bits(count)
        shared = num_rest = 0
        for index in range(count):
            slot = slot_of(own, own_bits, mark, grams[index])
            if own[slot] >> HALF == mark >> HALF:
                shared += seen_in[slot] != pair + 1
                seen_in[slot] = pair + 1
                continue
            slot = slot_of(rest, rest_bits, rest_mark, grams[index])
            num_rest += rest[slot] >> HALF != rest_mark >> HALF
            rest[slot] = rest_mark | np.uint64(grams[index])
            if shared + count - index - 1 < least * (num_own + num_rest):
                shared = 0  # cannot reach it any more
                break
        if num_own + num_rest > 0:
            value = shared / (num_own + num_rest)
            out[pair] = value if value >= least else 0.0
    return out
