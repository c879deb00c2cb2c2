"""From weights and a budget to a token dataset: how often each document is read, then the shuffle.

Domain d gets weight * budget tokens. That is a number of epochs over its pool: every document is taken floor(epochs)
times, and once more when its hash u(seed, id) lies below a cut. The cut is found in two scans of ids and lengths (a
histogram of 65,536 bins of u, then the documents of the one bin where the total is met), so each domain's total is
exact to half a document, in bounded memory, whatever the order of parts. A larger budget or weight under the same seed
takes a superset of the documents.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from redone_data.config import plain
from redone_data.engine import Engine, Output, Step
from redone_data.errors import RedoneError
from redone_data.mixture import Mixture
from redone_data.tokens.part import CuratedPart, Hashes, keyed_hash
from redone_data.tokens.pool import pools
from redone_data.tokens.shuffle import Emit, ScatterStep, ShardStep

NUM_BINS = 65_536
_BIN_BITS = 48  # 64 - log2(NUM_BINS)
_ROWS = 65_536


@dataclass(frozen=True)
class SampleConfig:
    """How many tokens a dataset holds, and how it is cut into files."""

    budget: int = field(metadata={"help": "training tokens, end-of-document tokens included"})
    shard_tokens: int = field(default=50_000_000, metadata={"help": "tokens a file, about"})

    def __post_init__(self) -> None:
        for name in ("budget", "shard_tokens"):
            if getattr(self, name) < 1:
                raise RedoneError(f"{name}: {getattr(self, name)}; at least 1 token is needed")


class Choice(NamedTuple):
    """Every document `full` times, and once more where u < cut: what that comes to."""

    full: int
    cut: int
    tokens: int
    documents: int


Scan = Callable[[], Iterable[tuple[Hashes, npt.NDArray[np.int64]]]]


def choose(scan: Scan, target: int, pool_tokens: int, pool_documents: int) -> Choice:
    """The choice whose tokens are nearest to `target`. scan: gives (u, num_tokens) of all documents, batch by batch."""
    full, rest = divmod(target, pool_tokens)
    if rest == 0:
        return Choice(full, 0, full * pool_tokens, full * pool_documents)
    tokens, documents = np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS, np.int64)
    for u, num_tokens in scan():
        bins = (u >> np.uint64(_BIN_BITS)).astype(np.int64)
        # Sums of whole numbers below 2^53 are exact in float64.
        tokens += np.bincount(bins, num_tokens, NUM_BINS).astype(np.int64)
        documents += np.bincount(bins, minlength=NUM_BINS)
    ends = np.cumsum(tokens)
    edge = int(np.searchsorted(ends, rest, side="right"))
    before_tokens, before_documents = int(ends[edge] - tokens[edge]), int(documents[:edge].sum())
    inside = [(u[mask], n[mask]) for u, n in scan() for mask in [(u >> np.uint64(_BIN_BITS)) == np.uint64(edge)]]
    u = np.concatenate([pair[0] for pair in inside])
    lengths = np.concatenate([pair[1] for pair in inside])
    order = np.lexsort((lengths, u))
    u, sums = u[order], np.concatenate([[0], np.cumsum(lengths[order])])
    # Equal hashes fall together: a cut may only lie where the hash changes.
    allowed = np.concatenate([[True], u[1:] != u[:-1], [True]])
    distance = np.where(allowed, np.abs(before_tokens + sums - rest), np.iinfo(np.int64).max)
    count = int(np.argmin(distance))
    cut = int(u[count]) if count < len(u) else (edge + 1) << _BIN_BITS
    extra_tokens, extra_documents = before_tokens + int(sums[count]), before_documents + count
    if cut == 1 << 64:
        full, cut, extra_tokens, extra_documents = full + 1, 0, 0, 0
    return Choice(full, cut, full * pool_tokens + extra_tokens, full * pool_documents + extra_documents)


@dataclass(frozen=True)
class PlanStep(Step):
    """How often the documents of each domain are read. Writes statistics only, one task a domain."""

    name: ClassVar[str] = "sample-plan"
    VERSION: ClassVar[int] = 1

    pool: Output
    mixture: Mixture
    settings: SampleConfig
    seed: int

    def config(self) -> Any:
        weights = dict(self.mixture.on(list(pools(self.pool))))
        return {**plain(self.settings), "weights": weights, "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {"pool": self.pool.fingerprint}

    def tasks(self) -> Sequence[Any]:
        weights = self.config()["weights"]
        found = pools(self.pool)
        for domain, weight in weights.items():
            if weight > 0 and found[domain].tokens == 0:
                raise RedoneError(
                    f"domain '{domain}' has weight {weight:.4g} but no training document; "
                    "set its weight to 0, or loosen the rules that dropped its documents"
                )
        return [{"domain": domain, "weight": weight} for domain, weight in weights.items() if weight > 0]

    def run(self, task: Any, index: int, folder: Path) -> dict[str, Any]:
        pool = pools(self.pool)[task["domain"]]

        def scan() -> Iterator[tuple[Hashes, npt.NDArray[np.int64]]]:
            for part in pool.train:
                with pq.ParquetFile(part.spans) as file:
                    for batch in file.iter_batches(batch_size=_ROWS, columns=["id", "num_tokens"]):
                        yield keyed_hash(batch["id"], self.seed, "epoch"), batch["num_tokens"].to_numpy()

        target = round(task["weight"] * self.settings.budget)
        choice = choose(scan, target, pool.tokens, pool.documents)
        return {**task, "target": target, "pool_tokens": pool.tokens, **choice._asdict()}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        tokens = sum(result["tokens"] for result in results)
        if tokens == 0:
            raise RedoneError(f"budget: {self.settings.budget} tokens choose no document at all; raise it")
        epochs = dict.fromkeys(self.config()["weights"], 0.0)
        epochs.update({result["domain"]: result["tokens"] / result["pool_tokens"] for result in results})
        return {
            "tokens": tokens,
            "documents": sum(result["documents"] for result in results),
            "epochs": epochs,
            "num_shards": -(-tokens // self.settings.shard_tokens),
        }


@dataclass(frozen=True)
class Sample:
    """What a sample leaves: the plan (epochs), and the step whose folder holds the shards."""

    plan: Output
    shards: Output


def sample(
    engine: Engine,
    pool: Output,
    mixture: Mixture,
    settings: SampleConfig,
    *,
    seed: int,
    emit: Emit = "tokens",
    parts: tuple[CuratedPart, ...] = (),
) -> Sample:
    """Plan, scatter and shard. parts: the curated parts behind the pool, needed for ``emit="text"`` alone."""
    plan = engine.run(PlanStep(pool, mixture, settings, seed))
    scattered = engine.run(ScatterStep(plan, pool, emit, parts))
    return Sample(plan, engine.run(ShardStep(plan, pool, scattered)))
