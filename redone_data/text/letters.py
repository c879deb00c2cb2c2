"""What language identification looks at: the first letters of a post, and how much of each script they are.

Links, mentions, placeholders such as <PHONE>, digits, signs and emoji say nothing of a language; letters are put in
lower case, since a model knows few words in capitals. One pass, over no more of a post than holds `limit` characters
of letters: 300 MB/s a core of Chinese posts, and a long post costs no more than its beginning.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.text.buffers import Bytes, Int64, frozen, string_buffers
from redone_data.text.characters import CLASS_MASK, DIGIT, KANA, LATIN, MARK, OTHER_LETTER, class_byte, decode
from redone_data.text.chinese import FIRST_IDEOGRAPH, LAST_IDEOGRAPH, SIMPLIFIED, TRADITIONAL, WRITING
from redone_data.text.kernel import kernel
from redone_data.text.words import AT, FULLWIDTH_AT, follows_latin, mention_end, url_end

Int32 = npt.NDArray[np.int32]

# Columns of a tally: bytes of each script at its class (OTHER_LETTER to KANA), then counts of characters that only
# simplified or only traditional Chinese has, and of letters that differ from the one before ("hhhh" is one).
HANS, HANT, LETTERS = KANA + 1, KANA + 2, KANA + 3
TALLIES = LETTERS + 1
LOWER_END = 0x590  # Latin, Greek, Cyrillic and Armenian capitals lie below
MAX_PLACEHOLDER = 20
APOSTROPHE, CURLY_APOSTROPHE, HYPHEN, SPACE_BYTE = 0x27, 0x2019, 0x2D, 0x20
INSIDE_WORDS = (APOSTROPHE, CURLY_APOSTROPHE, HYPHEN)
LESS, GREATER = 0x3C, 0x3E


class Letters(NamedTuple):
    """Letters of row ``i`` are ``data[offsets[i]:offsets[i + 1]]``; ``tally_NT`` has a row of ``TALLIES`` for each."""

    offsets: Int64
    data: Bytes
    tally_NT: Int32


def build_lower() -> npt.NDArray[np.uint16]:
    """The lower case of each code point below LOWER_END, where it is one character of as many bytes."""
    lower = [chr(code).lower() for code in range(LOWER_END)]
    same = [len(text) == 1 and len(text.encode()) == len(chr(code).encode()) for code, text in enumerate(lower)]
    table = [ord(text) if fits else code for code, (text, fits) in enumerate(zip(lower, same, strict=True))]
    return frozen(np.array(table, np.uint16))


LOWER = build_lower()


def first_letters(array: pa.Array | pa.ChunkedArray, limit: int = 200) -> Letters:
    """The first ``limit`` characters of each text's words, in lower case, one space between words."""
    offsets, data = string_buffers(array)
    new_offsets, tally_NT = np.zeros(len(offsets), np.int64), np.zeros((len(offsets) - 1, TALLIES), np.int32)
    letters = _collect_rows(offsets, data, limit, new_offsets, tally_NT)
    return Letters(frozen(new_offsets), frozen(letters), tally_NT)


@kernel
def placeholder_end(data: Bytes, start: int, end: int) -> int:
    """The end of a placeholder such as <PHONE> at ``start``, or ``start``."""
    position = start + 1
    while position < min(end, start + MAX_PLACEHOLDER) and (65 <= data[position] <= 90 or data[position] == 95):
        position += 1
    return position + 1 if position > start + 1 and position < end and data[position] == GREATER else start


@kernel
def _collect_rows(offsets: Int64, data: Bytes, limit: int, new_offsets: Int64, tally_NT: Int32) -> Bytes:
    num_rows = len(offsets) - 1
    # A letter is at most four bytes; pages of memory that are never touched cost nothing.
    letters = np.empty(min(offsets[-1] - offsets[0], num_rows * (4 * limit + 8)), np.uint8)
    size = 0
    for row in range(num_rows):
        begin, end = offsets[row], offsets[row + 1]
        position, taken, before = begin, 0, -1
        first = size
        gap = False  # between the last letter and the next
        while position < end and taken < limit:
            code, after = decode(data, position, end)
            sort = class_byte(code) & CLASS_MASK
            if OTHER_LETTER <= sort <= KANA or (sort == MARK and size > first and not gap):
                if sort == LATIN:
                    stop = url_end(data, position, end) if code | 0x20 == 0x68 else position
                    if stop > position:
                        position, gap = stop, True
                        continue
                if gap and size > first:
                    letters[size] = SPACE_BYTE
                    size += 1
                    taken += 1
                gap = False
                taken += 1
                if code < LOWER_END:
                    low = np.int64(LOWER[code])
                    if low < 0x80:
                        letters[size] = low
                        size += 1
                    else:
                        letters[size], letters[size + 1] = 0xC0 | low >> 6, 0x80 | low & 0x3F
                        size += 2
                else:
                    for index in range(position, after):
                        letters[size] = data[index]
                        size += 1
                if sort != MARK:
                    tally_NT[row, sort] += after - position
                    tally_NT[row, LETTERS] += code != before
                    before = code
                    if FIRST_IDEOGRAPH <= code <= LAST_IDEOGRAPH:
                        writing = WRITING[code - FIRST_IDEOGRAPH]
                        tally_NT[row, HANS] += writing == SIMPLIFIED
                        tally_NT[row, HANT] += writing == TRADITIONAL
                position = after
                continue
            if (
                code in (APOSTROPHE, CURLY_APOSTROPHE, HYPHEN)
                and size > first
                and not gap
                and _letter_at(data, after, end)
            ):
                letters[size] = APOSTROPHE if code == CURLY_APOSTROPHE else code
                size += 1
                taken += 1
                position = after
                continue
            gap = True
            if code in (AT, FULLWIDTH_AT) and not follows_latin(data, begin, position):
                after = max(after, mention_end(data, after, end))
            elif code == LESS:
                after = max(after, placeholder_end(data, position, end))
            position = after
        new_offsets[row + 1] = size
    return letters[:size].copy()


@kernel
def _letter_at(data: Bytes, position: int, end: int) -> bool:
    return position < end and DIGIT < class_byte(decode(data, position, end)[0]) & CLASS_MASK <= KANA
