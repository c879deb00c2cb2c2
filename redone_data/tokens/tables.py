"""What a tokenizer.json says, as arrays that a kernel looks things up in (bpe.py merges with them).

Beside the merges themselves they hold what is proved from them at load: which characters of several bytes may start as
one token, and beside what not (`_character_starts` has the argument); which two characters no token has side by side.
A tokenizer of which anything is not known here is refused by name.
"""

import json
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from redone_data.text.buffers import Bytes, Int64, frozen
from redone_data.text.kernel import inlined, kernel
from redone_data.tokens.pretokens import (
    SCHEMES,
    UNKNOWN,
    UNSAFE,
    Scheme,
    character_classes,
)

UInt32 = npt.NDArray[np.uint32]
Int32 = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

ID_BITS, RANK_BITS = 20, 21
RANK_MASK = (1 << RANK_BITS) - 1
NO_RANK = RANK_MASK
HASH = 0x1E3779B97F4A7C15
CHARS_END = 0x20000
NO_NEIGHBOUR = 256
BORDERS_OF_ROW = 2 * (NO_NEIGHBOUR + 1)
NUM_START_BUCKETS = 1 << 16
NOTHING = (1 << ID_BITS) - 1  # an id that no token has
OVERFULL = -2  # second of a bucket that more than two fall in: `pairs` has them
NUM_BIGRAM_BITS = 1 << 19
_NEVER_IN_UTF8 = {0xC0, 0xC1, *range(0xF5, 0x100)}


class UnsupportedError(Exception):
    """What of a tokenizer.json is not known here."""


class Tables(NamedTuple):
    """A BPE model, and what its pretokenizer needs. M merges."""

    scheme: Scheme
    classes: Bytes  # [0x110000]
    starts: Int32  # [CHARS_END + 256]: a character's token << 8 | its row of `borders`, or -1; then the bytes' tokens
    borders: Flags  # [rows * 2 * 257]: a character of this row is bytes at first after, and before, this byte
    bigrams: Int64  # bits: two characters by their hash, which some token has side by side
    start_pairs: Int64  # buckets of two, by hash: left id, right id, merged id, where both are characters or bytes
    pairs: Int64  # open addressing, a power of 2: left id, right id, rank
    merged_ids: Int32  # [M], by rank
    needles: Bytes  # texts that stand for an added token, end to end
    needle_offsets: Int64
    needle_heads: Flags  # [256]: their first bytes
    doubt: int  # classes of characters that ask for a second look

    @property
    def normalizes(self) -> bool:
        return bool(self.doubt & UNSAFE)


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
        frozen(_start_pairs(left, right, merged, starts)),
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
        if content.isascii():
            continue  # no character of several bytes
        begin = next((at for at, byte in enumerate(content) if byte & 0xC0 != 0x80), len(content))
        end = next((at for at in range(len(content) - 1, -1, -1) if content[at] & 0xC0 != 0x80), len(content))
        if end < len(content) and len(content) - end == _width(content[end]):
            end = len(content)
        if 0 < begin < len(content):
            leading.setdefault(content[:begin], {}).setdefault(content[begin], rank)
        if 0 < end < len(content):
            trailing.setdefault(content[end:], {}).setdefault(content[end - 1], rank)
        text = content[begin:end].decode(errors="ignore")
        beside.update(pairwise(text))
        if len(text) == 1 and len(text.encode()) == len(content):
            characters.append((content, int(merged[rank])))
    bigrams = np.zeros(NUM_BIGRAM_BITS // 64, np.int64)
    codes = np.array([[ord(first), ord(second)] for first, second in beside], np.int64).reshape(-1, 2)
    _fill_bigrams(codes, bigrams)
    starts = np.full(CHARS_END + 256, -1, np.int32)
    starts[CHARS_END:] = byte_ids
    rows: dict[tuple[frozenset[int], frozenset[int]], int] = {}
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
    return starts, borders.reshape(-1), bigrams


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


def _start_pairs(left: Int64, right: Int64, merged: Int64, starts: Int32) -> Int64:
    """The merges of two symbols that a pretoken may start with, where one look at two entries finds them."""
    symbols = np.concatenate([starts[:CHARS_END][starts[:CHARS_END] >= 0] >> 8, starts[CHARS_END:]])
    both = np.isin(left, symbols) & np.isin(right, symbols)
    table = np.full(2 * NUM_START_BUCKETS, -1, np.int64)
    _fill_start_pairs(left[both] << ID_BITS | right[both], merged[both], table)
    return table


@kernel
def _fill_start_pairs(keys: Int64, merged: Int64, table: Int64) -> None:
    for number in range(len(keys)):
        bucket = start_bucket(keys[number])
        if table[bucket] < 0:
            table[bucket] = keys[number] << ID_BITS | merged[number]
        else:
            table[bucket + 1] = keys[number] << ID_BITS | merged[number] if table[bucket + 1] == -1 else OVERFULL


def _pair_table(left: Int64, right: Int64) -> Int64:
    table = np.full(1 << max(4, int(len(left) * 1.2).bit_length()), -1, np.int64)
    _fill_pairs(left, right, table)
    return table


@kernel
def _fill_pairs(left: Int64, right: Int64, table: Int64) -> None:
    mask = len(table) - 1
    for rank in range(len(left)):
        key = left[rank] << ID_BITS | right[rank]
        slot = ((key * HASH) >> 32) & mask
        while table[slot] >= 0:
            slot = (slot + 1) & mask
        table[slot] = key << RANK_BITS | rank


@kernel
def _fill_bigrams(codes: Int64, bigrams: Int64) -> None:
    for number in range(len(codes)):
        bit = bigram(codes[number, 0], codes[number, 1])
        bigrams[bit >> 6] |= np.int64(1) << (bit & 63)


@inlined
def bigram(first: Any, second: Any) -> Any:
    """The bit of two characters in :attr:`Tables.bigrams`."""
    return ((first << 20 | second) * HASH >> 40) & (NUM_BIGRAM_BITS - 1)


@inlined
def start_bucket(key: Any) -> Any:
    """Where a pair lies in :attr:`Tables.start_pairs`."""
    return (key * HASH >> 40 & (NUM_START_BUCKETS - 1)) << 1
