"""Words of English text exactly as spaCy's rule-based tokenizer gives them, which datatrove's filters count.

The masks of web_survey.py give the ends of each chunk between white space. Chunks of Latin letters, perhaps with one
mark behind, need one look at a bitmap of exceptions; others are looked up in a memo of chunks split before, as spaCy
does; the rest goes by english_chunks.py. Every word is spaCy's (tests/text/test_english_words.py).
"""

from typing import Any

import numpy as np

from redone_data.text.buffers import Bytes, Int64, UInt64, frozen
from redone_data.text.characters import decode
from redone_data.text.english_chunks import CLASSES, FROM, PLACES, TO, class_of, split_chunk
from redone_data.text.english_rules import (
    CHUNK_BITS,
    HASH_FACTOR,
    HASH_SEED,
    LETTER,
    PUNCT,
    SENTENCE_END,
    SPACE,
    SUFFIX,
    SYMBOL,
    UInt16,
    character_classes,
)
from redone_data.text.kernel import inlined, lean
from redone_data.text.simd import load64, run_end
from redone_data.text.web_survey import LETTERS, MARKS, MASKS, ODD_SPACES, PADDING, SOLIDS, next_bit, survey

# Of a word: it opens a chunk, has a letter, has more than symbols, is punctuation, may end a sentence, follows white
# space that is a token to spaCy, stands in a chunk of over 1000 characters.
FIRST, LETTERED, SOLID, PUNCTUATION, STOP, GAP, LONG = (1 << bit for bit in range(7))
PLAIN = FIRST | LETTERED | SOLID
LONG_CHUNK = 1000

# Rows of the table of words: where each begins and ends, its characters, flags, hash.
STARTS, ENDS, LENGTHS, FLAGS, HASH = range(5)
WORD_ROWS, ROOM_ROWS = 5, 9
# Rows of the memo: the bytes of a chunk of up to 16, how many they are, its parts: 4 bits of flags, 5 each for bytes
# and characters; how many.
LOW, HIGH, SIZE, PARTS, PART_COUNT = range(5)
MEMO_ROWS, MEMO_BITS = 5, 12
LONGEST_MEMO, MOST_PARTS, PART_BITS = 16, 4, 14
HIGH_FACTOR = np.uint64(0xC2B2AE3D27D4EB4F)


@inlined
def first_bytes(data: Bytes, position: int, size: int) -> np.uint64:
    """Up to eight of ``size`` bytes, 1 or more; eight are readable."""
    eight = np.uint64(load64(data, position))
    return eight & (~np.uint64(0) >> np.uint64(64 - 8 * min(size, 8)))


@inlined
def word_hash(data: Bytes, start: int, size: int) -> np.uint64:
    """A 64-bit hash of ``size`` bytes, 1 or more; english_rules.py has the same in Python."""
    value = (first_bytes(data, start, size) + np.uint64(size) * HASH_SEED) * HASH_FACTOR
    value ^= value >> np.uint64(32)
    place = 8
    while place < size:
        value = (value + first_bytes(data, start + place, size - place)) * HASH_FACTOR
        value ^= value >> np.uint64(32)
        place += 8
    return value


@inlined
def may_be_chunk(value: np.uint64) -> bool:
    """Whether some exception of letters, perhaps with one mark behind, has this hash; few others do."""
    bit = np.int64((value * HASH_FACTOR) >> np.uint64(48))
    return bool((CHUNK_BITS[bit >> 3] >> np.uint8(bit & 7)) & 1)


@lean
def find_words(
    classes: UInt16,
    data: Bytes,
    begin: int,
    end: int,
    masks: UInt64,
    odd_spaces: bool,
    words: Int64,
    room: Int64,
    memo: UInt64,
) -> int:
    """Fills ``words`` with those of a text that was surveyed; how many."""
    if odd_spaces:
        return find_words_between_odd_spaces(classes, data, begin, end, words, room, memo)
    count = int(np.int64(0))
    letter_masks, solids = masks[LETTERS], masks[SOLIDS]
    size = end - begin
    start = next_bit(solids, 0, size)
    opening = int(np.int64(FIRST | GAP if start > 0 else FIRST))
    while start < size:
        stop = run_end(solids, start)
        letters = run_end(letter_masks, start) - start
        count = add_chunk(classes, data, begin + start, begin + stop, letters, opening, words, room, memo, count)
        start = stop + 1
        opening = int(np.int64(FIRST))
        if start < size and data[begin + start] <= 0x20:
            start = next_bit(solids, start, size)
            opening = int(np.int64(FIRST | GAP))
        elif data[begin + stop] != 0x20:
            opening = int(np.int64(FIRST | GAP))
    return count


@lean
def find_words_between_odd_spaces(
    classes: UInt16, data: Bytes, begin: int, end: int, words: Int64, room: Int64, memo: UInt64
) -> int:
    """The same, looking at each character, where there is white space other than blanks and line feeds."""
    # Not literals, for which kernels called would be compiled anew.
    count = int(np.int64(0))
    opening = int(np.int64(FIRST))
    position = begin
    while position < end:
        start = position
        while position < end:
            code, after = decode(data, position, end)
            if class_of(classes, code) & SPACE:
                break
            position = after
        if position > start:
            letters = 0
            while start + letters < position and 97 <= data[start + letters] | 0x20 <= 122:
                letters += 1
            count = add_chunk(classes, data, start, position, letters, opening, words, room, memo, count)
        space = position
        while position < end:
            code, after = decode(data, position, end)
            if not class_of(classes, code) & SPACE:
                break
            position = after
        gap = position - space > 1 or (position > space and (data[space] != 0x20 or space == begin))
        opening = int(np.int64(FIRST | GAP if gap else FIRST))
    return count


@inlined
def add_chunk(
    classes: UInt16,
    data: Bytes,
    start: int,
    end: int,
    letters: int,
    opening: int,
    words: Int64,
    room: Int64,
    memo: UInt64,
    count: int,
) -> int:
    """Adds the words of the chunk ``data[start:end]``, which begins with so many letters; how many there are then."""
    size = end - start
    if size - letters <= 1 and letters > 0 and size < LONG_CHUNK:
        value = word_hash(data, start, letters)
        byte: Any = data[end - 1]
        if letters == size:
            if not may_be_chunk(value):
                put(words, count, start, end, size, opening | LETTERED | SOLID, value)
                return count + 1
        elif (
            byte < 0x80
            and (classes[byte] & SUFFIX or (byte == 0x2E and data[end - 2] >= 97))
            and not may_be_chunk(value)
            and not may_be_chunk(word_hash(data, start, size))
        ):
            put(words, count, start, end - 1, letters, opening | LETTERED | SOLID, value)
            put(
                words,
                count + 1,
                end - 1,
                end,
                1,
                flags_of(classes[byte], classes[byte]),
                word_hash(data, end - 1, 1),
            )
            return count + 2
    if size <= LONGEST_MEMO:
        return add_short_chunk(classes, data, start, size, opening, words, room, memo, count)
    return add_long_chunk(classes, data, start, end, opening, words, room, count)


@inlined
def put(words: Int64, index: int, start: int, end: int, length: int, flags: int, value: np.uint64) -> None:
    words[STARTS, index], words[ENDS, index], words[LENGTHS, index] = start, end, length
    words[FLAGS, index], words[HASH, index] = flags, np.int64(value)


@inlined
def flags_of(every: int, some: int) -> int:
    """The flags of a word, by the classes that all and that some of its characters have; not whether it may end a
    sentence."""
    lettered = LETTERED if some & LETTER else 0
    return (
        lettered
        | (0 if every & SYMBOL else SOLID)
        | (PUNCTUATION if every & PUNCT else 0)
        | (STOP if every & SENTENCE_END else 0)
    )


@lean
def add_short_chunk(
    classes: UInt16,
    data: Bytes,
    start: int,
    size: int,
    opening: int,
    words: Int64,
    room: Int64,
    memo: UInt64,
    count: int,
) -> int:
    """Adds the words of a chunk that the memo may have."""
    low = first_bytes(data, start, size)
    high = first_bytes(data, start + 8, size - 8) if size > 8 else np.uint64(0)
    key = (low + np.uint64(size)) * HASH_FACTOR + high * HIGH_FACTOR
    slot = np.int64((key ^ (key >> np.uint64(32))) * HASH_FACTOR >> np.uint64(64 - MEMO_BITS))
    if memo[LOW, slot] != low or memo[HIGH, slot] != high or memo[SIZE, slot] != np.uint64(size):
        last = add_long_chunk(classes, data, start, start + size, opening, words, room, count)
        if last - count <= MOST_PARTS:
            parts = np.uint64(0)
            for index in range(last - 1, count - 1, -1):
                length = words[ENDS, index] - words[STARTS, index]
                part = words[LENGTHS, index] << 5 | length
                part |= (words[FLAGS, index] >> 1 & 15) << 10
                parts = parts << np.uint64(PART_BITS) | np.uint64(part)
            memo[LOW, slot], memo[HIGH, slot], memo[SIZE, slot] = low, high, np.uint64(size)
            memo[PARTS, slot], memo[PART_COUNT, slot] = parts, np.uint64(last - count)
        return last
    parts = memo[PARTS, slot]
    for _ in range(np.int64(memo[PART_COUNT, slot])):
        length = int(np.int64(parts)) & 31
        flags = (int(np.int64(parts)) >> 10 & 15) << 1
        put(
            words,
            count,
            start,
            start + length,
            int(np.int64(parts)) >> 5 & 31,
            flags | opening,
            word_hash(data, start, length),
        )
        start += length
        opening = 0
        parts >>= np.uint64(PART_BITS)
        count += 1
    return count


@lean
def add_long_chunk(
    classes: UInt16, data: Bytes, start: int, end: int, opening: int, words: Int64, room: Int64, count: int
) -> int:
    """Adds the words of any chunk."""
    size, parts = split_chunk(classes, data, start, end, room)
    places, sorts = room[PLACES], room[CLASSES]
    flags = opening | (LONG if size > LONG_CHUNK else 0)
    for part in range(parts):
        first, last = room[FROM][part], room[TO][part]
        every, some = 0xFFFF, 0
        for index in range(first, last):
            every &= sorts[index]
            some |= sorts[index]
        flags |= flags_of(every, some)
        if last - first > 1:
            flags &= ~STOP
        value = word_hash(data, places[first], places[last] - places[first])
        put(words, count, places[first], places[last], last - first, flags, value)
        flags = 0
        count += 1
    return count


def english_words(text: str) -> list[str]:
    """The words of one text, for tests and for looking."""
    encoded = text.encode()
    data = frozen(np.frombuffer(encoded + bytes(PADDING), np.uint8))
    size = len(encoded)
    masks, marks = np.zeros((MASKS, (size >> 6) + 2), np.uint64), np.zeros(MARKS, np.int64)
    words, room = np.empty((WORD_ROWS, size + 1), np.int64), np.empty((ROOM_ROWS, size + 1), np.int64)
    memo = np.zeros((MEMO_ROWS, 1 << MEMO_BITS), np.uint64)
    survey(data, 0, size, masks, marks)
    odd = bool(marks[ODD_SPACES])
    count = find_words(character_classes(), data, 0, size, masks, odd, words, room, memo)
    spans = zip(words[STARTS, :count], words[ENDS, :count], strict=True)
    return [encoded[start:end].decode() for start, end in spans]
