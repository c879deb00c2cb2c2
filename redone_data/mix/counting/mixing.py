"""The two walks over the n-grams: their probabilities for a batch of mixtures, and back to slopes in the weights.

Every n-gram comes after its context and its suffix, so one pass upwards gives all probabilities, one downwards all
slopes. A batch has a fixed width, so that each step is a vector instruction or two; 286,000 n-grams of 8 domains take
1.7 ms a mixture forwards, one core.

Shapes: B mixtures of a batch (BATCH of them), D domains, N n-grams, L those that a position ends with, E entries.
"""

import numpy as np
from numpy.typing import NDArray

from redone_data.text.buffers import Int64
from redone_data.text.kernel import kernel

Floats = NDArray[np.float64]
Nodes = NDArray[np.int32]

BATCH = 8


@kernel
def probabilities(
    counts_DB: Floats,
    starts_N1: Int64,
    domain_E: Nodes,
    share_E: Floats,
    context_N: Nodes,
    suffix_N: Nodes,
    uniform: float,
    concentration: float,
) -> tuple[Floats, Floats]:
    """The count of each n-gram in the sample (N x B), and the probability of its last token after the others (N x B).

    counts_DB: tokens of each domain in the sample.
    """
    nodes = len(context_N)
    count_NB, probability_NB = np.empty((nodes, BATCH)), np.empty((nodes, BATCH))
    for node in range(nodes):
        for lane in range(BATCH):
            count_NB[node, lane] = 0.0
        for entry in range(starts_N1[node], starts_N1[node + 1]):
            domain, share = domain_E[entry], share_E[entry]
            for lane in range(BATCH):
                count_NB[node, lane] += share * counts_DB[domain, lane]
        context, suffix = context_N[node], suffix_N[node]
        if node == 0:
            for lane in range(BATCH):
                probability_NB[0, lane] = uniform
        else:
            for lane in range(BATCH):
                above = count_NB[node, lane] + concentration * probability_NB[suffix, lane]
                probability_NB[node, lane] = above / (count_NB[context, lane] + concentration)
    return count_NB, probability_NB


@kernel
def slopes(
    slope_NB: Floats,
    count_NB: Floats,
    probability_NB: Floats,
    starts_N1: Int64,
    domain_E: Nodes,
    share_E: Floats,
    context_N: Nodes,
    suffix_N: Nodes,
    concentration: float,
    num_domains: int,
) -> Floats:
    """D x B: how a sum over probabilities changes with each domain's tokens in the sample.

    slope_NB: how it changes with each probability; overwritten.
    """
    by_count_NB = np.zeros_like(count_NB)
    slope_DB = np.zeros((num_domains, BATCH))
    for node in range(len(context_N) - 1, -1, -1):
        context, suffix = context_N[node], suffix_N[node]
        if node > 0:
            for lane in range(BATCH):
                shared = slope_NB[node, lane] / (count_NB[context, lane] + concentration)
                by_count_NB[node, lane] += shared
                by_count_NB[context, lane] -= shared * probability_NB[node, lane]
                slope_NB[suffix, lane] += shared * concentration
        for entry in range(starts_N1[node], starts_N1[node + 1]):
            domain, share = domain_E[entry], share_E[entry]
            for lane in range(BATCH):
                slope_DB[domain, lane] += share * by_count_NB[node, lane]
    return slope_DB


@kernel
def close(needed_N: NDArray[np.bool_], context_N: Nodes, suffix_N: Nodes) -> None:
    """Mark what the marked n-grams refer to, and what that refers to."""
    for node in range(len(needed_N) - 1, 0, -1):
        if needed_N[node]:
            needed_N[context_N[node]] = True
            needed_N[suffix_N[node]] = True
