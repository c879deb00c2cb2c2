"""A set of 64-bit hashes that kernels ask: open addressing, at most half full, one cache line for most questions."""

import numpy as np

from redone_data.text.buffers import Int64, UInt64, frozen
from redone_data.text.kernel import kernel


def build_table(keys: UInt64) -> Int64:
    """The slots of a table of distinct keys; :func:`find_key` asks it."""
    size = 1 << max(3, (2 * len(keys) - 1).bit_length())
    return frozen(_fill(keys, np.full(size, -1, np.int64)))


def find_keys(slots: Int64, keys: UInt64, hashes: UInt64) -> Int64:
    """int64[n]: for each hash its index among ``keys``, or -1."""
    return _find_all(slots, keys, hashes)


@kernel
def find_key(slots: Int64, keys: UInt64, value: np.uint64) -> int:
    """The index of ``value`` among ``keys``, or -1."""
    mask = len(slots) - 1
    slot = np.int64(value & np.uint64(mask))
    while slots[slot] >= 0:
        if keys[slots[slot]] == value:
            found: int = slots[slot]
            return found
        slot = (slot + 1) & mask
    return -1


@kernel
def _fill(keys: UInt64, slots: Int64) -> Int64:
    mask = len(slots) - 1
    for index in range(len(keys)):
        slot = np.int64(keys[index] & np.uint64(mask))
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = index
    return slots


@kernel
def _find_all(slots: Int64, keys: UInt64, hashes: UInt64) -> Int64:
    out = np.empty(len(hashes), np.int64)
    for index in range(len(hashes)):
        out[index] = find_key(slots, keys, hashes[index])
    return out
