"""Fingerprints of near-duplicates: word n-grams, MinHash signatures, LSH band keys, exact Jaccard to verify pairs.

Short posts decide the settings: word 3-grams, 25 bands x 5 rows, then pairs verified by exact Jaccard; a post of fewer
than 3 words still has one shingle. Links and mentions are skipped, ``#`` is stripped, case and full-width forms folded.
MinHash: Broder 1997, doi:10.1109/SEQUEN.1997.666900.
Banding: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.

Rows without shingles (empty text, or white space alone) have the signature ``EMPTY_MINIMUM`` throughout, which no other
row can have, and the band key ``EMPTY_BAND_KEY``, which no other row can have: skip that key when grouping, and they
collide with nothing. Their Jaccard similarity is 0, also with each other.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.rng import stream
from redone_data.text.buffers import Bytes, Float64, Int64, UInt32, UInt64, frozen, string_buffers
from redone_data.text.characters import CLASS_MASK, SPACE, class_byte, decode
from redone_data.text.hashing import load64, mix64
from redone_data.text.kernel import kernel
from redone_data.text.words import CJK, HASHTAG, NONE, WORD, next_word

EMPTY_MINIMUM, LARGEST_MINIMUM = np.uint32(0xFFFFFFFF), np.uint32(0xFFFFFFFE)
EMPTY_BAND_KEY = np.uint64(0)
FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
INSERTION_SORT_MOST = 48


class Shingles(NamedTuple):
    """Hashes of row ``i`` are ``hashes[offsets[i]:offsets[i + 1]]``, ascending, without repeats."""

    offsets: Int64
    hashes: UInt64


def shingles(array: pa.Array | pa.ChunkedArray, ngram: int = 3) -> Shingles:
    """Hashes of the runs of ``ngram`` consecutive words of each text: offsets int64[n + 1], hashes uint64[m].

    A text with fewer words gives one shingle of all of them. Without words its other units (emoji, mentions, links)
    stand in, without units its bytes. Raises :class:`RedoneError` for nulls and for ``ngram`` below 1.
    """
    if ngram < 1:
        raise RedoneError(f"ngram is {ngram}; it must be at least 1")
    offsets, data = string_buffers(array)
    rows, hashes = _shingle_rows(offsets, data, ngram)
    return Shingles(frozen(rows), frozen(hashes))


def signatures(shingles: Shingles, num_perm: int = 125, seed: int = 1, *, threads: int = 1) -> UInt32:
    """uint32[n, num_perm]: for each permutation the least permuted shingle of the row.

    A permutation is ``(a * x + b) mod 2**64 >> 32`` of the low half ``x`` of a shingle, ``a`` and ``b`` of 64 bits:
    strongly universal (Dietzfelbinger 1996, doi:10.1007/3-540-60922-9_46). ``threads``
    share the rows and change nothing.
    """
    if num_perm < 1 or threads < 1:
        raise RedoneError(f"num_perm is {num_perm} and threads {threads}; each must be at least 1")
    factors, terms = stream(seed, "minhash").integers(0, 1 << 64, (2, num_perm), np.uint64, endpoint=False)
    out = np.empty((len(shingles.offsets) - 1, num_perm), np.uint32)
    if threads == 1:
        _sign_rows(shingles.offsets, shingles.hashes, factors, terms, out, 0, len(out))
        return out
    bounds = np.linspace(0, len(out), threads + 1).astype(np.int64)
    with ThreadPoolExecutor(threads) as pool:
        for done in [
            pool.submit(_sign_rows, shingles.offsets, shingles.hashes, factors, terms, out, first, last)
            for first, last in itertools.pairwise(bounds)
        ]:
            done.result()
    return out


def band_keys(signatures: UInt32, bands: int = 25, rows: int = 5) -> UInt64:
    """uint64[n, bands]: one key for each run of ``rows`` minima; equal keys in one band make a candidate pair.

    Keys of different bands differ even where their minima agree. ``EMPTY_BAND_KEY`` marks a row without shingles.
    """
    if bands < 1 or rows < 1 or bands * rows > signatures.shape[1]:
        raise RedoneError(
            f"{bands} bands x {rows} rows need {bands * rows} minima; the signatures have {signatures.shape[1]}"
        )
    return _key_rows(signatures, bands, rows)


def jaccard(shingles: Shingles, left: Int64, right: Int64) -> Float64:
    """float64[k]: shared shingles over all shingles of the rows ``left[k]`` and ``right[k]``, by a merge."""
    count = len(shingles.offsets) - 1
    if len(left) != len(right):
        raise RedoneError(f"left names {len(left)} rows and right {len(right)}; a pair needs both")
    for side in (left, right):
        if len(side) and not (side.min() >= 0 and side.max() < count):
            raise RedoneError(f"pairs name rows {side.min()} to {side.max()}; there are rows 0 to {count - 1}")
    return _compare_rows(shingles.offsets, shingles.hashes, left, right)


@kernel
def word_hash(data: Bytes, start: int, end: int) -> np.uint64:
    """FNV-1a and :func:`mix64` of the bytes, with ASCII letters lowered and full-width ASCII made half-width."""
    value = FNV_OFFSET
    position = start
    while position < end:
        byte = data[position]
        # U+FF01..U+FF5E are EF BC 81..EF BD 9E, and lie 0xFEE0 above their ASCII forms.
        if byte == 0xEF and position + 2 < end and (data[position + 1] == 0xBC or data[position + 1] == 0xBD):
            folded = (np.int64(data[position + 1]) - 0xBC) * 64 + np.int64(data[position + 2]) - 0x80 + 0x20
            if 0x21 <= folded <= 0x7E:
                byte = np.uint8(folded)
                position += 2
        if 65 <= byte <= 90:
            byte |= 0x20
        value = (value ^ np.uint64(byte)) * FNV_PRIME
        position += 1
    return mix64(value)


@kernel
def bytes_hash(data: Bytes, start: int, end: int) -> np.uint64:
    """A 64-bit hash of the bytes as they are, eight at a time."""
    value = np.uint64(end - start)
    position = start
    while position + 8 <= end:
        value = mix64(value ^ np.uint64(load64(data, position)))
        position += 8
    tail = np.uint64(0)
    while position < end:
        tail = (tail << np.uint64(8)) | np.uint64(data[position])
        position += 1
    return mix64(value ^ tail)


@kernel
def ngram_hash(words: UInt64, first: int, count: int) -> np.uint64:
    """The hash of ``count`` words in their order."""
    value = np.uint64(count)
    for index in range(first, first + count):
        value = mix64(value ^ words[index])
    return value


@kernel
def is_blank(data: Bytes, position: int, end: int) -> bool:
    """Whether the text is white space alone, or empty."""
    while position < end:
        code, position = decode(data, position, end)
        if class_byte(code) & CLASS_MASK != SPACE:
            return False
    return True


@kernel
def _collect_words(data: Bytes, begin: int, end: int, words: UInt64) -> int:
    count = others = 0
    start, position, kind = next_word(data, begin, begin, end)
    while kind != NONE:
        if kind in (WORD, CJK):
            words[count] = word_hash(data, start, position)
            count += 1
        elif kind == HASHTAG:
            # What follows the sign is read again as plain text.
            position = decode(data, start, end)[1]
        else:
            others += 1
        start, position, kind = next_word(data, begin, position, end)
    if count > 0:
        return count
    if others > 0:
        start, position, kind = next_word(data, begin, begin, end)
        while kind != NONE:
            words[count] = word_hash(data, start, position)
            count += 1
            start, position, kind = next_word(data, begin, position, end)
    elif not is_blank(data, begin, end):
        words[0] = word_hash(data, begin, end)
        count = 1
    return count


@kernel
def _sort(values: UInt64, count: int) -> None:
    if count > INSERTION_SORT_MOST:
        values[:count].sort()
        return
    for index in range(1, count):
        value = values[index]
        slot = index
        while slot > 0 and values[slot - 1] > value:
            values[slot] = values[slot - 1]
            slot -= 1
        values[slot] = value


@kernel
def _shingle_rows(offsets: Int64, data: Bytes, ngram: int) -> tuple[Int64, UInt64]:
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    words, found = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    # No more shingles than bytes; pages of memory that are never touched cost nothing.
    hashes = np.empty(offsets[-1] - offsets[0], np.uint64)
    new_offsets = np.zeros(len(offsets), np.int64)
    to = 0
    for row in range(len(offsets) - 1):
        count = _collect_words(data, offsets[row], offsets[row + 1], words)
        if count > 0:
            size = min(ngram, count)
            total = count - size + 1
            for first in range(total):
                found[first] = ngram_hash(words, first, size)
            _sort(found, total)
            for index in range(total):
                if index == 0 or found[index] != found[index - 1]:
                    hashes[to] = found[index]
                    to += 1
        new_offsets[row + 1] = to
    return new_offsets, hashes[:to].copy()


@kernel
def _sign_rows(
    offsets: Int64, hashes: UInt64, factors: UInt64, terms: UInt64, out: UInt32, first: int, last: int
) -> None:
    least = np.empty(len(factors), np.uint32)
    for row in range(first, last):
        begin, end = offsets[row], offsets[row + 1]
        least[:] = EMPTY_MINIMUM if begin == end else LARGEST_MINIMUM
        for index in range(begin, end):
            low = hashes[index] & np.uint64(0xFFFFFFFF)
            for perm in range(len(factors)):
                value = np.uint32((factors[perm] * low + terms[perm]) >> np.uint64(32))
                least[perm] = min(least[perm], value)
        out[row] = least


@kernel
def _key_rows(signatures: UInt32, bands: int, rows: int) -> UInt64:
    out = np.empty((len(signatures), bands), np.uint64)
    for row in range(len(signatures)):
        empty = signatures[row, 0] == EMPTY_MINIMUM
        for band in range(bands):
            key = mix64(np.uint64(band + 1))
            for index in range(band * rows, (band + 1) * rows):
                key = mix64(key ^ np.uint64(signatures[row, index]))
            out[row, band] = EMPTY_BAND_KEY if empty else max(key, np.uint64(1))
    return out


@kernel
def _compare_rows(offsets: Int64, hashes: UInt64, left: Int64, right: Int64) -> Float64:
    out = np.zeros(len(left), np.float64)
    for pair in range(len(left)):
        a, a_end = offsets[left[pair]], offsets[left[pair] + 1]
        b, b_end = offsets[right[pair]], offsets[right[pair] + 1]
        total = a_end - a + b_end - b
        shared = 0
        while a < a_end and b < b_end:
            shared += hashes[a] == hashes[b]
            below, above = hashes[a] <= hashes[b], hashes[a] >= hashes[b]
            a += below
            b += above
        if total > 0:
            out[pair] = shared / (total - shared)
    return out
