"""What the token layer reads: one curated part, and the keyed hash by which its documents are chosen and ordered.

Every choice here (tokenizer sample, extra epoch, place in the shuffle) is a function of (seed, document id) alone, so
it does not depend on the order of files, on their sizes, or on the number of workers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redone_data.engine import Output
from redone_data.errors import RedoneError
from redone_data.manifest import digest
from redone_data.rng import stream_seed
from redone_data.text.buffers import large_strings
from redone_data.text.hashing import from_hex

SPLITS = ("train", "validation")
UNKNOWN_LANGUAGE = "und"  # ISO 639: undetermined
_MAX_ROWS = 65_536
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class CuratedPart:
    """One Parquet file of the curated corpus, all of one domain."""

    path: Path
    domain: str
    rows: int
    text_bytes: int
    sha256: str

    @property
    def rows_of_4_mb(self) -> int:
        """Rows that hold about 4 MB of text on average: the unit of streaming."""
        return max(1, min(_MAX_ROWS, 4_000_000 * self.rows // max(1, self.text_bytes)))

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """The named columns, about 4 MB of text at a time."""
        with pq.ParquetFile(self.path) as file:
            missing = sorted(set(columns) - set(file.schema_arrow.names))
            if missing:
                raise RedoneError(f"{self.path}: no column '{missing[0]}'; run the keep step again")
            yield from file.iter_batches(batch_size=self.rows_of_4_mb, columns=columns)

    def as_task(self) -> dict[str, Any]:
        return {**self.__dict__, "path": str(self.path)}

    @classmethod
    def of_task(cls, task: dict[str, Any]) -> "CuratedPart":
        return cls(**{**task, "path": Path(task["path"])})


def curated_parts(keep: Output) -> tuple[CuratedPart, ...]:
    """The parts that the keep step wrote, in an order that depends on their content alone."""
    parts = []
    for task in keep.tasks:
        sha256 = keep.manifest["files"][task["file"]]["sha256"]
        parts.append(CuratedPart(keep.folder / task["file"], task["domain"], task["rows"], task["text_bytes"], sha256))
    return in_order(parts)


def in_order(parts: Iterable[CuratedPart]) -> tuple[CuratedPart, ...]:
    return tuple(sorted(parts, key=lambda part: (part.domain, part.sha256)))


def fingerprint(parts: Iterable[CuratedPart]) -> str:
    """One hash of what all parts hold, whatever their order and wherever they lie."""
    return digest([[part.domain, part.sha256] for part in in_order(parts)])


def split_mask(batch: pa.RecordBatch, split: str) -> pa.Array:
    return pc.equal(batch["split"].cast(pa.large_string()), split)


def languages(column: pa.Array) -> pa.Array:
    """Language codes without nulls, as large_string."""
    return pc.fill_null(column.cast(pa.large_string()), UNKNOWN_LANGUAGE)


def sums_by(keys: pa.Array | pa.ChunkedArray, numbers: dict[str, npt.NDArray[np.int64]]) -> dict[str, dict[str, int]]:
    """Key -> {documents, and the sum of each column of numbers}, keys in sorted order."""
    encoded = (keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys).dictionary_encode()
    names, of = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    # Sums of whole numbers below 2^53 are exact in float64.
    columns = {"documents": np.bincount(of, minlength=len(names))} | {
        name: np.bincount(of, column, len(names)).astype(np.int64) for name, column in numbers.items()
    }
    return {
        names[i]: {name: int(column[i]) for name, column in columns.items()}
        for i in sorted(range(len(names)), key=names.__getitem__)
    }


def add_sums(total: dict[str, dict[str, int]], more: dict[str, dict[str, int]]) -> None:
    """Add the counts of `more` to `total`, key by key, in place."""
    for key, counts in more.items():
        mine = total.setdefault(key, dict.fromkeys(counts, 0))
        for name, count in counts.items():
            mine[name] += count


def keyed_hash(ids: pa.Array, seed: int, purpose: str, copies: npt.NDArray[np.int64] | None = None) -> Hashes:
    """uint64[n], uniform: a hash of (seed, purpose, id, copy). Two rounds of splitmix64's finaliser over each half.

    Raises :class:`RedoneError` for an id that is not 32 hexadecimal characters.
    """
    return hash_halves(*from_hex(large_strings(ids)), seed, purpose, copies)


def hash_halves(hi: Hashes, lo: Hashes, seed: int, purpose: str, copies: npt.NDArray[np.int64] | None = None) -> Hashes:
    """:func:`keyed_hash` of ids that are numbers already."""
    key = np.uint64(stream_seed(seed, "tokens", purpose))
    with np.errstate(over="ignore"):
        state = _mix(_mix(hi ^ key) + lo)
        if copies is not None:
            state = state + copies.astype(np.uint64) * _GOLDEN
        return _mix(state ^ key)


def _mix(value: Hashes) -> Hashes:
    # Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195 (Stafford's variant 13)
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    mixed: Hashes = value ^ (value >> np.uint64(31))
    return mixed
