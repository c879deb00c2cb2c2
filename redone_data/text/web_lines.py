"""What Gopher and FineWeb ask of lines and paragraphs: blank, short, repeated, with bullets, ended by a mark.

Gopher splits a text at line feeds and C4 at any line break, so there are two tables of lines where both occur.
"""

from typing import Any

import numpy as np

from redone_data.text.buffers import Bytes, Float64, Int64, UInt64
from redone_data.text.characters import decode
from redone_data.text.english_chunks import class_of
from redone_data.text.english_rules import BREAK, LINE_END, SPACE, UInt16
from redone_data.text.english_words import word_hash
from redone_data.text.features import share
from redone_data.text.kernel import inlined, lean
from redone_data.text.simd import load64
from redone_data.text.web_columns import (
    BULLET_LINES,
    DUPLICATE_CHARS,
    ELLIPSIS_LINES,
    LINE_CHARS,
    LINE_ENDS,
    LINES,
    NUM_LINES,
    PARAGRAPH_CHARS,
    PARAGRAPHS,
    SHORT_LINES,
)
from redone_data.text.web_runs import TIMES, mask_of, slot_of
from redone_data.text.web_survey import next_bit

SHORT_LINE = 30
CONTINUES = np.uint64(0x0101010101010101)


@inlined
def count_characters(data: Bytes, begin: int, end: int) -> int:
    """Code points: bytes that do not continue another."""
    continuing: Any = 0
    position = begin
    low = np.uint64(0x0101010101010101)
    while position + 8 <= end:
        eight = np.uint64(load64(data, position))
        marked = ((eight >> np.uint64(7)) & ~(eight >> np.uint64(6))) & low
        if marked:
            continuing += np.int64((marked * low) >> np.uint64(56))
        position += 8
    while position < end:
        continuing += (data[position] & 0xC0) == 0x80
        position += 1
    characters: int = end - begin - continuing
    return characters


@lean
def feed_lines(masks: UInt64, begin: int, end: int, starts: Int64, ends: Int64) -> int:
    """The lines between line feeds, whose masks are given, as ``split("\\n")`` gives them; how many."""
    starts[0] = begin
    lines = 0
    feed = next_bit(masks, 0, end - begin)
    while feed < end - begin:
        ends[lines] = begin + feed
        lines += 1
        starts[lines] = begin + feed + 1
        feed = next_bit(masks, feed + 1, end - begin)
    ends[lines] = end
    return lines + 1


@lean
def break_lines(classes: UInt16, data: Bytes, begin: int, end: int, starts: Int64, ends: Int64) -> int:
    """The lines as ``splitlines()`` gives them; how many."""
    lines = 0
    start = position = begin
    while position < end:
        code, after = decode(data, position, end)
        if class_of(classes, code) & BREAK:
            starts[lines], ends[lines] = start, position
            lines += 1
            if code == 0x0D and after < end and data[after] == 0x0A:
                after += 1
            start = after
        position = after
    if start < end:
        starts[lines], ends[lines] = start, end
        lines += 1
    return lines


@inlined
def skip_space(classes: UInt16, data: Bytes, start: int, end: int) -> int:
    """Where ``lstrip()`` would begin."""
    while start < end:
        if 0x20 < data[start] < 0x7F:
            break
        code, after = decode(data, start, end)
        if not class_of(classes, code) & SPACE:
            break
        start = after
    return start


@inlined
def last_character(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(the last code point, where it begins) of text that is not empty."""
    position = end - 1
    while position > start and (data[position] & 0xC0) == 0x80:
        position -= 1
    return decode(data, position, end)[0], position


@inlined
def skip_space_back(classes: UInt16, data: Bytes, start: int, end: int) -> int:
    """Where ``rstrip()`` would end."""
    while end > start:
        if 0x20 < data[end - 1] < 0x7F:
            break
        code, before = last_character(data, start, end)
        if not class_of(classes, code) & SPACE:
            break
        end = before
    return end


@lean
def measure_feed_lines(
    classes: UInt16,
    data: Bytes,
    begin: int,
    end: int,
    characters: int,
    lines: int,
    starts: Int64,
    ends: Int64,
    table: Int64,
    stamp: int,
    tally: Int64,
    part: Float64,
) -> None:
    """FineWeb's numbers of lines, and Gopher's repeated lines and paragraphs."""
    plain = characters == end - begin
    solid = ended = short = repeats = repeated_characters = solid_characters = 0
    # Gopher splits at runs of line feeds: an empty line is one only at either end.
    pieces = 2 if lines > 1 and starts[0] == ends[0] and starts[lines - 1] == ends[lines - 1] else 0
    repeats += pieces == 2
    if pieces == 0 and lines > 1:
        pieces = int(starts[0] == ends[0] or starts[lines - 1] == ends[lines - 1])
    mask = mask_of(lines)
    for line in range(lines):
        start, stop = starts[line], ends[line]
        if start == stop:
            continue
        pieces += 1
        blank = skip_space(classes, data, start, stop) == stop
        again = False
        if lines > 1:
            key = word_hash(data, start, stop - start)
            again = table[TIMES, slot_of(table, mask, stamp, key)] > 1
        if not blank:
            solid += 1
            ended += (class_of(classes, last_character(data, start, stop)[0]) & LINE_END) > 0
            if stop - start <= SHORT_LINE:
                short += 1
            elif not plain and stop - start <= 4 * SHORT_LINE:
                short += count_characters(data, start, stop) <= SHORT_LINE
        if again:
            size = stop - start if plain else count_characters(data, start, stop)
            repeats += 1
            repeated_characters += size
            solid_characters += 0 if blank else size
    tally[NUM_LINES] = solid
    part[LINE_ENDS], part[SHORT_LINES] = share(ended, solid), share(short, solid)
    part[LINES], part[LINE_CHARS] = share(repeats, pieces), share(repeated_characters, characters)
    part[DUPLICATE_CHARS] = share(solid_characters, characters - (lines - 1))
    if lines > 2:
        measure_paragraphs(classes, data, begin, end, characters, lines, starts, ends, table, stamp + 1, part)


@lean
def measure_paragraphs(
    classes: UInt16,
    data: Bytes,
    begin: int,
    end: int,
    characters: int,
    lines: int,
    starts: Int64,
    ends: Int64,
    table: Int64,
    stamp: int,
    part: Float64,
) -> None:
    """Paragraphs of the stripped text end at two line feeds or more."""
    first = skip_space(classes, data, begin, end)
    last = skip_space_back(classes, data, first, end)
    paragraphs = repeats = repeated_characters = 0
    mask = mask_of(lines)
    start = first
    for line in range(lines):
        # A paragraph ends with the text, or where an empty line follows.
        stop = min(ends[line], last)
        if stop <= start or starts[line] == ends[line]:
            continue
        if stop < last and not (line + 1 < lines and starts[line + 1] == ends[line + 1]):
            continue
        paragraphs += 1
        if table[TIMES, slot_of(table, mask, stamp, word_hash(data, start, stop - start))] > 1:
            repeats += 1
            repeated_characters += count_characters(data, start, stop)
        following = line + 1
        while following < lines and starts[following] == ends[following]:
            following += 1
        start = starts[following] if following < lines else end
    part[PARAGRAPHS] = share(repeats, paragraphs)
    part[PARAGRAPH_CHARS] = share(repeated_characters, characters)


@lean
def measure_lines(classes: UInt16, data: Bytes, lines: int, starts: Int64, ends: Int64, part: Float64) -> None:
    """Gopher's lines with bullets and ellipses."""
    bullets = trails = 0
    for line in range(lines):
        start = skip_space(classes, data, starts[line], ends[line])
        if start == ends[line]:
            continue
        bullets += data[start] == 0x2D or decode(data, start, ends[line])[0] == 0x2022
        trails += is_trail(data, start, skip_space_back(classes, data, start, ends[line]), False)
    part[BULLET_LINES], part[ELLIPSIS_LINES] = share(bullets, lines), share(trails, lines)


@inlined
def is_trail(data: Bytes, start: int, end: int, stops_only: bool) -> bool:
    """Whether the text ends in ``...``, or in U+2026 (E2 80 A6) unless ``stops_only``."""
    if end - start < 3:
        return False
    a: Any = data[end - 3]
    b: Any = data[end - 2]
    c: Any = data[end - 1]
    return (a == 0x2E and b == 0x2E and c == 0x2E) or (not stops_only and a == 0xE2 and b == 0x80 and c == 0xA6)
