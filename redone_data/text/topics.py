"""What a text is about, as a short vector: its words and character pairs, each once, hashed and projected.

Latin and other alphabetic words count whole, without case; of Han, Kana, Hangul and Thai every pair of neighbours; an
emoji by itself. A unit's row of the projection is added for its first occurrence, so a text of n units costs n hashes
and n additions of a row. A rough splitter on purpose: topics survive it, and it needs no tables.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.text.buffers import Bytes, Int64, frozen, string_buffers
from redone_data.text.hashing import mix64
from redone_data.text.kernel import kernel

BUCKET_BITS = 16
NUM_BUCKETS = 1 << BUCKET_BITS
# A topic shows early: of longer texts only so many bytes are looked at.
MAX_BYTES = 8_192
PRIME = np.uint64(0x100000001B3)

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]


def buckets(array: pa.Array | pa.ChunkedArray) -> tuple[Int64, Int32]:
    """The distinct buckets of each text: row ``i`` has ``found[offsets[i]:offsets[i + 1]]``, in order of appearance."""
    offsets, data = string_buffers(array)
    ends, found = _bucket_rows(offsets, data)
    return np.concatenate([np.zeros(1, np.int64), ends]), found


def embed(array: pa.Array | pa.ChunkedArray, row_of: Int32, projection: Float32) -> Float32:
    """Unit vectors float32[n, d] of the texts; zero where a text has no known units.

    projection: float32[m, d]; row_of: int32[NUM_BUCKETS], its row for each bucket, -1 where the bucket tells nothing.
    """
    offsets, data = string_buffers(array)
    return _embed_rows(offsets, data, frozen(row_of), frozen(projection))


@kernel
def nearest(vectors: Float32, centers: Float32) -> Int32:
    """The center with the largest inner product for each vector, the first of equals; -1 for a zero vector."""
    out = np.empty(len(vectors), np.int32)
    by_dimension = np.ascontiguousarray(centers.T)
    for row in range(len(vectors)):
        scores = np.zeros(centers.shape[0], np.float32)
        known = False
        for dimension in range(vectors.shape[1]):
            value = vectors[row, dimension]
            known |= value != 0
            for center in range(len(scores)):
                scores[center] += value * by_dimension[dimension, center]
        out[row] = np.argmax(scores) if known else -1
    return out


@kernel
def _bucket_rows(offsets: Int64, data: Bytes) -> tuple[Int64, Int32]:
    rows = len(offsets) - 1
    ends = np.empty(rows, np.int64)
    found = np.empty(offsets[-1] - offsets[0] + 1, np.int32)
    seen = np.full(NUM_BUCKETS, -1, np.int64)
    count = 0
    for row in range(rows):
        count = _units(data, offsets[row], offsets[row + 1], row, seen, found, count)
        ends[row] = count
    return ends, found[:count].copy()


@kernel
def _embed_rows(offsets: Int64, data: Bytes, row_of: Int32, projection: Float32) -> Float32:
    rows, width = len(offsets) - 1, projection.shape[1]
    out = np.zeros((rows, width), np.float32)
    seen = np.full(NUM_BUCKETS, -1, np.int64)
    found = np.empty(MAX_BYTES + 1, np.int32)
    for row in range(rows):
        count = _units(data, offsets[row], offsets[row + 1], row, seen, found, 0)
        for index in range(count):
            known = row_of[found[index]]
            if known >= 0:
                for dimension in range(width):
                    out[row, dimension] += projection[known, dimension]
        length = np.float32(0)
        for dimension in range(width):
            length += out[row, dimension] * out[row, dimension]
        if length > 0:
            length = np.float32(1) / np.sqrt(length)
            for dimension in range(width):
                out[row, dimension] *= length
    return out


@kernel
def _units(data: Bytes, start: int, end: int, row: int, seen: Int64, found: Int32, count: int) -> int:
    """Append the buckets of one text that `seen` has not met in this row; how many there are now."""
    end = min(end, start + MAX_BYTES)
    word = before = np.uint64(0)  # hash of the word under way, the character before
    length = 0
    position = start
    while position <= end:
        byte = data[position] if position < end else np.uint8(0x20)
        letter = (byte | 0x20) - 0x61 < 26 and byte >= 0x41
        if letter or 0xC3 <= byte < 0xE0 or (length > 0 and (0x30 <= byte <= 0x39 or 0x80 <= byte < 0xC0)):
            word = (word ^ np.uint64(byte | 0x20 if letter else byte)) * PRIME
            length += 1
            before = np.uint64(0)
            position += 1
            continue
        if length > 1:
            count = _note(mix64(word), row, seen, found, count)
        word, length = np.uint64(0), 0
        if byte < 0xE0 or position + 2 >= end:
            before = np.uint64(0)
            position += 1
            continue
        size = 4 if byte >= 0xF0 else 3
        code = np.uint64(0)
        for index in range(position, min(position + size, end)):
            code = (code << np.uint64(8)) | np.uint64(data[index])
        position += size
        if size == 4 and byte == 0xF0 and (code >> np.uint64(16)) & np.uint64(0xFF) == np.uint64(0x9F):
            count = _note(mix64(code), row, seen, found, count)
            before = np.uint64(0)
        elif _is_mark(code):
            before = np.uint64(0)
        else:
            if before != np.uint64(0):
                count = _note(mix64((before << np.uint64(32)) ^ code), row, seen, found, count)
            before = code
    return count


@kernel
def _is_mark(code: np.uint64) -> bool:
    """Punctuation and symbols of three bytes: U+2000 to U+2DFF, CJK punctuation, full-width ASCII signs."""
    general = np.uint64(0xE28080) <= code <= np.uint64(0xE2B7BF)
    east_asian = np.uint64(0xE38080) <= code <= np.uint64(0xE380BF)
    full_width = np.uint64(0xEFB88F) <= code <= np.uint64(0xEFBCA0) or code >= np.uint64(0xEFBDA0)
    return bool(general or east_asian or full_width)


@kernel
def _note(hashed: np.uint64, row: int, seen: Int64, found: Int32, count: int) -> int:
    bucket = np.int64(hashed >> np.uint64(64 - BUCKET_BITS))
    if seen[bucket] != row:
        seen[bucket] = row
        found[count] = bucket
        count += 1
    return count
