"""Clusters of the text itself: latent semantic analysis of hashed words, then spherical k-means.

Fitted on a sample drawn by hash (30,000 documents by default: seconds, whatever the corpus), applied by two kernels.
Vectors that documents came with (embeddings.py) take the place of the first half.
Cost and agreement with known categories: docs/curation.md.

Sources: Deerwester et al. 1990 (LSA), Halko, Martinsson and Tropp 2011 (randomized SVD), Dhillon and Modha 2001
(spherical k-means), Arthur and Vassilvitskii 2007 (k-means++).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.curate.embeddings import read_vectors
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.manifest import atomic
from redone_data.rng import keyed_uniform, stream
from redone_data.text.topics import NUM_BUCKETS, buckets, embed, nearest

DIMENSIONS = 64
OVERSAMPLING, POWER_ROUNDS = 16, 3
# A word must stand in so many documents of the sample, and in at most this share of them, to tell topics apart.
MIN_DOCUMENTS, MAX_SHARE = 3, 0.2
RESTARTS, ROUNDS = 4, 40
# However large the corpus, the sample comes from so many of its parts, evenly spread.
MAX_SAMPLED_PARTS = 64
# Digits that are kept of what is fitted, so that the last bits of another BLAS change nothing.
DECIMALS = 4
CENTERS = "centers.npy"
TOO_FEW = "clusters: {}; there are only {} documents to form them"

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClusterModel:
    """row_of: int32[NUM_BUCKETS]; projection: float32[m, d]; centers: float32[k, d], unit vectors."""

    row_of: Int32
    projection: Float32
    centers: Float32

    @classmethod
    def fit(cls, texts: pa.Array, num_clusters: int, seed: int) -> "ClusterModel":
        """Raises RedoneError when there are fewer texts with words than clusters."""
        if len(texts) < num_clusters:
            raise RedoneError(TOO_FEW.format(num_clusters, len(texts)))
        row_of, projection = _fit_projection(texts, seed)
        return cls(row_of, projection, fit_centers(embed(texts, row_of, projection), num_clusters, seed))

    def assign(self, texts: pa.Array) -> npt.NDArray[np.int32]:
        """The cluster of each text; -1 for a text without words."""
        return nearest(embed(texts, self.row_of, self.projection), self.centers)

    def save(self, folder: Path) -> None:
        for name in ("row_of", "projection", "centers"):
            with atomic(folder / f"{name}.npy") as aside, aside.open("wb") as file:
                np.save(file, getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> "ClusterModel":
        return cls(*(np.load(folder / f"{name}.npy") for name in ("row_of", "projection", "centers")))


def _fit_projection(texts: pa.Array, seed: int) -> tuple[Int32, Float32]:
    """Inverse document frequency times the leading right singular vectors of the sample, for buckets that tell."""
    from scipy.sparse import csr_matrix

    offsets, found = buckets(texts)
    documents = np.bincount(found, minlength=NUM_BUCKETS)
    rare_or_common = (documents < MIN_DOCUMENTS) | (documents > max(MAX_SHARE * len(texts), MIN_DOCUMENTS))
    weight = np.where(rare_or_common, 0, np.log(len(texts) / np.maximum(documents, 1))).astype(np.float32)
    matrix = csr_matrix((weight[found], found, offsets), shape=(len(texts), NUM_BUCKETS))
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1))).ravel()
    scale = np.repeat((1 / np.maximum(lengths, 1e-9)).astype(np.float32), np.diff(offsets))
    matrix = csr_matrix((weight[found] * scale, found, offsets), shape=matrix.shape)
    width = min(DIMENSIONS, len(texts))
    draw = stream(seed, "clusters", "projection")
    basis = draw.standard_normal((NUM_BUCKETS, width + OVERSAMPLING)).astype(np.float32)
    for _ in range(POWER_ROUNDS):
        basis, _ = np.linalg.qr(matrix.T @ (matrix @ basis))
    _, _, rotation = np.linalg.svd(matrix @ basis, full_matrices=False)
    known = np.flatnonzero(weight)
    row_of = np.full(NUM_BUCKETS, -1, np.int32)
    row_of[known] = np.arange(len(known))
    projection = weight[known, None] * (basis[known] @ rotation[:width].T)
    return row_of, np.ascontiguousarray(np.round(projection, DECIMALS), np.float32)


def fit_centers(vectors: Float32, num_clusters: int, seed: int) -> Float32:
    """The best of several starts of spherical k-means; a zero vector takes no part.

    Raises RedoneError when there are fewer vectors than clusters.
    """
    vectors = vectors[vectors.any(axis=1)]
    if len(vectors) < num_clusters:
        raise RedoneError(TOO_FEW.format(num_clusters, len(vectors)))
    best, best_score = None, -np.inf
    for start in range(RESTARTS):
        draw = stream(seed, "clusters", "centers", start)
        centers = _first_centers(vectors, num_clusters, draw)
        members = np.full(len(vectors), -1)
        for _ in range(ROUNDS):
            before, members = members, nearest(vectors, centers)
            if np.array_equal(before, members):
                break
            for cluster in range(num_clusters):
                inside = vectors[members == cluster]
                # An empty cluster starts again from a document drawn anew.
                total = inside.sum(axis=0) if len(inside) else vectors[draw.integers(len(vectors))]
                centers[cluster] = np.round(total / max(np.linalg.norm(total), 1e-9), DECIMALS)
        score = float((vectors * centers[nearest(vectors, centers)]).sum())
        if score > best_score:
            best, best_score = centers.copy(), score
    assert best is not None
    return best


def _first_centers(vectors: Float32, num_clusters: int, draw: np.random.Generator) -> Float32:
    """k-means++: each next center is drawn by its distance from those before."""
    chosen = [int(draw.integers(len(vectors)))]
    distance = 1 - vectors @ vectors[chosen[0]]
    while len(chosen) < num_clusters:
        weights = np.maximum(distance, 0).astype(np.float64)
        total = weights.sum()
        chosen.append(int(draw.choice(len(vectors), p=weights / total) if total > 0 else draw.integers(len(vectors))))
        distance = np.minimum(distance, 1 - vectors @ vectors[chosen[-1]])
    return vectors[chosen].copy()


@dataclass(frozen=True)
class ClusterStep(Step):
    """Fit clusters on a sample of the documents of some finished reads."""

    name = "clusters"
    VERSION = 1

    reads: tuple[Output, ...]
    clusters: int
    sample: int
    seed: int

    def config(self) -> Any:
        return {"clusters": self.clusters, "sample": self.sample, "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {f"read{i:05d}": print_ for i, print_ in enumerate(sorted(read.fingerprint for read in self.reads))}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        texts = sample_texts(self.reads, self.sample, self.seed)
        ClusterModel.fit(texts, self.clusters, self.seed).save(folder)
        return {"sampled": len(texts)}


@dataclass(frozen=True)
class EmbeddingClusterStep(ClusterStep):
    """Fit clusters on a sample of the vectors that documents came with."""

    name = "embedding-clusters"

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        drawn = sample_rows(self.reads, self.sample, self.seed, [])
        vectors = [read_vectors(path)[rows].astype(np.float32) for path, rows, _ in drawn]
        sampled = np.concatenate(vectors) if vectors else np.empty((0, 1), np.float32)
        with atomic(folder / CENTERS) as aside, aside.open("wb") as file:
            np.save(file, fit_centers(sampled, self.clusters, self.seed))
        return {"sampled": len(sampled)}


def sample_texts(reads: Sequence[Output], wanted: int, seed: int) -> pa.Array:
    """About so many texts, drawn by a hash of their ids; the same whatever the order of the reads."""
    found = [batch.column("text") for _, _, batch in sample_rows(reads, wanted, seed, ["text"])]
    return pa.concat_arrays(found) if found else pa.array([], pa.large_string())


def sample_rows(
    reads: Sequence[Output], wanted: int, seed: int, columns: Sequence[str]
) -> Iterator[tuple[Path, Int64, pa.RecordBatch]]:
    """The part, row numbers and columns of about so many documents, drawn by a hash of their ids."""
    ordered = sorted(reads, key=lambda read: read.fingerprint)
    parts = [(read.folder / part["file"], part["rows"]) for read in ordered for t in read.tasks for part in t["parts"]]
    every = -(-len(parts) // MAX_SAMPLED_PARTS)
    parts = parts[::every] if every else []
    share = min(1.0, wanted / max(1, sum(rows for _, rows in parts)))
    for path, _ in parts:
        start = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=50_000, columns=["key_lo", *columns]):
                drawn = keyed_uniform(seed, "clusters", batch.column("key_lo").to_numpy()) < share
                yield path, np.flatnonzero(drawn) + start, batch.filter(pa.array(drawn))
                start += batch.num_rows
