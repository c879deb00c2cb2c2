"""Byte-level BPE over Arrow buffers: the ids of ``tokenizers``, with no Python object a document.

Merging is the textbook rule (of all neighbouring pairs, the one learned first, the leftmost of equals). Three things
make it fast: pretokens are found by kernels (pretokens.py); pretokens of up to 15 bytes are remembered in a table of
fixed size (4 MB); a character of several bytes starts as its own token, not as bytes, where no merge of its
bytes with a neighbour's was learned before it (`_character_starts` has the argument), so that a run of 10 Chinese
characters starts as 10 symbols, not 30.
"""

import json
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from redone_data.text.buffers import Bytes, Int64, frozen
from redone_data.text.kernel import kernel, lean
from redone_data.tokens.pretokens import (
    BLANK,
    SCHEMES,
    UNKNOWN,
    UNSAFE,
    Scheme,
    character_classes,
    decode,
    look,
    pretoken_ends,
)

UInt32 = npt.NDArray[np.uint32]
Int32 = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

ID_BITS, RANK_BITS = 20, 21
RANK_MASK = (1 << RANK_BITS) - 1
NO_RANK = RANK_MASK
_HASH = 0x1E3779B97F4A7C15
CACHE_BITS, CACHED_BYTES, CACHED_IDS = 17, 15, 6
_ID = (1 << ID_BITS) - 1
SHORT = 48  # symbols up to which the next merge is found by looking at all of them
CHARS_END = 0x20000
NO_NEIGHBOUR = 256
SAFE, NOT_AFTER_BLANK = 0, 1  # rows of `borders` that need no look
NUM_BIGRAM_BITS = 1 << 19
_NEVER_IN_UTF8 = {0xC0, 0xC1, *range(0xF5, 0x100)}


class UnsupportedError(Exception):
    """What of a tokenizer.json is not known here."""


class Tables(NamedTuple):
    """A BPE model, and what its pretokenizer needs. M merges."""

    scheme: Scheme
    classes: Bytes  # [0x110000]
    starts: Int32  # [CHARS_END + 256]: a character's token << 8 | its row of `borders`, or -1; then the bytes' tokens
    borders: Flags  # [rows, 2, 257]: a character of this row is bytes at first after, and before, this byte
    bigrams: Int64  # bits: two characters by their hash, which some token has side by side
    pairs: Int64  # open addressing, a power of 2: left id, right id, rank
    merged_ids: Int32  # [M], by rank
    needles: Bytes  # texts that stand for an added token, end to end
    needle_offsets: Int64
    needle_heads: Flags  # [256]: their first bytes
    doubt: int  # classes of characters that ask for a second look

    @property
    def normalizes(self) -> bool:
        return bool(self.doubt & UNSAFE)


class Model(NamedTuple):
    """What merging needs of :class:`Tables`."""

    starts: Int32
    borders: Flags
    bigrams: Int64
    pairs: Int64
    merged_ids: Int32


def new_cache() -> Int64:
    """Pretokens met before, a row of 32 bytes each: 15 bytes and their number, then the number of ids and 6 ids."""
    return np.zeros((1 << CACHE_BITS, 4), np.int64)


def read_tables(tokenizer_json: str) -> Tables:
    """The tables of a tokenizer.json; raises :class:`UnsupportedError` for anything not known to be done as it asks."""
    content = json.loads(tokenizer_json)
    model = content["model"]
    scheme = _scheme(content.get("pre_tokenizer"))
    normalizer = content.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise UnsupportedError(f"normalizer {normalizer.get('type')}")
    if model.get("type") != "BPE":
        raise UnsupportedError(f"model {model.get('type')}")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.get(name):
            raise UnsupportedError(f"model.{name}")
    vocab: dict[str, int] = model["vocab"]
    names = byte_names()
    byte_ids = np.array([vocab.get(name, -1) for name in names], np.int32)
    if any(byte_ids[byte] < 0 for byte in range(256) if byte not in _NEVER_IN_UTF8):
        raise UnsupportedError("a vocabulary without all bytes")
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    left, right, merged = (
        np.array([vocab[part] for part in parts], np.int64)
        for parts in (
            [pair[0] for pair in merges],
            [pair[1] for pair in merges],
            [pair[0] + pair[1] for pair in merges],
        )
    )
    if len(merges) > RANK_MASK - 1 or (len(merges) and max(vocab.values()) >= (1 << ID_BITS) - 1):
        raise UnsupportedError("a vocabulary of more than a million tokens")
    _check_order(left, right, merged)
    rank_of_pair = dict(zip(zip(left.tolist(), right.tolist(), strict=True), range(len(merges)), strict=True))
    starts, borders, bigrams = _character_starts(merges, merged, rank_of_pair, byte_ids, names)
    # A special token in text is text (encode_special_tokens); other added tokens are found wherever they stand.
    needles = [token["content"].encode() for token in content.get("added_tokens", []) if not token["special"]]
    heads = np.zeros(256, np.bool_)
    heads[[needle[0] for needle in needles]] = True
    return Tables(
        scheme,
        character_classes(scheme),
        frozen(starts),
        frozen(borders),
        frozen(bigrams),
        frozen(_pair_table(left, right)),
        frozen(merged.astype(np.int32)),
        frozen(np.frombuffer(b"".join(needles), np.uint8)),
        frozen(np.cumsum([0, *map(len, needles)], dtype=np.int64)),
        frozen(heads),
        UNKNOWN | (UNSAFE if normalizer else 0),
    )


def _scheme(pre_tokenizer: Any) -> Scheme:
    steps = (pre_tokenizer or {}).get("pretokenizers", [])
    if [step["type"] for step in steps] != ["Split", "ByteLevel"]:
        raise UnsupportedError("a pre_tokenizer other than Split and ByteLevel")
    split, byte_level = steps
    pattern = split["pattern"].get("Regex")
    if pattern not in SCHEMES:
        raise UnsupportedError(f"the pre_tokenizer pattern {pattern!r}")
    if split["behavior"] != "Isolated" or split["invert"] or byte_level["add_prefix_space"] or byte_level["use_regex"]:
        raise UnsupportedError("the options of its pre_tokenizer")
    return SCHEMES[pattern]


def byte_names() -> list[str]:
    """How GPT-2 spells each byte in a vocabulary: printable ones as themselves, the others from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _check_order(left: Int64, right: Int64, merged: Int64) -> None:
    """Tokens are made by one merge each, after their parts: then merges are applied in order of rank."""
    made = np.full(int(max(left.max(), right.max(), merged.max(), 0)) + 1 if len(merged) else 1, -1, np.int64)
    made[merged] = np.arange(len(merged))
    ranks = np.arange(len(merged))
    if (made[merged] != ranks).any() or (made[left] >= ranks).any() or (made[right] >= ranks).any():
        raise UnsupportedError("merges out of order")


def _character_starts(
    merges: list[Any], merged: Int64, rank_of_pair: dict[tuple[int, int], int], byte_ids: Int32, names: list[str]
) -> tuple[Int32, Flags, Int64]:
    """(starts, borders, bigrams) of :class:`Tables`: the characters that may start as one token, and beside what not.

    Merges are applied in order of rank (`_check_order`). Let q be the rank at which the bytes of a character, alone,
    become one token. A neighbour can take part of them before only by a merge across the border of two characters,
    of a rank below q; such tokens are few, and each names the byte on the other side of the border. Where that byte is
    another, the character is whole by rank q whatever surrounds it, and no merge of the whole has a rank below q.
    """
    spelled = str.maketrans({name: chr(byte) for byte, name in enumerate(names)})
    trailing: dict[bytes, dict[int, int]] = {}  # the first bytes of a character -> byte before them -> first rank
    leading: dict[bytes, dict[int, int]] = {}  # the last bytes of a character -> byte after them -> first rank
    characters: list[tuple[bytes, int]] = []
    beside: set[tuple[str, str]] = set()
    for rank, (first, second) in enumerate(merges):
        content = (first + second).translate(spelled).encode("latin-1")
        begin = next((at for at, byte in enumerate(content) if byte & 0xC0 != 0x80), len(content))
        end = next((at for at in range(len(content) - 1, -1, -1) if content[at] & 0xC0 != 0x80), len(content))
        if end < len(content) and len(content) - end == _width(content[end]):
            end = len(content)
        if 0 < begin < len(content):
            leading.setdefault(content[:begin], {}).setdefault(content[begin], rank)
        if 0 < end < len(content):
            trailing.setdefault(content[end:], {}).setdefault(content[end - 1], rank)
        if not content.isascii():
            text = content[begin:end].decode(errors="ignore")
            beside.update(pairwise(text))
            if len(text) == 1 and len(text.encode()) == len(content):
                characters.append((content, int(merged[rank])))
    bigrams = np.zeros(NUM_BIGRAM_BITS // 64, np.int64)
    codes = np.array([[ord(first), ord(second)] for first, second in beside], np.int64).reshape(-1, 2)
    _fill_bigrams(codes, bigrams)
    starts = np.full(CHARS_END + 256, -1, np.int32)
    starts[CHARS_END:] = byte_ids
    rows = {(frozenset[int](), frozenset[int]()): SAFE, (frozenset({BLANK}), frozenset[int]()): NOT_AFTER_BLANK}
    for content, token in characters:
        code = ord(content.decode())
        found, last_rank = _alone([int(byte_ids[byte]) for byte in content], rank_of_pair, merged)
        if found != [token] or code >= CHARS_END:
            continue
        cuts = range(1, len(content))
        not_after, not_before = (
            frozenset(byte for part in parts for byte, rank in merges_of.get(part, {}).items() if rank < last_rank)
            for parts, merges_of in (
                ((content[:cut] for cut in cuts), trailing),
                ((content[cut:] for cut in cuts), leading),
            )
        )
        row = rows.setdefault((not_after, not_before), len(rows))
        if row < 256:
            starts[code] = token << 8 | row
    borders = np.zeros((256, 2, 257), np.bool_)
    for (not_after, not_before), row in rows.items():
        if row < 256:
            borders[row, 0, list(not_after)] = True
            borders[row, 1, list(not_before)] = True
    return starts, borders, bigrams


def _width(lead: int) -> int:
    """Bytes of a character, of its first one."""
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def _alone(ids: list[int], rank_of_pair: dict[tuple[int, int], int], merged: Int64) -> tuple[list[int], int]:
    """(the ids of some bytes on their own, the highest rank that was applied): BPE in its plainest form."""
    last = -1
    while len(ids) > 1:
        rank, at = min((rank_of_pair.get(pair, NO_RANK), at) for at, pair in enumerate(pairwise(ids)))
        if rank == NO_RANK:
            break
        last = max(last, rank)
        ids[at : at + 2] = [int(merged[rank])]
    return ids, last


def _pair_table(left: Int64, right: Int64) -> Int64:
    table = np.full(1 << max(4, int(len(left) * 1.2).bit_length()), -1, np.int64)
    _fill_pairs(left, right, table)
    return table


@kernel
def _fill_pairs(left: Int64, right: Int64, table: Int64) -> None:
    mask = len(table) - 1
    for rank in range(len(left)):
        key = left[rank] << ID_BITS | right[rank]
        slot = ((key * _HASH) >> 32) & mask
        while table[slot] >= 0:
            slot = (slot + 1) & mask
        table[slot] = key << RANK_BITS | rank


@kernel
def _fill_bigrams(codes: Int64, bigrams: Int64) -> None:
    for number in range(len(codes)):
        bit = _bigram(codes[number, 0], codes[number, 1])
        bigrams[bit >> 6] |= np.int64(1) << (bit & 63)


@lean
def _rank(pairs: Int64, left: int, right: int) -> int:
    mask = len(pairs) - 1
    key = np.int64(left) << ID_BITS | np.int64(right)
    slot = ((key * _HASH) >> 32) & mask
    while True:
        entry = pairs[slot]
        if entry >> RANK_BITS == key:
            found: int = entry & RANK_MASK
            return found
        if entry < 0:
            return NO_RANK
        slot = (slot + 1) & mask


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

    out: of at least one place a byte, one a row, and those given. num_tokens: int64[rows], end token included.
    """
    model = Model(tables.starts, tables.borders, tables.bigrams, tables.pairs, tables.merged_ids)
    longest = np.max(np.diff(offsets))
    ends, heap = np.empty(longest, np.int64), np.empty(3 * longest, np.int64)
    symbols, ranks = np.empty(max(longest, SHORT), np.int64), np.empty(max(longest, SHORT), np.int64)
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
            to = _encode_pretokens(data, start, ends, count, model, cache, symbols, ranks, heap, out, to)
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
    model: Model,
    cache: Int64,
    symbols: Int64,
    ranks: Int64,
    heap: Int64,
    out: UInt32,
    to: int,
) -> int:
    for pretoken in range(num_pretokens):
        stop = ends[pretoken]
        size = stop - position
        low: Any = np.int64(0)
        high: Any = np.int64(0)
        slot: Any = np.int64(0)
        count: Any = np.int64(0)
        if size <= CACHED_BYTES:
            for at in range(min(size, 8)):
                low = low << 8 | np.int64(data[position + at])
            for at in range(8, size):
                high = high << 8 | np.int64(data[position + at])
            high = high << 8 | size
            slot = (((low ^ (high * _HASH)) * _HASH) >> 40) & ((1 << CACHE_BITS) - 1)
            if cache[slot, 0] == low and cache[slot, 1] == high:
                packed = cache[slot, 2]
                count = packed >> 60
                out[to] = packed & _ID
                if count > 1:
                    out[to + 1] = packed >> ID_BITS & _ID
                    if count > 2:
                        out[to + 2] = packed >> 2 * ID_BITS & _ID
                        packed = cache[slot, 3]
                        for at in range(3, count):
                            out[to + at] = packed & _ID
                            packed >>= ID_BITS
        if count == 0:
            count = _encode_pretoken(data, position, stop, model, symbols, ranks, heap, out, to)
            if size <= CACHED_BYTES and count <= CACHED_IDS:
                cache[slot, 0], cache[slot, 1], cache[slot, 2], cache[slot, 3] = low, high, count << 60, 0
                for at in range(count):
                    cache[slot, 2 + at // 3] |= np.int64(out[to + at]) << at % 3 * ID_BITS
        to += count
        position = stop
    return to


@lean
def _encode_pretoken(
    data: Bytes,
    start: int,
    stop: int,
    model: Model,
    symbols: Int64,
    ranks: Int64,
    heap: Int64,
    out: UInt32,
    to: int,
) -> int:
    """Write the ids of one pretoken; how many.

    Two characters that start as tokens, and stand side by side in no token, part the pretoken: each part is merged
    alone, and most parts of a Chinese sentence are a token or two.
    """
    begin = to
    count = 0
    position = start
    before: Any = np.int64(-1)  # the character before, where it started as a token
    while position < stop:
        byte = np.int64(data[position])
        code: Any = byte
        symbol: Any = np.int64(-1)
        after = position + 1
        if byte >= 0x80:
            code, after = decode(data, position)
            entry = np.int64(model.starts[code]) if code < CHARS_END else np.int64(-1)
            if entry >= 0:
                row = entry & 0xFF
                left = np.int64(data[position - 1]) if position > start else NO_NEIGHBOUR
                if row == SAFE or (row == NOT_AFTER_BLANK and left != BLANK):
                    symbol = entry >> 8
                elif row > NOT_AFTER_BLANK:
                    right = np.int64(data[after]) if after < stop else NO_NEIGHBOUR
                    if not (model.borders[row, 0, left] or model.borders[row, 1, right]):
                        symbol = entry >> 8
        if symbol >= 0:
            if before >= 0:
                bit = _bigram(before, code)
                if not model.bigrams[bit >> 6] >> (bit & 63) & 1:
                    to = _write_merged(symbols, ranks, heap, count, model, out, to)
                    count = 0
            symbols[count], before = symbol, code
            count += 1
            position = after
        else:
            before = np.int64(-1)
            while position < after:
                symbols[count] = model.starts[CHARS_END + np.int64(data[position])]
                count += 1
                position += 1
    return _write_merged(symbols, ranks, heap, count, model, out, to) - begin


@lean
def _bigram(first: Any, second: Any) -> Any:
    return ((first << 20 | second) * _HASH >> 40) & (NUM_BIGRAM_BITS - 1)


@lean
def _write_merged(symbols: Int64, ranks: Int64, heap: Int64, count: int, model: Model, out: UInt32, to: int) -> int:
    """Merge the first ``count`` of ``symbols``, and write what is left; the place after it."""
    if count == 2:
        rank = _rank(model.pairs, symbols[0], symbols[1])
        if rank != NO_RANK:
            symbols[0], count = np.int64(model.merged_ids[rank]), 1
    elif count > SHORT:
        count = _merge_long(symbols, ranks, heap, count, model.pairs, model.merged_ids)
    elif count > 2:
        count = _merge_short(symbols, ranks, count, model.pairs, model.merged_ids)
    for at in range(count):
        out[to + at] = symbols[at]
    return to + count


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
