"""Ragged copies: runs of values moved from one buffer to another, with no Python object a value or a document."""

from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.text.kernel import kernel

Int64 = npt.NDArray[np.int64]
Values = npt.NDArray[Any]


@kernel
def copy_spans(source: Values, source_starts: Int64, lengths: Int64, target: Values, target_starts: Int64) -> None:
    """``target[target_starts[i]:][:lengths[i]] = source[source_starts[i]:][:lengths[i]]`` for every i."""
    for row in range(len(lengths)):
        start, to = source_starts[row], target_starts[row]
        for position in range(lengths[row]):
            target[to + position] = source[start + position]


def offsets_of(lengths: Int64) -> Int64:
    """int64[n + 1]: where each span starts when laid end to end, and where the last one ends."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
