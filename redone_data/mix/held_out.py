"""Which held-out documents losses are measured on: the same for trained proxies and for counts.

Drawn by a hash of their ids, so that every swarm of a run is measured on the same ones, whatever ran before.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from redone_data.rng import keyed_uniform
from redone_data.text.hashing import from_hex
from redone_data.tokens.pool import Pool


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Documents of one domain: their tokens on end, where each document ends, and the bytes of their text."""

    tokens: npt.NDArray[Any]
    ends: npt.NDArray[np.int64]
    num_bytes: int


def held_out(pool: Pool, num_tokens: int, token_bytes: int, seed: int) -> HeldOut:
    """About `num_tokens` of the domain's validation tokens, whole documents; all, where it has fewer."""
    total = sum(file.tokens for file in pool.validation)
    dtype = "<u2" if token_bytes == 2 else "<u4"
    tokens: list[npt.NDArray[Any]] = []
    ends: list[npt.NDArray[Any]] = []
    num_bytes = 0
    # Where the documents are so long that none is drawn, all of them stand for the domain.
    for share in (num_tokens / total, 1.0):
        for file in pool.validation:
            spans = pq.read_table(file.spans, columns=["id", "num_tokens", "num_bytes"])
            chosen = keyed_uniform(seed, "held out", from_hex(spans["id"])[1]) < share
            lengths = spans["num_tokens"].to_numpy()
            tokens.append(np.fromfile(file.ds, dtype=dtype)[np.repeat(chosen, lengths)])
            ends.append(lengths[chosen])
            num_bytes += int(spans["num_bytes"].to_numpy()[chosen].sum())
        if num_bytes:
            break
    return HeldOut(np.concatenate(tokens), np.cumsum(np.concatenate(ends)), num_bytes)
