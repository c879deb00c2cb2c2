"""What the filters of Gopher, C4 and FineWeb ask of a text, number for number as datatrove 0.10.1 computes it.

The names and meanings are ``WEB_METRICS``; curate/rules.py holds the bounds. Words are spaCy's English ones
(english_words.py), punctuation included; a text whose letters are mostly Han or Kana has each character for a word
(words.py), where datatrove would load a segmenter. Decisions and reasons agree with datatrove's on every one of 20,000
posts and encyclopedia sections (tests/curate/test_rules.py), at some hundred times its speed.

Gopher: Rae et al. 2021, arXiv:2112.11446, table A1. C4: Raffel et al. 2020, arXiv:1910.10683. FineWeb: Penedo et al.
2024, arXiv:2406.17557.
"""

import numpy as np
import polars as pl
import pyarrow as pa

from redone_data.text.buffers import Bytes, Float64, Int64, frozen, string_buffers
from redone_data.text.english_rules import UInt16, character_classes
from redone_data.text.english_words import MEMO_BITS, MEMO_ROWS, ROOM_ROWS, WORD_ROWS, find_words
from redone_data.text.features import share
from redone_data.text.kernel import kernel
from redone_data.text.web_c4 import measure_c4
from redone_data.text.web_columns import (
    AFTER_RUNS,
    FEED_RATIO,
    REPEATED_RUNS,
    TOP_PAIR,
    WEB_COUNTS,
    WEB_METRICS,
    WEB_SHARES,
)
from redone_data.text.web_lines import break_lines, feed_lines, measure_feed_lines, measure_lines
from redone_data.text.web_runs import (
    BITS_PER_KEY,
    MOST_RUN,
    NOTE_ROWS,
    PLACES,
    TABLE_ROWS,
    measure_runs,
)
from redone_data.text.web_survey import (
    BREAKS,
    CONTINUED,
    FEEDS,
    LINE_FEEDS,
    MARKS,
    MASKS,
    ODD_SPACES,
    PADDING,
    survey,
)
from redone_data.text.web_words import find_units, is_mostly_han, measure_words
from redone_data.text.words import room_for_units

__all__ = ["WEB_METRICS", "web_metrics"]


def web_metrics(array: pa.Array | pa.ChunkedArray) -> pl.DataFrame:
    """One row a text, one column a metric of ``WEB_METRICS``, in that order; counts are int64, shares float64.

    A share of nothing is 0. Raises :class:`RedoneError` for nulls.
    """
    offsets, data = string_buffers(array)
    counts = np.empty((len(WEB_COUNTS), len(offsets) - 1), np.int64)
    shares = np.empty((len(WEB_SHARES), len(offsets) - 1), np.float64)
    longest = int(np.diff(offsets).max(initial=1))
    # A row for a text that ends near the data's end, one for a line without its citations: they are needed together.
    scratch = np.zeros((2, longest + PADDING), np.uint8)
    # The same bytes for reading: kernels are compiled for read-only texts alone.
    written = frozen(scratch.view())
    _measure_rows(offsets, data, character_classes(), longest, scratch, written, counts, shares)
    return pl.DataFrame(
        [pl.Series(name, column) for name, column in zip(WEB_COUNTS, counts, strict=True)]
        + [pl.Series(name, column) for name, column in zip(WEB_SHARES, shares, strict=True)]
    )


@kernel
def _measure_rows(
    offsets: Int64,
    data: Bytes,
    classes: UInt16,
    longest: int,
    scratch: Bytes,
    written: Bytes,
    counts: Int64,
    shares: Float64,
) -> None:
    # An exception splits no character, so there are never more words than bytes.
    words, others = np.empty((WORD_ROWS, longest + 1), np.int64), np.empty((WORD_ROWS, longest + 1), np.int64)
    room = np.empty((ROOM_ROWS, longest + 1), np.int64)
    memo = np.zeros((MEMO_ROWS, 1 << MEMO_BITS), np.uint64)
    masks, marks = np.zeros((MASKS, (longest >> 6) + 2), np.uint64), np.zeros(MARKS, np.int64)
    units = room_for_units(longest)
    size = 2
    while size < 4 * longest:
        size *= 2
    table = np.zeros((TABLE_ROWS, size), np.int64)
    bitmaps = np.empty((2, 1 + BITS_PER_KEY * longest // 32), np.uint64)
    notes = np.empty((NOTE_ROWS, longest + 1), np.int64)
    starts, ends = np.empty(longest + 2, np.int64), np.empty(longest + 2, np.int64)
    tally, part = np.empty(len(counts), np.int64), np.empty(len(shares), np.float64)
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        tally[:] = 0
        part[:] = 0
        if begin < end:
            text = data
            if end + PADDING > len(data):
                # Masks read beyond the text.
                for index in range(end - begin):
                    scratch[0, index] = data[begin + index]
                text, begin, end = written[0], 0, end - begin
            survey(text, begin, end, masks, marks)
            characters = end - begin - marks[CONTINUED]
            han = is_mostly_han(text, begin, end, marks)
            if han:
                count = find_units(classes, text, begin, end, words, units.starts, units.ends, units.kinds, units.masks)
            else:
                odd = marks[ODD_SPACES] != 0
                count = find_words(classes, text, begin, end, masks, odd, words, room, memo)
            measure_words(words, count, marks, tally, part)
            top, repeated = part[TOP_PAIR:REPEATED_RUNS], part[REPEATED_RUNS:AFTER_RUNS]
            measure_runs(text, words, count, characters, table, bitmaps, notes, 16 * row, top, repeated)
            lines = feed_lines(masks[LINE_FEEDS], begin, end, starts, ends)
            measure_feed_lines(
                classes, text, begin, end, characters, lines, starts, ends, table, 16 * row + MOST_RUN + 1, tally, part
            )
            part[FEED_RATIO] = share(marks[FEEDS], count)
            if marks[BREAKS]:
                lines = break_lines(classes, text, begin, end, starts, ends)
            elif text[end - 1] == 0x0A:
                lines -= 1
            measure_lines(classes, text, lines, starts, ends, part)
            measure_c4(
                classes,
                text,
                lines,
                starts,
                ends,
                words,
                count,
                han,
                marks,
                scratch[1],
                written[1],
                others,
                room,
                memo,
                notes[PLACES],
                tally,
                part,
            )
        for index in range(len(tally)):
            counts[index, row] = tally[index]
        for index in range(len(part)):
            shares[index, row] = part[index]
