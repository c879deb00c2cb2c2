"""Strings as kernels see them: one array of bytes, one of offsets, no Python string a document.

Zero-copy for ``large_string``; ``string`` pays for widening its offsets (8 bytes a row); ``string_view`` and input of
several chunks are copied once. Layout: https://arrow.apache.org/docs/format/Columnar.html
"""

from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from redone_data.errors import RedoneError

Bytes = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Float64 = npt.NDArray[np.float64]
Numbers = TypeVar("Numbers", bound=npt.NDArray[Any])


class StringBuffers(NamedTuple):
    """Row ``i`` is ``data[offsets[i]:offsets[i + 1]]``, valid UTF-8; read-only. ``offsets[0]`` may exceed 0."""

    offsets: Int64
    data: Bytes


def string_buffers(array: pa.Array | pa.ChunkedArray) -> StringBuffers:
    """The offsets (int64[n + 1]) and bytes (uint8[:]) of an array of strings, sliced or not.

    Raises :class:`RedoneError` for nulls, and for an array that does not hold strings.
    """
    array = large_strings(array)
    size = len(array)
    if size == 0:
        return StringBuffers(frozen(np.zeros(1, np.int64)), frozen(np.zeros(0, np.uint8)))
    _, offsets, data = array.buffers()
    rows = np.frombuffer(offsets, np.int64, count=array.offset + size + 1)[array.offset :]
    content = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    return StringBuffers(frozen(rows), frozen(content))


def from_buffers(offsets: Int64, data: Bytes) -> pa.Array:
    """The ``large_string`` array over these buffers, zero-copy; the bytes must be UTF-8."""
    rows = np.ascontiguousarray(offsets, np.int64)
    content = np.ascontiguousarray(data, np.uint8)
    return pa.Array.from_buffers(pa.large_string(), len(rows) - 1, [None, pa.py_buffer(rows), pa.py_buffer(content)])


def large_strings(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The same strings as one ``large_string`` array; raises :class:`RedoneError` where that cannot be."""
    kind = array.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise RedoneError(f"text has the type {kind}; it must be string: cast the column before it comes here")
    if array.null_count:
        raise RedoneError(f"{array.null_count} of {len(array)} texts are null; drop those rows or fill them with ''")
    if isinstance(array, pa.ChunkedArray):
        # Cast first: combining 32-bit chunks overflows beyond 2 GiB.
        array = pa.concat_arrays([large_strings(chunk) for chunk in array.chunks] or [pa.array([], pa.large_string())])
    return array if pa.types.is_large_string(array.type) else array.cast(pa.large_string())


def replace_rows(array: pa.Array, rows: Int64, texts: pa.Array) -> pa.Array:
    """``array`` with ``texts[k]`` in row ``rows[k]``; ``rows`` ascend."""
    if len(rows) == 0:
        return array
    mask = np.zeros(len(array), np.bool_)
    mask[rows] = True
    return pc.replace_with_mask(array, pa.array(mask), texts.cast(pa.large_string()))


def frozen(array: Numbers) -> Numbers:
    """``array``, read-only: kernels are compiled for read-only input once, not for each kind of caller."""
    array.flags.writeable = False
    return array
