"""What C4 keeps of a text, line by line, and what makes it drop the whole: phrases, brackets, too few sentences."""

from typing import Any

import numpy as np

from redone_data.text.buffers import Bytes, Float64, Int64, UInt64
from redone_data.text.english_chunks import class_of
from redone_data.text.english_rules import LINE_END, UInt16
from redone_data.text.english_words import (
    FIRST,
    FLAGS,
    GAP,
    HASH,
    LONG,
    LONG_CHUNK,
    PUNCTUATION,
    STARTS,
    STOP,
    find_words_between_odd_spaces,
)
from redone_data.text.features import share
from redone_data.text.kernel import inlined, lean
from redone_data.text.web_columns import CURLY_BRACKETS, LOREM_IPSUM, REMOVED_LINES, SENTENCES
from redone_data.text.web_lines import is_trail, last_character, skip_space, skip_space_back
from redone_data.text.web_survey import BRACES, BRACKETS, PHRASES

MIN_LINE_WORDS = 3
ENDED = 128  # of a word of a Han text: a sentence ended before it
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


PHRASE_OFFSETS, PHRASE_DATA = joined(PHRASES_CUT)
CITATION_OFFSETS, CITATION_DATA = joined(CITATIONS)


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
    room: Int64,
    memo: UInt64,
    stops: Int64,
    tally: Int64,
    part: Float64,
) -> None:
    """What C4 keeps, line by line, and what makes it drop the whole text."""
    word = removed = solid = 0
    stop = 0
    num_stops = find_stops(words, count, stops)
    for line in range(lines):
        start = skip_space(classes, data, starts[line], ends[line])
        if start == ends[line]:
            continue
        end = skip_space_back(classes, data, start, ends[line])
        solid += 1
        first_word = word
        if line == lines - 1:
            word = count
        while word < count and words[STARTS, word] < end:
            word += 1
        if end - start > LONG_CHUNK and has_long_chunk(words, first_word, word):
            removed += 1
            continue
        cited = 0
        if marks[BRACKETS] and not han:
            cited = without_citations(data, start, end, scratch)
        if cited > 0:
            text, start, end = written, 0, cited - 1
        else:
            text = data
        if not ends_sentence(classes, text, start, end, han) or is_short(words, first_word, word):
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
            # A line without its citations has other words.
            cited_words = find_words_between_odd_spaces(classes, written, start, end, others, room, memo)
            cited_stops = find_stops(others, cited_words, others[HASH])
            tally[SENTENCES] += count_sentences(others, 0, cited_words, others[HASH], 0, cited_stops)[0]
        else:
            while stop < num_stops and stops[stop] < first_word:
                stop += 1
            sentences, stop = count_sentences(words, first_word, word, stops, stop, num_stops)
            tally[SENTENCES] += sentences
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


@inlined
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


@inlined
def is_short(words: Int64, first: int, last: int) -> bool:
    """Whether fewer than ``MIN_LINE_WORDS`` chunks begin among these words."""
    chunks = 0
    while first < last and chunks < MIN_LINE_WORDS:
        chunks += words[FLAGS, first] & FIRST
        first += 1
    return chunks < MIN_LINE_WORDS


@lean
def has_long_chunk(words: Int64, first: int, last: int) -> bool:
    found = False
    for index in range(first, last):
        found |= (words[FLAGS, index] & LONG) != 0
    return found


@inlined
def find_stops(words: Int64, count: int, stops: Int64) -> int:
    """Fills ``stops`` with the words at which a sentence may end or have ended; how many."""
    found = 0
    for index in range(count):
        stops[found] = index
        found += int(np.int64((words[FLAGS, index] & (STOP | ENDED)) != 0))
    return found


@lean
def count_sentences(words: Int64, first: int, last: int, stops: Int64, stop: int, num_stops: int) -> tuple[int, int]:
    """(sentences of the words from ``first`` to ``last``, the first stop beyond), ``stop`` being the first within.

    spaCy's Sentencizer: a sentence begins at the first word after a full stop that is no punctuation.
    """
    sentences = 1
    while stop < num_stops and stops[stop] < last:
        index = stops[stop]
        stopped = False
        while index < last:
            flags = words[FLAGS, index]
            if index > first:
                stopped |= (flags & ENDED) > 0
                if stopped and flags & GAP:
                    sentences += 1
                    stopped = False
            if stopped and not flags & (PUNCTUATION | STOP):
                sentences += 1
                stopped = False
            elif flags & STOP:
                stopped = True
            index += 1
            if not stopped:
                break
        while stop < num_stops and stops[stop] < index:
            stop += 1
    return sentences, stop
