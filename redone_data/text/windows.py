"""Runs of consecutive words, as hashes with the bytes they cover: what verbatim overlap between texts is found by.

Words are those of near-duplicates (text/minhash.py): case, full width and punctuation do not count, a Han or Kana
character is a word, a hashtag is its words; links, mentions and emoji are passed over. A run's hash is polynomial in
its words' 64-bit hashes, so a run of any length costs one multiplication from the prefix sums (Karp and Rabin 1987,
doi:10.1147/rd.312.0249). Two different runs agree by chance once in 2**64: among ten billion runs, about 3 pairs do.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.text.buffers import Bytes, Int64, UInt64, frozen, string_buffers
from redone_data.text.hashing import mix64
from redone_data.text.kernel import kernel
from redone_data.text.minhash import word_hash
from redone_data.text.words import CJK, OPEN_HASHTAGS, WORD, Units, room_for_units, split_text

BASE = np.uint64(0x9E3779B97F4A7C15)


class Spans(NamedTuple):
    """Spans of row ``i`` are ``offsets[i]:offsets[i + 1]``; starts and ends are bytes from the row's start, and starts
    ascend."""

    offsets: Int64
    hashes: UInt64
    starts: Int64
    ends: Int64


def windows(array: pa.Array | pa.ChunkedArray, size: int) -> Spans:
    """Every run of ``size`` consecutive words of each text; a text of fewer words has none.

    Raises :class:`RedoneError` for nulls and for ``size`` below 1.
    """
    if size < 1:
        raise RedoneError(f"size is {size}; a window has at least 1 word")
    offsets, data = string_buffers(array)
    rows, hashes, starts, ends = _window_rows(offsets, data, size)
    return Spans(frozen(rows), frozen(hashes), frozen(starts), frozen(ends))


@kernel
def collect_words(data: Bytes, begin: int, end: int, units: Units, hashes: UInt64) -> int:
    """Write the words of ``data[begin:end]``: hashes, and positions in ``units``; how many there are."""
    starts, ends, kinds = units.starts, units.ends, units.kinds
    count = 0
    for unit in range(split_text(data, begin, end, starts, ends, kinds, units.masks, OPEN_HASHTAGS)):
        kind = kinds[unit]
        if kind in (WORD, CJK):
            # Mixed again: sums of powers ask for more than shingles do.
            hashes[count] = mix64(word_hash(data, starts[unit], ends[unit], kind))
            starts[count], ends[count] = starts[unit], ends[unit]
            count += 1
    return count


@kernel
def sum_prefixes(words: UInt64, count: int, sums: UInt64) -> None:
    """Write to ``sums[:count + 1]`` what :func:`run_hash` draws on."""
    sums[0] = np.uint64(0)
    for index in range(count):
        sums[index + 1] = sums[index] * BASE + words[index]


@kernel
def run_hash(sums: UInt64, first: int, size: int, power: np.uint64) -> np.uint64:
    """The hash of ``size`` words from ``first``; ``power`` is :func:`base_power` of ``size``."""
    return mix64(sums[first + size] - sums[first] * power)


@kernel
def base_power(size: int) -> np.uint64:
    """``BASE ** size`` modulo 2**64."""
    power = np.uint64(1)
    for _ in range(size):
        power *= BASE
    return power


@kernel
def has_distinct(words: UInt64, first: int, end: int, number: int) -> bool:
    """Whether ``words[first:end]`` holds at least ``number`` distinct words."""
    distinct = 0
    for index in range(first, end):
        new = True
        for earlier in range(first, index):
            if words[earlier] == words[index]:
                new = False
                break
        distinct += new
        if distinct >= number:
            return True
    return False


@kernel
def longest_row(offsets: Int64) -> int:
    """Bytes of the longest text, at least 1: no text has more words."""
    longest = 1
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return longest


@kernel
def _window_rows(offsets: Int64, data: Bytes, size: int) -> tuple[Int64, UInt64, Int64, Int64]:
    longest = longest_row(offsets)
    words, sums, units = np.empty(longest, np.uint64), np.empty(longest + 1, np.uint64), room_for_units(longest)
    word_starts, word_ends = units.starts, units.ends
    # No more windows than bytes; pages of memory that are never touched cost nothing.
    most = offsets[-1] - offsets[0]
    hashes, starts, ends = np.empty(most, np.uint64), np.empty(most, np.int64), np.empty(most, np.int64)
    new_offsets = np.zeros(len(offsets), np.int64)
    power = base_power(size)
    to = 0
    for row in range(len(offsets) - 1):
        begin = offsets[row]
        count = collect_words(data, begin, offsets[row + 1], units, words)
        if count >= size:
            sum_prefixes(words, count, sums)
            for first in range(count - size + 1):
                hashes[to] = run_hash(sums, first, size, power)
                starts[to], ends[to] = word_starts[first] - begin, word_ends[first + size - 1] - begin
                to += 1
        new_offsets[row + 1] = to
    return new_offsets, hashes[:to].copy(), starts[:to].copy(), ends[:to].copy()
