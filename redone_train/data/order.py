"""A permutation of n things as a pure function of seed, names and position: shuffling without a list of n numbers.

Four rounds of a Feistel network on the smallest even number of bits that holds n, walked along its cycle until the
value is below n (Black and Rogaway 2002): every position has one image and needs no other. 0.05 us a position.
"""

import functools

import numba
import numpy as np
import numpy.typing as npt

from redone_data.rng import stream

Int64 = npt.NDArray[np.int64]

_ROUNDS = 4


def permuted(seed: int, *names: str | int, size: int, positions_N: Int64) -> Int64:
    """The images of `positions_N`, each in [0, size), under the permutation that seed and names select.

    >>> image = permuted(1, "posts", 0, size=5, positions_N=np.arange(5))
    >>> sorted(image.tolist())
    [0, 1, 2, 3, 4]
    >>> permuted(1, "posts", 0, size=5, positions_N=np.array([3])).tolist() == image[3:4].tolist()
    True
    """
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    images_N: Int64 = _walked(_keys(seed, names), half_bits, size, positions_N)
    return images_N


@functools.lru_cache(maxsize=256)  # the sources of a run, an epoch or two of each
def _keys(seed: int, names: tuple[str | int, ...]) -> npt.NDArray[np.uint64]:
    return stream(seed, *names).integers(0, 2**63, _ROUNDS, dtype=np.uint64)


@numba.njit(cache=True, nogil=True)
def _walked(keys, half_bits, size, positions_N):  # type: ignore[no-untyped-def]
    mask, shift = np.uint64((1 << half_bits) - 1), np.uint64(half_bits)
    images_N = np.empty(len(positions_N), np.int64)
    for i in range(len(positions_N)):
        value = np.uint64(positions_N[i])
        while True:
            left, right = value >> shift, value & mask
            for key in keys:
                mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
                mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
                left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(32))) & mask)
            value = (left << shift) | right
            if value < np.uint64(size):
                break
        images_N[i] = value
    return images_N
