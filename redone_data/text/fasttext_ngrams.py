"""The character n-grams of a word under a fastText model, and their rows of its matrix.

Each letter of a word begins up to three n-grams (lid.176: of 2 to 4 characters). A table of all windows of four of
a-z, ' and - (2 MB) names the row that is their sum: no hash, and nothing at all where the model was pruned of them,
as it mostly was. Only other letters hash their n-grams one by one.
"""

import numpy as np
import numpy.typing as npt

from redone_data.text.buffers import Bytes, UInt64, frozen
from redone_data.text.kernel import inlined, lean
from redone_data.text.simd import load8, trailing_zeros
from redone_data.text.vectors import add_row

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt16 = npt.NDArray[np.uint16]

FNV_BASIS, FNV_PRIME = 2166136261, 16777619
LESS, GREATER = 0x3C, 0x3E  # stand around a word when its n-grams are taken

# Five bits a character, the first highest; BLANK ends a word, and stands for what lies beyond it.
BLANK, APOSTROPHE, HYPHEN, OPEN, CLOSE, OTHER = 0, 27, 28, 29, 30, 31
WINDOW, BITS = 4, 5
FIRST = BITS * (WINDOW - 1)
HASHED = 0xFFFF  # a window whose n-grams are hashed


def build_codes() -> Bytes:
    """The code of each byte. What white space is, is the library's `getWord`."""
    codes = np.full(256, OTHER, np.uint8)
    codes[[*b" \t\n\v\f\r\0"]] = BLANK
    codes[ord("a") : ord("z") + 1] = np.arange(1, 27)
    codes[[ord("'"), ord("-")]] = APOSTROPHE, HYPHEN
    return frozen(codes)


CODES = build_codes()
BYTE_OF_CODE = frozen(np.array([0, *b"abcdefghijklmnopqrstuvwxyz'-<>", 0], np.uint8))


@inlined
def hash_byte(value: np.uint32, byte: int) -> np.uint32:
    """FNV-1a over bytes that are signed, as the library's are."""
    signed = np.uint32(byte) if byte < 0x80 else np.uint32(byte) | np.uint32(0xFFFFFF00)
    return np.uint32((value ^ signed) * np.uint32(FNV_PRIME))


@lean
def hash_bytes(data: Bytes, begin: int, end: int) -> np.uint32:
    value = np.uint32(FNV_BASIS)
    for position in range(begin, end):
        value = hash_byte(value, data[position])
    return value


@inlined
def _ones(bits: np.uint64) -> int:
    """How many bits are set; LLVM knows these lines. Warren, Hacker's Delight, 2nd edition, section 5-1."""
    bits -= bits >> np.uint64(1) & np.uint64(0x5555555555555555)
    bits = (bits & np.uint64(0x3333333333333333)) + (bits >> np.uint64(2) & np.uint64(0x3333333333333333))
    bits = bits + (bits >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int(np.int64(bits * np.uint64(0x0101010101010101) >> np.uint64(56)))


@inlined
def row_of_bucket(bucket: int, is_kept: UInt64, kept_before: Int32, num_words: int) -> int:
    """The row of an n-gram, or -1."""
    bits = is_kept[bucket >> 6]
    bit = np.uint64(1) << np.uint64(bucket & 63)
    return num_words + int(kept_before[bucket >> 6]) + _ones(bits & (bit - np.uint64(1))) if bits & bit else -1


@lean
def sum_windows(
    rows_RD: Float32,
    is_kept: UInt64,
    kept_before: Int32,
    num_buckets: int,
    num_words: int,
    min_chars: int,
    max_chars: int,
    windows: UInt16,
    sums_SD: Float32,
    sizes_S: Int32,
) -> int:
    """The sum of the n-grams at the start of each window, and their number plus one; 0 if there are too many."""
    num_sums = 1
    for window in range(1, len(windows)):
        shift = trailing_zeros(np.uint64(window)) // BITS * BITS  # of the last character
        value = np.uint32(FNV_BASIS)
        hashed = False
        for at in range(FIRST, shift - 1, -BITS):
            code = window >> at & OTHER
            hashed |= code in (BLANK, OTHER)
            value = hash_byte(value, BYTE_OF_CODE[code])
        if hashed:
            windows[window] = HASHED
            continue
        shorter = int(windows[window & ~(OTHER << shift)])
        windows[window] = shorter
        chars = WINDOW - shift // BITS
        if min_chars <= chars <= max_chars and window != OPEN << FIRST:
            row = row_of_bucket(int(value % np.uint32(num_buckets)), is_kept, kept_before, num_words)
            if row >= 0:
                if num_sums == len(sums_SD):
                    return 0
                add_row(sums_SD, num_sums, sums_SD, shorter)
                add_row(sums_SD, num_sums, rows_RD, row)
                sizes_S[num_sums] = sizes_S[shorter] + 1
                windows[window] = num_sums
                num_sums += 1
    return num_sums


@lean
def add_ngrams(
    data: Bytes,
    begin: int,
    end: int,
    rows_RD: Float32,
    sizes_R: Int32,
    num_words: int,
    is_kept: UInt64,
    kept_before: Int32,
    num_buckets: int,
    windows: UInt16,
    first_window: int,
    min_chars: int,
    max_chars: int,
    target_ND: Float32,
    target: int,
) -> int:
    """Add the n-grams of a word, which stands in < and >, to a row of ``target_ND``; how many they are."""
    count = 0
    window = CLOSE << FIRST
    for start in range(end - 1, begin - 2, -1):
        code = int(CODES[load8(data, start)]) if start >= begin else OPEN
        window = code << FIRST | window >> BITS
        found = int(windows[window])
        if found == HASHED:
            count += _add_hashed(
                data,
                begin,
                end,
                start,
                rows_RD,
                num_words,
                is_kept,
                kept_before,
                num_buckets,
                min_chars,
                max_chars,
                target_ND,
                target,
            )
        elif found > 0:
            row = first_window - 1 + found
            add_row(target_ND, target, rows_RD, row)
            count += sizes_R[row]
    return count


@lean
def _add_hashed(
    data: Bytes,
    begin: int,
    end: int,
    start: int,
    rows_RD: Float32,
    num_words: int,
    is_kept: UInt64,
    kept_before: Int32,
    num_buckets: int,
    min_chars: int,
    max_chars: int,
    target_ND: Float32,
    target: int,
) -> int:
    """Add the n-grams that begin at ``start``; ``begin - 1`` is the place of <, and ``end`` that of >."""
    if start >= begin and data[start] & 0xC0 == 0x80:
        return 0
    count = chars = 0
    value = np.uint32(FNV_BASIS)
    position = start
    while chars < max_chars and position <= end:
        byte = LESS if position < begin else GREATER if position == end else load8(data, position)
        value = hash_byte(value, byte)
        position += 1
        while position < end and data[position] & 0xC0 == 0x80:
            value = hash_byte(value, load8(data, position))
            position += 1
        chars += 1
        if chars >= min_chars and not (chars == 1 and start < begin):
            row = row_of_bucket(int(value % np.uint32(num_buckets)), is_kept, kept_before, num_words)
            if row >= 0:
                add_row(target_ND, target, rows_RD, row)
                count += 1
    return count
