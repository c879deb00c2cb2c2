"""Posts as a bag-of-words classifier wants them: units between single spaces, in lower case.

A Chinese character is a unit, so pairs of neighbours (fastText's wordNgrams=2) stand for Chinese words and English
phrases alike. Links become `<url>` and mentions `<user>`, since who and where are not what is judged. Reads no more
than the first `limit` units.
"""

import numpy as np
import pyarrow as pa

from redone_data.text.buffers import Bytes, Int64, from_buffers, string_buffers
from redone_data.text.characters import decode
from redone_data.text.kernel import kernel
from redone_data.text.letters import LOWER, LOWER_END
from redone_data.text.words import MENTION, NONE, URL, next_word

LINK, NAME = np.frombuffer(b"<url>", np.uint8), np.frombuffer(b"<user>", np.uint8)
SPACE_BYTE = 0x20


def spaced(array: pa.Array | pa.ChunkedArray, limit: int = 256) -> pa.Array:
    """The first ``limit`` units of each text, as ``large_string``.

    >>> spaced(pa.array(["Hello @me, 你好 https://a.b"]))[0].as_py()
    'hello <user> 你 好 <url>'
    """
    offsets, data = string_buffers(array)
    new_offsets = np.zeros(len(offsets), np.int64)
    return from_buffers(new_offsets, _space_rows(offsets, data, limit, new_offsets))


@kernel
def _space_rows(offsets: Int64, data: Bytes, limit: int, new_offsets: Int64) -> Bytes:
    num_bytes = offsets[-1] - offsets[0]
    # A unit of one byte becomes two, and a mention of two bytes becomes seven; untouched pages cost nothing.
    joined = np.empty(4 * num_bytes + 8, np.uint8)
    size = 0
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        first = size
        taken = 0
        start, stop, kind = next_word(data, begin, begin, end)
        while kind != NONE and taken < limit:
            if size > first:
                joined[size] = SPACE_BYTE
                size += 1
            if kind == URL:
                for index in range(len(LINK)):
                    joined[size + index] = LINK[index]
                size += len(LINK)
            elif kind == MENTION:
                for index in range(len(NAME)):
                    joined[size + index] = NAME[index]
                size += len(NAME)
            else:
                size = _lower(data, start, stop, joined, size)
            taken += 1
            start, stop, kind = next_word(data, begin, stop, end)
        new_offsets[row + 1] = size
    return joined[:size].copy()


@kernel
def _lower(data: Bytes, start: int, stop: int, target: Bytes, size: int) -> int:
    """Write ``data[start:stop]`` in lower case, white space inside a unit as ``_``; the end of what is written."""
    position = start
    while position < stop:
        code, after = decode(data, position, stop)
        if code < LOWER_END:
            low = np.int64(LOWER[code])
            if low < 0x80:
                target[size] = low if low > SPACE_BYTE else 0x5F
            else:
                target[size], target[size + 1] = 0xC0 | low >> 6, 0x80 | low & 0x3F
                size += 1
            size += 1
        else:
            for index in range(position, after):
                target[size] = data[index]
                size += 1
        position = after
    return size
