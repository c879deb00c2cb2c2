"""Signatures to and from datasketch 2.0, whose permutations (scheme ``affine32``) are ours, bit for bit.

A row of :func:`redone_data.text.minhash.signatures` is the state of a ``datasketch.MinHash`` of the same seed that was
given the row's shingles through :func:`shingle_hash`. So its LSH, forests and ensembles can hold our rows, at some
hundred thousand a second, and sketches made with it can be compared with ours. https://github.com/ekzhu/datasketch
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from redone_data.errors import RedoneError
from redone_data.text.buffers import UInt32
from redone_data.text.minhash import check_seed

SCHEME = "affine32"


def shingle_hash(shingle: int) -> int:
    """The ``hashfunc`` of a MinHash that is updated with our 64-bit shingles: their low 32 bits."""
    return int(shingle) & 0xFFFFFFFF


def to_datasketch(signatures: UInt32, seed: int = 1) -> list[Any]:
    """A ``datasketch.LeanMinHash`` for each row; ``seed`` is the one that the signatures were made with.

    Raises :class:`RedoneError` where datasketch 2.0 or newer is not installed.
    """
    check_seed(seed)
    lean_min_hash = datasketch_module().LeanMinHash
    return [lean_min_hash(seed=seed, hashvalues=row, scheme=SCHEME) for row in signatures]


def from_datasketch(sketches: Iterable[Any], seed: int = 1) -> UInt32:
    """uint32[n, num_perm]: the minima of ``MinHash`` or ``LeanMinHash`` objects, as ``signatures`` gives them.

    Raises :class:`RedoneError` for objects of another scheme or seed, or of unequal numbers of permutations.
    """
    rows = []
    for index, sketch in enumerate(sketches):
        scheme = getattr(sketch, "scheme", "legacy")
        if scheme != SCHEME or sketch.seed != seed:
            raise RedoneError(
                f"sketch {index} has the scheme {scheme!r} and the seed {sketch.seed}; only {SCHEME!r} and seed {seed} "
                "can be compared with these signatures: make it again with datasketch 2.0 or newer, or give its seed"
            )
        rows.append(np.asarray(sketch.hashvalues, np.uint32))
        if len(rows[-1]) != len(rows[0]):
            raise RedoneError(
                f"sketch {index} has {len(rows[-1])} permutations and the first has {len(rows[0])}; all need as many"
            )
    return np.stack(rows) if rows else np.empty((0, 0), np.uint32)


def datasketch_module() -> Any:
    """The module, imported when first needed: nothing else here asks for it."""
    try:
        import datasketch  # type: ignore[import-untyped]
    except ImportError:
        raise RedoneError("datasketch is not installed; run: pip install 'datasketch>=2'") from None
    if not hasattr(datasketch.MinHash(1), "scheme"):
        raise RedoneError("this datasketch is older than 2.0; run: pip install 'datasketch>=2'")
    return datasketch
