"""What two posts are compared by: their letters and digits, folded, without what a repost changes.

Case, width, white space, punctuation, emoji, mentions and links do not count; the sign of a hashtag neither. A text of
nothing else is compared by what it has, white space left out. One pass, 750 MB/s a core of mixed posts.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.text.buffers import Bytes, Int64, frozen, string_buffers
from redone_data.text.characters import CLASS_MASK, DIGIT, KANA, SPACE, class_byte, decode
from redone_data.text.kernel import kernel, lean
from redone_data.text.letters import LOWER, LOWER_END
from redone_data.text.simd import load8
from redone_data.text.words import AT, LOWER_H, follows_latin, mention_end, url_end

Flags = npt.NDArray[np.bool_]

LEFT_OUT, LOOK_CLOSER = 0, 0xFF
FULLWIDTH_FIRST, FULLWIDTH_LAST, FULLWIDTH_SHIFT = 0xFF01, 0xFF5E, 0xFEE0


def build_ascii() -> Bytes:
    """What each byte becomes: itself in lower case, LEFT_OUT, or LOOK_CLOSER."""
    table = np.full(256, LOOK_CLOSER, np.uint8)
    for code in range(0x80):
        table[code] = ord(chr(code).lower()) if chr(code).isalnum() else LEFT_OUT
    table[[AT, LOWER_H, LOWER_H - 0x20]] = LOOK_CLOSER
    return frozen(table)


ASCII = build_ascii()


def folded(array: pa.Array | pa.ChunkedArray, wanted: Flags) -> tuple[Int64, Bytes]:
    """UTF-8 of the folded letters of the texts wanted, none of the others: offsets int64[n + 1], bytes uint8[m]."""
    offsets, data = string_buffers(array)
    return _fold_rows(offsets, data, frozen(wanted))


@lean
def fold_text(data: Bytes, begin: int, end: int, out: Bytes, to: int) -> int:
    """Writes the folded letters of one text from ``out[to]`` on and gives where they end."""
    position = begin
    while position < end:
        byte = load8(data, position)
        plain = ASCII[byte]
        if plain != LOOK_CLOSER:
            out[to] = plain
            to += plain != LEFT_OUT
            position += 1
            continue
        code, after = decode(data, position, end)
        if FULLWIDTH_FIRST <= code <= FULLWIDTH_LAST:
            code -= FULLWIDTH_SHIFT
        if code | 0x20 == LOWER_H:
            stop = position
            if position + 4 < end and load8(data, position + 3) | 0x20 == 0x70:
                stop = url_end(data, position, end)
            if stop > position and not follows_latin(data, begin, position):
                position = stop
                continue
        if code == AT:
            if not follows_latin(data, begin, position):
                after = max(after, mention_end(data, after, end))
        elif code < 0x80:
            plain = ASCII[code] if code | 0x20 != LOWER_H else np.uint8(LOWER_H)
            out[to] = plain
            to += plain != LEFT_OUT
        elif DIGIT <= class_byte(code) & CLASS_MASK <= KANA:
            to = _write_lower(data, position, after, code, out, to)
        position = after
    return to


@lean
def _write_lower(data: Bytes, position: int, after: int, code: int, out: Bytes, to: int) -> int:
    if code < LOWER_END:
        low = np.int64(LOWER[code])
        out[to], out[to + 1] = 0xC0 | low >> 6, 0x80 | low & 0x3F
        return to + 2
    for index in range(position, after):
        out[to] = data[index]
        to += 1
    return to


@lean
def _write_unspaced(data: Bytes, position: int, end: int, out: Bytes, to: int) -> int:
    while position < end:
        code, after = decode(data, position, end)
        if class_byte(code) & CLASS_MASK != SPACE:
            for index in range(position, after):
                out[to] = data[index]
                to += 1
        position = after
    return to


@kernel
def _fold_rows(offsets: Int64, data: Bytes, wanted: Flags) -> tuple[Int64, Bytes]:
    room = 1  # a byte that is left out is written first
    for row in range(len(offsets) - 1):
        if wanted[row]:
            room += offsets[row + 1] - offsets[row]
    out = np.empty(room, np.uint8)
    new_offsets = np.zeros(len(offsets), np.int64)
    to = 0
    for row in range(len(offsets) - 1):
        if wanted[row]:
            start = to
            to = fold_text(data, offsets[row], offsets[row + 1], out, start)
            if to == start:
                to = _write_unspaced(data, offsets[row], offsets[row + 1], out, start)
        new_offsets[row + 1] = to
    return new_offsets, out[:to].copy()
