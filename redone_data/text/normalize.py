"""One spelling for one text: Unicode NFC, one kind of line break, no invisible control characters, no outer space.

A single kernel pass; only rows holding a code point that NFC might touch visit polars' normaliser, so clean Chinese
or English costs no Unicode work. Zero-width joiner and non-joiner stay: emoji, Indic and
Persian spelling need them. NFC: https://www.unicode.org/reports/tr15/
"""

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from redone_data.text.buffers import Bytes, Int64, from_buffers, replace_rows, string_buffers
from redone_data.text.characters import CLASS_MASK, NFC_FLAG, SPACE, class_byte, decode
from redone_data.text.kernel import kernel

NEWLINE, TAB, RETURN = 0x0A, 0x09, 0x0D
LINE_BREAKS = (0x85, 0x2028, 0x2029)
ZERO_WIDTH_SPACE, WORD_JOINER, BYTE_ORDER_MARK = 0x200B, 0x2060, 0xFEFF


def normalize(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """``large_string[n]``: each text in NFC, cleaned and stripped. Doing it twice changes nothing more.

    - ``\\r\\n``, ``\\r``, U+0085, U+2028 and U+2029 become ``\\n``;
    - control characters other than ``\\n`` and ``\\t`` go (C0, DEL, C1), and so do U+200B, U+2060, U+FEFF and the
      directional controls U+202A-202E, U+2066-2069;
    - white space goes at both ends.

    Raises :class:`RedoneError` for nulls.
    """
    offsets, data = string_buffers(array)
    new_offsets = np.zeros(len(offsets), np.int64)
    flagged = np.zeros(len(offsets) - 1, np.bool_)
    cleaned = from_buffers(new_offsets, _clean_rows(offsets, data, new_offsets, flagged))
    # Removal comes first: it can bring a letter and its accent together. A cut of text in NFC is in NFC, and NFC makes
    # neither white space nor controls of anything else, so one round of each suffices.
    rows = np.flatnonzero(flagged).astype(np.int64)
    composed = pl.Series(cleaned.take(pa.array(rows)), dtype=pl.String).str.normalize("NFC")
    return replace_rows(cleaned, rows, composed.to_arrow())


@kernel
def is_removed(code: int) -> bool:
    """Whether :func:`normalize` removes the code point; those that become a line break are asked for first."""
    if code < 0x20:
        return code != NEWLINE and code != TAB
    if code < 0x200B:
        return 0x7F <= code < 0xA0
    return code in (ZERO_WIDTH_SPACE, WORD_JOINER, BYTE_ORDER_MARK) or 8234 <= code <= 8238 or 8294 <= code <= 8297


@kernel
def _clean_rows(offsets: Int64, data: Bytes, new_offsets: Int64, flagged: npt.NDArray[np.bool_]) -> Bytes:
    out = np.empty(offsets[-1] - offsets[0], np.uint8)
    to = 0
    for row in range(len(offsets) - 1):
        position, end = offsets[row], offsets[row + 1]
        begin = solid = to
        unsafe = False
        while position < end:
            byte = data[position]
            if 0x20 < byte < 0x7F:
                out[to] = byte
                to += 1
                position += 1
                solid = to
                continue
            code, after = decode(data, position, end)
            if code == RETURN or code in LINE_BREAKS:
                if code == RETURN and after < end and data[after] == NEWLINE:
                    after += 1
                code = NEWLINE
            elif is_removed(code):
                position = after
                continue
            flags = class_byte(code)
            blank = (flags & CLASS_MASK) == SPACE
            if blank and to == begin:
                position = after
                continue
            if code == NEWLINE:
                out[to] = NEWLINE
                to += 1
            else:
                for index in range(position, after):
                    out[to] = data[index]
                    to += 1
            unsafe |= (flags & NFC_FLAG) != 0
            position = after
            if not blank:
                solid = to
        to = solid
        new_offsets[row + 1] = to
        flagged[row] = unsafe
    return out[:to]
