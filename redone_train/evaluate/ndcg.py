"""How good an order of graded notes is: NDCG@k and the reciprocal rank, in expectation over the orders of equal scores.

DCG@k is the sum over the first k places i of (2^g - 1) / log2(i + 1), g the grade there (below 0: no gain); NDCG@k is
that over the best order's (Jarvelin and Kekalainen 2002; the exponential gain of Burges et al. 2005). The reciprocal
rank is 1 / the first place with a grade of at least `relevant`. Notes of one score share their places: each has the
mean gain of them all (McSherry and Najork 2008), so that neither the file's order nor luck decides, and a constant
score is exactly a random order.
"""

from collections.abc import Sequence
from math import comb

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def ndcg(grades: Sequence[float], scores: Sequence[float], k: int) -> float:
    """NDCG@k, in [0, 1]; NaN where no note has a gain.

    >>> round(ndcg([3, 2, 0], [0.9, 0.2, 0.5], 3), 4), round(ndcg([1, 0], [0.5, 0.5], 1), 4)
    (0.9558, 0.5)
    """
    gains_N = 2.0 ** np.maximum(np.asarray(grades, float), 0) - 1
    discounts_N = 1 / np.log2(np.arange(len(gains_N)) + 2)
    discounts_N[k:] = 0
    best = float(np.sort(gains_N)[::-1] @ discounts_N)
    if best == 0:
        return float("nan")
    order, starts, sizes_G = _ranked(scores)
    means_G = np.add.reduceat(gains_N[order], starts) / sizes_G
    return float(np.repeat(means_G, sizes_G) @ discounts_N) / best


def reciprocal_rank(grades: Sequence[float], scores: Sequence[float], relevant: float = 1) -> float:
    """The mean of 1 / the place of the first relevant note, over the orders of equal scores; 0 where none is relevant.

    >>> reciprocal_rank([0, 1, 0], [0.9, 0.5, 0.1]), reciprocal_rank([1, 0], [0.5, 0.5])
    (0.5, 0.75)
    """
    order, starts, sizes_G = _ranked(scores)
    hits_G = np.add.reduceat((np.asarray(grades, float)[order] >= relevant).astype(int), starts)
    if not hits_G.any():
        return 0.0
    first = int(np.argmax(hits_G > 0))
    hits, size, before = int(hits_G[first]), int(sizes_G[first]), int(starts[first])
    # The first of `hits` among `size` places is place i in C(size - i, hits - 1) of C(size, hits) orders.
    ways = ((place, comb(size - place, hits - 1)) for place in range(1, size - hits + 2))
    return sum(count / (before + place) for place, count in ways) / comb(size, hits)


def _ranked(scores: Sequence[float]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Places from the highest score, where each distinct score begins among them, and how many share it."""
    values = np.asarray(scores, float)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    starts = np.concatenate([[0], np.flatnonzero(ranked[1:] != ranked[:-1]) + 1])
    return order, starts, np.diff(np.append(starts, len(order)))
