"""Parts as `read` writes them: a Parquet file of documents, with the hashes of their ids and texts beside it.

Whatever makes documents (reading, grouping a note with its comments, splitting a pool into domains) writes them with
:func:`write_part`, so that every later step sees the same thing.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redone_data.corpus import CORPUS_SCHEMA
from redone_data.exchange import NUM_BUCKETS, bucket_of, write_slices
from redone_data.manifest import atomic

KEYS, TEXTS = ".keys.arrow", ".texts.arrow"
# Only `read` writes these, for documents that answer others: hash of the id answered, row.
PARENTS = ".parents.arrow"


def write_parts(folder: Path, stem: str, table: pa.Table, part_bytes: int, *, named: bool) -> list[dict[str, Any]]:
    """Write a table of documents as parts of about `part_bytes` of text; no part for no documents."""
    sizes = pc.binary_length(table["text"]).to_numpy()
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // part_bytes)) + 1
    spans = pairwise([0, *cuts.tolist(), len(sizes)])
    return [
        write_part(folder, f"{stem}-{number:03d}", _columns(table.slice(start, end - start)), named=named)
        for number, (start, end) in enumerate(spans)
        if end > start
    ]


def write_part(folder: Path, stem: str, columns: Mapping[str, Any], *, named: bool) -> dict[str, Any]:
    """Write documents as one part; what the task's record says of it.

    columns: those of CORPUS_SCHEMA but `num_bytes`, which is made here. named: whether the documents came with ids of
    their own.
    """
    num_bytes = pc.binary_length(columns["text"]).cast(pa.int32())
    filled = {**columns, "num_bytes": num_bytes}
    table = pa.table({name: filled[name] for name in CORPUS_SCHEMA.names}, schema=CORPUS_SCHEMA)
    with atomic(folder / f"{stem}.parquet") as aside:
        # Posts hardly repeat: without a dictionary of them writing takes a quarter less, and reading half as long. Each
        # step reads them again: lz4 takes half the time of zstd, for files a quarter larger.
        repeated = ["domain", "source"]
        pq.write_table(table, aside, compression="lz4", row_group_size=50_000, use_dictionary=repeated)
    row = np.arange(table.num_rows, dtype=np.int64)
    key_hi, text_hi = table["key_hi"].to_numpy(), table["text_hi"].to_numpy()
    # Of records with one id, the one with most engagement comes first and stays (curate/groups.py).
    order = -pc.fill_null(table["engagement"].combine_chunks(), -np.inf).to_numpy(zero_copy_only=False)
    keys = {"hi": key_hi, "lo": table["key_lo"].to_numpy(), "order": order, "text_hi": text_hi, "row": row}
    write_slices(folder / f"{stem}{KEYS}", bucket_of(key_hi), NUM_BUCKETS, keys)
    texts = {"hi": text_hi, "lo": table["text_lo"].to_numpy(), "row": row}
    write_slices(folder / f"{stem}{TEXTS}", bucket_of(text_hi), NUM_BUCKETS, texts)
    return {
        "file": f"{stem}.parquet",
        "rows": table.num_rows,
        "named": named,
        "text_bytes": int(pc.sum(num_bytes).as_py() or 0),
    }


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
