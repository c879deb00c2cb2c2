"""What a source of rows gives: token ids, the tokens that follow, and positions that start anew with each document.

Shapes: N rows, L their length, K pieces of a row. A piece is what a row holds of one document.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numba
import numpy as np
import numpy.typing as npt

from redone_data.tokens.dataset import TokenDataset, Tokens
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

    def fill(self, rows: Rows, at_N: Int64, row_N: Int64) -> None:
        """Write rows `row_N` of the source where `at_N` says."""
        ...

    def read(self, row_N: Int64) -> Rows: ...

    def pieces(self, row: int) -> list[tuple[int, int]]:
        """First token and end of each piece of a row, over the whole dataset: names the documents of a batch."""
        ...


class Plan(NamedTuple):
    """What R rows hold, in K pieces of one run of tokens. length_K is negative where the document goes on after it."""

    row_ends_R: Int64
    start_K: Int64
    length_K: npt.NDArray[np.int32]


def lay_out(tokens: Tokens, plan: Plan, row_N: Int64, rows: Rows, at_N: Int64, bos: int, padding: int) -> None:
    """Write rows `row_N` of a plan: pieces end to end, positions from 0 in each, `bos` (if not negative) before each.

    Where a piece goes on, the token after it is the target of its last one; where its document ends, there is none.
    What is left of a row is one more document, without targets.
    """
    _lay_out(tokens, *plan, row_N, at_N, bos, padding, rows.input_NL, rows.target_NL, rows.position_NL)


@numba.njit(cache=True, nogil=True)
def _lay_out(tokens, row_ends_R, start_K, length_K, row_N, at_N, bos, padding, input_NL, target_NL, position_NL):  # type: ignore[no-untyped-def]
    for n in range(len(row_N)):
        input_L, target_L, position_L = input_NL[at_N[n]], target_NL[at_N[n]], position_NL[at_N[n]]
        at, row = 0, row_N[n]
        for k in range(row_ends_R[row - 1] if row else 0, row_ends_R[row]):
            start, size, lead = start_K[k], abs(int(length_K[k])), 0
            if bos >= 0:
                input_L[at], target_L[at], position_L[at] = bos, tokens[start], 0
                at, lead = at + 1, 1
            for i in range(size):
                input_L[at + i], position_L[at + i] = tokens[start + i], i + lead
            for i in range(size - 1):
                target_L[at + i] = tokens[start + i + 1]
            at += size
            target_L[at - 1] = tokens[start + size] if length_K[k] < 0 else IGNORED
        for i in range(at, len(input_L)):
            input_L[i], target_L[i], position_L[i] = padding, IGNORED, i - at
