"""What curation rules ask of a text: about thirty numbers a document, in two passes over its bytes.

The names and meanings are ``METRICS``. They serve the rules of Gopher (Rae et al. 2021, arXiv:2112.11446, table A1), C4
and FineWeb, and those for social posts: hashtags, mentions, links, emoji and scripts. Shares of characters count code
points. A repeat must repeat: a word pair that occurs once scores 0, else every short post would fail Gopher's bound.
"""

import functools

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
from redone_data.text.kernel import kernel
from redone_data.text.minhash import bytes_hash, long_hash, ngram_hash
from redone_data.text.words import CJK, HASHTAG, MENTION, NONE, PICTURE, URL, WORD, next_word

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
BULLETS = (0x2022, 0x2023, 0x25CF, 0x25AA, 0xB7, 0x2A, 0x2D)  # bullet, triangle, disc, square, dot, asterisk, hyphen
ELLIPSIS = 0x2026
PAIR, RUN = 2, 5

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


def features(array: pa.Array | pa.ChunkedArray) -> pl.DataFrame:
    """One row a text, one column a metric of ``METRICS``, in that order; counts are int64, shares float64.

    A share of nothing is 0. Raises :class:`RedoneError` for nulls.
    """
    offsets, data = string_buffers(array)
    counts = np.zeros((len(COUNTS), len(offsets) - 1), np.int64)
    shares = np.zeros((len(SHARES), len(offsets) - 1), np.float64)
    _measure_rows(offsets, data, stop_word_hashes(), counts, shares)
    return pl.DataFrame(
        [pl.Series(name, column) for name, column in zip(COUNTS, counts, strict=True)]
        + [pl.Series(name, column) for name, column in zip(SHARES, shares, strict=True)]
    )


@functools.cache
def stop_word_hashes() -> UInt64:
    """uint64[8]: the hashes of ``STOP_WORDS``; not at import, which would wait for the compiler."""
    words = [np.frombuffer(word.encode(), np.uint8) for word in STOP_WORDS]
    return frozen(np.array([long_hash(frozen(word), 0, len(word)) for word in words], np.uint64))


@kernel
def count_key(keys: UInt64, stamps: Int64, counts: Int64, mask: int, stamp: int, key: np.uint64) -> int:
    """How often ``key`` has been counted under ``stamp``, this time included.

    An open-addressing table of ``mask + 1`` slots; a new stamp empties it at no cost.
    """
    slot = np.int64(key & np.uint64(mask))
    while stamps[slot] == stamp and keys[slot] != key:
        slot = (slot + 1) & mask
    if stamps[slot] != stamp:
        stamps[slot], keys[slot], counts[slot] = stamp, key, 0
    counts[slot] += 1
    times: int = counts[slot]
    return times


@kernel
def table_mask(entries: int) -> int:
    """One less than the least power of two that is at least twice ``entries``."""
    size = 2
    while size < 2 * entries:
        size *= 2
    return size - 1


@kernel
def share(part: float, whole: float) -> float:
    """``part / whole``, or 0 of nothing."""
    return part / whole if whole > 0 else 0.0


@kernel
def _measure_rows(offsets: Int64, data: Bytes, stop_words: UInt64, counts: Int64, shares: Float64) -> None:
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    keys = np.empty(table_mask(longest) + 1, np.uint64)
    stamps = np.zeros(len(keys), np.int64)
    occurrences = np.empty(len(keys), np.int64)
    hashes, lengths = np.empty(longest, np.uint64), np.empty(longest, np.int64)
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        signs = _measure_characters(
            data, begin, end, counts[:, row], shares[:, row], keys, stamps, occurrences, 4 * row + 1
        )
        words = _measure_units(data, begin, end, stop_words, counts[:, row], shares[:, row], hashes, lengths)
        shares[SIGNS, row] = signs / max(words, 1)
        _measure_repeats(hashes, lengths, words, shares[:, row], keys, stamps, occurrences, 4 * row + 2)


@kernel
def _measure_characters(
    data: Bytes,
    begin: int,
    end: int,
    counts: Int64,
    shares: Float64,
    keys: UInt64,
    stamps: Int64,
    occurrences: Int64,
    stamp: int,
) -> int:
    tally = np.zeros(16, np.int64)
    characters = capitals = signs = lines = repeats = bullets = trails = 0
    mask = table_mask(end - begin)
    line_start = line_end = -1  # of what is not white space
    dots = 0
    position = begin
    while position <= end:
        # The end of the text ends its last line.
        code, after = decode(data, position, end) if position < end else (0x0A, position + 1)
        flags = class_byte(code)
        if position < end:
            characters += 1
            tally[flags & CLASS_MASK] += 1
            capitals += (flags & UPPER_FLAG) != 0
            dots = dots + 1 if code == 0x2E else 0
            signs += code == 0x23 or code == ELLIPSIS or (dots > 0 and dots % 3 == 0)
        if code == 0x0A:
            if line_start >= 0:
                lines += 1
                line_hash = bytes_hash(data, line_start, line_end)
                repeats += count_key(keys, stamps, occurrences, mask, stamp, line_hash) > 1
                bullets += decode(data, line_start, line_end)[0] in BULLETS
                trails += ends_in_ellipsis(data, line_start, line_end)
            line_start = -1
        elif (flags & CLASS_MASK) != SPACE:
            if line_start < 0:
                line_start = position
            line_end = after
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


@kernel
def ends_in_ellipsis(data: Bytes, start: int, end: int) -> bool:
    """Whether the line ends in three full stops or U+2026 (E2 80 A6)."""
    if end - start < 3:
        return False
    a: int = data[end - 3]
    b: int = data[end - 2]
    c: int = data[end - 1]
    return (a == 0x2E and b == 0x2E and c == 0x2E) or (a == 0xE2 and b == 0x80 and c == 0xA6)


@kernel
def _measure_units(
    data: Bytes,
    begin: int,
    end: int,
    stop_words: UInt64,
    counts: Int64,
    shares: Float64,
    hashes: UInt64,
    lengths: Int64,
) -> int:
    kinds = np.zeros(8, np.int64)
    words = letters = lettered = stops = 0
    start, position, kind = next_word(data, begin, begin, end)
    while kind != NONE:
        kinds[kind] += 1
        if kind in (WORD, CJK):
            characters = 0
            has_letter = False
            index = start
            while index < position:
                code, index = decode(data, index, position)
                characters += 1
                has_letter |= OTHER_LETTER <= class_byte(code) & CLASS_MASK <= KANA
            hashes[words], lengths[words] = long_hash(data, start, position), characters
            lettered += has_letter
            if kind == WORD:
                letters += characters
                if characters <= 4:
                    for stop in range(len(stop_words)):
                        if hashes[words] == stop_words[stop]:
                            stops |= 1 << stop
            words += 1
        start, position, kind = next_word(data, begin, position, end)
    units = kinds.sum()
    counts[WORDS] = words
    while stops > 0:
        counts[STOPS] += stops & 1
        stops >>= 1
    shares[LENGTH] = share(letters, kinds[WORD])
    shares[ALPHA_WORDS] = share(lettered, words)
    shares[HASHTAGS], shares[MENTIONS] = share(kinds[HASHTAG], units), share(kinds[MENTION], units)
    shares[URLS], shares[PICTURES] = share(kinds[URL], units), share(kinds[PICTURE], units)
    return words


@kernel
def _measure_repeats(
    hashes: UInt64,
    lengths: Int64,
    words: int,
    shares: Float64,
    keys: UInt64,
    stamps: Int64,
    occurrences: Int64,
    stamp: int,
) -> None:
    mask = table_mask(words)
    top = characters = 0
    for index in range(words):
        top = max(top, count_key(keys, stamps, occurrences, mask, stamp, hashes[index]))
        characters += lengths[index]
    shares[TOP_WORD] = share(top, words)
    covered = 0
    for index in range(words - PAIR + 1):
        times = count_key(keys, stamps, occurrences, mask, stamp + 1, ngram_hash(hashes, index, PAIR))
        if times > 1:
            covered = max(covered, times * (lengths[index] + lengths[index + 1]))
    shares[TOP_PAIR] = min(1.0, share(covered, characters))
    covered = index = 0
    while index <= words - RUN:
        # As datatrove counts: a run seen before is covered whole, and reading goes on behind it.
        if count_key(keys, stamps, occurrences, mask, stamp + 2, ngram_hash(hashes, index, RUN)) > 1:
            for covering in range(index, index + RUN):
                covered += lengths[covering]
            index += RUN
        else:
            index += 1
    shares[REPEATED_RUNS] = share(covered, characters)
