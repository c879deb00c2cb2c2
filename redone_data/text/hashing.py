"""MurmurHash3, 128 bits, x64 variant, over Arrow strings: identifiers and exact duplicates.

One pass, no copy. The same digest as ``mmh3``: ``hi`` is the first half (``h1``, what ``mmh3.hash64`` gives first and
the low 64 bits of ``mmh3.hash128``), ``lo`` the second. Source: Appleby, MurmurHash3_x64_128 (public domain).
"""

import numpy as np
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.text.buffers import Bytes, Int64, UInt64, from_buffers, string_buffers
from redone_data.text.kernel import inlined, kernel
from redone_data.text.simd import load64

HEX_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
C1, C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
M1, M2, N1, N2 = (
    np.uint64(0xFF51AFD7ED558CCD),
    np.uint64(0xC4CEB9FE1A85EC53),
    np.uint64(0x52DCE729),
    np.uint64(0x38495AB5),
)
FIVE = np.uint64(5)
NOT_HEX = 255


def hash128(array: pa.Array | pa.ChunkedArray, seed: int = 0) -> tuple[UInt64, UInt64]:
    """(hi, lo), each uint64[n], of the bytes of each text; ``seed`` is unsigned 32-bit, as in ``mmh3``.

    Raises :class:`RedoneError` for nulls and for a seed out of range.
    """
    if not 0 <= seed < 1 << 32:
        raise RedoneError(f"seed {seed} is out of range; give one from 0 to 4294967295")
    offsets, data = string_buffers(array)
    hi, lo = np.empty(len(offsets) - 1, np.uint64), np.empty(len(offsets) - 1, np.uint64)
    _hash_rows(offsets, data, np.uint64(seed), hi, lo)
    return hi, lo


def to_hex(hi: UInt64, lo: UInt64) -> pa.Array:
    """32 lower-case hexadecimal characters a row (``large_string``); they sort as the pairs (hi, lo) do."""
    if len(hi) != len(lo):
        raise RedoneError(f"hi has {len(hi)} rows and lo {len(lo)}; give both halves of the same hashes")
    return from_buffers(np.arange(len(hi) + 1, dtype=np.int64) * 32, _write_hex(hi, lo))


def from_hex(array: pa.Array | pa.ChunkedArray) -> tuple[UInt64, UInt64]:
    """The (hi, lo) that :func:`to_hex` wrote. Raises :class:`RedoneError` for anything else."""
    offsets, data = string_buffers(array)
    hi, lo = np.empty(len(offsets) - 1, np.uint64), np.empty(len(offsets) - 1, np.uint64)
    bad = _read_hex(offsets, data, hi, lo)
    if bad >= 0:
        text = bytes(data[offsets[bad] : offsets[bad + 1]])[:40].decode(errors="replace")
        raise RedoneError(f"row {bad}: {text!r} is not a 128-bit hash; it must be 32 characters of 0-9 and a-f")
    return hi, lo


@inlined
def mix64(value: np.uint64) -> np.uint64:
    """A bijection of 64 bits in which each input bit flips each output bit with probability about one half.

    Finaliser of splitmix64: Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195 (Stafford's variant 13).
    """
    value = np.uint64(value)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel
def _rotate(value: np.uint64, bits: int) -> np.uint64:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@kernel
def _finalize(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(33))) * M1
    value = (value ^ (value >> np.uint64(33))) * M2
    return value ^ (value >> np.uint64(33))


@kernel
def _hash_rows(offsets: Int64, data: Bytes, seed: np.uint64, hi: UInt64, lo: UInt64) -> None:
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        h1 = h2 = seed
        position = start
        while position + 16 <= end:
            h1 ^= _rotate(np.uint64(load64(data, position)) * C1, 31) * C2
            h1 = (_rotate(h1, 27) + h2) * FIVE + N1
            h2 ^= _rotate(np.uint64(load64(data, position + 8)) * C2, 33) * C1
            h2 = (_rotate(h2, 31) + h1) * FIVE + N2
            position += 16
        k1 = k2 = np.uint64(0)
        for index in range(position, min(end, position + 8)):
            k1 |= np.uint64(data[index]) << np.uint64(8 * (index - position))
        for index in range(position + 8, end):
            k2 |= np.uint64(data[index]) << np.uint64(8 * (index - position - 8))
        # A tail of zeros contributes nothing, as in the original's fall-through switch.
        h1 ^= _rotate(k1 * C1, 31) * C2
        h2 ^= _rotate(k2 * C2, 33) * C1
        h1 ^= np.uint64(end - start)
        h2 ^= np.uint64(end - start)
        h1 += h2
        h2 += h1
        h1, h2 = _finalize(h1), _finalize(h2)
        h1 += h2
        hi[row], lo[row] = h1, h2 + h1


@kernel
def _write_hex(hi: UInt64, lo: UInt64) -> Bytes:
    out = np.empty(len(hi) * 32, np.uint8)
    for row in range(len(hi)):
        for digit in range(16):
            shift = np.uint64(60 - 4 * digit)
            out[row * 32 + digit] = HEX_DIGITS[(hi[row] >> shift) & np.uint64(15)]
            out[row * 32 + 16 + digit] = HEX_DIGITS[(lo[row] >> shift) & np.uint64(15)]
    return out


@kernel
def _hex_value(byte: int) -> int:
    if 48 <= byte <= 57:
        return byte - 48
    if 97 <= byte <= 102:
        return byte - 87
    return NOT_HEX


@kernel
def _read_hex(offsets: Int64, data: Bytes, hi: UInt64, lo: UInt64) -> int:
    for row in range(len(offsets) - 1):
        if offsets[row + 1] - offsets[row] != 32:
            return row
        halves = np.zeros(2, np.uint64)
        for index in range(32):
            value = _hex_value(data[offsets[row] + index])
            if value == NOT_HEX:
                return row
            halves[index >> 4] = (halves[index >> 4] << np.uint64(4)) | np.uint64(value)
        hi[row], lo[row] = halves[0], halves[1]
    return -1
