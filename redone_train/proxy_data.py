"""What a proxy reads: memory-mapped token pools, and a plan that says which window every row of every step shows.

A plan is a pure function of (swarm, run): a checkpoint keeps a step number and nothing of the data. Each domain gets
its share of the rows to within one row, spread evenly over the run, so realised shares are the weights and early
losses mean what late ones do. Windows have context + 1 tokens and ignore document boundaries: masks are left out
for speed, and the end-of-document token tells the proxy where a document begins.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from redone_data.errors import RedoneError
from redone_data.rng import stream

_SCAN_TOKENS = 1 << 22

Int64 = npt.NDArray[np.int64]


class TokenPool:
    """The tokens of several .ds files, one after another, without reading them."""

    def __init__(self, paths: Sequence[Path], token_bytes: int) -> None:
        dtype = np.dtype("<u2" if token_bytes == 2 else "<u4")
        self.paths = tuple(paths)
        self._files = [_map_file(path, dtype) for path in self.paths]
        self._ends = np.cumsum([len(file) for file in self._files], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, start: int, length: int) -> Int64:
        """`length` tokens from `start`; the pool is a ring, so a window near its end goes on at its beginning."""
        parts: list[npt.NDArray[np.generic]] = []
        start %= len(self)
        while length > 0:
            which = int(np.searchsorted(self._ends, start, side="right"))
            offset = start - (int(self._ends[which - 1]) if which else 0)
            part = self._files[which][offset : offset + length]
            parts.append(part)
            length -= len(part)
            start = (start + len(part)) % len(self)
        return np.concatenate(parts).astype(np.int64)

    def check_tokens(self, vocab_size: int) -> None:
        """Read everything once: a token outside the vocabulary is an error that names its file."""
        for path, file in zip(self.paths, self._files, strict=True):
            for start in range(0, len(file), _SCAN_TOKENS):
                largest = int(file[start : start + _SCAN_TOKENS].max())
                if largest >= vocab_size:
                    raise RedoneError(
                        f"{path}: token id {largest} is outside the vocabulary of {vocab_size}; "
                        "tokenize it again with the swarm's tokenizer, or mend vocab_size or token_bytes in swarm.json"
                    )


def _map_file(path: Path, dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    index_path = path.with_name(path.name + ".index")
    try:
        num_bytes, num_index_bytes = path.stat().st_size, index_path.stat().st_size
    except OSError as error:
        raise RedoneError(f"{error.filename}: cannot be read: {error.strerror}; write the token pools again") from None
    if num_bytes % dtype.itemsize or num_index_bytes % 8:
        raise RedoneError(
            f"{path}: cut short ({num_bytes} bytes, its index {num_index_bytes}); write the token pools again"
        )
    num_tokens = num_bytes // dtype.itemsize
    last_end = int(np.memmap(index_path, dtype="<u8", mode="r")[-1]) if num_index_bytes else 0
    if last_end != num_tokens:
        raise RedoneError(
            f"{path}: holds {num_tokens} tokens but its index ends at {last_end}; write the token pools again, "
            "or mend token_bytes in swarm.json"
        )
    return np.memmap(path, dtype=dtype, mode="r") if num_tokens else np.empty(0, dtype)


class TrainPlan:
    """Which domain and which window each row of each step reads."""

    def __init__(
        self,
        pools: Mapping[str, TokenPool],
        weights: Mapping[str, float],
        limits: Mapping[str, int | None],
        *,
        context: int,
        rows_per_step: int,
        num_steps: int,
        swarm_seed: int,
        run_seed: int,
    ) -> None:
        self._context, self._rows_per_step = context, rows_per_step
        self._domains = tuple(sorted(domain for domain, weight in weights.items() if weight > 0))
        self._pools = [pools[domain] for domain in self._domains]
        self.domain_R = spread_rows(
            [weights[domain] for domain in self._domains], rows_per_step * num_steps, stream(run_seed, "rows")
        )
        self.window_R = np.empty(len(self.domain_R), dtype=np.int64)
        for i, domain in enumerate(self._domains):
            rows = np.flatnonzero(self.domain_R == i)
            allowed = allowed_windows(len(self._pools[i]), limits[domain], context, stream(swarm_seed, "limit", domain))
            self.window_R[rows] = allowed[self._order(len(allowed), len(rows), run_seed, domain)]

    def batch(self, step: int) -> Int64:
        """The tokens of one step: rows x (context + 1)."""
        rows = range(step * self._rows_per_step, (step + 1) * self._rows_per_step)
        length = self._context
        return np.stack(
            [self._pools[self.domain_R[row]].read(int(self.window_R[row]) * length, length + 1) for row in rows]
        )

    def positions(self, base: Mapping[str, int], first_row: int, end_row: int) -> Int64:
        """Where the windows of some rows begin when the domains lie end to end, each from its `base`."""
        bases = np.array([base[domain] for domain in self._domains], dtype=np.int64)
        rows = slice(first_row, end_row)
        return np.asarray(bases[self.domain_R[rows]] + self.window_R[rows] * self._context)

    @staticmethod
    def _order(num_windows: int, num_rows: int, run_seed: int, domain: str) -> Int64:
        """`num_rows` positions among `num_windows`: a fresh permutation every epoch."""
        epochs = -(-num_rows // num_windows)
        order = [stream(run_seed, "order", domain, epoch).permutation(num_windows) for epoch in range(epochs)]
        return np.concatenate([np.empty(0, dtype=np.int64), *order])[:num_rows]


def spread_rows(weights: Sequence[float], num_rows: int, rng: np.random.Generator) -> Int64:
    """A domain's number for each row: counts within one row of weight x rows, each domain evenly spaced.

    >>> np.bincount(spread_rows([0.5, 0.25, 0.25], 8, np.random.default_rng(0))).tolist()
    [4, 2, 2]
    """
    edges = np.concatenate([[0.0], np.cumsum(weights) / np.sum(weights)]) * num_rows
    edges[-1] = num_rows
    counts = np.diff(np.floor(edges + rng.random()).astype(np.int64))
    times, domains = [], []
    for domain, count in enumerate(counts):
        times.append((np.arange(count) + rng.random()) / max(1, count))
        domains.append(np.full(count, domain, dtype=np.int64))
    return np.concatenate(domains)[np.argsort(np.concatenate(times), kind="stable")]


def allowed_windows(num_tokens: int, limit: int | None, context: int, rng: np.random.Generator) -> Int64:
    """The windows a proxy may see: all, or the first ceil(limit / context) of a permutation that every run shares."""
    num_windows = max(1, num_tokens // context)
    num_allowed = num_windows if limit is None else min(num_windows, -(-limit // context))
    return np.arange(num_windows) if num_allowed == num_windows else rng.permutation(num_windows)[:num_allowed]
