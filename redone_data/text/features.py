"""What curation rules ask of a text: about thirty numbers a document, at some 100 MB/s a core.

One pass over the characters, one over the units, and a hash table for repeats where a word repeats at all.

The names and meanings are ``METRICS``. They serve the rules of Gopher (Rae et al. 2021, arXiv:2112.11446, table A1), C4
and FineWeb, and those for social posts: hashtags, mentions, links, emoji and scripts. Shares of characters count code
points. A repeat must repeat: a word pair that occurs once scores 0, else every short post would fail Gopher's bound.
"""

import functools
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from redone_data.text.buffers import Bytes, Float64, Int64, UInt64, frozen, string_buffers
from redone_data.text.characters import ARABIC as ARABIC_LETTER
from redone_data.text.characters import (
    CLASS_MASK,
    CYRILLIC,
    DIGIT,
    HAN,
    HANGUL,
    KANA,
    OTHER_LETTER,
    PUNCTUATION,
    SPACE,
    UPPER_FLAG,
    class_byte,
    decode,
)
from redone_data.text.characters import LATIN as LATIN_LETTER
from redone_data.text.characters import THAI as THAI_LETTER
from redone_data.text.kernel import inlined, kernel, lean
from redone_data.text.minhash import (
    bytes_hash,
    check_positive,
    in_row_ranges,
    join_words,
    long_hash,
    ngram_hash,
    word_hash,
)
from redone_data.text.simd import HIGH_BITS, is_alphanumeric, load8, load_most, run_end
from redone_data.text.words import (
    CJK,
    HASHTAG,
    MENTION,
    PICTURE,
    URL,
    WHOLE_HASHTAGS,
    WORD,
    longest_row,
    room_for_units,
    split_text,
)

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
BULLETS = (0x2022, 0x2023, 0x25CF, 0x25AA, 0xB7, 0x2A, 0x2D)  # bullet, triangle, disc, square, dot, asterisk, hyphen
ELLIPSIS = 0x2026
PAIR, RUN = 2, 5
ALL_PAIRS_MOST = 64  # so few are compared with vectors in less time than a table takes
LETTER_BITS = np.uint64(0x4040404040404040)  # set in ASCII letters, not in digits or the apostrophe
HASH_SIGN, FULL_STOP, NEWLINE = 0x23, 0x2E, 0x0A

COUNTS = {
    "num_chars": "characters (code points)",
    "num_bytes": "bytes of UTF-8",
    "num_words": "words; a Han or Kana character is one",
    "num_lines": "lines that are not blank",
    "stop_word_count": "how many of the, be, to, of, and, that, have, with occur",
}
SHARES = {
    "mean_word_length": "mean characters of a word, Han and Kana characters not counted; 0 without words",
    "alpha_fraction": "letters, of characters",
    "alpha_word_fraction": "words with a letter, of words",
    "digit_fraction": "digits and other numerals, of characters",
    "punctuation_fraction": "punctuation marks, of characters",
    "symbol_word_ratio": "# signs and ellipses per word",
    "hashtag_fraction": "hashtags, of units (words, hashtags, mentions, links, emoji)",
    "mention_fraction": "mentions, of units",
    "url_fraction": "links, of units",
    "emoji_fraction": "emoji, of units",
    "cjk_fraction": "Han, Kana and Hangul, of letters",
    "uppercase_fraction": "capitals, of letters",
    "top_word_fraction": "the most frequent word, of words",
    "duplicate_line_fraction": "lines that repeat an earlier one, of lines that are not blank",
    "top_ngram_fraction": "the repeated pair of words that covers most, of characters in words; at most 1",
    "duplicate_ngram_fraction": "runs of 5 words that occurred before, of characters in words",
    "bullet_line_fraction": "lines that begin with a bullet, - or *, of lines that are not blank",
    "ellipsis_line_fraction": "lines that end in an ellipsis, of lines that are not blank",
    "latin_fraction": "Latin, of letters",
    "han_fraction": "Han, of letters",
    "kana_fraction": "Hiragana and Katakana, of letters",
    "hangul_fraction": "Hangul, of letters",
    "cyrillic_fraction": "Cyrillic, of letters",
    "arabic_fraction": "Arabic, of letters",
    "thai_fraction": "Thai, of letters",
}
METRICS: dict[str, str] = {**COUNTS, **SHARES}

CHARS, NUM_BYTES, WORDS, LINES, STOPS = range(len(COUNTS))
LENGTH, ALPHA, ALPHA_WORDS, DIGITS, PUNCTUATIONS, SIGNS, HASHTAGS, MENTIONS, URLS, PICTURES, CJKS, CAPITALS = range(12)
TOP_WORD, REPEATED_LINES, TOP_PAIR, REPEATED_RUNS, BULLET_LINES, ELLIPSIS_LINES = range(12, 18)
LATIN, HAN_SHARE, KANA_SHARE, HANGUL_SHARE, CYRILLIC_SHARE, ARABIC, THAI = range(18, 25)


def features(array: pa.Array | pa.ChunkedArray, *, threads: int = 1) -> pl.DataFrame:
    """One row a text, one column a metric of ``METRICS``, in that order; counts are int64, shares float64.

    A share of nothing is 0. ``threads`` share the rows and change nothing. Raises :class:`RedoneError` for nulls.
    """
    check_positive(threads=threads)
    offsets, data = string_buffers(array)
    counts = np.empty((len(COUNTS), len(offsets) - 1), np.int64)
    shares = np.empty((len(SHARES), len(offsets) - 1), np.float64)
    stop_words = stop_word_hashes()
    in_row_ranges(
        len(offsets) - 1, threads, lambda a, b: _measure_rows(offsets, data, stop_words, counts, shares, a, b)
    )
    return pl.DataFrame(
        [pl.Series(name, column) for name, column in zip(COUNTS, counts, strict=True)]
        + [pl.Series(name, column) for name, column in zip(SHARES, shares, strict=True)]
    )


@functools.cache
def stop_word_hashes() -> UInt64:
    """uint64[8]: the hashes of ``STOP_WORDS``; not at import, which would wait for the compiler."""
    words = [np.frombuffer(word.encode(), np.uint8) for word in STOP_WORDS]
    return frozen(np.array([long_hash(frozen(word), 0, len(word)) for word in words], np.uint64))


@inlined
def key_slot(keys: UInt64, stamps: Int64, counts: Int64, mask: int, stamp: int, key: np.uint64) -> int:
    """The slot of ``key`` under ``stamp`` in an open-addressing table of ``mask + 1`` slots; a new one counts 0.

    A new stamp empties the table at no cost.
    """
    slot: Any = np.int64(key & np.uint64(mask))
    while stamps[slot] == stamp and keys[slot] != key:
        slot = (slot + 1) & mask
    if stamps[slot] != stamp:
        stamps[slot], keys[slot], counts[slot] = stamp, key, 0
    found: int = slot
    return found


@lean
def count_hashes(
    hashes: UInt64, count: int, candidates: Bytes, times: Int64, keys: UInt64, stamps: Int64, counts: Int64, stamp: int
) -> None:
    """Writes how often each of the hashes occurs; 0 for those that are not candidates."""
    if count <= ALL_PAIRS_MOST:
        for index in range(count):
            found = 0
            if candidates[index]:
                for other in range(count):
                    found += hashes[other] == hashes[index]
            times[index] = found
        return
    mask = table_mask(count)
    for index in range(count):
        times[index] = -1
        if candidates[index]:
            slot = key_slot(keys, stamps, counts, mask, stamp, hashes[index])
            counts[slot] += 1
            times[index] = slot
    for index in range(count):
        times[index] = counts[times[index]] if times[index] >= 0 else 0


@inlined
def table_mask(entries: int) -> int:
    """One less than the least power of two that is at least twice ``entries``."""
    size = 2
    while size < 2 * entries:
        size *= 2
    return size - 1


@inlined
def share(part: float, whole: float) -> float:
    """``part / whole``, or 0 of nothing."""
    return part / whole if whole > 0 else 0.0


@kernel
def _measure_rows(
    offsets: Int64, data: Bytes, stop_words: UInt64, counts: Int64, shares: Float64, first: int, last: int
) -> None:
    longest = longest_row(offsets, first, last)
    starts, ends, kinds, masks = room_for_units(longest)
    keys = np.empty(table_mask(longest) + 1, np.uint64)
    stamps, occurrences = np.zeros(len(keys), np.int64), np.empty(len(keys), np.int64)
    hashes, grams, lengths = np.empty(longest, np.uint64), np.empty(longest, np.uint64), np.empty(longest, np.int64)
    candidates, times, tally = np.empty(longest, np.uint8), np.empty(longest, np.int64), np.empty(16, np.int64)
    count, part = np.empty(len(counts), np.int64), np.empty(len(shares), np.float64)
    for row in range(first, last):
        begin, end = offsets[row], offsets[row + 1]
        stamp = 4 * row + 1
        units = split_text(data, begin, end, starts, ends, kinds, masks, WHOLE_HASHTAGS)
        signs = measure_characters(data, begin, end, masks, count, part, tally, keys, stamps, occurrences, stamp)
        words = measure_units(data, starts, ends, kinds, units, stop_words, count, part, tally, hashes, lengths)
        part[SIGNS] = signs / max(words, 1)
        measure_repeats(hashes, lengths, words, part, grams, candidates, times, keys, stamps, occurrences, stamp + 1)
        for metric in range(len(count)):
            counts[metric, row] = count[metric]
        for metric in range(len(part)):
            shares[metric, row] = part[metric]


@lean
def measure_characters(
    data: Bytes,
    begin: int,
    end: int,
    masks: UInt64,
    counts: Int64,
    shares: Float64,
    tally: Int64,
    keys: UInt64,
    stamps: Int64,
    occurrences: Int64,
    stamp: int,
) -> int:
    """Writes the metrics of characters and lines, and gives the number of ``#`` signs and ellipses."""
    tally[:] = 0
    breaks = digits = alphanumerics = capitals = 0
    for position in range(begin, end):
        byte = load8(data, position)
        breaks += byte == NEWLINE
        digits += 48 <= byte <= 57
        capitals += 65 <= byte <= 90
        alphanumerics += is_alphanumeric(byte)
    tally[DIGIT], tally[LATIN_LETTER] = digits, alphanumerics - digits
    mask = table_mask(breaks + 1)
    characters = signs = lines = repeats = bullets = trails = 0
    line_start = line_end = -1  # of what is not white space
    dots = 0
    position = begin
    while position <= end:
        if position < end and is_alphanumeric(load8(data, position)):
            if line_start < 0:
                line_start = position
            line_end = begin + run_end(masks, position - begin)
            characters += line_end - position
            dots = 0
            position = line_end
            continue
        # The end of the text ends its last line.
        code, after = decode(data, position, end) if position < end else (NEWLINE, position + 1)
        flags = class_byte(code)
        sort = flags & CLASS_MASK
        if position < end:
            characters += 1
            tally[sort] += 1
            capitals += (flags & UPPER_FLAG) != 0
            signs += code in (HASH_SIGN, ELLIPSIS)
            if code == FULL_STOP:
                dots += 1
                signs += dots % 3 == 0
            else:
                dots = 0
        if sort != SPACE:
            if line_start < 0:
                line_start = position
            line_end = after
        elif code == NEWLINE:
            if line_start >= 0:
                lines += 1
                if breaks > 0:
                    line_hash = bytes_hash(data, line_start, line_end)
                    slot = key_slot(keys, stamps, occurrences, mask, stamp, line_hash)
                    repeats += occurrences[slot]
                    occurrences[slot] = 1
                bullets += decode(data, line_start, line_end)[0] in BULLETS
                trails += ends_in_ellipsis(data, line_start, line_end)
            line_start = -1
        position = after
    letters = 0
    for sort in range(OTHER_LETTER, KANA + 1):
        letters += tally[sort]
    counts[CHARS], counts[NUM_BYTES], counts[LINES] = characters, end - begin, lines
    shares[ALPHA] = share(letters, characters)
    shares[DIGITS] = share(tally[DIGIT], characters)
    shares[PUNCTUATIONS] = share(tally[PUNCTUATION], characters)
    shares[CJKS] = share(tally[HAN] + tally[KANA] + tally[HANGUL], letters)
    shares[CAPITALS] = share(capitals, letters)
    shares[REPEATED_LINES] = share(repeats, lines)
    shares[BULLET_LINES] = share(bullets, lines)
    shares[ELLIPSIS_LINES] = share(trails, lines)
    shares[LATIN], shares[HAN_SHARE] = share(tally[LATIN_LETTER], letters), share(tally[HAN], letters)
    shares[KANA_SHARE], shares[HANGUL_SHARE] = share(tally[KANA], letters), share(tally[HANGUL], letters)
    shares[CYRILLIC_SHARE], shares[ARABIC] = share(tally[CYRILLIC], letters), share(tally[ARABIC_LETTER], letters)
    shares[THAI] = share(tally[THAI_LETTER], letters)
    return signs


@lean
def ends_in_ellipsis(data: Bytes, start: int, end: int) -> bool:
    """Whether the line ends in three full stops or U+2026 (E2 80 A6)."""
    if end - start < 3:
        return False
    a: int = data[end - 3]
    b: int = data[end - 2]
    c: int = data[end - 1]
    return (a == 0x2E and b == 0x2E and c == 0x2E) or (a == 0xE2 and b == 0x80 and c == 0xA6)


@inlined
def letters_and_length(data: Bytes, start: int, end: int) -> tuple[bool, int]:
    """Whether a word has a letter, and its number of characters."""
    has_letter = False
    for position in range(start, end, 8):
        eight = load_most(data, position, end)
        if eight & HIGH_BITS:
            return decoded_letters_and_length(data, start, end)
        has_letter |= (eight & LETTER_BITS) != 0
    return has_letter, end - start


@lean
def decoded_letters_and_length(data: Bytes, position: int, end: int) -> tuple[bool, int]:
    """:func:`letters_and_length` of a word that is not ASCII."""
    has_letter = False
    characters = 0
    while position < end:
        code, position = decode(data, position, end)
        characters += 1
        has_letter |= OTHER_LETTER <= class_byte(code) & CLASS_MASK <= KANA
    return has_letter, characters


@lean
def measure_units(
    data: Bytes,
    starts: Int64,
    ends: Int64,
    kinds: Bytes,
    units: int,
    stop_words: UInt64,
    counts: Int64,
    shares: Float64,
    tally: Int64,
    hashes: UInt64,
    lengths: Int64,
) -> int:
    """Writes the metrics of units, the hash and the length of each word, and gives the number of words."""
    tally[:] = 0
    words = letters = lettered = stops = 0
    for unit in range(units):
        start, end, kind = starts[unit], ends[unit], kinds[unit]
        tally[kind] += 1
        if kind == CJK and end - start <= 3:
            hashes[words], lengths[words] = word_hash(data, start, end, kind), 1
            lettered += 1
            words += 1
        elif kind in (WORD, CJK):
            has_letter, characters = letters_and_length(data, start, end)
            hashes[words], lengths[words] = word_hash(data, start, end, kind), characters
            lettered += has_letter
            if kind == WORD:
                letters += characters
                if characters <= 4:
                    for stop in range(len(stop_words)):
                        if hashes[words] == stop_words[stop]:
                            stops |= 1 << stop
            words += 1
    counts[WORDS] = words
    counts[STOPS] = 0
    while stops > 0:
        counts[STOPS] += stops & 1
        stops >>= 1
    shares[LENGTH] = share(letters, tally[WORD])
    shares[ALPHA_WORDS] = share(lettered, words)
    shares[HASHTAGS], shares[MENTIONS] = share(tally[HASHTAG], units), share(tally[MENTION], units)
    shares[URLS], shares[PICTURES] = share(tally[URL], units), share(tally[PICTURE], units)
    return words


@lean
def measure_repeats(
    hashes: UInt64,
    lengths: Int64,
    words: int,
    shares: Float64,
    grams: UInt64,
    candidates: Bytes,
    times: Int64,
    keys: UInt64,
    stamps: Int64,
    occurrences: Int64,
    stamp: int,
) -> None:
    """Writes how much of the text repeats. A run of words can only where its words do, and then its pairs."""
    candidates[:words] = 1
    count_hashes(hashes, words, candidates, times, keys, stamps, occurrences, stamp)
    top = characters = covered = repeated = 0
    for index in range(words):
        top = max(top, times[index])
        characters += lengths[index]
    if top > 1:
        pairs = join_words(hashes, words, PAIR, grams)
        for index in range(pairs):
            candidates[index] = times[index] > 1 and times[index + 1] > 1
        count_hashes(grams, pairs, candidates, times, keys, stamps, occurrences, stamp + 1)
        for index in range(pairs):
            if times[index] > 1:
                covered = max(covered, times[index] * (lengths[index] + lengths[index + 1]))
    if covered > 0:
        mask = table_mask(words)
        index = 0
        while index <= words - RUN:
            if times[index] > 1 and times[index + 1] > 1 and times[index + 2] > 1 and times[index + 3] > 1:
                slot = key_slot(keys, stamps, occurrences, mask, stamp + 2, ngram_hash(hashes, index, RUN))
                if occurrences[slot] > 0:
                    # As datatrove counts: a run seen before is covered whole, and reading goes on behind it.
                    for covering in range(index, index + RUN):
                        repeated += lengths[covering]
                    index += RUN
                    continue
                occurrences[slot] = 1
            index += 1
    shares[TOP_WORD] = share(top, words)
    shares[TOP_PAIR] = min(1.0, share(covered, characters))
    shares[REPEATED_RUNS] = share(repeated, characters)
