"""Values of other rows: wrong options beside a right one, and partners that do not belong together.

Drawn by a hash of the row, so that a row gets the same ones whatever else the table holds around it. Random ones are
easy; those of the same group (another comment of the same post) or similar ones (most letter pairs in common, weighed
by how rare they are) are hard. Similar ones may be right as well: look at them before trusting a score. Random ones and
those of a group cost some 10 us a row, similar ones .2 ms.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from redone_data.instruct.task import How
from redone_data.rng import keyed_uniform, stream

UInt64 = npt.NDArray[np.uint64]
Int64 = npt.NDArray[np.int64]
# A row looks at so many values before it is said to have too few.
_LOOKS_PER_DISTRACTOR, _MORE_LOOKS, _MORE_SIMILAR = 3, 6, 2
# Likeness is compared with so many values at most, chosen by hash.
MAX_SIMILAR_POOL = 4_000
_PAIR_BUCKETS, _ROWS_AT_A_TIME = 1 << 16, 512
_NONE = -1


@dataclass(frozen=True)
class Others:
    """Candidates for each row, best first: places in `values`."""

    values: list[str]
    places_NK: Int64  # -1: none

    def pick(self, row: int, number: int, allowed: Callable[[str, int], bool]) -> list[str]:
        """The first `number` candidates of a row that are allowed, and differ from each other but for case."""
        picked: dict[str, str] = {}
        for place in self.places_NK[row].tolist():
            if place == _NONE or len(picked) == number:
                break
            value = self.values[place]
            if value.casefold() not in picked and allowed(value, place):
                picked[value.casefold()] = value
        return list(picked.values())


def others(
    how: How,
    values: pl.Series,
    keys: UInt64,
    number: int,
    seed: int,
    name: str,
    *,
    asked: Int64 | None = None,
    groups: pl.Series | None = None,
) -> Others:
    """Candidates for the rows `asked` (default: all) from one text column, that of a row itself among them.

    values, groups: one a row, in the order of `keys`; for `random` values may be other ones than the rows'.
    """
    rows = np.arange(len(keys)) if asked is None else asked
    if how == "same_group":
        assert groups is not None
        return _of_group(values, groups, keys, rows, number, seed, name)
    if how == "similar":
        return _similar(values.to_list(), keys, rows, number, seed, name)
    # Each value as likely as it is frequent.
    looks = [_draws(keys[rows], len(values), seed, f"{name}/{look}") for look in range(_looks(number))]
    return Others(values.to_list(), np.stack(looks, axis=1))


def _of_group(
    values: pl.Series, groups: pl.Series, keys: UInt64, rows: Int64, number: int, seed: int, name: str
) -> Others:
    ranks = groups.rank("dense").to_numpy().astype(np.int64) - 1
    order = np.lexsort((keys, ranks))
    sizes = np.bincount(ranks)
    starts = np.cumsum(sizes) - sizes
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    start, size = starts[ranks[rows]], sizes[ranks[rows]]
    first = np.floor(keyed_uniform(seed, name, keys[rows]) * size).astype(np.int64)
    looks = []
    for look in range(4 * _looks(number)):  # round the group from a place of the row's own, so that none comes twice
        there = start + (first + look) % size
        looks.append(np.where((look < size) & (there != place[rows]), order[there], _NONE))
    places_NK = np.stack(looks, axis=1)
    first_real = np.argsort(places_NK == _NONE, axis=1, kind="stable")
    return Others(values.to_list(), np.take_along_axis(places_NK, first_real, axis=1))


def _similar(values: list[str], keys: UInt64, rows: Int64, number: int, seed: int, name: str) -> Others:
    """By the cosine of their letter pairs, in a drawn order."""
    pool = sorted(set(values))
    if len(pool) > MAX_SIMILAR_POOL:
        chosen = stream(seed, name, "pool").choice(len(pool), MAX_SIMILAR_POOL, replace=False)
        pool = [pool[place] for place in np.sort(chosen)]
    mine = [values[row] for row in rows]
    own = sorted(set(mine))
    pairs = _letter_pairs([*pool, *own])
    of_pool, of_own = pairs[: len(pool)], pairs[len(pool) :]
    keep = min(_MORE_SIMILAR * _looks(number), len(pool))
    nearest = np.empty((len(own), keep), np.int64)
    for start in range(0, len(own), _ROWS_AT_A_TIME):
        likeness = np.asarray((of_own[start : start + _ROWS_AT_A_TIME] @ of_pool.T).todense())
        likeness[likeness >= 1 - 1e-6] = -1  # itself
        nearest[start : start + _ROWS_AT_A_TIME] = np.argpartition(-likeness, keep - 1, axis=1)[:, :keep]
    nearest.sort(axis=1)
    place_of_own = {text: place for place, text in enumerate(own)}
    found = nearest[[place_of_own[text] for text in mine]]
    draws = np.stack([keyed_uniform(seed, f"{name}/{look}", keys[rows]) for look in range(keep)], axis=1)
    return Others(pool, np.take_along_axis(found, np.argsort(draws, axis=1, kind="stable"), axis=1))


def _letter_pairs(texts: Sequence[str]) -> Any:
    """Pairs of neighbouring characters, weighed by rarity, each row of length 1: a sparse matrix [texts, buckets]."""
    from scipy.sparse import csr_matrix, diags

    rows: list[int] = []
    columns: list[int] = []
    for row, text in enumerate(texts):
        folded = f" {text.casefold()} "
        buckets = {(ord(a) * 131 + ord(b)) % _PAIR_BUCKETS for a, b in itertools.pairwise(folded)}
        rows += [row] * len(buckets)
        columns += buckets
    counts = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(texts), _PAIR_BUCKETS))
    rarity = np.log1p(len(texts) / (1 + np.asarray(counts.sum(axis=0)).ravel()))
    weighed = counts @ diags(rarity.astype(np.float32))
    norms = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1)).ravel())
    return (diags(1 / np.maximum(norms, 1e-12)) @ weighed).tocsr()


def _looks(number: int) -> int:
    return _LOOKS_PER_DISTRACTOR * number + _MORE_LOOKS


def _draws(keys: UInt64, count: int, seed: int, name: str) -> Int64:
    return np.floor(keyed_uniform(seed, name, keys) * count).astype(np.int64)
