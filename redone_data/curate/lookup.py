"""Looking a document up: where an id lies, and the text at a place, without reading more than its row group."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from redone_data.corpus import Corpus, Part
from redone_data.curate.identity import ids_of_part
from redone_data.engine import Output
from redone_data.text.hashing import to_hex

Place = tuple[str, int]  # part (folder and file below steps/), row


def place_of(part: Part) -> str:
    """The part's name as the ledger gives it."""
    return f"{part.path.parent.name}/{part.path.name}"


def places_of(corpus: Corpus, ids: Output, wanted: Iterable[str]) -> dict[str, Place]:
    """id -> (part, row) of those `wanted` that the corpus has; reads the stored ids, 16 bytes a document."""
    sought = set(wanted)
    low = np.array(sorted(int(value[16:], 16) for value in sought), dtype=np.uint64)
    places: dict[str, Place] = {}
    for part in corpus.parts if sought else ():
        hi, lo = ids_of_part(ids, part)
        rows = np.flatnonzero(np.isin(lo, low))
        for row, identity in zip(rows.tolist(), to_hex(hi[rows], lo[rows]).to_pylist(), strict=True):
            if identity in sought:
                places[identity] = place_of(part), row
    return places


def texts_at(steps: Path, places: Iterable[Place]) -> dict[Place, str]:
    """The texts at some places below the folder `steps`; parts that were deleted since have none."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for name, row in places:
        rows_of[name].append(row)
    texts: dict[Place, str] = {}
    for name, rows in rows_of.items():
        if not (steps / name).is_file():
            continue
        with pq.ParquetFile(steps / name) as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            starts = np.concatenate([[0], np.cumsum(sizes)])
            groups = np.searchsorted(starts, rows, side="right") - 1
            for group in np.unique(groups).tolist():
                column = file.read_row_group(group, columns=["text"])["text"]
                for row in (row for row, at in zip(rows, groups, strict=True) if at == group):
                    texts[name, row] = column[row - int(starts[group])].as_py()
    return texts
