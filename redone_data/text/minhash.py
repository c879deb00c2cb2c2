"""Fingerprints of near-duplicates: word n-grams, MinHash signatures, LSH band keys, exact Jaccard of pairs.

A post of fewer words than an n-gram has still one shingle. Links and mentions are skipped, ``#`` is stripped, case and
full-width forms folded. From Arrow text to signatures in one pass at 425 MB/s a core (benchmarks/signatures.py),
neither sorting shingles nor dropping repeats: a minimum does not care. MinHash: Broder 1997,
doi:10.1109/SEQUEN.1997.666900. Banding: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.
Permutations: datasketch 2.0, ``affine32``, bit for bit.

Rows without shingles (empty text, or white space alone) have the signature ``EMPTY_MINIMUM`` throughout and the band
key ``EMPTY_BAND_KEY``, which no other row can have: skip that key when grouping, and they collide with nothing. Their
Jaccard similarity is 0, also with each other.

Kernels run without the interpreter lock. ``threads`` share the rows and change nothing; leave it at 1 where parts of a
corpus already run side by side.
"""

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.rng import stream
from redone_data.text.buffers import Bytes, Float64, Int64, UInt32, UInt64, frozen, string_buffers
from redone_data.text.characters import CLASS_MASK, SPACE, class_byte, decode
from redone_data.text.hashing import mix64
from redone_data.text.kernel import inlined, kernel, lean
from redone_data.text.simd import HIGH_BITS, load8, load64, load_most, lower_case
from redone_data.text.words import CJK, OPEN_HASHTAGS, WHOLE_HASHTAGS, WORD, longest_row, room_for_units, split_text

EMPTY_MINIMUM = np.uint32(0xFFFFFFFF)
EMPTY_BAND_KEY = np.uint64(0)
LANES = 64
CHAIN_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd; 2**64 over the golden ratio
FULLWIDTH_LEAD = 0xEF


class Shingles(NamedTuple):
    """Hashes of row ``i`` are ``hashes[offsets[i]:offsets[i + 1]]``, ascending, without repeats."""

    offsets: Int64
    hashes: UInt64


def shingles(array: pa.Array | pa.ChunkedArray, ngram: int = 3) -> Shingles:
    """Hashes of the runs of ``ngram`` consecutive words of each text: offsets int64[n + 1], hashes uint64[m].

    A text with fewer words gives one shingle of all of them. Without words its other units (emoji, mentions, links)
    stand in, without units its bytes. Raises :class:`RedoneError` for nulls and for ``ngram`` below 1.
    """
    check_positive(ngram=ngram)
    offsets, data = string_buffers(array)
    rows, hashes = _shingle_rows(offsets, data, ngram)
    return Shingles(frozen(rows), frozen(hashes))


def signatures(shingles: Shingles, num_perm: int = 125, seed: int = 1, *, threads: int = 1) -> UInt32:
    """uint32[n, num_perm]: for each permutation the least permuted shingle of the row.

    A permutation is ``a * h + b mod 2**32`` with ``a`` odd, a bijection, of the low half of a shingle mixed by the
    finaliser of MurmurHash3: what ``datasketch.MinHash(num_perm, seed, hashfunc=lambda h: h & 0xFFFFFFFF)`` gives.
    """
    check_positive(num_perm=num_perm, threads=threads)
    factors, terms = map(padded, permutations(num_perm, seed))
    out = np.empty((len(shingles.offsets) - 1, num_perm), np.uint32)
    in_row_ranges(
        len(out), threads, lambda a, b: _sign_rows(shingles.offsets, shingles.hashes, factors, terms, out, a, b)
    )
    return out


def text_signatures(
    array: pa.Array | pa.ChunkedArray, ngram: int = 3, num_perm: int = 125, seed: int = 1, *, threads: int = 1
) -> UInt32:
    """What ``signatures(shingles(array, ngram), num_perm, seed)`` gives, sooner: the shingles are never kept."""
    check_positive(ngram=ngram, num_perm=num_perm, threads=threads)
    offsets, data = string_buffers(array)
    factors, terms = map(padded, permutations(num_perm, seed))
    out = np.empty((len(offsets) - 1, num_perm), np.uint32)
    in_row_ranges(len(out), threads, lambda a, b: _sign_texts(offsets, data, ngram, factors, terms, out, a, b))
    return out


def band_keys(signatures: UInt32, bands: int = 25, rows: int = 5) -> UInt64:
    """uint64[n, bands]: one key for each ``rows`` minima; equal keys in one band make a candidate pair.

    Band ``k`` has the minima ``k``, ``k + bands``, ``k + 2 * bands`` and so on. Keys of different bands differ even
    where their minima agree. ``EMPTY_BAND_KEY`` marks a row without shingles.
    Multilinear hashing: Lemire and Kaser 2014, arXiv:1202.4961.
    """
    check_positive(bands=bands, rows=rows)
    if bands * rows > signatures.shape[1]:
        raise RedoneError(
            f"{bands} bands x {rows} rows need {bands * rows} minima; the signatures have {signatures.shape[1]}"
        )
    out = np.empty((len(signatures), bands), np.uint64)
    _key_rows(signatures, *band_factors(bands, rows), out)
    return out


def text_band_keys(
    array: pa.Array | pa.ChunkedArray,
    ngram: int = 3,
    bands: int = 25,
    rows: int = 5,
    seed: int = 1,
    *,
    threads: int = 1,
) -> UInt64:
    """uint64[n, bands]: the :func:`band_keys` of the :func:`text_signatures` of ``bands * rows`` minima, sooner."""
    check_positive(ngram=ngram, bands=bands, rows=rows, threads=threads)
    offsets, data = string_buffers(array)
    factors, terms = map(padded, permutations(bands * rows, seed))
    key_factors, key_terms = band_factors(bands, rows)
    out = np.empty((len(offsets) - 1, bands), np.uint64)
    in_row_ranges(
        len(out),
        threads,
        lambda a, b: _key_texts(offsets, data, ngram, factors, terms, key_factors, key_terms, out, a, b),
    )
    return out


def jaccard(shingles: Shingles, left: Int64, right: Int64) -> Float64:
    """float64[k]: shared shingles over all shingles of the rows ``left[k]`` and ``right[k]``, by a merge."""
    count = len(shingles.offsets) - 1
    if len(left) != len(right):
        raise RedoneError(f"left names {len(left)} rows and right {len(right)}; a pair needs both")
    for side in (left, right):
        if len(side) and not (side.min() >= 0 and side.max() < count):
            raise RedoneError(f"pairs name rows {side.min()} to {side.max()}; there are rows 0 to {count - 1}")
    return _compare_rows(shingles.offsets, shingles.hashes, left, right)


@functools.cache
def permutations(num_perm: int, seed: int) -> tuple[UInt32, UInt32]:
    """(factors, terms), each uint32[num_perm], as datasketch 2.0 draws them for its scheme ``affine32``."""
    check_seed(seed)
    generator = np.random.RandomState(seed)
    factors = generator.randint(0, 1 << 31, num_perm, np.uint32) * np.uint32(2) + np.uint32(1)
    terms = generator.randint(0, 1 << 32, num_perm, np.uint32)
    return frozen(factors), frozen(terms)


def padded(parameters: UInt32) -> UInt32:
    """The parameters and zeros up to a multiple of ``LANES``: vectors then leave no rest."""
    return frozen(np.pad(parameters, (0, -len(parameters) % LANES)))


@functools.cache
def band_factors(bands: int, rows: int) -> tuple[UInt64, UInt64]:
    """(uint64[bands * rows], uint64[bands]): what the minima of each band are multiplied by, and what is added."""
    generator = stream(0, "band keys")
    factors = generator.integers(0, 1 << 64, bands * rows, np.uint64) | np.uint64(1)
    return frozen(factors), frozen(generator.integers(0, 1 << 64, bands, np.uint64))


def check_positive(**settings: int) -> None:
    """Raises :class:`RedoneError` for a setting below 1."""
    for name, value in settings.items():
        if value < 1:
            raise RedoneError(f"{name} is {value}; it must be at least 1")


def check_seed(seed: int) -> None:
    """Raises :class:`RedoneError` for a seed that numpy's ``RandomState`` would refuse."""
    if not 0 <= seed < 1 << 32:
        raise RedoneError(f"seed is {seed}; it must be from 0 to 4294967295")


def in_row_ranges(rows: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Calls ``work(first, last)`` for as many ranges of rows as there are threads, side by side."""
    if threads == 1:
        work(0, rows)
        return
    bounds = np.linspace(0, rows, threads + 1).astype(np.int64).tolist()
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, first, last) for first, last in itertools.pairwise(bounds)]:
            done.result()


@inlined
def chain(value: np.uint64, word: np.uint64) -> np.uint64:
    """``value`` with 64 bits more in it: a multiplication, then its high half folded into the low one.

    Weaker than :func:`mix64` at a fourth of its cost: permutations and band keys mix again.
    """
    value = (value ^ word) * CHAIN_FACTOR
    return value ^ (value >> np.uint64(32))


@inlined
def word_hash(data: Bytes, start: int, end: int, kind: int) -> np.uint64:
    """:func:`chain` over the bytes, eight at a time, and then their number.

    ASCII letters are lowered, full-width ASCII made half-width and lowered.
    """
    size = np.uint64(end - start)
    if end - start < 8 and start + 8 <= len(data):
        eight = load64(data, start) & ((np.uint64(1) << (size * np.uint64(8))) - np.uint64(1))
        if kind == CJK:  # has nothing to fold
            return chain(np.uint64(0), eight) ^ size
        if not eight & HIGH_BITS:
            return chain(np.uint64(0), lower_case(eight)) ^ size
    return long_hash(data, start, end)


@lean
def long_hash(data: Bytes, start: int, end: int) -> np.uint64:
    """:func:`word_hash` of any word."""
    value = np.uint64(0)
    for position in range(start, end, 8):
        eight = load_most(data, position, end)
        if eight & HIGH_BITS:
            for index in range(position, min(position + 8, end)):
                if load8(data, index) == FULLWIDTH_LEAD:
                    return folded_hash(data, start, end)
        value = chain(value, lower_case(eight))
    return value ^ np.uint64(end - start)


@lean
def folded_hash(data: Bytes, start: int, end: int) -> np.uint64:
    """:func:`word_hash` byte by byte: full-width forms make the text shorter."""
    value = eight = np.uint64(0)
    size = 0
    position = start
    while position < end:
        byte = load8(data, position)
        # U+FF01..U+FF5E are EF BC 81..EF BD 9E, and lie 0xFEE0 above their ASCII forms.
        if byte == FULLWIDTH_LEAD and position + 2 < end and 0xBC <= load8(data, position + 1) <= 0xBD:
            folded = (load8(data, position + 1) - 0xBC) * 64 + load8(data, position + 2) - 0x80 + 0x20
            if 0x21 <= folded <= 0x7E:
                byte = folded
                position += 2
        if 65 <= byte <= 90:
            byte |= 0x20
        eight |= np.uint64(byte) << np.uint64(8 * (size & 7))
        size += 1
        position += 1
        if size & 7 == 0 or position == end:
            value = chain(value, eight)
            eight = np.uint64(0)
    return value ^ np.uint64(size)


@lean
def bytes_hash(data: Bytes, start: int, end: int) -> np.uint64:
    """A 64-bit hash of the bytes as they are, eight at a time."""
    value = np.uint64(end - start)
    for position in range(start, end, 8):
        value = mix64(value ^ load_most(data, position, end))
    return value


@inlined
def ngram_hash(words: UInt64, first: int, size: int) -> np.uint64:
    """:func:`chain` over ``size`` words in their order."""
    value = np.uint64(size)
    for index in range(first, first + size):
        value = chain(value, words[index])
    return value


@lean
def join_words(words: UInt64, count: int, ngram: int, grams: UInt64) -> int:
    """Writes the hash of each run of ``ngram`` words, or of all if there are fewer, and gives the number of runs."""
    size = min(ngram, count)
    runs = count - size + 1 if count > 0 else 0
    for run in range(runs):
        grams[run] = np.uint64(size)
    for place in range(size):
        for run in range(runs):
            grams[run] = chain(grams[run], words[run + place])
    return runs


@lean
def is_blank(data: Bytes, position: int, end: int) -> bool:
    """Whether the text is white space alone, or empty."""
    while position < end:
        code, position = decode(data, position, end)
        if class_byte(code) & CLASS_MASK != SPACE:
            return False
    return True


@inlined
def hash_words(
    data: Bytes, begin: int, end: int, starts: Int64, ends: Int64, kinds: Bytes, masks: UInt64, words: UInt64
) -> int:
    """Writes the hashes of the words that shingles are made of, and gives their number."""
    units = split_text(data, begin, end, starts, ends, kinds, masks, OPEN_HASHTAGS)
    count = 0
    for unit in range(units):
        kind = kinds[unit]
        if kind in (WORD, CJK):
            words[count] = word_hash(data, starts[unit], ends[unit], kind)
            count += 1
    return count if count > 0 else hash_wordless(data, begin, end, starts, ends, kinds, masks, words, units)


@lean
def hash_wordless(
    data: Bytes,
    begin: int,
    end: int,
    starts: Int64,
    ends: Int64,
    kinds: Bytes,
    masks: UInt64,
    words: UInt64,
    units: int,
) -> int:
    """:func:`hash_words` of a text without words: its units stand in, if it has ``units``, or else its bytes."""
    count = split_text(data, begin, end, starts, ends, kinds, masks, WHOLE_HASHTAGS) if units > 0 else 0
    for unit in range(count):
        words[unit] = long_hash(data, starts[unit], ends[unit])
    if count == 0 and not is_blank(data, begin, end):
        words[0] = long_hash(data, begin, end)
        count = 1
    return count


@inlined
def mix32(value: np.uint32) -> np.uint32:
    """A bijection of 32 bits: the finaliser of MurmurHash3."""
    value = (value ^ (value >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    value = np.uint32(value)
    value = np.uint32((value ^ (value >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(value ^ (value >> np.uint32(16)))


@lean
def least_permuted(
    hashes: UInt64, first: int, count: int, mixed: UInt32, factors: UInt32, terms: UInt32, least: UInt32
) -> None:
    """Writes the minima over ``count`` shingles from ``first`` on; ``mixed`` has room for them and 3 more."""
    for perm in range(len(least)):
        least[perm] = EMPTY_MINIMUM
    if count == 0:
        return
    for index in range(count):
        mixed[index] = mix32(np.uint32(hashes[first + index]))
    # Four at a time, so that the parameters are read a fourth as often; repeats of the last change no minimum.
    for index in range(count, count + 3):
        mixed[index] = mixed[count - 1]
    for index in range(0, count, 4):
        a, b, c, d = mixed[index], mixed[index + 1], mixed[index + 2], mixed[index + 3]
        for perm in range(len(least)):
            factor, term = factors[perm], terms[perm]
            left = min(np.uint32(factor * a + term), np.uint32(factor * b + term))
            right = min(np.uint32(factor * c + term), np.uint32(factor * d + term))
            least[perm] = min(least[perm], min(left, right))


@lean
def write_keys(minima: UInt32, factors: UInt64, terms: UInt64, keys: UInt64) -> None:
    """Writes the band keys of one row's minima."""
    bands = len(keys)
    empty = True
    for index in range(len(factors)):
        empty &= minima[index] == EMPTY_MINIMUM
    if empty:
        keys[:] = EMPTY_BAND_KEY
        return
    # All bands for each of their minima: neighbours in memory, so that the compiler can use vectors.
    for band in range(bands):
        keys[band] = terms[band]
    for row in range(len(factors) // bands):
        for band in range(bands):
            keys[band] += factors[row * bands + band] * np.uint64(minima[row * bands + band])
    for band in range(bands):
        keys[band] = max(mix64(keys[band]), np.uint64(1))


@lean
def sort_hashes(hashes: UInt64, count: int, buckets: Int64, out: UInt64) -> None:
    """Writes the hashes in ascending order: into buckets by their high bits, then by insertion.

    Hashes are spread evenly, so that a bucket holds about one: linear time. ``buckets`` has room for twice ``count``.
    """
    bits = 1
    while 1 << bits < count:
        bits += 1
    shift = np.uint64(64 - bits)
    buckets[: 1 << bits] = 0
    for index in range(count):
        buckets[np.int64(hashes[index] >> shift)] += 1
    total = 0
    for bucket in range(1 << bits):
        total += buckets[bucket]
        buckets[bucket] = total
    for index in range(count):
        owner = np.int64(hashes[index] >> shift)
        buckets[owner] -= 1
        out[buckets[owner]] = hashes[index]
    for index in range(1, count):
        value = out[index]
        slot = index
        while slot > 0 and out[slot - 1] > value:
            out[slot] = out[slot - 1]
            slot -= 1
        out[slot] = value


@kernel
def _shingle_rows(offsets: Int64, data: Bytes, ngram: int) -> tuple[Int64, UInt64]:
    longest = longest_row(offsets, 0, len(offsets) - 1)
    starts, ends, kinds, masks = room_for_units(longest)
    words, grams, found = np.empty(longest, np.uint64), np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    buckets = np.empty(2 * longest + 2, np.int64)
    # No more shingles than bytes; pages of memory that are never touched cost nothing.
    hashes = np.empty(offsets[-1] - offsets[0], np.uint64)
    new_offsets = np.zeros(len(offsets), np.int64)
    to = 0
    for row in range(len(offsets) - 1):
        count = hash_words(data, offsets[row], offsets[row + 1], starts, ends, kinds, masks, words)
        total = join_words(words, count, ngram, grams)
        sort_hashes(grams, total, buckets, found)
        for index in range(total):
            if index == 0 or found[index] != found[index - 1]:
                hashes[to] = found[index]
                to += 1
        new_offsets[row + 1] = to
    return new_offsets, hashes[:to].copy()


@kernel
def _sign_rows(
    offsets: Int64, hashes: UInt64, factors: UInt32, terms: UInt32, out: UInt32, first: int, last: int
) -> None:
    mixed = np.empty(longest_row(offsets, first, last) + 3, np.uint32)
    least = np.empty(len(factors), np.uint32)
    for row in range(first, last):
        begin = offsets[row]
        least_permuted(hashes, begin, offsets[row + 1] - begin, mixed, factors, terms, least)
        out[row] = least[: out.shape[1]]


@kernel
def _sign_texts(
    offsets: Int64, data: Bytes, ngram: int, factors: UInt32, terms: UInt32, out: UInt32, first: int, last: int
) -> None:
    longest = longest_row(offsets, first, last)
    starts, ends, kinds, masks = room_for_units(longest)
    words, grams, mixed = np.empty(longest, np.uint64), np.empty(longest, np.uint64), np.empty(longest + 3, np.uint32)
    least = np.empty(len(factors), np.uint32)
    for row in range(first, last):
        count = hash_words(data, offsets[row], offsets[row + 1], starts, ends, kinds, masks, words)
        runs = join_words(words, count, ngram, grams)
        least_permuted(grams, 0, runs, mixed, factors, terms, least)
        out[row] = least[: out.shape[1]]


@kernel
def _key_rows(signatures: UInt32, factors: UInt64, terms: UInt64, out: UInt64) -> None:
    for row in range(len(signatures)):
        write_keys(signatures[row], factors, terms, out[row])


@kernel
def _key_texts(
    offsets: Int64,
    data: Bytes,
    ngram: int,
    factors: UInt32,
    terms: UInt32,
    key_factors: UInt64,
    key_terms: UInt64,
    out: UInt64,
    first: int,
    last: int,
) -> None:
    longest = longest_row(offsets, first, last)
    starts, ends, kinds, masks = room_for_units(longest)
    words, grams, mixed = np.empty(longest, np.uint64), np.empty(longest, np.uint64), np.empty(longest + 3, np.uint32)
    least = np.empty(len(factors), np.uint32)
    for row in range(first, last):
        count = hash_words(data, offsets[row], offsets[row + 1], starts, ends, kinds, masks, words)
        runs = join_words(words, count, ngram, grams)
        least_permuted(grams, 0, runs, mixed, factors, terms, least)
        write_keys(least, key_factors, key_terms, out[row])


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
