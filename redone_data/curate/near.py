"""Near-duplicates by MinHash LSH over word 3-grams, every candidate verified by its exact Jaccard similarity.

25 bands x 5 rows find .95 of planted near-duplicates of short posts at precision .97-.99 where word 5-grams in 14 x 8
bands find .83 (docs/curation.md). Three steps: band keys by part; candidate pairs by range of band keys; verification
by range of pairs. Cost is linear in documents, but each verification task reads the parts its pairs lie in.
What comes out are verified pairs; which document of a pair stays is decided later, among those that pass the rules
(curate/resolve.py), so a changed threshold of a rule recomputes none of this.

Source: Broder 1997 (MinHash); Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3 (banding).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.config import plain
from redone_data.corpus import Corpus, Part
from redone_data.curate.groups import groups_of_part, part_of
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.exchange import NUM_BUCKETS, bucket_of, bucket_ranges, read_slices, write_slices
from redone_data.manifest import atomic
from redone_data.text.minhash import Shingles, band_keys, jaccard, shingles, signatures

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

PAIRS_PER_TASK = 500_000
# Up to this many documents under one band key are compared all with all. Of a larger crowd (one template, a thousand
# times) each is compared with the best of each domain: a crowd ends when all meet the one that stays, and who stays is
# decided later, by domain first. Compared with a single other one, half of a crowd of 80 stayed.
ALL_PAIRS_LIMIT = 50
BEST_OF_A_CROWD = 5
EDGE_SCHEMA = pa.schema([("left", pa.int64()), ("right", pa.int64()), ("similarity", pa.float64())])


@dataclass(frozen=True)
class NearConfig:
    """Near-duplicate settings."""

    enabled: bool = field(default=True, metadata={"help": "without it only equal texts count as duplicates"})
    ngram: int = field(default=3, metadata={"help": "words per shingle"})
    bands: int = 16
    rows: int = field(default=4, metadata={"help": "MinHash values per band"})
    threshold: float = field(
        default=0.55, metadata={"help": "Jaccard similarity of shingles from which two are duplicates"}
    )

    def __post_init__(self) -> None:
        if min(self.ngram, self.bands, self.rows) < 1:
            raise RedoneError("ngram, bands and rows must be at least 1")
        if not 0 < self.threshold <= 1:
            raise RedoneError(f"threshold: {self.threshold}; above 0 and at most 1")


@dataclass(frozen=True)
class NearBandsStep(Step):
    """Band keys of every distinct text, sliced by key."""

    name = "near-bands"
    VERSION = 1

    corpus: Corpus
    exact: Output
    near: NearConfig

    def config(self) -> Any:
        return {key: value for key, value in plain(self.near).items() if key in ("ngram", "bands", "rows")}

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), "exact": self.exact.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        distinct = _distinct_rows(self.exact, part)
        domain = self.corpus.domains.index(part.domain)
        keys: list[UInt64] = []
        rows: list[Int64] = []
        standings: list[UInt64] = []
        start = 0
        for batch in part.batches(["text", "engagement", "key_hi"]):
            wanted = np.flatnonzero(distinct[start : start + batch.num_rows])
            text = batch.column("text").take(pa.array(wanted))
            grams = shingles(text, ngram=self.near.ngram)
            filled = np.flatnonzero(np.diff(grams.offsets))
            signed = signatures(grams, num_perm=self.near.bands * self.near.rows)[filled]
            keys.append(band_keys(signed, bands=self.near.bands, rows=self.near.rows).ravel())
            rows.append(np.repeat(wanted[filled] + start + part.offset, self.near.bands))
            engagement = batch.column("engagement").fill_null(-np.inf).to_numpy()
            standing = _standing(domain, engagement, batch.column("key_hi").to_numpy())
            standings.append(np.repeat(standing[wanted[filled]], self.near.bands))
            start += batch.num_rows
        all_keys = np.concatenate(keys)
        columns = {"key": all_keys, "row": np.concatenate(rows), "standing": np.concatenate(standings)}
        write_slices(folder / f"bands-{index:05d}.arrow", bucket_of(all_keys), NUM_BUCKETS, columns)
        return {"rows": int(distinct.sum())}


def _standing(domain: int, engagement: npt.NDArray[np.float64], key: UInt64) -> UInt64:
    """What sorts documents by domain, then from most engagement to least, then by id: 16, 24 and 24 bits."""
    bits = (0.0 - engagement).astype(np.float32).view(np.uint32)
    ascending = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31)) >> np.uint32(8)
    return np.uint64(domain << 48) | (ascending.astype(np.uint64) << np.uint64(24)) | (key >> np.uint64(40))


def _distinct_rows(exact: Output, part: Part) -> npt.NDArray[np.bool_]:
    """bool[rows]: one document of each text in the corpus, namely the first."""
    distinct = np.ones(part.rows, dtype=bool)
    rows, first, _ = groups_of_part(exact, part)
    distinct[rows[first != rows + part.offset]] = False
    return distinct


@dataclass(frozen=True)
class NearPairsStep(Step):
    """Candidate pairs: documents that share a band key."""

    name = "near-pairs"
    VERSION = 1

    bands: Output
    num_keys: int

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return {"bands": self.bands.fingerprint}

    def tasks(self) -> list[tuple[int, int]]:
        return bucket_ranges(self.num_keys, rows_per_task=10_000_000)

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        table = read_slices(self.bands.files(".arrow"), *task)
        keys, rows, standing = (table[name].to_numpy() for name in ("key", "row", "standing"))
        order = np.lexsort((rows, standing, keys))
        left, right, crowded = _candidate_pairs(keys[order], rows[order], standing[order] >> np.uint64(48))
        left, right = _unique_pairs(left, right)
        columns = {"left": left, "right": right}
        write_slices(folder / f"pairs-{index:05d}.arrow", _pair_bucket(left, right), NUM_BUCKETS, columns)
        return {"pairs": len(left), "crowded_buckets": crowded}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: sum(result[key] for result in results) for key in ("pairs", "crowded_buckets")}


def _candidate_pairs(keys: UInt64, rows: Int64, domains: UInt64) -> tuple[Int64, Int64, int]:
    """Pairs (left < right) of rows under one key, and the number of keys too crowded to compare all with all.

    Rows come sorted by key, then domain, and best first.
    """
    starts, position, size_of = _runs(keys[1:] != keys[:-1])
    # Pairs at distance d within a bucket, for all buckets at once: d runs to the largest bucket compared in full.
    full = size_of <= ALL_PAIRS_LIMIT
    lefts: list[Int64] = []
    rights: list[Int64] = []
    for distance in range(1, int(size_of[full].max(initial=1))):
        at = np.flatnonzero(full & (position >= distance))
        lefts.append(rows[at - distance])
        rights.append(rows[at])
    _, in_domain, _ = _runs((keys[1:] != keys[:-1]) | (domains[1:] != domains[:-1]))
    crowds = starts[~full[starts]]
    for start, size in zip(crowds.tolist(), size_of[crowds].tolist(), strict=True):
        crowd = rows[start : start + size]
        best = crowd[in_domain[start : start + size] < BEST_OF_A_CROWD]
        lefts.append(np.repeat(best, size))
        rights.append(np.tile(crowd, len(best)))
    left, right = (np.concatenate([np.zeros(0, dtype=np.int64), *side]) for side in (lefts, rights))
    two = left != right
    return np.minimum(left, right)[two], np.maximum(left, right)[two], len(crowds)


def _runs(breaks: npt.NDArray[np.bool_]) -> tuple[Int64, Int64, Int64]:
    """Runs of equal neighbours, given where each differs from the one before: starts; of each place, position in its
    run and the run's length."""
    starts = np.flatnonzero(np.append(True, breaks))
    sizes = np.diff(np.append(starts, len(breaks) + 1))
    return starts, np.arange(len(breaks) + 1) - np.repeat(starts, sizes), np.repeat(sizes, sizes)


def _unique_pairs(left: Int64, right: Int64) -> tuple[Int64, Int64]:
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    keep = (
        np.append(True, (left[1:] != left[:-1]) | (right[1:] != right[:-1])) if len(left) else np.zeros(0, dtype=bool)
    )
    return left[keep], right[keep]


def _pair_bucket(left: Int64, right: Int64) -> Int64:
    # Multiplication by odd 64-bit constants spreads pairs over slices; any fixed spreading would do.
    mixed = left.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ right.astype(np.uint64) * np.uint64(
        0xC2B2AE3D27D4EB4F
    )
    return bucket_of(mixed * np.uint64(0xD6E8FEB86659FD93))


@dataclass(frozen=True)
class NearVerifyStep(Step):
    """Exact Jaccard similarity of every candidate pair; those at or above the threshold are written."""

    name = "near-verify"
    VERSION = 1

    corpus: Corpus
    pairs: Output
    near: NearConfig

    def config(self) -> Any:
        return {"ngram": self.near.ngram, "threshold": self.near.threshold}

    def inputs(self) -> dict[str, str]:
        return {"pairs": self.pairs.fingerprint}

    def tasks(self) -> list[tuple[int, int]]:
        return bucket_ranges(self.pairs.statistics["pairs"], rows_per_task=PAIRS_PER_TASK)

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        table = read_slices(self.pairs.files(".arrow"), *task)
        left, right = _unique_pairs(table["left"].to_numpy(), table["right"].to_numpy())
        needed = np.unique(np.concatenate([left, right]))
        grams = _shingles_of(self.corpus, needed, self.near.ngram)
        similarity = jaccard(grams, np.searchsorted(needed, left), np.searchsorted(needed, right))
        kept = similarity >= self.near.threshold
        edges = pa.table([left[kept], right[kept], similarity[kept]], schema=EDGE_SCHEMA)
        with atomic(folder / f"edges-{index:05d}.parquet") as aside:
            pq.write_table(edges, aside, compression="zstd")
        return {"pairs": len(left), "edges": int(kept.sum())}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: sum(result[key] for result in results) for key in ("pairs", "edges")}


def _shingles_of(corpus: Corpus, rows: Int64, ngram: int) -> Shingles:
    """Shingles of some documents, given by sorted global rows."""
    offsets, hashes = [np.zeros(1, dtype=np.int64)], []
    parts = part_of(corpus, rows)
    for index in np.unique(parts):
        part = corpus.parts[index]
        local = rows[parts == index] - part.offset
        start = 0
        for batch in part.batches(["text"]):
            inside = local[(local >= start) & (local < start + batch.num_rows)] - start
            start += batch.num_rows
            if len(inside):
                grams = shingles(batch.column("text").take(pa.array(inside)), ngram=ngram)
                offsets.append(grams.offsets[1:] + offsets[-1][-1])
                hashes.append(grams.hashes)
    return Shingles(np.concatenate(offsets), np.concatenate(hashes) if hashes else np.zeros(0, dtype=np.uint64))
