"""Posts as a bag-of-words classifier wants them: units between single spaces, in lower case.

A Chinese character is a unit, so pairs of neighbours (fastText's wordNgrams=2) stand for Chinese words and English
phrases alike. Links become `<url>` and mentions `<user>`, since who and where are not what is judged. Reads no more
than the first `limit` units.
"""

import numpy as np
import pyarrow as pa

from redone_data.text.buffers import Bytes, Int64, from_buffers, string_buffers
from redone_data.text.kernel import inlined, kernel, lean
from redone_data.text.letters import LOWER, LOWER_END
from redone_data.text.simd import load8
from redone_data.text.words import MENTION, NONE, URL, WHOLE_HASHTAGS, next_word, room_for_units, split_text

LINK, NAME = np.frombuffer(b"<url>", np.uint8), np.frombuffer(b"<user>", np.uint8)
SPACE_BYTE, UNDERSCORE = 0x20, 0x5F
# First bytes of the characters of two bytes that have a lower case.
TWO_BYTES, LOWER_BYTES = 0xC2, 0xC0 | LOWER_END >> 6
LONG = 1 << 14  # bytes; of a longer text, units are read one by one and no more than are wanted


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
    room = room_for_units(max(LONG, min(limit, num_bytes)))
    starts, ends, kinds, masks = room.starts, room.ends, room.kinds, room.masks
    size = 0
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        if end - begin <= LONG:
            count = min(limit, split_text(data, begin, end, starts, ends, kinds, masks, WHOLE_HASHTAGS))
        else:
            count = _first_units(data, begin, end, limit, starts, ends, kinds)
        size = new_offsets[row + 1] = _join(data, count, starts, ends, kinds, joined, size)
    return joined[:size].copy()


@lean
def _first_units(data: Bytes, begin: int, end: int, limit: int, starts: Int64, ends: Int64, kinds: Bytes) -> int:
    count, position = 0, begin
    while count < limit:
        starts[count], ends[count], kinds[count] = next_word(data, begin, position, end)
        if kinds[count] == NONE:
            break
        position = ends[count]
        count += 1
    return count


@lean
def _join(data: Bytes, count: int, starts: Int64, ends: Int64, kinds: Bytes, target: Bytes, size: int) -> int:
    """Write units with spaces between them from ``size`` on; the end of what is written."""
    for unit in range(count):
        if unit > 0:
            target[size] = SPACE_BYTE
            size += 1
        kind = kinds[unit]
        if kind == URL:
            for index in range(len(LINK)):
                target[size + index] = LINK[index]
            size += len(LINK)
        elif kind == MENTION:
            for index in range(len(NAME)):
                target[size + index] = NAME[index]
            size += len(NAME)
        else:
            size = _lower(data, starts[unit], ends[unit], target, size)
    return size


@inlined
def _lower(data: Bytes, start: int, stop: int, target: Bytes, size: int) -> int:
    """Write ``data[start:stop]`` in lower case, white space inside a unit as ``_``; the end of what is written."""
    position = start
    while position < stop:
        byte = load8(data, position)
        if byte < 0x80:
            target[size] = LOWER[byte] if byte > SPACE_BYTE else UNDERSCORE
        elif TWO_BYTES <= byte < LOWER_BYTES:
            low = np.int64(LOWER[(byte & 0x1F) << 6 | (load8(data, position + 1) & 0x3F)])
            target[size], target[size + 1] = 0xC0 | low >> 6, 0x80 | low & 0x3F
            position, size = position + 1, size + 1
        else:
            target[size] = byte
        position, size = position + 1, size + 1
    return size
