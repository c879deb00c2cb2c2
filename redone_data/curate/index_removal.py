"""Taking documents out of an index: out of every answer at once, then off the disk.

`forget` writes their numbers, one small file. `compact` writes the segments that hold them again, without their ids,
hashes, letters and keys; a file that holds nothing of them is linked, so the cost is that of the files touched: a
segment's keys, and the parts the documents lie in. Numbers stay, so nothing else moves. New folders are written whole,
then index.json is replaced, then the old folders go: a kill leaves the index before or after, and the next call clears
what it left.
"""

import fcntl
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.curate.index import READING, Index, Segment
from redone_data.curate.index_segments import locked, write_list
from redone_data.curate.likeness import column_letters, letters_column, take_letters
from redone_data.errors import RedoneError
from redone_data.exchange import Slices, write_sliced
from redone_data.manifest import atomic, digest, link
from redone_data.text.hashing import from_hex

Int64 = npt.NDArray[np.int64]
FORGOTTEN = "forgotten-*.npy"


def forget(folder: Path, ids: Iterable[str]) -> int:
    """Take documents out of every answer by their ids; how many were there. `compact` takes them off the disk."""
    with locked(folder):
        index = Index.open(folder)
        found = index.find(*from_hex(pa.array(list(ids), pa.large_string())))
        every = np.union1d(index.forgotten, found)
        if len(every) > len(index.forgotten):
            name = FORGOTTEN.replace("*", f"{len(every):09d}")
            with atomic(folder / name) as aside, aside.open("wb") as file:
                np.save(file, every)
            write_list(folder, index.content["settings"], index.content["segments"], name)
        return len(every) - len(index.forgotten)


def compact(folder: Path) -> int:
    """Take forgotten documents off the disk; how many. Nothing changes in any answer.

    Raises RedoneError while another process reads or writes the index.
    """
    with locked(folder), _unread(folder):
        index = Index.open(folder)
        _clear(folder, index)
        segments = []
        for segment, described, offset in zip(index.segments, index.content["segments"], index.offsets, strict=False):
            start, end = np.searchsorted(index.forgotten, [offset, offset + segment.num_documents])
            gone = index.forgotten[start:end] - offset
            segments.append(_without(folder, segment, described, gone) if len(gone) else described)
        if len(index.forgotten):
            write_list(folder, index.content["settings"], segments, None)
            _clear(folder, Index.open(folder))
        return len(index.forgotten)


def _without(folder: Path, segment: Segment, described: dict[str, Any], gone: Int64) -> dict[str, Any]:
    """The segment again, without these documents of it. gone: ascending."""
    stamp = digest([described["keys"], gone.tolist()])[:12]
    keys, parts = (folder / "steps" / f"index-{kind}-{stamp}" for kind in ("keys", "parts"))
    for _, file in segment.key_files:
        _write_keys(file, keys, gone, segment.packing.row_bits)
    bounds = np.searchsorted(gone, np.append(0, np.cumsum(segment.rows)))
    offset, accepted = 0, described["accepted"] - len(gone)
    for number, rows in enumerate(segment.rows):
        mine = gone[bounds[number] : bounds[number + 1]] - offset
        name = f"documents-{number:05d}.arrow"
        if len(mine):
            _write_documents(segment.part_files[number].batches[0], parts / name, mine)
        else:
            link(segment.parts / name, parts / name)
        offset += rows
    first = described.get("first", described["parts"])
    return {**described, "keys": keys.name, "parts": parts.name, "accepted": accepted, "first": first}


def _write_keys(path: Path, folder: Path, gone: Int64, row_bits: int) -> None:
    file = Slices([path])
    records, edges = file.batches[0].column("record").to_numpy(), file.edges[0]
    documents = (records & np.uint64((1 << row_bits) - 1)).astype(np.int64)
    places = np.minimum(np.searchsorted(gone, documents), len(gone) - 1)
    stays = gone[places] != documents
    if stays.all():
        link(path, folder / path.name)
        return
    folder.mkdir(parents=True, exist_ok=True)
    before = np.append(0, np.cumsum(stays))
    write_sliced(folder / path.name, before[edges], {"record": records[stays]})


def _write_documents(batch: pa.RecordBatch, path: Path, gone: Int64) -> None:
    """The lines of a part, those that are gone all zeros and without letters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stays = np.ones(batch.num_rows, bool)
    stays[gone] = False
    columns: dict[str, Any] = {}
    for name in batch.schema.names:
        if name != "letters":
            values = batch.column(name).to_numpy()
            columns[name] = np.where(stays, values, values.dtype.type(0))
    letters = column_letters(batch.column("letters"))
    lengths = np.where(stays, np.diff(letters.offsets), 0)
    kept = take_letters(letters, np.flatnonzero(stays))
    columns["letters"] = letters_column(kept._replace(offsets=np.append(0, np.cumsum(lengths))))
    write_sliced(path, np.array([0, batch.num_rows]), columns)


def _clear(folder: Path, index: Index) -> None:
    """Remove what index.json does not name: folders that were replaced, and those of a writer that was killed."""
    named = {segment[kind] for segment in index.content["segments"] for kind in ("keys", "parts")}
    for path in sorted((folder / "steps").iterdir()):
        if path.name not in named:
            shutil.rmtree(path)
    for path in sorted(folder.glob(FORGOTTEN)):
        if path.name != index.content["forgotten"]:
            path.unlink()


@contextmanager
def _unread(folder: Path) -> Iterator[None]:
    with (folder / READING).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RedoneError(
                f"{folder}: another process reads this index; when it is done: redone-data index compact {folder}"
            ) from None
        yield
