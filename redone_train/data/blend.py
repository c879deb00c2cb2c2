"""Which source each sample of a run comes from, and which of its rows: a pure function of seed, sizes and weights.

Sample i of a phase is offered to one source after another; source s takes floor(p_s x + u_s) of the first x that reach
it, p_s its share of the weight that is left. Each such count grows by 0 or 1 a sample, so every sample is taken once;
after x samples a source has had x times its weight, give or take less than one for each source up to it. Nothing is
stored and nothing drawn in order: a run goes on at any step, on any number of ranks. 100 million samples of 4 sources:
2.5 s on one core.

Shapes: N samples, S sources, P phases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numba
import numpy as np

from redone_data.errors import RedoneError
from redone_data.mixture import Mixture
from redone_data.rng import stream
from redone_train.data.order import Int64, permuted

_BITS = 30
MOST_SAMPLES = 1 << 32  # times a share of _BITS bits it stays within 63


@dataclass(frozen=True)
class Phase:
    """Weights that hold for so many samples: shares of rows, and so of tokens."""

    samples: int
    weights: Mixture


@final
class Blend:
    """Rows of several sources in the order in which a run reads them."""

    def __init__(self, sizes: Mapping[str, int], phases: Sequence[Phase], seed: int) -> None:
        """sizes: rows in an epoch of each source. RedoneError: a weighted source is unknown or empty."""
        self.sources, self.seed = tuple(sorted(sizes)), seed
        self.sizes_S = np.array([sizes[name] for name in self.sources], np.int64)
        weights = [phase.weights.on(self.sources) for phase in phases]
        for name in self.sources:
            if not sizes[name] and any(mixture[name] for mixture in weights):
                raise RedoneError(f"source '{name}' has a weight, but not one row to read; leave it out")
        self._starts_P = np.cumsum([0, *(phase.samples for phase in phases)], dtype=np.int64)
        if self.num_samples > MOST_SAMPLES:
            raise RedoneError(f"{self.num_samples} samples; at most {MOST_SAMPLES} are supported: use longer sequences")
        offsets_S = (stream(seed, "blend").random(len(self.sources)) * 2**_BITS).astype(np.int64)
        self._shares_PS = np.array([_shares(mixture) for mixture in weights], np.int64).reshape(-1, len(self.sources))
        self._offsets_S = offsets_S
        taken_PS = [
            _taken(shares_S, offsets_S, phase.samples) for shares_S, phase in zip(self._shares_PS, phases, strict=True)
        ]
        self._before_PS = np.cumsum([np.zeros_like(offsets_S), *taken_PS], axis=0)

    @property
    def num_samples(self) -> int:
        return int(self._starts_P[-1])

    def rows_read(self) -> dict[str, int]:
        """Rows of each source in the whole run; more than its size are further epochs."""
        return dict(zip(self.sources, self._before_PS[-1].tolist(), strict=True))

    def lookup(self, samples_N: Int64) -> tuple[Int64, Int64]:
        """The number of the source (in sorted order) and the row of it, for each sample of the run."""
        if len(samples_N) and not 0 <= samples_N.min() <= samples_N.max() < self.num_samples:
            raise IndexError(f"samples {samples_N.min()} to {samples_N.max()} of a run of {self.num_samples}")
        phase_N = np.searchsorted(self._starts_P, samples_N, side="right") - 1
        source_N, nth_N = _assigned(
            self._shares_PS, self._offsets_S, self._before_PS, phase_N, samples_N - self._starts_P[phase_N]
        )
        epoch_N, row_N = np.divmod(nth_N, self.sizes_S[source_N])
        for source, epoch in set(zip(source_N.tolist(), epoch_N.tolist(), strict=True)):
            these = (source_N == source) & (epoch_N == epoch)
            names = ("rows", self.sources[source], epoch)
            row_N[these] = permuted(self.seed, *names, size=int(self.sizes_S[source]), positions_N=row_N[these])
        return source_N, row_N


def _shares(mixture: Mixture) -> list[int]:
    """p_s of each source, in 2^-30: its share of what the sources before it left."""
    left, shares = 1.0, []
    for name in mixture:
        shares.append(min(2**_BITS, round(mixture[name] / left * 2**_BITS)) if left > 1e-12 else 0)
        left -= mixture[name]
    last = max(i for i, name in enumerate(mixture) if mixture[name] > 0)
    shares[last] = 2**_BITS  # whatever rounding left
    return shares


@numba.njit(cache=True, nogil=True)
def _taken(shares_S, offsets_S, samples):  # type: ignore[no-untyped-def]
    taken_S = np.zeros(len(shares_S), np.int64)
    left = samples
    for s in range(len(shares_S)):
        taken_S[s] = (shares_S[s] * left + offsets_S[s]) >> _BITS
        left -= taken_S[s]
    return taken_S


@numba.njit(cache=True, nogil=True)
def _assigned(shares_PS, offsets_S, before_PS, phase_N, within_N):  # type: ignore[no-untyped-def]
    source_N, nth_N = np.empty(len(within_N), np.int64), np.empty(len(within_N), np.int64)
    for i in range(len(within_N)):
        p, left = phase_N[i], within_N[i]
        for s in range(len(offsets_S)):
            taken = (shares_PS[p, s] * left + offsets_S[s]) >> _BITS
            if (shares_PS[p, s] * (left + 1) + offsets_S[s]) >> _BITS > taken:
                source_N[i], nth_N[i] = s, before_PS[p, s] + taken
                break
            left -= taken
    return source_N, nth_N
