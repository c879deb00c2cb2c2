"""An index of accepted documents: new ones are compared with it, and the old texts are never read again.

On disk lie, memory-mapped, band keys sorted by key (8 bytes each), and by document: id, text hash, standing (40 bytes)
and folded letters (three fourths of the text: guard an index as you do the corpus). A lookup is a binary search within
one page, so cost grows with the new documents. The result is that of deduplicating old and new together with the old in
a domain of the highest priority: under every key that a new document has, all old ones are found, crowds included
(tests/curate/test_index.py).

An index is segments, one an addition, none of them ever changed; index.json lists them and is replaced at once, last.
Deleted documents are left out of every answer; index_removal.py then writes their segments again without them.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.curate.bands import KEY_BITS, Packing
from redone_data.curate.likeness import NO_LETTERS, Letters, column_letters, join_letters, take_letters
from redone_data.curate.near import NearConfig
from redone_data.curate.standing import Standing
from redone_data.errors import RedoneError
from redone_data.exchange import Slices, concatenated
from redone_data.manifest import digest, read_json
from redone_data.text.kernel import kernel

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

INDEX_FILE = "index.json"
READING = ".reading"  # locked for sharing by who reads, for itself by who takes files away
FORMAT_VERSION = 2
TEXT_SALT = np.uint64(0x9E3779B97F4A7C15)


def settings_of(near: NearConfig) -> dict[str, int]:
    """What must be the same in an index and in what is compared with it."""
    return {"ngram": near.ngram, "bands": near.bands, "rows": near.rows}


@dataclass(frozen=True)
class Segment:
    """The documents of one addition. `keys` and `parts` are folders; `rows`: documents of each part."""

    keys: Path
    parts: Path
    rows: tuple[int, ...]
    packing: Packing

    @property
    def num_documents(self) -> int:
        return sum(self.rows)

    @cached_property
    def key_files(self) -> list[tuple[int, Path]]:
        """(first coarse slice, path) of each file of keys."""
        return [(int(path.stem.split("-")[1]), path) for path in sorted(self.keys.glob("keys-*.arrow"))]

    @cached_property
    def _mapped_keys(self) -> list[Slices]:
        return [Slices([path]) for _, path in self.key_files]

    @cached_property
    def part_files(self) -> list[Slices]:
        return [Slices([self.parts / f"documents-{i:05d}.arrow"]) for i in range(len(self.rows))]

    def members(self, keys: UInt64) -> tuple[Int64, Int64]:
        """(place in keys, document) of every document under one of these 44-bit keys. keys: ascending."""
        places, documents = [], []
        key_bits = KEY_BITS - self.packing.slice_bits
        slices = (keys >> np.uint64(key_bits)).astype(np.int64)
        firsts = [first for first, _ in self.key_files] + [self.packing.num_slices]
        for first, end, file in zip(firsts[:-1], firsts[1:], self._mapped_keys, strict=True):
            start, stop = np.searchsorted(slices, [first, end])
            edges = file.edges[0]
            fine_bits = ((len(edges) - 1) // (end - first)).bit_length() - 1
            records = file.batches[0].column("record").to_numpy()
            place, document = _probe(
                keys[start:stop], first, key_bits, fine_bits, self.packing.row_bits, edges, records
            )
            places.append(place + start)
            documents.append(document)
        return concatenated(places, np.int64), concatenated(documents, np.int64)


@dataclass(frozen=True)
class Index:
    """An index as it was when it was opened. Documents are numbered from 0, segment by segment."""

    folder: Path
    content: dict[str, Any]

    @classmethod
    def open(cls, folder: Path, near: NearConfig | None = None) -> "Index":
        """Raises RedoneError when there is none, when it is of another format, or made with settings other than `near`.

        Without `near` its settings do not matter: documents can be taken out, not compared.
        """
        path = folder / INDEX_FILE
        if not path.is_file():
            raise RedoneError(f"{folder}: no index is here; make one with: redone-data index add {folder} FILES")
        content = read_json(path)
        if content["version"] != FORMAT_VERSION:
            raise RedoneError(
                f"{path}: format {content['version']}; this version reads format {FORMAT_VERSION}: build the index anew"
            )
        for name, value in ({} if near is None else settings_of(near)).items():
            if content["settings"][name] != value:
                raise RedoneError(
                    f"{path}: it was made with {name}: {content['settings'][name]}, and near.{name} is {value}; "
                    f"set near.{name} to {content['settings'][name]}, or build the index anew"
                )
        return cls(folder, content)

    def __reduce__(self) -> tuple[Any, ...]:
        return Index, (self.folder, self.content)  # what is mapped into memory does not travel

    @property
    def fingerprint(self) -> str:
        return digest(self.content)

    @property
    def num_documents(self) -> int:
        """How many numbers there are: those of deleted and of never accepted documents included."""
        return self.offsets[-1]

    @property
    def num_accepted(self) -> int:
        accepted: int = self.content["accepted"]
        return accepted - len(self.forgotten)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(
            Segment(
                self.folder / "steps" / segment["keys"],
                self.folder / "steps" / segment["parts"],
                tuple(segment["rows"]),
                Packing(**segment["packing"]),
            )
            for segment in self.content["segments"]
        )

    @cached_property
    def offsets(self) -> list[int]:
        return [0, *accumulate(sum(segment["rows"]) for segment in self.content["segments"])]

    @cached_property
    def _part_offsets(self) -> Int64:
        rows = [rows for segment in self.segments for rows in segment.rows]
        return np.append(0, np.cumsum(np.array(rows, np.int64)))

    @cached_property
    def _parts(self) -> list[Slices]:
        return [part for segment in self.segments for part in segment.part_files]

    @cached_property
    def forgotten(self) -> Int64:
        """The documents that are out of every answer and still on disk, ascending."""
        name = self.content["forgotten"]
        return np.zeros(0, np.int64) if name is None else np.load(self.folder / name)

    def members(self, keys: UInt64) -> tuple[Int64, Int64]:
        """(place in keys, document) of every document under one of these 44-bit keys. keys: ascending."""
        found = [segment.members(keys) for segment in self.segments]
        places = concatenated([place for place, _ in found], np.int64)
        documents = concatenated(
            [document + offset for (_, document), offset in zip(found, self.offsets, strict=False)], np.int64
        )
        if len(self.forgotten):
            stays = ~np.isin(documents, self.forgotten)
            places, documents = places[stays], documents[stays]
        return places, documents

    def same_text(self, hi: UInt64, lo: UInt64) -> tuple[Int64, Int64]:
        """(place, document) of the documents with one of these 128-bit text hashes."""
        keys = text_keys(hi)
        order = np.argsort(keys)
        places, documents = self.members(keys[order])
        places = order[places]
        columns = self._columns(documents, ("text_hi", "text_lo"))
        same = (columns["text_hi"] == hi[places]) & (columns["text_lo"] == lo[places])
        return places[same], documents[same]

    def ids(self, documents: Int64) -> tuple[UInt64, UInt64]:
        columns = self._columns(documents, ("id_hi", "id_lo"))
        return columns["id_hi"], columns["id_lo"]

    def standing(self, documents: Int64) -> Standing:
        columns = self._columns(documents, ("value", "id_hi"))
        return Standing(np.full(len(documents), -1, np.int64), columns["value"].view(np.float64), columns["id_hi"])

    def letters(self, documents: Int64) -> Letters:
        """The folded letters of documents, which ascend."""
        pieces = [NO_LETTERS]
        bounds = np.searchsorted(documents, self._part_offsets)
        for part, offset, start, end in zip(self._parts, self._part_offsets[:-1], bounds[:-1], bounds[1:], strict=True):
            if start < end:
                letters = column_letters(part.batches[0].column("letters"))
                pieces.append(take_letters(letters, documents[start:end] - offset))
        return join_letters(pieces)

    def find(self, hi: UInt64, lo: UInt64) -> Int64:
        """The documents that have one of these ids."""
        wanted = set(zip(hi.tolist(), lo.tolist(), strict=True))
        found = []
        for part, offset in zip(self._parts, self._part_offsets[:-1].tolist(), strict=True):
            part_hi, part_lo = (part.batches[0].column(name).to_numpy() for name in ("id_hi", "id_lo"))
            accepted = part.batches[0].column("accepted").to_numpy()
            for row in np.flatnonzero(np.isin(part_hi, hi) & (accepted > 0)).tolist():
                if (int(part_hi[row]), int(part_lo[row])) in wanted:
                    found.append(offset + row)
        return np.array(found, np.int64)

    def _columns(self, documents: Int64, names: tuple[str, ...]) -> dict[str, UInt64]:
        columns = {name: np.zeros(len(documents), np.uint64) for name in names}
        parts = np.searchsorted(self._part_offsets, documents, side="right") - 1
        for index in np.unique(parts):
            here = parts == index
            batch = self._parts[index].batches[0]
            for name in names:
                columns[name][here] = (
                    batch.column(name).to_numpy().view(np.uint64)[documents[here] - self._part_offsets[index]]
                )
        return columns


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """While an index is read nobody takes its files away. No lock where it has none to take."""
    path = folder / READING
    if not path.exists():
        yield
        return
    with path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def text_keys(hi: UInt64) -> UInt64:
    """The 44-bit key under which a text itself is found, among those of its bands."""
    return (hi ^ TEXT_SALT) >> np.uint64(64 - KEY_BITS)


@kernel
def _probe(
    keys: UInt64, first: int, key_bits: int, fine_bits: int, row_bits: int, edges: Int64, records: UInt64
) -> tuple[Int64, Int64]:
    place, low = np.uint64(row_bits), np.uint64((1 << row_bits) - 1)
    to_fine = np.uint64(key_bits - fine_bits)
    base = np.uint64(first << fine_bits)
    mask = np.uint64((1 << key_bits) - 1)
    starts = np.empty(len(keys), np.int64)
    total = 0
    for index in range(len(keys)):
        fine = (keys[index] >> to_fine) - base
        begin, end = edges[fine], edges[fine + np.uint64(1)]
        target = keys[index] & mask
        while begin < end:
            middle = (begin + end) // 2
            if records[middle] >> place < target:
                begin = middle + 1
            else:
                end = middle
        starts[index] = begin
        while begin < edges[fine + np.uint64(1)] and records[begin] >> place == target:
            total += 1
            begin += 1
    places, documents = np.empty(total, np.int64), np.empty(total, np.int64)
    to = 0
    for index in range(len(keys)):
        fine = (keys[index] >> to_fine) - base
        at = starts[index]
        target = keys[index] & mask
        while at < edges[fine + np.uint64(1)] and records[at] >> place == target:
            places[to], documents[to] = index, np.int64(records[at] & low)
            to += 1
            at += 1
    return places, documents
