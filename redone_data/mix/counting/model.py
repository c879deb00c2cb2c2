"""The held-out loss of any mixture, by n-gram models whose counts are mixed by weight: no training, no torch.

In a sample of n tokens of the mixture an n-gram is expected n sum_d w_d c_d / n_d times (c_d of its domain's n_d
tokens). Each order is smoothed by the one below it, as a hierarchical Dirichlet prior does (MacKay and Peto 1995):
p(token | context) = (count(context token) + a p(token | shorter context)) / (count(context) + a), from uniform up. The
sample n decides how far a context is trusted: a large pool has seen n-grams that a small training set would have
missed. So n is an effective one, a sixteenth of the training tokens by default, or fitted to real runs (screen.py).
2 ms a mixture and core for 8 domains with 134,000 held-out tokens; a slope costs two to three times as much.

Shapes: C mixtures, D domains, M metrics (held-out domains), N n-grams, L those that a position ends with, P held-out
positions, E entries, B a batch.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from redone_data.errors import RedoneError, did_you_mean
from redone_data.mix.counting.mixing import BATCH, close, probabilities, slopes
from redone_data.mix.counting.trie import ROOT, Trie
from redone_data.text.buffers import Int64

Floats = NDArray[np.float64]
Nodes = NDArray[np.int32]

SAMPLE_SHARE = 1 / 16  # of the training tokens
CONCENTRATION = 4.0  # a, in tokens of the sample


@dataclass(frozen=True, eq=False)
class CountModel:
    """All that the loss of a mixture needs.

    starts_N1, domain_E, share_E: the share of each domain's tokens that an n-gram has, where it has any (sparse rows).
    context_N, suffix_N: as in the trie; whatever a node refers to comes before it.
    last_L: the longest n-grams of known context at held-out positions; positions_ML: at how many of each metric.
    """

    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    vocab_size: int
    bytes_M: Floats
    starts_N1: Int64
    domain_E: Nodes
    share_E: Floats
    context_N: Nodes
    suffix_N: Nodes
    last_L: Int64
    positions_ML: csr_array

    @classmethod
    def of(
        cls, trie: Trie, counts_ND: Int64, metric_P: Int64, domains: Sequence[str], num_bytes: Sequence[int], vocab: int
    ) -> "CountModel":
        """From the n-grams of the held-out text and their counts in each domain's training tokens.

        metric_P: whose each held-out position is. num_bytes: of each domain's held-out text. vocab: its size.
        An n-gram whose context no domain knows is left out: its probability is that of the shorter one.
        """
        known_N = counts_ND.sum(axis=1) > 0
        useful_PO = (trie.position_PO >= 0) & known_N[trie.context_N[trie.position_PO]]
        longest_P = np.where(useful_PO, trie.position_PO, ROOT).max(axis=1)  # longer n-grams have higher numbers
        last_L, at_P = np.unique(longest_P, return_inverse=True)
        positions_ML = csr_array((np.ones(len(at_P)), (metric_P, at_P)), shape=(len(domains), len(last_L)))
        positions_ML.sum_duplicates()
        node_E, domain_E = np.nonzero(counts_ND)
        share_E = counts_ND[node_E, domain_E] / np.maximum(counts_ND[ROOT], 1)[domain_E]
        starts_N1 = np.concatenate([[0], np.cumsum(np.bincount(node_E, minlength=len(trie)))])
        names, bytes_M = tuple(domains), np.asarray(num_bytes, np.float64)
        entries = (starts_N1, domain_E.astype(np.int32), share_E)
        nodes = (trie.context_N, trie.suffix_N, last_L.astype(np.int64))
        return cls(names, names, vocab, bytes_M, *entries, *nodes, positions_ML)._pruned()

    def only(self, metric: str) -> "CountModel":
        """The same for one metric: as much smaller as its share of the held-out text."""
        if metric not in self.metrics:
            raise RedoneError(f"metric '{metric}' is not counted; {did_you_mean(metric, self.metrics)}")
        row = self.metrics.index(metric)
        positions_ML = self.positions_ML[[row], :]
        used = np.unique(positions_ML.indices)
        smaller = replace(
            self,
            metrics=(metric,),
            bytes_M=self.bytes_M[[row]],
            last_L=self.last_L[used],
            positions_ML=csr_array(positions_ML[:, used]),
        )
        return smaller._pruned()

    def losses(self, weights_CD: Floats, sample: float) -> Floats:
        """C x M: bits per byte for each mixture (columns in the order of `domains`) in a sample of so many tokens."""

        def batch(weights_BD: Floats) -> Floats:
            _, probability_NB = self._walk(weights_BD, sample)
            bits_MB = self.positions_ML @ -np.log2(probability_NB[self.last_L])
            losses_BM: Floats = bits_MB.T[: len(weights_BD)] / self.bytes_M
            return losses_BM

        return _in_batches(batch, weights_CD, len(self.metrics))

    def gradient(self, weights_CD: Floats, sample: float) -> Floats:
        """C x D: how the sum of the metrics changes with each weight; of one metric after :meth:`only`."""

        def batch(weights_BD: Floats) -> Floats:
            count_NB, probability_NB = self._walk(weights_BD, sample)
            positions_L = (self.positions_ML / self.bytes_M[:, None]).sum(axis=0)
            slope_NB = np.zeros_like(probability_NB)
            slope_NB[self.last_L] = -positions_L[:, None] / (probability_NB[self.last_L] * np.log(2))
            entries = (self.starts_N1, self.domain_E, self.share_E, self.context_N, self.suffix_N)
            slope_DB = slopes(slope_NB, count_NB, probability_NB, *entries, CONCENTRATION, len(self.domains))
            slope_BD: Floats = sample * slope_DB.T[: len(weights_BD)]
            return slope_BD

        return _in_batches(batch, weights_CD, len(self.domains))

    def _walk(self, weights_BD: Floats, sample: float) -> tuple[Floats, Floats]:
        counts_DB = np.zeros((len(self.domains), BATCH))
        counts_DB[:, : len(weights_BD)] = sample * weights_BD.T
        entries = (self.starts_N1, self.domain_E, self.share_E, self.context_N, self.suffix_N)
        return probabilities(counts_DB, *entries, 1 / self.vocab_size, CONCENTRATION)

    def _pruned(self) -> "CountModel":
        """Without the n-grams that no position needs."""
        needed_N = np.zeros(len(self.context_N), bool)
        needed_N[self.last_L] = needed_N[ROOT] = True
        close(needed_N, self.context_N, self.suffix_N)
        number_N = np.cumsum(needed_N) - 1
        length_N = np.diff(self.starts_N1)
        needed_E = np.repeat(needed_N, length_N)
        return replace(
            self,
            starts_N1=np.concatenate([[0], np.cumsum(length_N[needed_N])]),
            domain_E=self.domain_E[needed_E],
            share_E=self.share_E[needed_E],
            context_N=number_N[self.context_N[needed_N]].astype(np.int32),
            suffix_N=number_N[self.suffix_N[needed_N]].astype(np.int32),
            last_L=number_N[self.last_L],
        )


def _in_batches(batch: Callable[[Floats], Floats], weights_CD: Floats, width: int) -> Floats:
    parts = [weights_CD[start : start + BATCH] for start in range(0, len(weights_CD), BATCH)]
    if len(parts) <= 1:
        return batch(weights_CD) if parts else np.empty((0, width))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        return np.concatenate(list(threads.map(batch, parts)))
