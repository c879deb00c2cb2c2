"""Randomness as an argument: one named stream per stage, so that a stage draws the same whatever ran before it."""

import hashlib

import numpy as np
import numpy.typing as npt


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A generator that depends on the seed and the names alone.

    >>> bool(stream(1, "design").random() == stream(1, "design").random())
    True
    >>> bool(stream(1, "design").random() == stream(1, "search").random())
    False
    """
    return np.random.Generator(np.random.PCG64(stream_seed(seed, *names)))


def stream_seed(seed: int, *names: str | int) -> int:
    """The 64-bit seed behind :func:`stream`, for generators of other libraries (torch, LightGBM)."""
    digest = hashlib.sha256("\x1f".join([str(seed), *map(str, names)]).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def keyed_uniform(seed: int, name: str, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each 64-bit value, that depends on seed, name and value alone (SplitMix64).

    Draws by document id are made with it: they do not depend on the order of documents.

    >>> keyed_uniform(1, "validation", np.array([7, 7], dtype=np.uint64)).round(3).tolist()
    [0.445, 0.445]
    """
    mixed = (values ^ np.uint64(stream_seed(seed, name))) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
