"""Where a byte-level BPE may not merge: texts cut into words, numbers, signs and spaces, as a tokenizer.json asks.

The usual engine is a backtracking regex, and takes most of a tokenizer's time. The patterns known here are instead one
kernel that looks at each character once; an unknown pattern is refused, never guessed at. Classes of characters are
asked of the regex engine of ``tokenizers`` itself, so that both follow one version of Unicode: 0.3 s a process.
"""

import functools
import unicodedata
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, pre_tokenizers

from redone_data.text.buffers import Bytes, Int64, frozen
from redone_data.text.characters import NFC_FLAG, class_byte
from redone_data.text.kernel import inlined, lean
from redone_data.text.simd import HIGH_BITS, LOW_BITS, load8, load_most, trailing_zeros

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# What a character can go on with, and what makes it doubtful: a bit each.
WORD, NUMBER, CJK, OTHER, WHITE, BREAK, UNSAFE, UNKNOWN = (1 << bit for bit in range(8))
CJK_CLASS = r"\p{Han}\p{Hiragana}\p{Katakana}"
NUM_CODES = 0x110000
# Ranges whose members are alike: one of each is asked about.
ALIKE = [
    *[(0x3400, 0x4DBF), (0x4E00, 0x9FFC), (0xAC00, 0xD7A3), (0x17000, 0x187F7), (0xE000, 0xF8FF), (0x20000, 0x2A6DD)],
    *[(0x2A700, 0x2B734), (0x2B740, 0x2B81D), (0x2B820, 0x2CEA1), (0x2CEB0, 0x2EBE0), (0x30000, 0x3134A)],
    *[(0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)],
]
CASES = np.uint64(0x2020202020202020)
# Added to a byte below 0x80, each sets its high bit from that character on.
BELOW_A, BEYOND_Z = np.uint64(0x1F1F1F1F1F1F1F1F), np.uint64(0x0505050505050505)
QUOTE, BLANK, LINE_FEED, RETURN = 0x27, 0x20, 0x0A, 0x0D


class Scheme(NamedTuple):
    """What patterns differ in. All cut off English contractions, and leave the last blank to the word that follows."""

    marks: bool = False  # combining marks belong to words; else they are signs
    cjk: bool = False  # runs of Han and Kana stand apart from other letters
    digits: int = 1  # a number is cut after so many
    any_case: bool = False  # 'S is a contraction too
    any_prefix: bool = False  # any one sign or space may begin a word; else a blank
    breaks: bool = False  # line breaks go with what precedes them


_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# GPT-2's pattern, with single digits, marks kept with their letters, and runs of CJK apart from other letters.
PRETOKENIZER_PATTERN = (
    rf"'(?:[sdmt]|ll|ve|re)|\p{{N}}|[{CJK_CLASS}]+| ?(?:(?![{CJK_CLASS}])[\p{{L}}\p{{M}}])+"
    r"| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
)
SCHEMES = {
    PRETOKENIZER_PATTERN: Scheme(marks=True, cjk=True),
    _QWEN: Scheme(any_case=True, any_prefix=True, breaks=True),  # Qwen 2, 2.5, 3
    _QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|"): Scheme(digits=3, any_case=True, any_prefix=True, breaks=True),
    _QWEN.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}", r"[^\s\p{L}\p{M}"): Scheme(
        marks=True, any_case=True, any_prefix=True, breaks=True
    ),  # Qwen 3.5
}


@functools.cache
def character_classes(scheme: Scheme) -> Bytes:
    """uint8[0x110000]: the classes of each code point, a bit each; UNSAFE where NFC may change it, UNKNOWN if new."""
    alike = np.zeros(NUM_CODES, np.bool_)
    for first, last in ALIKE:
        alike[first + 1 : last + 1] = True
    planes = [*range(0x40000), *range(0xE0000, 0xE0200), 0xF0000, 0x100000]
    codes = [code for code in planes if not alike[code] and unicodedata.category(chr(code)) not in ("Cn", "Cs")]
    text = "".join(map(chr, codes))

    def members(of: str) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(codes), np.bool_)
        for _, (start, end) in pre_tokenizers.Split(Regex(f"[^{of}]+"), "removed").pre_tokenize_str(text):
            found[start:end] = True
        return found

    number, white = members(r"\p{N}"), members(r"\s")
    letter = members(r"\p{L}\p{M}" if scheme.marks else r"\p{L}")
    cjk = members(CJK_CLASS) if scheme.cjk else np.zeros(len(codes), np.bool_)
    kinds = WORD * (letter & ~cjk) | NUMBER * number | CJK * cjk | WHITE * white | BREAK * members(r"\r\n")
    kinds |= OTHER * ~(letter | number | white)
    kinds |= UNSAFE * np.array([class_byte(code) & NFC_FLAG > 0 for code in codes])
    table = np.full(NUM_CODES, UNSAFE | UNKNOWN, np.uint8)
    table[codes] = kinds
    for first, last in ALIKE:
        table[first : last + 1] = table[first]
    return frozen(table)


@lean
def decode(data: Bytes, position: int) -> tuple[int, int]:
    """(code point, the position after it) in valid UTF-8, as Arrow's strings are."""
    lead: Any = np.int64(data[position])
    if lead < 0x80:
        return lead, position + 1
    second = np.int64(data[position + 1]) & 0x3F
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | second, position + 2
    third = np.int64(data[position + 2]) & 0x3F
    if lead < 0xF0:
        return (lead & 0x0F) << 12 | second << 6 | third, position + 3
    return (lead & 0x07) << 18 | second << 12 | third << 6 | (np.int64(data[position + 3]) & 0x3F), position + 4


@lean
def look(data: Bytes, position: int, classes: Bytes) -> tuple[int, int]:
    """(the classes of the character at ``position``, the position after it)."""
    if data[position] < 0x80:
        kind: Any = np.int64(classes[data[position]])
        return kind, position + 1
    code, after = decode(data, position)
    kind = np.int64(classes[code])
    return kind, after


@inlined
def is_letter(byte: int) -> bool:
    return 97 <= byte | 0x20 <= 122


@inlined
def letters_end(data: Bytes, position: Any, end: int) -> Any:
    """Where the ASCII letters from ``position`` on end, eight at a time."""
    while True:
        eight = load_most(data, position, end)
        lower = (eight | CASES) & LOW_BITS
        letters = (lower + BELOW_A) & ~(lower + BEYOND_Z) & ~eight & HIGH_BITS
        size = trailing_zeros(letters ^ HIGH_BITS) >> 3
        position += size
        if size < 8:
            return position


@lean
def pretoken_ends(data: Bytes, start: int, end: int, classes: Bytes, scheme: Scheme, ends: Int64) -> int:
    """Fill in where each pretoken of ``data[start:end]`` ends; how many."""
    count = 0
    position = start
    while position < end:
        first_byte = load8(data, position)
        if first_byte == BLANK or is_letter(first_byte):
            # Most of English: ASCII letters, and the blank before them.
            after = letters_end(data, position + 1, end)
            if (after > position + 1 or first_byte != BLANK) and (after == end or load8(data, after) < 0x80):
                ends[count] = position = after
                count += 1
                continue
        kind, after = look(data, position, classes)
        following: Any = np.int64(0)
        past = after
        if after < end:
            following, past = look(data, after, classes)
        run = np.int64(0)  # the classes that the pretoken goes on with
        if data[position] == QUOTE and following & WORD:
            first, second = np.int64(data[after]), np.int64(data[after + 1]) if after + 1 < end else np.int64(0)
            if scheme.any_case:
                long_s = first == 0xC5 and second == 0xBF  # U+017F folds to s
                first, second = np.int64(0x73) if long_s else first | 0x20, second | 0x20
            if first == 0x73 or first == 0x74 or first == 0x6D or first == 0x64:  # s t m d
                ends[count] = position = past
                count += 1
                continue
            if (second == 0x65 and (first == 0x72 or first == 0x76)) or (first == 0x6C and second == 0x6C):  # re ve ll
                ends[count] = position = after + 2
                count += 1
                continue
        if kind & NUMBER:
            left = scheme.digits - 1
            while left > 0 and after < end:
                kind, past = look(data, after, classes)
                if not kind & NUMBER:
                    break
                after = past
                left -= 1
        elif kind & CJK:
            run = np.int64(CJK)
        elif kind & WORD:
            run = np.int64(WORD)
        elif following & WORD and (data[position] == BLANK or (scheme.any_prefix and not kind & BREAK)):
            run, after = np.int64(WORD), past
        elif not kind & WHITE:
            run = np.int64(OTHER)
        elif data[position] == BLANK and following & OTHER:
            run, after = np.int64(OTHER), past
        else:
            # \s*[\r\n]+ (if breaks), else \s+(?!\S), else \s+
            last, after_break = position, after if kind & BREAK else position
            while after < end:
                kind, past = look(data, after, classes)
                if not kind & WHITE:
                    break
                last, after = after, past
                if kind & BREAK:
                    after_break = past
            if scheme.breaks and after_break > position:
                after = after_break
            elif after < end and last > position:
                after = last
        if run:
            while after < end:
                kind, past = look(data, after, classes)
                if not kind & run:
                    break
                after = past
            if run == OTHER and scheme.breaks:
                while after < end and (data[after] == LINE_FEED or data[after] == RETURN):
                    after += 1
        ends[count] = position = after
        count += 1
    return count
