"""What each code point is, as one byte that kernels look up: script or sort, upper case, and safety under NFC.

A two-stage table of about 40 KB, built from ``unicodedata`` in some 50 ms when first imported. Scripts and emoji are
ranges of https://www.unicode.org/Public/UCD/latest/ucd/Scripts.txt and emoji/emoji-data.txt, cut to what posts hold:
the rest is ``OTHER_LETTER`` or ``SYMBOL``. Results follow the Unicode version of the Python that runs.
"""

import unicodedata
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.text.buffers import Bytes
from redone_data.text.kernel import inlined

NO_CLASS, SPACE, PUNCTUATION, SYMBOL, MARK, DIGIT = range(6)
OTHER_LETTER, LATIN, CYRILLIC, ARABIC, THAI, HANGUL, HAN, KANA, EMOJI = range(6, 15)
CLASS_MASK, UPPER_FLAG, NFC_FLAG = 0x0F, 0x10, 0x20

TABLE_END = 0x40000  # beyond lie tags, variation selectors and private use: see class_byte

SCRIPTS = {
    LATIN: [
        *[(0x41, 0x2B8), (0x2E0, 0x2E4), (0x1D00, 0x1DBF), (0x1E00, 0x1EFF), (0x2071, 0x209C), (0x212A, 0x212B)],
        *[(0x2C60, 0x2C7F), (0xA722, 0xA7FF), (0xAB30, 0xAB6F), (0xFB00, 0xFB06), (0xFF21, 0xFF5A), (0x1D400, 0x1D6A3)],
    ],
    CYRILLIC: [(0x400, 0x52F), (0x1C80, 0x1C8F), (0xA640, 0xA69F)],
    ARABIC: [(0x600, 0x6FF), (0x750, 0x77F), (0x870, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)],
    THAI: [(0xE00, 0xE7F)],
    HANGUL: [(0x1100, 0x11FF), (0x3131, 0x318E), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xFFA0, 0xFFDC)],
    HAN: [
        *[(0x3005, 0x3007), (0x3021, 0x3029), (0x303B, 0x303B), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)],
        (0x20000, 0x3FFFF),
    ],
    KANA: [(0x3041, 0x309F), (0x30A1, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F)],
}
HAN_NUMERALS = [(0x3007, 0x3007), (0x3021, 0x3029)]
EMOJI_RANGES = [
    *[(0x231A, 0x231B), (0x2328, 0x2328), (0x23CF, 0x23CF), (0x23E9, 0x23FA), (0x25AA, 0x25AB), (0x25FB, 0x25FE)],
    *[(0x2600, 0x27BF), (0x2B1B, 0x2B1C), (0x2B50, 0x2B50), (0x2B55, 0x2B55), (0x1F000, 0x1F0FF)],
    *[(0x1F170, 0x1F19A), (0x1F1E6, 0x1F265), (0x1F300, 0x1F6FF), (0x1F7D5, 0x1F7FF), (0x1F900, 0x1FAFF)],
]
INFORMATION_SOURCE = 0x2139  # a letter to Unicode, an emoji to people
JOINERS = (0x200C, 0x200D)


def build_table() -> tuple[Bytes, Bytes]:
    """(block of each 256 code points, the blocks): ``blocks[index[code >> 8] * 256 + (code & 255)]`` is the byte."""
    text = [chr(code) for code in range(TABLE_END)]
    major = np.array([ord(unicodedata.category(c)[0]) for c in text], np.uint8)
    table = np.zeros(TABLE_END, np.uint8)
    for letter, value in (("P", PUNCTUATION), ("S", SYMBOL), ("M", MARK), ("N", DIGIT), ("L", OTHER_LETTER)):
        table[major == ord(letter)] = value
    letters = table == OTHER_LETTER
    for script, ranges in SCRIPTS.items():
        for first, last in ranges:
            table[first : last + 1][letters[first : last + 1]] = script
    for first, last in HAN_NUMERALS:
        table[first : last + 1] = HAN
    for first, last in EMOJI_RANGES:
        table[first : last + 1][major[first : last + 1] == ord("S")] = EMOJI
    table[INFORMATION_SOURCE] = SYMBOL
    table[list(JOINERS)] = MARK
    table[[code for code in range(0x3001) if text[code].isspace()]] = SPACE
    table[[code for code in range(TABLE_END) if major[code] == ord("L") and text[code].isupper()]] |= UPPER_FLAG
    table[nfc_unsafe(text, major)] |= NFC_FLAG
    blocks, index = np.unique(table.reshape(-1, 256), axis=0, return_inverse=True)
    return index.astype(np.uint8), blocks.reshape(-1)


def nfc_unsafe(text: list[str], major: Bytes) -> npt.NDArray[np.bool_]:
    """Marks a code point that NFC may change, reorder or compose with the one before it, or that is unassigned.

    Text without any is in NFC: a superset of NFC_Quick_Check = No or Maybe and of combining class above 0 (UAX 15).
    """
    unsafe: npt.NDArray[np.bool_] = (major == ord("M")) | (major == ord("C"))
    unsafe[:0x300] = False
    unsafe[[0x20E3, *range(0x200B, 0x2010), *range(0xFE00, 0xFE10)]] = False
    unsafe[0x1160:0x1200] = True  # Hangul vowels and finals compose with what precedes
    for block in range(0x300, TABLE_END, 256):
        if not unicodedata.is_normalized("NFC", "".join(text[block : block + 256])):
            for code in range(block, block + 256):
                unsafe[code] |= not unicodedata.is_normalized("NFC", text[code])
    return unsafe


BLOCK_OF, BLOCKS = build_table()


@inlined
def class_byte(code: int) -> int:
    """The class of a code point (``& CLASS_MASK``) and its flags."""
    if code < TABLE_END:
        found: int = BLOCKS[(np.int64(BLOCK_OF[code >> 8]) << 8) + (code & 255)]
        return found
    if 0xE0020 <= code < 0xE01F0:
        return MARK
    return NFC_FLAG


@inlined
def decode(data: Bytes, position: int, end: int) -> tuple[int, int]:
    """(code point, position after it) in UTF-8; bytes that are not UTF-8 are one code point each, never read past."""
    lead: Any = np.int64(data[position])
    if lead < 0x80:
        return lead, position + 1
    if lead >= 0xE0 and position + 3 <= end:
        second = np.int64(data[position + 1]) & 0x3F
        third = np.int64(data[position + 2]) & 0x3F
        if lead < 0xF0:
            return (lead & 0x0F) << 12 | second << 6 | third, position + 3
        if position + 4 <= end:
            fourth = np.int64(data[position + 3]) & 0x3F
            return (lead & 0x07) << 18 | second << 12 | third << 6 | fourth, position + 4
    if lead >= 0xC0 and lead < 0xE0 and position + 2 <= end:
        return (lead & 0x1F) << 6 | (np.int64(data[position + 1]) & 0x3F), position + 2
    return 0xFFFD, position + 1
