"""Windows of a token dataset: row i is the L tokens from i L on, documents cut where they are cut.

The usual way to train on text that is longer than a row: nothing is left out and nothing padded but the last row. With
masks a document does not see the one before it; without, the end token alone parts them. A model that wants a token
before every text gets it at the start of each row (then of L - 1 tokens), and no masks: a document in the middle would
start without one.
"""

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import numba
import numpy as np
import numpy.typing as npt

from redone_data.errors import RedoneError
from redone_data.tokens.dataset import TokenDataset, Tokens
from redone_train.data.order import Int64
from redone_train.data.rows import NO_BOS, Plan, Rows, lay_out


@final
@dataclass(frozen=True)
class Windows:
    """masked: attention stays within documents."""

    dataset: TokenDataset
    length: int
    masked: bool = True
    bos: int = NO_BOS

    def __post_init__(self) -> None:
        if self.masked and self.bos >= 0:
            raise RedoneError(
                "data.layout: windows cannot have document masks where the model wants a token before every text; "
                "use layout: packed, or document_masks: false"
            )

    @property
    def stride(self) -> int:
        return self.length - (self.bos >= 0)

    @property
    def num_rows(self) -> int:
        return -(-self.dataset.num_tokens // self.stride)

    @property
    def identity(self) -> dict[str, Any]:
        shards = [shard["tokens_file"]["sha256"] for shard in self.dataset.manifest["shards"]]
        return {"layout": "windows", "length": self.length, "masked": self.masked, "bos": self.bos, "tokens": shards}

    def fill(self, rows: Rows, at_N: Int64, row_N: Int64) -> None:
        start_N = row_N * self.stride
        stop_N = np.minimum(start_N + self.stride, self.dataset.num_tokens)
        shard_N = np.searchsorted(self._bounds, start_N, side="right") - 1
        # Without masks the target of a row's last token is in the next shard where the row ends with this one.
        last_N = stop_N if self.masked else np.minimum(stop_N + 1, self.dataset.num_tokens)
        crosses_N = last_N > self._bounds[shard_N + 1]
        for shard in np.unique(shard_N[~crosses_N]).tolist():
            here, begin = np.flatnonzero((shard_N == shard) & ~crosses_N), self._bounds[shard]
            tokens, ends_D = self.dataset.shard_tokens(shard), self.dataset.shard_ends(shard)
            self._lay_out(tokens, ends_D, start_N[here] - begin, stop_N[here] - begin, rows, at_N[here])
        for n in np.flatnonzero(crosses_N).tolist():
            start, stop = int(start_N[n]), int(stop_N[n])
            tokens = self.dataset.tokens(start, min(stop + 1, self.dataset.num_tokens))
            ends_D = (self.dataset.document_ends(start, stop) - start).astype(np.uint64)
            self._lay_out(tokens, ends_D, np.array([0]), np.array([stop - start]), rows, at_N[n : n + 1])

    def read(self, row_N: Int64) -> Rows:
        rows = Rows.empty(len(row_N), self.length)
        self.fill(rows, np.arange(len(row_N)), row_N)
        return rows

    def pieces(self, row: int) -> list[tuple[int, int]]:
        start = row * self.stride
        stop = min(start + self.stride, self.dataset.num_tokens)
        edges = sorted({start, *self.dataset.document_ends(start, stop).tolist(), stop})
        return list(pairwise(edges))

    def _lay_out(
        self, tokens: Tokens, ends_D: npt.NDArray[np.uint64], start_N: Int64, stop_N: Int64, rows: Rows, at_N: Int64
    ) -> None:
        plan = Plan(*_cut(ends_D, start_N, stop_N, len(tokens), self.masked))
        lay_out(tokens, plan, np.arange(len(start_N)), rows, at_N, self.bos, self.dataset.eos_token_id)

    @functools.cached_property
    def _bounds(self) -> Int64:
        """The number of tokens before each shard, and in all."""
        shards = len(self.dataset.manifest["shards"])
        return np.array([*map(self.dataset.shard_start, range(shards)), self.dataset.num_tokens])


@numba.njit(cache=True, nogil=True)
def _first_after(ends_D, token):  # type: ignore[no-untyped-def]
    """The first document that ends after this token."""
    low, high = 0, len(ends_D)
    while low < high:
        middle = (low + high) // 2
        if np.int64(ends_D[middle]) <= token:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def _cut(ends_D, start_N, stop_N, num_tokens, masked):  # type: ignore[no-untyped-def]
    """The plan of these windows: pieces end where documents do, or (without masks) one a window."""
    first_N, most = np.zeros(len(start_N), np.int64), len(start_N)
    if masked:
        for n in range(len(start_N)):
            first_N[n] = _first_after(ends_D, start_N[n])
            most += _first_after(ends_D, stop_N[n]) - first_N[n]
    row_ends_N, start_K, length_K = np.empty(len(start_N), np.int64), np.empty(most, np.int64), np.empty(most, np.int32)
    k = 0
    for n in range(len(start_N)):
        at, stop = start_N[n], stop_N[n]
        if masked:
            d = first_N[n]
            while d < len(ends_D) and np.int64(ends_D[d]) <= stop:
                end = np.int64(ends_D[d])
                if end > at:
                    start_K[k], length_K[k] = at, end - at
                    k, at = k + 1, end
                d += 1
        if at < stop:
            start_K[k], length_K[k] = at, at - stop if stop < num_tokens else stop - at
            k += 1
        row_ends_N[n] = k
    return row_ends_N, start_K[:k], length_K[:k]
