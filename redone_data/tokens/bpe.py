"""Byte-level BPE over Arrow buffers: the ids of ``tokenizers``, with no Python object a document.

Merging is the textbook rule (of all neighbouring pairs, the one learned first, the leftmost of equals). Four things
make it fast: pretokens are found by a kernel (pretokens.py); pretokens of up to 15 bytes are remembered with their ids
(8 MB, 16 bytes of key compared at once: 96 % of English); a character of several bytes starts as its own token where
the merges allow it (tables.py), so that 10 Chinese characters start as 10 symbols, not 30; and these are parted where
no token spans two of them, so that half of Chinese needs no merge, and what needs several is remembered as well.
"""

from typing import Any

import numpy as np

from redone_data.text.buffers import Bytes, Int64
from redone_data.text.kernel import inlined, kernel, lean
from redone_data.text.simd import load8, load_most
from redone_data.tokens.pretokens import decode, look, pretoken_ends
from redone_data.tokens.tables import (
    BORDERS_OF_ROW,
    CHARS_END,
    HASH,
    ID_BITS,
    NO_NEIGHBOUR,
    NO_RANK,
    NOTHING,
    OVERFULL,
    RANK_BITS,
    RANK_MASK,
    Flags,
    Int32,
    Tables,
    UInt32,
    bigram,
    start_bucket,
)

CACHED_BYTES, CACHED_IDS = 15, 6
SPILL = CACHED_IDS  # places that may be written beyond the last id
_SETS = 1 << 17
_ID = (1 << ID_BITS) - 1
SHORT = 48  # symbols up to which the next merge is found by looking at all of them


def new_cache() -> Int64:
    """Byte strings met before, two to a cache line: 15 bytes and how many, the number of ids and up to 6 ids."""
    places = np.zeros(_SETS * 8 + 8, np.int64)
    first = -places.ctypes.data % 64 // 8
    return places[first : first + _SETS * 8]


@kernel
def doubtful_rows(offsets: Int64, data: Bytes, tables: Tables) -> Flags:
    """bool[rows]: texts that NFC may change, hold a character not known here, or hold the text of an added token."""
    classes, heads, needles, needle_offsets = tables.classes, tables.needle_heads, tables.needles, tables.needle_offsets
    doubtful = np.zeros(len(offsets) - 1, np.bool_)
    for row in range(len(doubtful)):
        position, end = offsets[row], offsets[row + 1]
        while position < end:
            byte = data[position]
            if heads[byte] and _needle_at(data, position, end, needles, needle_offsets):
                doubtful[row] = True
                break
            if byte < 0x80:
                position += 1
                continue
            kind, position = look(data, position, classes)
            if kind & tables.doubt:
                doubtful[row] = True
                break
    return doubtful


@lean
def _needle_at(data: Bytes, position: int, end: int, needles: Bytes, needle_offsets: Int64) -> bool:
    for number in range(len(needle_offsets) - 1):
        start, stop = needle_offsets[number], needle_offsets[number + 1]
        at = 0
        while start + at < stop and position + at < end and data[position + at] == needles[start + at]:
            at += 1
        if start + at == stop:
            return True
    return False


@kernel
def encode_rows(
    offsets: Int64,
    data: Bytes,
    tables: Tables,
    cache: Int64,
    given_rows: Flags,
    given_offsets: Int64,
    given: UInt32,
    end_id: int,
    out: UInt32,
    num_tokens: Int64,
) -> int:
    """Write the ids of each row and ``end_id`` after it; ``given_rows`` have theirs in ``given``. Ids written in all.

    out: of at least one place a byte, one a row, those given, and SPILL. num_tokens: int64[rows], end token included.
    """
    longest = max(np.max(np.diff(offsets)), SHORT)
    ends, heap, scratch = (
        np.empty(longest, np.int64),
        np.empty(3 * longest, np.int64),
        np.empty((4, longest + 1), np.int64),
    )
    to, number = 0, 0
    for row in range(len(offsets) - 1):
        first = to
        if given_rows[row]:
            for at in range(given_offsets[number], given_offsets[number + 1]):
                out[to] = given[at]
                to += 1
            number += 1
        else:
            start, end = offsets[row], offsets[row + 1]
            count = pretoken_ends(data, start, end, tables.classes, tables.scheme, ends)
            to = _encode_pretokens(
                data,
                start,
                ends,
                count,
                tables.starts,
                tables.borders,
                tables.bigrams,
                tables.start_pairs,
                tables.pairs,
                tables.merged_ids,
                cache,
                scratch[0],
                scratch[1],
                scratch[2],
                scratch[3],
                heap,
                out,
                to,
            )
        out[to] = end_id
        to += 1
        num_tokens[row] = to - first
    return to


@lean
def _encode_pretokens(
    data: Bytes,
    position: int,
    ends: Int64,
    num_pretokens: int,
    starts: Int32,
    borders: Flags,
    bigrams: Int64,
    start_pairs: Int64,
    pairs: Int64,
    merged_ids: Int32,
    cache: Int64,
    symbols: Int64,
    places: Int64,
    parts: Int64,
    ranks: Int64,
    heap: Int64,
    out: UInt32,
    to: int,
) -> int:
    """Write the ids of all pretokens; the place after them."""
    for pretoken in range(num_pretokens):
        stop = ends[pretoken]
        low: Any = np.int64(0)
        high: Any = np.int64(0)
        entry: Any = np.int64(0)
        short = stop - position <= CACHED_BYTES
        if short:
            low, high = _key(data, position, stop)
            entry = _entry(low, high)
            at = _found(cache, entry, low, high)
            if at >= 0:
                to = _write_cached(cache, at, out, to)
                position = stop
                continue
        first = to
        num_parts = _symbols(data, position, stop, starts, borders, bigrams, symbols, places, parts)
        begin: Any = np.int64(0)
        for part in range(num_parts):
            end: Any = parts[part]
            count = end - begin
            if count <= 2:
                # Whether there are two, and whether they merge, cannot be predicted: no branch.
                one, other = symbols[begin], symbols[end - 1] if count == 2 else np.int64(NOTHING)
                merged = _merged_start(start_pairs, pairs, merged_ids, one, other)
                out[to] = merged if merged >= 0 else one
                out[to + 1] = other
                to += count - (merged >= 0)
            elif num_parts > 1 and places[end] - places[begin] <= CACHED_BYTES:
                # A part has the same ids wherever it stands, as a whole pretoken too.
                its_low, its_high = _key(data, places[begin], places[end])
                its_entry = _entry(its_low, its_high)
                at = _found(cache, its_entry, its_low, its_high)
                if at >= 0:
                    to = _write_cached(cache, at, out, to)
                else:
                    after = _write_merged(symbols, ranks, heap, begin, count, pairs, merged_ids, out, to)
                    _remember(cache, its_entry, its_low, its_high, out, to, after - to)
                    to = after
            else:
                to = _write_merged(symbols, ranks, heap, begin, count, pairs, merged_ids, out, to)
            begin = end
        if short:
            _remember(cache, entry, low, high, out, first, to - first)
        position = stop
    return to


@inlined
def _key(data: Bytes, start: int, stop: int) -> tuple[Any, Any]:
    """Up to 15 bytes and their number, as two integers."""
    low = np.int64(load_most(data, start, stop))
    high = np.int64(load_most(data, start + 8, stop)) if stop - start > 8 else np.int64(0)
    return low, high | (stop - start) << 56


@inlined
def _entry(low: Any, high: Any) -> Any:
    return (((low ^ (high * HASH)) * HASH) >> 40 & (_SETS - 1)) << 3


@inlined
def _found(cache: Int64, entry: Any, low: Any, high: Any) -> Any:
    """Where the key lies in the cache, or -1."""
    # Which of the two it is cannot be predicted, so that is no branch.
    at = entry + ((cache[entry + 4] == low) & (cache[entry + 5] == high)) * 4
    return at if cache[at] == low and cache[at + 1] == high else np.int64(-1)


@inlined
def _write_cached(cache: Int64, at: Any, out: UInt32, to: int) -> Any:
    packed = cache[at + 2]
    out[to] = packed & _ID
    out[to + 1] = packed >> ID_BITS & _ID
    out[to + 2] = packed >> 2 * ID_BITS & _ID
    count = packed >> 60
    if count > 3:
        rest = cache[at + 3]
        out[to + 3] = rest & _ID
        out[to + 4] = rest >> ID_BITS & _ID
        out[to + 5] = rest >> 2 * ID_BITS & _ID
    return to + count


@lean
def _remember(cache: Int64, entry: int, low: int, high: int, out: UInt32, first: int, count: int) -> None:
    """Put a key and its ids in the cache; of the two that share its place the older one goes."""
    if count > CACHED_IDS:
        return
    packed, rest = np.int64(count) << 60, np.int64(0)
    for at in range(min(count, 3)):
        packed |= np.int64(out[first + at]) << at * ID_BITS
    for at in range(3, count):
        rest |= np.int64(out[first + at]) << (at - 3) * ID_BITS
    for at in range(4):
        cache[entry + 4 + at] = cache[entry + at]
    cache[entry], cache[entry + 1], cache[entry + 2], cache[entry + 3] = low, high, packed, rest


@lean
def _symbols(
    data: Bytes,
    start: int,
    stop: int,
    starts: Int32,
    borders: Flags,
    bigrams: Int64,
    symbols: Int64,
    places: Int64,
    parts: Int64,
) -> int:
    """Fill in what a pretoken starts as, where each symbol lies, and where each part ends; how many parts.

    Two characters that start as tokens, and stand side by side in no token, part the pretoken: each part is merged
    alone, and most parts of a Chinese sentence are a token or two.
    """
    count: Any = np.int64(0)
    num_parts: Any = np.int64(0)
    position: Any = start
    before: Any = np.int64(-1)  # the character before, where it started as a token
    while position < stop:
        byte = load8(data, position)
        if byte < 0x80:
            symbols[count], places[count] = starts[CHARS_END + byte], position
            count += 1
            before = np.int64(-1)
            position += 1
            continue
        code, after = decode(data, position)
        entry = np.int64(starts[code]) if code < CHARS_END else np.int64(-1)
        left = load8(data, position - 1) if position > start else np.int64(NO_NEIGHBOUR)
        right = load8(data, after) if after < stop else np.int64(NO_NEIGHBOUR)
        row = (entry & 0xFF) * BORDERS_OF_ROW
        if entry >= 0 and not (borders[row + left] | borders[row + NO_NEIGHBOUR + 1 + right]):
            bit = bigram(before, code)
            # Without a branch: one that nobody could predict.
            parts[num_parts] = count
            num_parts += (before >= 0) & ((bigrams[bit >> 6] >> (bit & 63) & 1) == 0)
            symbols[count], places[count] = entry >> 8, position
            count += 1
            before = code
            position = after
        else:
            before = np.int64(-1)
            while position < after:
                symbols[count], places[count] = starts[CHARS_END + load8(data, position)], position
                count += 1
                position += 1
    parts[num_parts] = count
    places[count] = stop
    found: int = num_parts + 1
    return found


@inlined
def _merged_start(start_pairs: Int64, pairs: Int64, merged_ids: Int32, left: Any, right: Any) -> Any:
    """What two symbols merge to that are characters or bytes, or -1."""
    key = left << ID_BITS | right
    bucket = start_bucket(key)
    first, second = start_pairs[bucket], start_pairs[bucket + 1]
    if second == OVERFULL:
        rank = _rank(pairs, left, right)
        return np.int64(merged_ids[rank]) if rank != NO_RANK else np.int64(-1)
    entry = first if first >> ID_BITS == key else second
    return entry & _ID if entry >> ID_BITS == key else np.int64(-1)


@lean
def _write_merged(
    symbols: Int64,
    ranks: Int64,
    heap: Int64,
    begin: int,
    count: int,
    pairs: Int64,
    merged_ids: Int32,
    out: UInt32,
    to: int,
) -> int:
    """Merge ``count`` symbols from ``begin`` on, and write what is left; the place after it."""
    own = symbols[begin : begin + count]
    if count > SHORT:
        count = _merge_long(own, ranks, heap, count, pairs, merged_ids)
    else:
        count = _merge_short(own, ranks, count, pairs, merged_ids)
    for at in range(count):
        out[to + at] = own[at]
    return to + count


@lean
def _rank(pairs: Int64, left: int, right: int) -> int:
    mask = len(pairs) - 1
    key = np.int64(left) << ID_BITS | np.int64(right)
    slot = ((key * HASH) >> 32) & mask
    while True:
        entry = pairs[slot]
        if entry >> RANK_BITS == key:
            found: int = entry & RANK_MASK
            return found
        if entry < 0:
            return NO_RANK
        slot = (slot + 1) & mask


@lean
def _merge_short(symbols: Int64, ranks: Int64, count: int, pairs: Int64, merged_ids: Int32) -> int:
    for at in range(count - 1):
        ranks[at] = _rank(pairs, symbols[at], symbols[at + 1])
    while count > 1:
        best, place = NO_RANK, 0
        for at in range(count - 1):
            if ranks[at] < best:
                best, place = ranks[at], at
        if best == NO_RANK:
            break
        symbols[place] = merged_ids[best]
        for at in range(place + 1, count - 1):
            symbols[at] = symbols[at + 1]
            ranks[at] = ranks[at + 1]
        count -= 1
        if place > 0:
            ranks[place - 1] = _rank(pairs, symbols[place - 1], symbols[place])
        if place < count - 1:
            ranks[place] = _rank(pairs, symbols[place], symbols[place + 1])
    return count


@lean
def _merge_long(symbols: Int64, links: Int64, heap: Int64, count: int, pairs: Int64, merged_ids: Int32) -> int:
    """The same by a heap of (rank, place), for runs without a space and for noise: n log n.

    links: where the next symbol is (upper half) and the one before (lower half), plus one.
    """
    size = 0
    for at in range(count):
        links[at] = (at + 2) << 32 | at
        rank = _rank(pairs, symbols[at], symbols[at + 1]) if at + 1 < count else NO_RANK
        if rank != NO_RANK:
            size = _push(heap, size, rank << 40 | at)
    while size:
        at, rank = heap[0] & ((1 << 40) - 1), heap[0] >> 40
        size = _pop(heap, size)
        right = (links[at] >> 32) - 1
        # An entry is stale when either symbol has changed since.
        if symbols[at] < 0 or right >= count or _rank(pairs, symbols[at], symbols[right]) != rank:
            continue
        symbols[at] = merged_ids[rank]
        symbols[right] = -1
        beyond, left = (links[right] >> 32) - 1, (links[at] & 0xFFFFFFFF) - 1
        links[at] = (beyond + 1) << 32 | (left + 1)
        if beyond < count:
            links[beyond] = links[beyond] >> 32 << 32 | (at + 1)
            fresh = _rank(pairs, symbols[at], symbols[beyond])
            if fresh != NO_RANK:
                size = _push(heap, size, fresh << 40 | at)
        if left >= 0:
            fresh = _rank(pairs, symbols[left], symbols[at])
            if fresh != NO_RANK:
                size = _push(heap, size, fresh << 40 | left)
    kept = 0
    for at in range(count):
        if symbols[at] >= 0:
            symbols[kept] = symbols[at]
            kept += 1
    return kept


@lean
def _push(heap: Int64, size: int, value: int) -> int:
    at = size
    while at > 0 and heap[(at - 1) >> 1] > value:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = value
    return size + 1


@lean
def _pop(heap: Int64, size: int) -> int:
    size -= 1
    value = heap[size]
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = value
    return size
