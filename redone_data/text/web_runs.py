"""Gopher's n-grams: the most frequent one of 2, 3 and 4 words, and runs of 5 to 10 words that occurred before.

Two bitmaps find the few pairs of words that may repeat; only those are counted in a table,
and longer runs only where the pairs within them repeat. Posts mostly have none.
"""

from typing import Any

import numpy as np

from redone_data.text.buffers import Bytes, Float64, Int64, UInt64
from redone_data.text.english_rules import HASH_FACTOR, HASH_SEED, SLOT_FACTOR, WORD_BASE, text_hash
from redone_data.text.english_words import ENDS, HASH, LENGTHS, STARTS
from redone_data.text.kernel import inlined, lean

LEAST_RUN, MOST_RUN = 5, 10
# Rows of an open-addressing table that counts keys; a new stamp empties it.
KEYS, STAMPS, TIMES = range(3)
TABLE_ROWS = 3
# Rows of notes: places that may repeat, their slots, hashes of runs; hashes, bytes and characters of the words so far.
PLACES, SLOTS, HASHES, PREFIXES, SPANS, SIZES = range(6)
NOTE_ROWS = 6
# Rows of the bitmaps: pairs that occurred, pairs that may have occurred before.
SEEN, AGAIN = range(2)
BITS_PER_KEY = 128


def powers(number: int) -> UInt64:
    """``WORD_BASE ** i`` modulo 2 ** 64."""
    values = [1]
    while len(values) < number:
        values.append(values[-1] * int(WORD_BASE) & 0xFFFFFFFFFFFFFFFF)
    return np.array(values, np.uint64)


POWER_BITS = 10
POWERS = powers(1 << POWER_BITS)


@lean
def slot_of(table: Int64, mask: int, stamp: int, key: np.uint64) -> int:
    """The slot in which ``key`` is counted, once more."""
    slot: Any = np.int64((key * SLOT_FACTOR) >> np.uint64(20)) & mask
    while table[STAMPS, slot] == stamp and table[KEYS, slot] != np.int64(key):
        slot = (slot + 1) & mask
    if table[STAMPS, slot] != stamp:
        table[STAMPS, slot], table[KEYS, slot], table[TIMES, slot] = stamp, np.int64(key), 0
    table[TIMES, slot] += 1
    found: int = slot
    return found


@lean
def mask_of(entries: int) -> int:
    size = 2
    while size < 2 * entries:
        size *= 2
    return size - 1


@lean
def may_repeat(keys: Int64, count: int, bitmaps: UInt64, places: Int64) -> int:
    """Fills ``places`` with the places of all keys that occur more than once, and of a few others; how many."""
    shift = 58
    while (1 << (64 - shift)) < BITS_PER_KEY * count:
        shift -= 1
    most = 1 << (58 - shift)
    for index in range(most):
        bitmaps[SEEN, index] = 0
    found = 0
    for index in range(count):
        bit = np.int64((np.uint64(keys[index]) * HASH_FACTOR) >> np.uint64(shift))
        before = bitmaps[SEEN, bit >> 6]
        bitmaps[SEEN, bit >> 6] = before | np.uint64(1) << np.uint64(bit & 63)
        places[found] = bit
        found += int(np.int64((before >> np.uint64(bit & 63)) & np.uint64(1)))
    if found == 0:
        return 0
    for index in range(most):
        bitmaps[AGAIN, index] = 0
    for index in range(found):
        bit = places[index]
        bitmaps[AGAIN, bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)
    found = 0
    for index in range(count):
        bit = np.int64((np.uint64(keys[index]) * HASH_FACTOR) >> np.uint64(shift))
        places[found] = index
        found += int(np.int64((bitmaps[AGAIN, bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1)))
    return found


@lean
def measure_runs(
    data: Bytes,
    words: Int64,
    count: int,
    characters: int,
    table: Int64,
    bitmaps: UInt64,
    notes: Int64,
    stamp: int,
    top: Float64,
    repeated: Float64,
) -> None:
    """Fills the shares of the most frequent runs, ``top``, and of runs that occurred before, ``repeated``."""
    if count < 2:
        return
    hashes, lengths, slots, places, keys = words[HASH], words[LENGTHS], notes[SLOTS], notes[PLACES], notes[HASHES]
    for index in range(count - 1):
        key = (np.uint64(hashes[index]) * HASH_SEED + np.uint64(hashes[index + 1])) * HASH_FACTOR
        keys[index] = np.int64(key ^ (key >> np.uint64(32)))
    found = may_repeat(keys, count - 1, bitmaps, places)
    mask = mask_of(count)
    longest = 0
    for size in range(2, 5):
        if count < size:
            return
        for index in range(found):
            first = places[index]
            key = np.uint64(hashes[first])
            for k in range(1, size):
                key = key * WORD_BASE + np.uint64(hashes[first + k]) * SLOT_FACTOR
            slots[index] = slot_of(table, mask, stamp + size, key)
        most = 1
        for index in range(found):
            most = max(most, table[TIMES, slots[index]])
        # Of equally frequent ones datatrove takes the first.
        best = 0
        if most > 1:
            index = 0
            while table[TIMES, slots[index]] != most:
                index += 1
            best = places[index]
        total = size - 1
        for k in range(size):
            total += lengths[best + k]
        top[size - 2] = most * total / characters
        repeats = 0
        for index in range(found):
            places[repeats] = places[index]
            repeats += table[TIMES, slots[index]] > 1
        if size == 2:
            longest = longest_run(places, repeats)
        # A longer run repeats only where the run from its first word on does, and that from its second.
        found = 0
        for index in range(repeats - 1):
            first = places[index]
            places[found] = first
            found += places[index + 1] == first + 1
    if longest >= LEAST_RUN - 1:
        repeated_runs(data, words, count, characters, table, bitmaps, notes, longest, stamp, repeated)


@lean
def longest_run(places: Int64, count: int) -> int:
    """The most places in a row."""
    longest = run = 0
    for index in range(count):
        run = run + 1 if index > 0 and places[index] == places[index - 1] + 1 else 1
        longest = max(longest, run)
    return longest


@lean
def repeated_runs(
    data: Bytes,
    words: Int64,
    count: int,
    characters: int,
    table: Int64,
    bitmaps: UInt64,
    notes: Int64,
    longest: int,
    stamp: int,
    repeated: Float64,
) -> None:
    """As datatrove counts: words joined without a space, a run seen before is covered whole, reading goes on behind."""
    prefixes, spans, sizes = notes[PREFIXES], notes[SPANS], notes[SIZES]
    prefixes[0] = spans[0] = sizes[0] = 0
    for index in range(count):
        start, end = words[STARTS, index], words[ENDS, index]
        prefixes[index + 1] = np.int64(np.uint64(prefixes[index]) * power(end - start) + text_hash(data, start, end))
        spans[index + 1] = spans[index] + end - start
        sizes[index + 1] = sizes[index] + words[LENGTHS, index]
    keys, places = notes[HASHES], notes[PLACES]
    for size in range(LEAST_RUN, min(MOST_RUN, longest + 1) + 1):
        runs = count - size + 1
        for index in range(runs):
            joined = power(spans[index + size] - spans[index])
            keys[index] = np.int64(np.uint64(prefixes[index + size]) - np.uint64(prefixes[index]) * joined)
        found = may_repeat(keys, runs, bitmaps, places)
        mask = mask_of(found)
        covered = following = again = 0
        for place in range(found):
            index = places[place]
            if index < following:
                continue
            if table[TIMES, slot_of(table, mask, stamp + size, np.uint64(keys[index]))] > 1:
                covered += sizes[index + size] - sizes[index]
                following = index + size
                again += 1
        if again == 0:
            # Nor does any longer run.
            return
        repeated[size - LEAST_RUN] = covered / characters


@inlined
def power(exponent: int) -> np.uint64:
    """``WORD_BASE ** exponent``."""
    value: np.uint64 = POWERS[exponent & (len(POWERS) - 1)]
    for _ in range(exponent >> POWER_BITS):
        value = value * POWERS[len(POWERS) - 1] * WORD_BASE
    return value
