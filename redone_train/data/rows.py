"""What a source of rows gives: token ids, the tokens that follow, and positions that start anew with each document.

Shapes: N rows, L their length, K pieces of a row. A piece is what a row holds of one document.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numba
import numpy as np

from redone_data.tokens.dataset import TokenDataset
from redone_train.data.order import Int64

IGNORED = -100  # a target without a loss
NO_BOS = -1


@dataclass(frozen=True)
class Rows:
    """target_NL: the token that follows each, or IGNORED. position_NL: 0 where a document starts, if masked."""

    input_NL: Int64
    target_NL: Int64
    position_NL: Int64

    @classmethod
    def empty(cls, rows: int, length: int) -> "Rows":
        return cls(*(np.empty((rows, length), np.int64) for _ in range(3)))


class RowSource(Protocol):
    """A token dataset cut into rows. Which row is read when is the blend's business (blend.py)."""

    @property
    def dataset(self) -> TokenDataset: ...

    @property
    def length(self) -> int:
        """Tokens of a row."""
        ...

    @property
    def num_rows(self) -> int:
        """Rows of an epoch."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """All that the rows depend on: a run goes on with no other."""
        ...

    def read(self, row_N: Int64) -> Rows: ...

    def pieces(self, row: int) -> list[tuple[int, int]]:
        """First token and end of each piece of a row, over the whole dataset: names the documents of a batch."""
        ...


@numba.njit(cache=True, nogil=True)
def lay_out(tokens, start_K, stop_K, goes_on_K, bos, padding, input_L, target_L, position_L):  # type: ignore[no-untyped-def]
    """Pieces of `tokens` end to end in one row, positions from 0 in each, and `bos` (if not negative) before each.

    Where a piece goes on, tokens[stop] is the target of its last token; where its document ends, there is none. What is
    left of the row is one more document, without targets.
    """
    at = 0
    for k in range(len(start_K)):
        position = 0
        if bos >= 0:
            input_L[at], target_L[at], position_L[at] = bos, tokens[start_K[k]], 0
            at, position = at + 1, 1
        for i in range(start_K[k], stop_K[k]):
            input_L[at], position_L[at] = tokens[i], position
            target_L[at] = tokens[i + 1] if i + 1 < stop_K[k] or goes_on_K[k] else IGNORED
            at, position = at + 1, position + 1
    for i in range(at, len(input_L)):
        input_L[i], target_L[i], position_L[i] = padding, IGNORED, i - at
