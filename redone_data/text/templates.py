"""Templates: a text's words with what varies in them masked, as one hash.

Masked are numbers (digits, wherever they stand in a word), mentions, links, and what stands in quotes or brackets, up
to ``MAX_QUOTED`` words of it. Emoji and punctuation do not count, neighbouring masks are one. So one template holds
"恭喜@ann 获得第12名" and "恭喜@bob 获得第7名!". A text with few words left says little: its hash is ``NO_TEMPLATE``.
"""

import numpy as np
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.text.buffers import Bytes, Int64, UInt64, string_buffers
from redone_data.text.characters import decode
from redone_data.text.hashing import mix64
from redone_data.text.kernel import kernel
from redone_data.text.minhash import word_hash
from redone_data.text.windows import BASE, has_distinct, longest_row
from redone_data.text.words import CJK, MENTION, OPEN_HASHTAGS, URL, WORD, room_for_units, split_text

NO_TEMPLATE = np.uint64(0)
MASK = np.uint64(0xD1B54A32D192ED03)
MAX_QUOTED = 12
OPENING = np.array([ord(sign) for sign in '「『“《【〈〔（(["'], np.int64)
CLOSING = np.array([ord(sign) for sign in '」』”》】〉〕）)]"'], np.int64)


def templates(array: pa.Array | pa.ChunkedArray, *, min_words: int) -> UInt64:
    """uint64[n]: the template of each text, ``NO_TEMPLATE`` where fewer than ``min_words`` distinct words are left.

    Raises :class:`RedoneError` for nulls and for ``min_words`` below 1.
    """
    if min_words < 1:
        raise RedoneError(f"min_words is {min_words}; a template has at least 1 word")
    return _template_rows(*string_buffers(array), min_words)


@kernel
def closing_of(code: int) -> int:
    """The sign that closes what ``code`` opens, or 0."""
    for index in range(len(OPENING)):
        if OPENING[index] == code:
            found: int = CLOSING[index]
            return found
    return 0


@kernel
def has_digit(data: Bytes, start: int, end: int) -> bool:
    """Whether a word has an ASCII or full-width digit."""
    for position in range(start, end):
        if 48 <= data[position] <= 57:
            return True
        full = data[position] == 0xEF and position + 2 < end and data[position + 1] == 0xBC
        if full and 0x90 <= data[position + 2] <= 0x99:
            return True
    return False


@kernel
def _template_rows(offsets: Int64, data: Bytes, min_words: int) -> UInt64:
    longest = longest_row(offsets)
    hashes, units = np.empty(longest, np.uint64), room_for_units(longest)
    starts, ends, kinds = units.starts, units.ends, units.kinds
    out = np.empty(len(offsets) - 1, np.uint64)
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        count = 0
        for unit in range(split_text(data, begin, end, starts, ends, kinds, units.masks, OPEN_HASHTAGS)):
            kind = kinds[unit]
            if kind not in (WORD, CJK, MENTION, URL):
                continue
            masked = kind in (MENTION, URL) or (kind == WORD and has_digit(data, starts[unit], ends[unit]))
            hashes[count] = MASK if masked else mix64(word_hash(data, starts[unit], ends[unit], kind))
            starts[count] = starts[unit]
            count += 1
        _mask_quoted(data, begin, end, hashes, starts, count)
        kept = 0
        for word in range(count):
            if hashes[word] != MASK or kept == 0 or hashes[kept - 1] != MASK:
                hashes[kept] = hashes[word]
                kept += 1
        value, has_mask = np.uint64(0), False
        for word in range(kept):
            value = value * BASE + hashes[word]
            has_mask |= hashes[word] == MASK
        out[row] = NO_TEMPLATE
        if has_distinct(hashes, 0, kept, min_words + has_mask):
            out[row] = max(mix64(value), np.uint64(1))
    return out


@kernel
def _mask_quoted(data: Bytes, begin: int, end: int, hashes: UInt64, at: Int64, count: int) -> None:
    """Mask the words between an opening sign and the next sign that closes it, if they are few."""
    position, word = begin, 0
    close, first = 0, 0
    while position < end:
        code, after = decode(data, position, end)
        while word < count and at[word] < position:
            word += 1
        if close != 0 and code == close:
            if word - first <= MAX_QUOTED:
                for index in range(first, word):
                    hashes[index] = MASK
            close = 0
        elif close == 0 or word - first > MAX_QUOTED:
            close, first = closing_of(code), word
        position = after
