"""Lines and sentences, hashed by their words: what repeats across documents whatever its punctuation.

A line is cut at ``\\n``; where sentences are asked for, also after ``。！？!?…`` and a full stop before a space.
Two words are cut apart once at most. The hash of a line is that of its words (text/windows.py). A stretch without words
belongs to a line beside it, so the lines of a text cover all of it.
"""

import numpy as np
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.text.buffers import Bytes, Int64, UInt64, frozen, string_buffers
from redone_data.text.characters import decode
from redone_data.text.hashing import mix64
from redone_data.text.kernel import kernel
from redone_data.text.windows import BASE, Spans, collect_words, has_distinct, longest_row
from redone_data.text.words import room_for_units

NEWLINE, FULL_STOP = 0x0A, 0x2E
SENTENCE_ENDS = (
    0x21,
    0x3F,
    0x2026,
    0x3002,
    0xFF01,
    0xFF1F,
)  # ! ? and their full-width forms, ellipsis, ideographic stop


def lines(array: pa.Array | pa.ChunkedArray, *, min_words: int, sentences: bool) -> Spans:
    """The lines of at least ``min_words`` distinct words of each text; a text that is one single line has none.

    Raises :class:`RedoneError` for nulls and for ``min_words`` below 1.
    """
    if min_words < 1:
        raise RedoneError(f"min_words is {min_words}; a line that can repeat has at least 1 word")
    offsets, data = string_buffers(array)
    rows, hashes, starts, ends = _line_rows(offsets, data, min_words, sentences)
    return Spans(frozen(rows), frozen(hashes), frozen(starts), frozen(ends))


@kernel
def line_end(data: Bytes, position: int, end: int, sentences: bool) -> int:
    """The position after the first cut in ``data[position:end]``, which lies between two words; -1 for none."""
    while position < end:
        code, after = decode(data, position, end)
        if code == NEWLINE:
            return after
        if sentences:
            if code in SENTENCE_ENDS:
                return after
            if code == FULL_STOP and after < end and data[after] <= 0x20:
                return after
        position = after
    return -1


@kernel
def _line_rows(offsets: Int64, data: Bytes, min_words: int, sentences: bool) -> tuple[Int64, UInt64, Int64, Int64]:
    longest = longest_row(offsets)
    words, units = np.empty(longest, np.uint64), room_for_units(longest)
    word_starts, word_ends = units.starts, units.ends
    # No more lines than bytes; pages of memory that are never touched cost nothing.
    most = offsets[-1] - offsets[0]
    hashes, starts, ends = np.empty(most, np.uint64), np.empty(most, np.int64), np.empty(most, np.int64)
    new_offsets = np.zeros(len(offsets), np.int64)
    to = 0
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        count = collect_words(data, begin, end, units, words)
        line_begin, first, value, first_of_row, num_lines = begin, 0, np.uint64(0), to, 0
        for word in range(count):
            value = value * BASE + words[word]
            cut = end
            if word + 1 < count:
                cut = line_end(data, word_ends[word], word_starts[word + 1], sentences)
            if cut >= 0:
                num_lines += 1
                if has_distinct(words, first, word + 1, min_words):
                    hashes[to], starts[to], ends[to] = mix64(value), line_begin - begin, cut - begin
                    to += 1
                line_begin, first, value = cut, word + 1, np.uint64(0)
        if num_lines == 1:
            to = first_of_row
        new_offsets[row + 1] = to
    return new_offsets, hashes[:to].copy(), starts[:to].copy(), ends[:to].copy()
