"""What the filters of Gopher, C4 and FineWeb ask of a text, number for number as datatrove 0.10.1 computes it.

The names and meanings are ``WEB_METRICS``; curate/rules.py holds the bounds. Words are spaCy's English ones
(english_words.py), punctuation included; a text whose letters are mostly Han or Kana has each character for a word
(words.py), where datatrove would load a segmenter. Decisions and reasons agree with datatrove's on every one of 20,000
posts and encyclopedia sections (tests/curate/test_rules.py), at some hundred times its speed.

Gopher: Rae et al. 2021, arXiv:2112.11446, table A1. C4: Raffel et al. 2020, arXiv:1910.10683. FineWeb: Penedo et al.
2024, arXiv:2406.17557.
"""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from redone_data.text.buffers import Bytes, Float64, Int64, UInt64, frozen, string_buffers
from redone_data.text.characters import CLASS_MASK, HAN, KANA, OTHER_LETTER, class_byte, decode
from redone_data.text.english_rules import (
    BREAK,
    LETTER,
    LINE_END,
    SENTENCE_END,
    SLOT_FACTOR,
    SPACE,
    SYMBOL,
    WORD_BASE,
    UInt16,
    character_classes,
    hash_of,
    text_hash,
)
from redone_data.text.english_words import (
    BRACES,
    BRACKETS,
    BREAKS,
    ELLIPSES,
    ENDS,
    FEEDS,
    FIRST,
    FLAGS,
    GAP,
    HASH,
    HASHES,
    LENGTHS,
    LETTERED,
    LONG,
    MARKS,
    PHRASES,
    SOLID,
    STARTS,
    STOP,
    class_of,
    find_words,
    put,
)
from redone_data.text.features import STOP_WORDS, share
from redone_data.text.kernel import kernel, lean
from redone_data.text.minhash import bytes_hash
from redone_data.text.simd import load64
from redone_data.text.words import NONE, next_word

WEB_COUNTS = {
    "gopher_num_words": "words that are more than symbols",
    "gopher_stop_word_count": "how many of the, be, to, of, and, that, have, with occur, in lower case",
    "c4_num_sentences": "sentences in the lines that C4 keeps",
    "c4_lorem_ipsum_count": "lines that C4 would keep but for 'lorem ipsum'",
    "c4_curly_bracket_count": "lines with a curly bracket, not counting those that C4 cuts before it looks",
    "fineweb_num_lines": "lines that are not blank",
}
WEB_SHARES = {
    "gopher_mean_word_length": "mean characters of a word that is more than symbols",
    "gopher_hash_word_ratio": "# signs per word, punctuation marks being words",
    "gopher_ellipsis_word_ratio": "ellipses per word",
    "gopher_bullet_line_fraction": "lines that begin with a bullet or -, of all lines",
    "gopher_ellipsis_line_fraction": "lines that end in an ellipsis, of all lines",
    "gopher_alpha_word_fraction": "words with a letter, of words",
    "gopher_duplicate_paragraph_fraction": "paragraphs that repeat an earlier one",
    "gopher_duplicate_paragraph_char_fraction": "characters in paragraphs that repeat an earlier one, of all",
    "gopher_duplicate_line_fraction": "lines that repeat an earlier one",
    "gopher_duplicate_line_char_fraction": "characters in lines that repeat an earlier one, of all",
    "gopher_top_2gram_fraction": "the most frequent pair of words, even if it occurs once, of characters",
    "gopher_top_3gram_fraction": "the most frequent run of 3 words, of characters",
    "gopher_top_4gram_fraction": "the most frequent run of 4 words, of characters",
    "gopher_duplicate_5gram_fraction": "runs of 5 words that occurred before, of characters",
    "gopher_duplicate_6gram_fraction": "runs of 6 words that occurred before, of characters",
    "gopher_duplicate_7gram_fraction": "runs of 7 words that occurred before, of characters",
    "gopher_duplicate_8gram_fraction": "runs of 8 words that occurred before, of characters",
    "gopher_duplicate_9gram_fraction": "runs of 9 words that occurred before, of characters",
    "gopher_duplicate_10gram_fraction": "runs of 10 words that occurred before, of characters",
    "c4_removed_line_fraction": "lines that C4 would cut out of the text, of lines that are not blank",
    "fineweb_line_end_punctuation_fraction": "lines that end in a full stop, ! or ? of any script",
    "fineweb_short_line_fraction": "lines of at most 30 characters",
    "fineweb_duplicate_line_char_fraction": "characters in lines that repeat an earlier one, without line feeds",
    "fineweb_newline_word_ratio": "line feeds per word",
}
WEB_METRICS: dict[str, str] = {**WEB_COUNTS, **WEB_SHARES}

NUM_WORDS, STOP_WORD_COUNT, SENTENCES, LOREM_IPSUM, CURLY_BRACKETS, NUM_LINES = range(len(WEB_COUNTS))
(MEAN_LENGTH, HASH_RATIO, ELLIPSIS_RATIO, BULLET_LINES, ELLIPSIS_LINES, ALPHA_WORDS) = range(6)
(PARAGRAPHS, PARAGRAPH_CHARS, LINES, LINE_CHARS, TOP_PAIR) = range(6, 11)
LEAST_RUN, MOST_RUN = 5, 10
REPEATED_RUNS = 13
(REMOVED_LINES, LINE_ENDS, SHORT_LINES, DUPLICATE_CHARS, FEED_RATIO) = range(19, 24)

ENDED = 128  # of a word of a Han text: a sentence ended before it
SHORT_LINE, MIN_LINE_WORDS = 30, 3
CITATIONS = ("[edit]", "[citation needed]")
PHRASES_CUT = (  # the first drops the text, the second cuts a line, so do the others, which name policies
    *("lorem ipsum", "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies"),
    *("use of cookies", "use cookies"),
)
CLOSING = (0x201D, 0x2019, 0x300D, 0x300F)  # quotation marks that may close a Chinese line


def joined(strings: tuple[str, ...]) -> tuple[Int64, Bytes]:
    """(offsets, bytes) of strings that kernels compare with."""
    encoded = [text.encode() for text in strings]
    return np.cumsum([0, *map(len, encoded)], dtype=np.int64), np.frombuffer(b"".join(encoded), np.uint8)


def powers(number: int) -> UInt64:
    """``WORD_BASE ** i`` modulo 2 ** 64."""
    values = [1]
    while len(values) < number:
        values.append(values[-1] * int(WORD_BASE) & 0xFFFFFFFFFFFFFFFF)
    return np.array(values, np.uint64)


def stop_hashes() -> UInt64:
    """The hash of each stop word, in a slot of its own."""
    hashes = np.zeros(64, np.uint64)
    for word in STOP_WORDS:
        hashes[(hash_of(word) * int(SLOT_FACTOR) & 0xFFFFFFFFFFFFFFFF) >> 58] = hash_of(word)
    assert np.count_nonzero(hashes) == len(STOP_WORDS)
    return hashes


PHRASE_OFFSETS, PHRASE_DATA = joined(PHRASES_CUT)
CITATION_OFFSETS, CITATION_DATA = joined(CITATIONS)
POWERS = powers(1024)
STOP_HASHES = stop_hashes()


# Rows of an open-addressing table that counts keys; a new stamp empties it.
KEYS, STAMPS, TIMES = range(3)
# Rows of notes on words: the slot of the pair that begins, whether its run occurs again, hashes and sizes so far.
SLOTS, AGAIN, PREFIXES, SPANS = range(4)


def web_metrics(array: pa.Array | pa.ChunkedArray) -> pl.DataFrame:
    """One row a text, one column a metric of ``WEB_METRICS``, in that order; counts are int64, shares float64.

    A share of nothing is 0. Raises :class:`RedoneError` for nulls.
    """
    offsets, data = string_buffers(array)
    counts = np.zeros((len(offsets) - 1, len(WEB_COUNTS)), np.int64)
    shares = np.zeros((len(offsets) - 1, len(WEB_SHARES)), np.float64)
    longest = int(np.diff(offsets).max(initial=1))
    scratch = np.empty(longest, np.uint8)
    # The same bytes for reading: kernels are compiled for read-only texts alone.
    classes = character_classes()
    _measure_rows(offsets, data, classes, longest, scratch, frozen(scratch.view()), counts, shares)
    return pl.DataFrame(
        [pl.Series(name, counts[:, index]) for index, name in enumerate(WEB_COUNTS)]
        + [pl.Series(name, shares[:, index]) for index, name in enumerate(WEB_SHARES)]
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
    words, others = np.empty((5, longest + 1), np.int64), np.empty((5, longest + 1), np.int64)
    room = np.empty((9, longest + 1), np.int64)
    size = 2
    while size < 4 * longest:
        size *= 2
    table = np.zeros((3, size), np.int64)
    notes = np.empty((4, longest + 1), np.int64)
    starts, ends = np.empty(longest + 2, np.int64), np.empty(longest + 2, np.int64)
    marks, ignored = np.zeros(7, np.int64), np.zeros(7, np.int64)
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        if begin == end:
            continue
        tally, part = counts[row], shares[row]
        marks[:] = 0
        characters = count_characters(data, begin, end)
        plain = characters == end - begin
        han = not plain and mostly_han(data, begin, end)
        if han:
            count = find_units(classes, data, begin, end, words, marks)
        else:
            count = find_words(classes, data, begin, end, words, room, marks)
        measure_words(words, count, marks, tally, part)
        measure_runs(words, count, characters, table, notes, 16 * row + 1, part)
        lines = feed_lines(data, begin, end, marks[FEEDS], starts, ends)
        measure_feed_lines(classes, data, begin, end, characters, lines, starts, ends, table, row, tally, part)
        part[FEED_RATIO] = share(marks[FEEDS], count)
        if marks[BREAKS]:
            lines = break_lines(classes, data, begin, end, starts, ends)
        elif data[end - 1] == 0x0A:
            lines -= 1
        measure_lines(classes, data, lines, starts, ends, part)
        measure_c4(
            classes,
            data,
            lines,
            starts,
            ends,
            words,
            count,
            han,
            marks,
            scratch,
            written,
            others,
            ignored,
            room,
            tally,
            part,
        )


@lean
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
def mostly_han(data: Bytes, begin: int, end: int) -> bool:
    """Whether more than half of the letters are Han or Kana."""
    letters = joined = 0
    position = begin
    while position < end:
        code, position = decode(data, position, end)
        sort = class_byte(code) & CLASS_MASK
        letters += sort >= OTHER_LETTER and sort <= KANA
        joined += sort in (HAN, KANA)
    return 2 * joined > letters


@kernel
def find_units(classes: UInt16, data: Bytes, begin: int, end: int, words: Int64, marks: Int64) -> int:
    """As find_words, with the units of words.py: Chinese and Japanese characters, other words, hashtags, emoji."""
    count = dots = 0
    position = begin
    while position < end:
        code, position = decode(data, position, end)
        marks[HASHES] += code == 0x23
        marks[BRACES] |= code == 0x7B
        marks[FEEDS] += code == 0x0A
        marks[BREAKS] |= code != 0x0A and (class_of(classes, code) & BREAK) > 0
        dots = dots + 1 if code == 0x2E else 0
        marks[ELLIPSES] += code == 0x2026 or (dots > 0 and dots % 3 == 0)
    marks[PHRASES] = 1
    before = begin
    start, after, kind = next_word(data, begin, begin, end)
    while kind != NONE:
        flags = FIRST
        index = before
        while index < start:
            code, index = decode(data, index, start)
            flags |= ENDED if class_of(classes, code) & SENTENCE_END else 0
        length = 0
        index = start
        while index < after:
            code, index = decode(data, index, after)
            sort = class_of(classes, code)
            length += 1
            flags |= (LETTERED if sort & LETTER else 0) | (0 if sort & SYMBOL else SOLID)
        put(words, count, start, after, length, flags, text_hash(data, start, after))
        count += 1
        before = after
        start, after, kind = next_word(data, begin, after, end)
    return count


@lean
def measure_words(words: Int64, count: int, marks: Int64, tally: Int64, part: Float64) -> None:
    """Gopher's numbers of words."""
    solid = characters = lettered = 0
    stops: Any = 0
    for index in range(count):
        flags = words[FLAGS, index]
        length = words[LENGTHS, index]
        if flags & SOLID:
            solid += 1
            characters += length
        lettered += (flags & LETTERED) != 0
        if length <= 4:
            slot = np.int64((np.uint64(words[HASH, index]) * SLOT_FACTOR) >> np.uint64(58))
            if STOP_HASHES[slot] == np.uint64(words[HASH, index]):
                stops |= 1 << slot
    tally[NUM_WORDS] = solid
    while stops != 0:
        stops &= stops - 1
        tally[STOP_WORD_COUNT] += 1
    part[MEAN_LENGTH] = share(characters, solid)
    part[HASH_RATIO], part[ELLIPSIS_RATIO] = share(marks[HASHES], count), share(marks[ELLIPSES], count)
    part[ALPHA_WORDS] = share(lettered, count)


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
def measure_runs(
    words: Int64, count: int, characters: int, table: Int64, notes: Int64, stamp: int, part: Float64
) -> None:
    """Gopher's most frequent n-grams, and n-grams that occurred before.

    Runs of 3 and more are counted only where the pairs within them repeat.
    """
    if count < 2:
        return
    hashes, lengths, slots, repeated = words[HASH], words[LENGTHS], notes[SLOTS], notes[AGAIN]
    mask = mask_of(count)
    most = best = 0
    for index in range(count - 1):
        slot = slot_of(
            table, mask, stamp, np.uint64(hashes[index]) * WORD_BASE + np.uint64(hashes[index + 1]) * SLOT_FACTOR
        )
        slots[index] = slot
        most = max(most, table[TIMES, slot])
    longest = 0
    if most > 1:
        # Of equally frequent ones datatrove takes the first.
        best = -1
        run = 0
        for index in range(count - 1):
            times = table[TIMES, slots[index]]
            repeated[index] = times > 1
            run = run + 1 if times > 1 else 0
            longest = max(longest, run)
            if times == most and best < 0:
                best = index
    part[TOP_PAIR] = most * (lengths[best] + lengths[best + 1] + 1) / characters
    for size in range(3, 5):
        if count < size:
            return
        most, best = 1, 0
        if longest >= size - 1:
            for index in range(count - size + 1):
                # repeated[i]: the run of size - 1 words from i on occurs elsewhere too.
                if repeated[index] and repeated[index + 1]:
                    key = np.uint64(hashes[index])
                    for k in range(1, size):
                        key = key * WORD_BASE + np.uint64(hashes[index + k]) * SLOT_FACTOR
                    slots[index] = slot_of(table, mask, stamp + size, key)
                    most = max(most, table[TIMES, slots[index]])
                else:
                    slots[index] = -1
            best = -1 if most > 1 else 0
            for index in range(count - size + 1):
                times = table[TIMES, slots[index]] if slots[index] >= 0 else 1
                repeated[index] = times > 1
                if times == most and best < 0:
                    best = index
            repeated[count - size + 1] = 0
        total = size - 1
        for k in range(size):
            total += lengths[best + k]
        part[TOP_PAIR + size - 2] = most * total / characters
    if longest >= LEAST_RUN - 1:
        repeated_runs(words, count, characters, table, notes, longest, stamp, part)


@lean
def repeated_runs(
    words: Int64,
    count: int,
    characters: int,
    table: Int64,
    notes: Int64,
    longest: int,
    stamp: int,
    part: Float64,
) -> None:
    """As datatrove counts: words joined without a space, a run seen before is covered whole, reading goes on behind."""
    prefixes, spans, sizes = notes[PREFIXES], notes[SPANS], notes[SLOTS]
    prefixes[0], spans[0] = 0, 0
    sizes[0] = 0
    for index in range(count):
        size = words[ENDS, index] - words[STARTS, index]
        prefixes[index + 1] = np.int64(np.uint64(prefixes[index]) * power(size) + np.uint64(words[HASH, index]))
        spans[index + 1] = spans[index] + size
        sizes[index + 1] = sizes[index] + words[LENGTHS, index]
    mask = mask_of(count)
    for size in range(LEAST_RUN, min(MOST_RUN, longest + 1) + 1):
        covered = index = 0
        while index <= count - size:
            joined = power(spans[index + size] - spans[index])
            key = np.uint64(prefixes[index + size]) - np.uint64(prefixes[index]) * joined
            if table[TIMES, slot_of(table, mask, stamp + size, key)] > 1:
                covered += sizes[index + size] - sizes[index]
                index += size
            else:
                index += 1
        part[REPEATED_RUNS + size - LEAST_RUN] = covered / characters


@lean
def power(exponent: int) -> np.uint64:
    """``WORD_BASE ** exponent``."""
    value: np.uint64 = POWERS[exponent % len(POWERS)]
    for _ in range(exponent // len(POWERS)):
        value = value * POWERS[len(POWERS) - 1] * WORD_BASE
    return value


@lean
def feed_lines(data: Bytes, begin: int, end: int, feeds: int, starts: Int64, ends: Int64) -> int:
    """The lines between line feeds, as ``split("\\n")`` gives them; how many."""
    starts[0] = begin
    lines = 0
    if feeds > 0:
        for position in range(begin, end):
            if data[position] == 0x0A:
                ends[lines] = position
                lines += 1
                starts[lines] = position + 1
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


@lean
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


@lean
def last_character(data: Bytes, start: int, end: int) -> tuple[int, int]:
    """(the last code point, where it begins) of text that is not empty."""
    position = end - 1
    while position > start and (data[position] & 0xC0) == 0x80:
        position -= 1
    return decode(data, position, end)[0], position


@lean
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
    row: int,
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
            key = bytes_hash(data, start, stop)
            again = table[TIMES, slot_of(table, mask, 16 * row + 2, key)] > 1
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
        measure_paragraphs(classes, data, begin, end, characters, lines, starts, ends, table, 16 * row + 3, part)


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
        if table[TIMES, slot_of(table, mask, stamp, bytes_hash(data, start, stop))] > 1:
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


@lean
def is_trail(data: Bytes, start: int, end: int, stops_only: bool) -> bool:
    """Whether the text ends in ``...``, or in U+2026 (E2 80 A6) unless ``stops_only``."""
    if end - start < 3:
        return False
    a: Any = data[end - 3]
    b: Any = data[end - 2]
    c: Any = data[end - 1]
    return (a == 0x2E and b == 0x2E and c == 0x2E) or (not stops_only and a == 0xE2 and b == 0x80 and c == 0xA6)


@lean
def measure_c4(
    classes: UInt16,
    data: Bytes,
    lines: int,
    starts: Int64,
    ends: Int64,
    words: Int64,
    count: int,
    han: bool,
    marks: Int64,
    scratch: Bytes,
    written: Bytes,
    others: Int64,
    ignored: Int64,
    room: Int64,
    tally: Int64,
    part: Float64,
) -> None:
    """What C4 keeps, line by line, and what makes it drop the whole text."""
    word = removed = solid = 0
    for line in range(lines):
        start = skip_space(classes, data, starts[line], ends[line])
        if start == ends[line]:
            continue
        end = skip_space_back(classes, data, start, ends[line])
        solid += 1
        first_word = word
        line_words = too_long = 0
        while word < count and words[STARTS, word] < end:
            line_words += (words[FLAGS, word] & FIRST) > 0
            too_long |= words[FLAGS, word] & LONG
            word += 1
        if too_long:
            removed += 1
            continue
        cited = 0
        if marks[BRACKETS]:
            cited = without_citations(data, start, end, scratch)
        if cited > 0:
            text, start, end = written, 0, cited - 1
        else:
            text = data
        if not ends_sentence(classes, text, start, end, han) or line_words < MIN_LINE_WORDS:
            removed += 1
            continue
        if marks[PHRASES] and has_phrase(text, start, end, 0):
            tally[LOREM_IPSUM] += 1
        if marks[PHRASES] and has_phrase(text, start, end, 1):
            removed += 1
            continue
        # A bracket drops the text even in a line that a policy's phrase cuts.
        if marks[BRACES]:
            for position in range(start, end):
                if text[position] == 0x7B:
                    tally[CURLY_BRACKETS] += 1
                    break
        if marks[PHRASES] and names_policy(text, start, end):
            removed += 1
            continue
        if cited > 0:
            tally[SENTENCES] += count_sentences(
                others, 0, find_words(classes, written, start, end, others, room, ignored)
            )
        else:
            tally[SENTENCES] += count_sentences(words, first_word, word)
    part[REMOVED_LINES] = share(removed, solid)


@lean
def without_citations(data: Bytes, start: int, end: int, scratch: Bytes) -> int:
    """One more than the bytes written to ``scratch`` where the line has a citation such as [1]; else 0."""
    size = 0
    found = False
    position = start
    while position < end:
        if data[position] == 0x5B:
            after = position + 1
            while after < end and 0x30 <= data[after] <= 0x39:
                after += 1
            if after < end and data[after] == 0x5D:
                position, found = after + 1, True
                continue
            length = 0
            for citation in range(len(CITATION_OFFSETS) - 1):
                if starts_with(data, position, end, citation):
                    length = CITATION_OFFSETS[citation + 1] - CITATION_OFFSETS[citation]
            if length > 0:
                position, found = position + length, True
                continue
        scratch[size] = data[position]
        size += 1
        position += 1
    return size + 1 if found else 0


@lean
def starts_with(data: Bytes, position: int, end: int, citation: int) -> bool:
    first, last = CITATION_OFFSETS[citation], CITATION_OFFSETS[citation + 1]
    if position + last - first > end:
        return False
    same = True
    for index in range(last - first):
        same &= data[position + index] == CITATION_DATA[first + index]
    return same


@lean
def ends_sentence(classes: UInt16, data: Bytes, start: int, end: int, han: bool) -> bool:
    """Whether C4 takes the end of a line for the end of a sentence; in a Han text also any script's full stop."""
    if end <= start:
        return False
    code = last_character(data, start, end)[0]
    if han and (class_of(classes, code) & LINE_END or code in CLOSING):
        return True
    if code == 0x2E:
        return not is_trail(data, start, end, True)
    return code == 0x3F or code == 0x21 or code == 0x22 or code == 0x27


@lean
def has_phrase(data: Bytes, start: int, end: int, phrase: int) -> bool:
    """Whether a phrase, of small letters and spaces, occurs in any case."""
    first, last = PHRASE_OFFSETS[phrase], PHRASE_OFFSETS[phrase + 1]
    head: Any = PHRASE_DATA[first]
    for position in range(start, end - (last - first) + 1):
        if data[position] | 0x20 == head:
            same = True
            for index in range(1, last - first):
                letter: Any = PHRASE_DATA[first + index]
                byte: Any = data[position + index]
                if byte != letter and (letter == 0x20 or byte + 0x20 != letter):
                    same = False
                    break
            if same:
                return True
    return False


@lean
def names_policy(data: Bytes, start: int, end: int) -> bool:
    """Whether the line names a policy, for which C4 cuts it."""
    found = False
    for phrase in range(2, len(PHRASE_OFFSETS) - 1):
        found = found or has_phrase(data, start, end, phrase)
    return found


@lean
def count_sentences(words: Int64, first: int, last: int) -> int:
    """spaCy's Sentencizer: a sentence begins at the first word after a full stop that is no punctuation."""
    sentences = 1
    stopped = False
    for index in range(first, last):
        flags = words[FLAGS, index]
        if index > first:
            stopped |= (flags & ENDED) > 0
            if stopped and flags & GAP:
                sentences += 1
                stopped = False
        if stopped and not flags & (MARKS | STOP):
            sentences += 1
            stopped = False
        elif flags & STOP:
            stopped = True
    return sentences
