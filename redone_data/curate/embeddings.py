"""Vectors that documents came with: checked while reading, kept beside the part, clustered like the text itself.

A vector becomes a unit vector of 16-bit floats, float16[rows, dimensions] in a file beside the part's: half of what
32 bits take, and a cosine stays within .001. Zero means that the document has none. Reading looks at one batch at a
time, sampling and assigning at slices of the mapped file, so memory does not grow with the corpus.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from redone_data.curate.sources import EmbeddingConfig
from redone_data.manifest import atomic

EMBEDDINGS = ".embeddings.npy"
LARGEST = float(np.finfo(np.float32).max)

Float16 = npt.NDArray[np.float16]
Float64 = npt.NDArray[np.float64]


def vectors_of_lists(values: Sequence[Any], config: EmbeddingConfig) -> tuple[pa.Array, dict[int, str]]:
    """Unit vectors as the bytes of their float16, null for None; and the rows that hold no vector, with reasons."""
    present = [row for row, value in enumerate(values) if value is not None]
    wrong: dict[int, str] = {}
    numbers = _numbers([values[row] for row in present])
    if numbers is None or numbers.shape != (len(present), config.dimensions):
        alone = {row: _numbers([values[row]]) for row in present}
        wrong = {row: _fault(found, config) for row, found in alone.items() if not _fits(found, config)}
        present = [row for row in present if row not in wrong]
        numbers = np.array([alone[row] for row in present], np.float64).reshape(len(present), config.dimensions)
    return _packed(numbers, np.array(present, np.int64), len(values), config, wrong)


def vectors_of_column(column: pa.ChunkedArray, config: EmbeddingConfig) -> tuple[pa.Array, dict[int, str]]:
    """As :func:`vectors_of_lists`, of a column of lists (of any Arrow list type) of numbers."""
    lists = column.cast(pa.large_list(pa.float64())).combine_chunks()
    lengths = pc.list_value_length(lists)
    fits = pc.fill_null(pc.equal(lengths, config.dimensions), fill_value=False)
    wrong = {
        row: _wrong_length(lengths[row].as_py(), config)
        for row in pc.indices_nonzero(pc.and_(lists.is_valid(), pc.invert(fits))).to_pylist()
    }
    rows = pc.indices_nonzero(fits).to_numpy().astype(np.int64)
    flat = lists.take(pa.array(rows)).flatten().to_numpy(zero_copy_only=False)
    return _packed(flat.reshape(len(rows), config.dimensions), rows, len(lists), config, wrong)


def holds_vectors(kind: pa.DataType) -> bool:
    """Whether a column of this type can be the embedding."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    inner = kind.value_type
    return bool(pa.types.is_floating(inner) or pa.types.is_integer(inner))


def write_vectors(path: Path, column: pa.ChunkedArray, dimensions: int) -> None:
    """The vectors of a part, as :func:`vectors_of_lists` packed them, in the order of its rows."""
    vectors = np.zeros((len(column), dimensions), np.float16)
    present = pc.indices_nonzero(column.is_valid()).to_numpy()
    packed = b"".join(column.drop_null().to_pylist())
    vectors[present] = np.frombuffer(packed, np.float16).reshape(-1, dimensions)
    with atomic(path) as aside, aside.open("wb") as file:
        np.save(file, vectors)


def read_vectors(part: Path) -> Float16:
    """float16[rows, dimensions] of a part, mapped: a slice of it is what is read."""
    vectors: Float16 = np.load(part.with_name(part.name.removesuffix(".parquet") + EMBEDDINGS), mmap_mode="r")
    return vectors


def _numbers(values: Sequence[Any]) -> Float64 | None:
    try:
        return np.array(values, np.float64)
    except (ValueError, TypeError, OverflowError):
        return None


def _fits(found: Float64 | None, config: EmbeddingConfig) -> bool:
    return found is not None and found.shape == (1, config.dimensions)


def _fault(found: Float64 | None, config: EmbeddingConfig) -> str:
    if found is None or found.ndim != 2:
        return f"field '{config.name}' (embedding) is not a list of numbers"
    return _wrong_length(found.shape[1], config)


def _wrong_length(length: int, config: EmbeddingConfig) -> str:
    return f"field '{config.name}' (embedding) has {length} numbers where fields.embedding.dimensions is " + str(
        config.dimensions
    )


def _packed(
    numbers: Float64, rows: npt.NDArray[np.int64], num_rows: int, config: EmbeddingConfig, wrong: Mapping[int, str]
) -> tuple[pa.Array, dict[int, str]]:
    finite = (np.abs(numbers) <= LARGEST).all(axis=1)  # of NaN as well
    reason = f"field '{config.name}' (embedding) holds a number that is not finite"
    faults = {**wrong, **dict.fromkeys(rows[~finite].tolist(), reason)}
    lengths = np.linalg.norm(numbers[finite], axis=1, keepdims=True)
    units = (numbers[finite] / np.where(lengths > 0, lengths, 1)).astype(np.float16)
    column: list[bytes | None] = [None] * num_rows
    for row, unit in zip(rows[finite].tolist(), units, strict=True):
        column[row] = unit.tobytes()
    return pa.array(column, pa.large_binary()), faults
