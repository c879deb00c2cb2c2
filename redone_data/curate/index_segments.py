"""Making an index and adding to it: one segment an addition, written once (index_removal.py takes out of it).

`build` and `add` are one thing: an addition to an index that may not be there yet. An addition costs one pass over the
new texts and one sort of their keys; the old segments are not touched.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from redone_data.corpus import Corpus
from redone_data.curate.bands import BATCH_ROWS, KEY_BITS, Packing, distinct_rows, keys_of_texts, pack_keys
from redone_data.curate.identity import ids_of_part
from redone_data.curate.index import FORMAT_VERSION, INDEX_FILE, READING, TEXT_SALT, Index, settings_of
from redone_data.curate.likeness import NO_LETTERS, join_letters, letters_column, letters_of
from redone_data.curate.near import NearConfig
from redone_data.curate.policy import read_verdicts
from redone_data.curate.resolve import duplicates_of_part
from redone_data.curate.standing import standing_of
from redone_data.engine import Engine, Output, Step
from redone_data.errors import RedoneError
from redone_data.exchange import Slices, bucket_ranges, concatenated, write_sliced
from redone_data.manifest import write_json
from redone_data.text.minhash import EMPTY_BAND_KEY

MOST_TASKS = 64
RECORDS_PER_PAGE = 512  # a lookup searches one page of 4 KiB


@dataclass(frozen=True)
class IndexPartsStep(Step):
    """Of each part: keys sliced by key, and a line a document. Dropped documents keep their number and nothing else."""

    name = "index-parts"
    VERSION = 3

    corpus: Corpus
    near: NearConfig
    standing: Output
    judged: Output | None = None
    resolved: Output | None = None
    ids: Output | None = None

    @property
    def packing(self) -> Packing:
        return Packing.of(self.corpus.num_rows, self.near.bands + 1)

    def config(self) -> Any:
        return settings_of(self.near)

    def inputs(self) -> dict[str, str]:
        outputs = {"standing": self.standing, "judge": self.judged, "resolve": self.resolved, "ids": self.ids}
        inputs = {label: output.fingerprint for label, output in outputs.items() if output is not None}
        return {**self.corpus.inputs(), **inputs}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        accepted = np.ones(part.rows, dtype=bool)
        id_hi, id_lo = ids_of_part(self.ids, part)
        table = part.read(["text_hi", "text_lo"])
        columns = {
            "id_hi": id_hi,
            "id_lo": id_lo,
            **{name: table[name].to_numpy() for name in table.column_names},
        }
        if self.judged is not None:
            accepted[read_verdicts(self.judged, index)["row"].to_numpy()] = False
        if self.resolved is not None:
            accepted[duplicates_of_part(self.resolved, index)["row"].to_numpy() - part.offset] = False
        standing = standing_of(self.corpus, self.standing, np.arange(part.rows) + part.offset)

        keys, letters, start = [np.zeros((0, self.near.bands + 1), np.uint64)], [NO_LETTERS], 0
        for batch in part.batches(["text"], BATCH_ROWS):
            rows = np.flatnonzero(accepted[start : start + batch.num_rows])
            text = batch.column("text").take(pa.array(rows))
            bands = keys_of_texts(text, self.near)
            # The text itself is one more key, first: an accepted text without shingles is still found by it.
            own = columns["text_hi"][rows + start] ^ TEXT_SALT
            keys.append(np.column_stack([own, bands]))
            found = letters_of(text)
            lengths = np.zeros(batch.num_rows, np.int64)
            lengths[rows] = np.diff(found.offsets)
            letters.append(found._replace(offsets=np.append(0, np.cumsum(lengths))))
            start += batch.num_rows
        numbers = np.flatnonzero(accepted) + part.offset
        flat = np.concatenate(keys)
        shown = flat != EMPTY_BAND_KEY
        records, edges = pack_keys(
            flat[shown][:, None],
            np.broadcast_to(numbers[:, None], flat.shape)[shown],
            self.packing.slice_bits,
            self.packing.row_bits,
        )
        write_sliced(folder / f"records-{index:05d}.arrow", edges, {"record": records})
        documents: dict[str, Any] = {
            **columns,
            "value": standing.value,
            "accepted": accepted.astype(np.uint8),
            "letters": letters_column(join_letters(letters)),
        }
        write_sliced(folder / f"documents-{index:05d}.arrow", np.array([0, part.rows]), documents)
        return {"rows": part.rows, "accepted": int(accepted.sum()), "keys": len(records)}


@dataclass(frozen=True)
class IndexKeysStep(Step):
    """The keys of all parts, sorted, with the edges of pages."""

    name = "index-keys"
    VERSION = 1

    parts: Output
    packing: Packing

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return {"parts": self.parts.fingerprint}

    def tasks(self) -> list[tuple[int, int]]:
        num_slices = self.packing.num_slices
        return bucket_ranges(num_slices, -(-num_slices // MOST_TASKS), num_slices)

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        first, end = task
        slices = Slices(path for path in self.parts.files(".arrow") if path.name.startswith("records"))
        num_keys = sum(part["keys"] for part in self.parts.tasks)
        pages = -(-num_keys // (self.packing.num_slices * RECORDS_PER_PAGE))
        fine_bits = max(0, (pages - 1).bit_length())
        shift = np.uint64(KEY_BITS - self.packing.slice_bits - fine_bits + self.packing.row_bits)
        bounds = np.arange(1, 1 << fine_bits, dtype=np.uint64) << shift
        records, edges = [], [np.zeros(1, np.int64)]
        for slice_id in range(first, end):
            found = np.sort(slices.column("record", slice_id, slice_id + 1))
            inner = np.searchsorted(found, bounds)
            edges.append(np.append(inner, len(found)) + edges[-1][-1])
            records.append(found)
        columns = {"record": concatenated(records, np.uint64)}
        write_sliced(folder / f"keys-{first:05d}.arrow", np.concatenate(edges), columns)
        return {"keys": len(columns["record"])}


@dataclass(frozen=True)
class IndexTextsStep(Step):
    """Which distinct new texts an index has already: row, and the number of the old document."""

    name = "index-texts"
    VERSION = 1

    corpus: Corpus
    exact: Output
    index: Index

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), "exact": self.exact.fingerprint, "index": self.index.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        rows = np.flatnonzero(distinct_rows(self.exact, part))
        table = part.read(["text_hi", "text_lo"])
        hi, lo = (table[name].to_numpy()[rows] for name in ("text_hi", "text_lo"))
        places, documents = self.index.same_text(hi, lo)
        columns = {"row": rows[places] + part.offset, "document": documents}
        write_sliced(folder / f"texts-{index:05d}.arrow", np.array([0, len(places)]), columns)
        return {"known": len(places)}


def add_segment(
    folder: Path,
    corpus: Corpus,
    near: NearConfig,
    standing: Output,
    *,
    judged: Output | None = None,
    resolved: Output | None = None,
    ids: Output | None = None,
    engine: Engine | None = None,
) -> Index:
    """Add the documents of `corpus` that stay (all, without `judged` and `resolved`) to the index, made if needed.

    Adding the same again changes nothing. A kill at any moment leaves the index as it was. Raises RedoneError when
    the index was made with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        (folder / READING).touch()
        before = Index.open(folder, near) if (folder / INDEX_FILE).is_file() else None
        used = engine or Engine(folder)
        used = Engine(folder, used.executor, used.progress)
        step = IndexPartsStep(corpus, near, standing, judged, resolved, ids)
        segments = [] if before is None else before.content["segments"]
        if before is not None and step.folder_name() in {one.get("first", one["parts"]) for one in segments}:
            return before
        parts = used.run(step)
        keys = used.run(IndexKeysStep(parts, step.packing))
        segment = {
            "keys": keys.folder.name,
            "parts": parts.folder.name,
            "rows": [part["rows"] for part in parts.tasks],
            "packing": asdict(step.packing),
            "accepted": sum(part["accepted"] for part in parts.tasks),
        }
        write_list(
            folder, settings_of(near), [*segments, segment], None if before is None else before.content["forgotten"]
        )
        for path in parts.folder.glob("records-*.arrow"):
            path.unlink()  # they lie in the sorted keys now
        return Index.open(folder, near)


def write_list(folder: Path, settings: dict[str, int], segments: list[dict[str, Any]], forgotten: str | None) -> None:
    """Replace index.json: from now on the index is these segments."""
    content = {
        "version": FORMAT_VERSION,
        "settings": settings,
        "segments": segments,
        "accepted": sum(segment["accepted"] for segment in segments),
        "forgotten": forgotten,
    }
    write_json(folder / INDEX_FILE, content)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer at a time; the lock ends with the process, however it ends."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RedoneError(f"{folder}: another process is writing this index; wait for it") from None
        yield
