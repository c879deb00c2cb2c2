"""Counting as a step of a run: the counts of the held-out n-grams, once, for any number of mixtures.

The held-out documents are those that proxies are measured on. One task a domain reads its pool once, 7 million tokens
a second; a million held-out tokens need about 150 MB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from redone_data.engine import Output, Step
from redone_data.manifest import atomic
from redone_data.mix.counting.model import CountModel
from redone_data.mix.counting.trie import ORDERS, Trie
from redone_data.mix.held_out import HeldOut, held_out
from redone_data.tokens.pool import Pool, pools

CHUNK_TOKENS = 1 << 20


@dataclass(frozen=True)
class CountStep(Step):
    """Counts, domain by domain, of the n-grams of the held-out documents. Writes counts-DDD.parquet (node, count).

    seed: the swarm's, which draws the held-out documents.
    """

    name = "counts"
    VERSION = 1

    pool: Output
    tokenizer: Output
    validation_tokens: int
    seed: int

    def config(self) -> Any:
        return {"orders": ORDERS, "validation_tokens": self.validation_tokens, "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {"pool": self.pool.fingerprint}

    def tasks(self) -> list[str]:
        return list(pools(self.pool))

    def run(self, task: str, index: int, folder: Path) -> dict[str, Any]:
        pool = pools(self.pool)[task]
        counts_N = self.trie().count(_chunks(pool, self.token_bytes))
        nodes = np.flatnonzero(counts_N)
        frame = pl.DataFrame({"node": nodes.astype(np.uint32), "count": counts_N[nodes]})
        with atomic(folder / _counts_file(index)) as aside:
            frame.write_parquet(aside)
        return {"domain": task, "tokens": pool.tokens, "ngrams": len(nodes)}

    @property
    def token_bytes(self) -> int:
        return int(self.pool.statistics["token_bytes"])

    def held_out(self) -> dict[str, HeldOut]:
        """Domain -> the documents that losses are measured on."""
        wanted = self.validation_tokens
        return {name: held_out(pool, wanted, self.token_bytes, self.seed) for name, pool in pools(self.pool).items()}

    def trie(self) -> Trie:
        """The n-grams of the held-out documents: the same, with the same numbers, in every task."""
        tokens = np.concatenate([documents.tokens for documents in self.held_out().values()])
        return Trie.of(tokens, self.tokenizer.statistics["eos_token_id"])

    def model(self, counted: Output) -> CountModel:
        """The model of this step's finished output."""
        documents, trie = self.held_out(), self.trie()
        counts_ND = np.zeros((len(trie), len(documents)), np.int64)
        for domain in range(len(documents)):
            frame = pl.read_parquet(counted.folder / _counts_file(domain))
            counts_ND[frame["node"].to_numpy(), domain] = frame["count"].to_numpy()
        metric_P = np.repeat(np.arange(len(documents)), [len(found.tokens) for found in documents.values()])
        num_bytes = [found.num_bytes for found in documents.values()]
        vocab_size = self.tokenizer.statistics["vocab_size"]
        return CountModel.of(trie, counts_ND, metric_P, list(documents), num_bytes, vocab_size)


@dataclass(frozen=True)
class Counted:
    """A finished count, which gives the losses of mixtures."""

    step: CountStep
    output: Output

    @property
    def fingerprint(self) -> str:
        return self.output.fingerprint

    def model(self) -> CountModel:
        return self.step.model(self.output)


def _counts_file(domain: int) -> str:
    return f"counts-{domain:03d}.parquet"


def _chunks(pool: Pool, token_bytes: int) -> Iterator[Iterator[NDArray[Any]]]:
    """The training tokens of each file, a chunk at a time."""
    dtype = np.dtype("<u2" if token_bytes == 2 else "<u4")
    for file in pool.train:
        tokens = np.memmap(file.ds, dtype=dtype, mode="r") if file.tokens else np.empty(0, dtype)
        yield (np.asarray(tokens[start : start + CHUNK_TOKENS]) for start in range(0, len(tokens), CHUNK_TOKENS))
