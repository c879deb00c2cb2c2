"""Redistributing rows between tasks, in files: what a shuffle is to a cluster engine.

A map task sorts its rows into slices and writes one Arrow IPC file, a record batch a slice; a reduce task reads its
slice of every file, memory-mapped. Each row is written once and read once whatever the number of slices, so cost is
linear and memory is bounded by the largest slice.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.manifest import atomic

# Slices of a hash space: fine enough for a billion rows (4 million a slice); a task takes a run of neighbouring slices.
NUM_BUCKETS = 256

Column: TypeAlias = npt.NDArray[np.generic] | Any


def bucket_of(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The slice of a 64-bit hash: its top bits.

    >>> bucket_of(np.array([0, 2**63, 2**64 - 1], dtype=np.uint64)).tolist()
    [0, 128, 255]
    """
    return (hashes >> np.uint64(64 - 8)).astype(np.int64)


def bucket_ranges(num_rows: int, rows_per_task: int = 4_000_000) -> list[tuple[int, int]]:
    """Neighbouring slices grouped into tasks of about `rows_per_task` rows: (first, end) pairs that cover all slices.

    >>> bucket_ranges(100)
    [(0, 256)]
    >>> len(bucket_ranges(10**9))
    250
    """
    num_tasks = min(NUM_BUCKETS, max(1, -(-num_rows // rows_per_task)))
    edges = [NUM_BUCKETS * i // num_tasks for i in range(num_tasks + 1)]
    return list(pairwise(edges))


def write_slices(path: Path, slice_ids: npt.NDArray[np.int64], num_slices: int, columns: Mapping[str, Column]) -> None:
    """Write rows grouped by slice, in their given order within a slice.

    slice_ids: int64[rows], values in [0, num_slices). columns: name -> rows values each.
    """
    order = np.argsort(slice_ids, kind="stable")
    edges = np.searchsorted(slice_ids[order], np.arange(num_slices + 1))
    order_arrow = pa.array(order)
    table = pa.table({name: pa.array(column) for name, column in columns.items()}).take(order_arrow).combine_chunks()
    with atomic(path) as aside, pa.OSFile(str(aside), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        for start, end in pairwise(edges):
            batches = table.slice(start, end - start).to_batches()
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema))


def read_slices(paths: Iterable[Path], first: int, end: int) -> pa.Table:
    """Rows of slices [first, end) of every file, in file order; buffers are memory-mapped, not copied."""
    batches: list[pa.RecordBatch] = []
    schema = None
    for path in paths:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            schema = reader.schema
            batches.extend(reader.get_batch(i) for i in range(first, end))
    if schema is None:
        raise ValueError("no files to read slices of")
    return pa.Table.from_batches(batches, schema=schema)
