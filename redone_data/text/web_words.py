"""The words of a text that is mostly Han or Kana, and Gopher's numbers of words."""

import numpy as np

from redone_data.text.buffers import Bytes, Float64, Int64, UInt64
from redone_data.text.characters import CLASS_MASK, HAN, KANA, OTHER_LETTER, class_byte, decode
from redone_data.text.english_chunks import class_of
from redone_data.text.english_rules import HASH_FACTOR, LETTER, SENTENCE_END, SYMBOL, UInt16, word_hash_of
from redone_data.text.english_words import FIRST, FLAGS, HASH, LENGTHS, LETTERED, SOLID, put, word_hash
from redone_data.text.features import STOP_WORDS, share
from redone_data.text.kernel import lean
from redone_data.text.web_c4 import ENDED
from redone_data.text.web_columns import (
    ALPHA_WORDS,
    ELLIPSIS_RATIO,
    HASH_RATIO,
    MEAN_LENGTH,
    NUM_WORDS,
    STOP_WORD_COUNT,
)
from redone_data.text.web_survey import (
    ASCII_LETTERS,
    ELLIPSES,
    HANS,
    HASHES,
    LEADS,
    MAYBE_HANS,
)
from redone_data.text.words import CJK, WHOLE_HASHTAGS, split_text


def stop_hashes() -> UInt64:
    """The hash of each stop word, in a slot of its own."""
    hashes = np.zeros(64, np.uint64)
    for word in STOP_WORDS:
        value = word_hash_of(word)
        hashes[(value * int(HASH_FACTOR) & 0xFFFFFFFFFFFFFFFF) >> 58] = value
    assert np.count_nonzero(hashes) == len(STOP_WORDS)
    return hashes


STOP_HASHES = stop_hashes()


@lean
def is_mostly_han(data: Bytes, begin: int, end: int, marks: Int64) -> bool:
    """Whether more than half of the letters are Han or Kana; characters are looked at where counts leave it open."""
    if marks[MAYBE_HANS] <= marks[ASCII_LETTERS]:
        return False
    if marks[HANS] > marks[ASCII_LETTERS] + marks[LEADS] - marks[HANS]:
        return True
    letters = joined = 0
    position = begin
    while position < end:
        code, position = decode(data, position, end)
        sort = class_byte(code) & CLASS_MASK
        letters += sort >= OTHER_LETTER and sort <= KANA
        joined += sort in (HAN, KANA)
    return 2 * joined > letters


@lean
def find_units(
    classes: UInt16,
    data: Bytes,
    begin: int,
    end: int,
    words: Int64,
    starts: Int64,
    ends: Int64,
    kinds: Bytes,
    masks: UInt64,
) -> int:
    """As find_words, with the units of words.py: Chinese and Japanese characters, other words, hashtags, emoji."""
    count = split_text(data, begin, end, starts, ends, kinds, masks, WHOLE_HASHTAGS)
    before = begin
    for unit in range(count):
        start, after = starts[unit], ends[unit]
        flags = FIRST
        while before < start:
            code, before = decode(data, before, start)
            flags |= ENDED if class_of(classes, code) & SENTENCE_END else 0
        before = after
        if kinds[unit] == CJK and after - start == 3 and data[start] >= 0xE5:
            # From U+5000 on, below which some are symbols, all are letters; half-width Katakana are too.
            put(words, unit, start, after, 1, flags | LETTERED | SOLID, word_hash(data, start, 3))
            continue
        length = 0
        index = start
        while index < after:
            code, index = decode(data, index, after)
            sort = class_of(classes, code)
            length += 1
            flags |= (LETTERED if sort & LETTER else 0) | (0 if sort & SYMBOL else SOLID)
        put(words, unit, start, after, length, flags, word_hash(data, start, after - start))
    return count


@lean
def measure_words(words: Int64, count: int, marks: Int64, tally: Int64, part: Float64) -> None:
    """Gopher's numbers of words."""
    solid = characters = lettered = 0
    stops = np.uint64(0)
    for index in range(count):
        flags = words[FLAGS, index]
        is_solid = int(np.int64((flags & SOLID) != 0))
        solid += is_solid
        characters += words[LENGTHS, index] * is_solid
        lettered += int(np.int64((flags & LETTERED) != 0))
        value = np.uint64(words[HASH, index])
        slot = (value * HASH_FACTOR) >> np.uint64(58)
        stops |= np.uint64(STOP_HASHES[slot] == value) << slot
    tally[NUM_WORDS] = solid
    while stops != 0:
        stops &= stops - np.uint64(1)
        tally[STOP_WORD_COUNT] += 1
    part[MEAN_LENGTH] = share(characters, solid)
    part[HASH_RATIO], part[ELLIPSIS_RATIO] = share(marks[HASHES], count), share(marks[ELLIPSES], count)
    part[ALPHA_WORDS] = share(lettered, count)
