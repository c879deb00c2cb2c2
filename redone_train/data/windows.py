"""Windows of a token dataset: row i is the L tokens from i L on, documents cut where they are cut.

The usual way to train on text that is longer than a row: nothing is left out and nothing padded but the last row. With
masks a document does not see the one before it; without, the end token alone parts them. A model that wants a token
before every text gets it at the start of each row (then of L - 1 tokens), and no masks: a document in the middle would
start without one.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import numpy as np

from redone_data.errors import RedoneError
from redone_data.tokens.dataset import TokenDataset
from redone_train.data.order import Int64
from redone_train.data.rows import NO_BOS, Rows, lay_out


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

    def read(self, row_N: Int64) -> Rows:
        rows, padding = Rows.empty(len(row_N), self.length), self.dataset.eos_token_id
        for i, row in enumerate(row_N.tolist()):
            start = row * self.stride
            stop = min(start + self.stride, self.dataset.num_tokens)
            tokens = self.dataset.tokens(start, min(stop + 1, self.dataset.num_tokens))
            if self.masked:
                edges = np.unique(np.concatenate([[start], self.dataset.document_ends(start, stop), [stop]])) - start
                goes_on = np.zeros(len(edges) - 1, np.bool_)
                goes_on[-1] = not self._is_end(stop)
            else:
                edges, goes_on = np.array([0, stop - start]), np.array([stop < self.dataset.num_tokens])
            views = rows.input_NL[i], rows.target_NL[i], rows.position_NL[i]
            lay_out(tokens, edges[:-1], edges[1:], goes_on, self.bos, padding, *views)
        return rows

    def pieces(self, row: int) -> list[tuple[int, int]]:
        start = row * self.stride
        stop = min(start + self.stride, self.dataset.num_tokens)
        edges = sorted({start, *self.dataset.document_ends(start, stop).tolist(), stop})
        return list(pairwise(edges))

    def _is_end(self, token: int) -> bool:
        """Whether a document ends before this token."""
        return bool(len(self.dataset.document_ends(token - 1, token)))
