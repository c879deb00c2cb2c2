"""Band keys of every distinct text, packed with the document into 8 bytes and sliced by key.

A key is cut to 44 bits: at a billion documents of 25 bands one key in 700 meets a false one, and verification settles
it. With the slice's bits left out and the document's number in the low bits, one 64-bit word holds both, so a sort of
plain integers (6 ns each) groups a slice. Signing dominates; the exchange costs about 1 ms per MB of short posts.

Banding: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.corpus import Corpus, Part
from redone_data.curate.groups import groups_of_part
from redone_data.curate.near import NearConfig
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.exchange import slices_for, write_sliced
from redone_data.text.kernel import kernel
from redone_data.text.minhash import EMPTY_BAND_KEY, text_band_keys

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]

KEY_BITS = 44
MOST_ROW_BITS = 32
RECORDS_PER_SLICE = 1 << 20
BATCH_ROWS = 5_000  # what a kernel allocates is then used again: large blocks are new, and cost a page fault a page
MOSTLY = 0.9  # signing a few texts in vain costs less than copying the others


@dataclass(frozen=True)
class Packing:
    """How a key and a document's number share a word: the key's top `slice_bits` are its slice, its next bits come
    first in the word, the number last."""

    slice_bits: int
    row_bits: int

    @classmethod
    def of(cls, num_documents: int, bands: int) -> "Packing":
        row_bits = max(1, (num_documents - 1).bit_length())
        if row_bits > MOST_ROW_BITS:
            raise RedoneError(
                f"{num_documents} documents are too many to compare at once: at most {1 << MOST_ROW_BITS}; "
                "curate a part of the corpus first and deduplicate the rest against its index"
            )
        slice_bits = (slices_for(num_documents * bands, RECORDS_PER_SLICE) - 1).bit_length()
        return cls(max(slice_bits, KEY_BITS + row_bits - 64), row_bits)

    @property
    def num_slices(self) -> int:
        return 1 << self.slice_bits


@dataclass(frozen=True)
class BandKeysStep(Step):
    """Packed band keys of every distinct text, sliced by key. `num_others`: documents of an index to compare with."""

    name = "near-bands"
    VERSION = 2

    corpus: Corpus
    exact: Output
    near: NearConfig
    num_others: int = 0

    @property
    def packing(self) -> Packing:
        return Packing.of(self.corpus.num_rows + self.num_others, self.near.bands)

    def config(self) -> Any:
        settings = {"ngram": self.near.ngram, "bands": self.near.bands, "rows": self.near.rows}
        return {**settings, "num_others": self.num_others}

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), "exact": self.exact.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        distinct = distinct_rows(self.exact, part)
        keys, start = [np.zeros((0, self.near.bands), np.uint64)], 0
        for batch in part.batches(["text"], BATCH_ROWS):
            wanted, text = distinct[start : start + batch.num_rows], batch.column("text")
            if wanted.sum() > MOSTLY * len(wanted):
                keys.append(keys_of_texts(text, self.near)[wanted])
            else:
                keys.append(keys_of_texts(text.filter(pa.array(wanted)), self.near))
            start += batch.num_rows
        rows = np.flatnonzero(distinct) + part.offset
        records, edges = pack_keys(np.concatenate(keys), rows, self.packing.slice_bits, self.packing.row_bits)
        write_sliced(folder / f"bands-{index:05d}.arrow", edges, {"record": records})
        return {"documents": len(rows), "keys": len(records)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: sum(result[key] for result in results) for key in ("documents", "keys")}


def keys_of_texts(text: pa.Array, near: NearConfig) -> UInt64:
    """uint64[texts, bands]: the band keys of each text, EMPTY_BAND_KEY throughout where it has no shingle."""
    return text_band_keys(text, near.ngram, near.bands, near.rows)


def distinct_rows(exact: Output, part: Part) -> npt.NDArray[np.bool_]:
    """bool[rows]: one document of each text in the corpus, namely the first."""
    distinct = np.ones(part.rows, dtype=bool)
    rows, first, _ = groups_of_part(exact, part)
    distinct[rows[first != rows + part.offset]] = False
    return distinct


@kernel
def pack_keys(keys: UInt64, rows: Int64, slice_bits: int, row_bits: int) -> tuple[UInt64, Int64]:
    """Packed words in the order of their slices, and the edges of the slices. keys: uint64[rows, bands]."""
    # Shifts of 64 bits are undefined: the first of two takes one bit.
    to_slice, one = np.uint64(63 - slice_bits), np.uint64(1)
    edges = np.zeros((1 << slice_bits) + 1, np.int64)
    for row in range(len(keys)):
        if keys[row, 0] != EMPTY_BAND_KEY:
            for band in range(keys.shape[1]):
                edges[((keys[row, band] >> one) >> to_slice) + one] += 1
    for index in range(len(edges) - 1):
        edges[index + 1] += edges[index]
    to = edges[:-1].copy()
    records = np.empty(edges[-1], np.uint64)
    cut, place = np.uint64(64 - KEY_BITS + slice_bits), np.uint64(row_bits)
    for row in range(len(keys)):
        if keys[row, 0] != EMPTY_BAND_KEY:
            number = np.uint64(rows[row])
            for band in range(keys.shape[1]):
                key = keys[row, band]
                slice_id = (key >> one) >> to_slice
                records[to[slice_id]] = (((key << np.uint64(slice_bits)) >> cut) << place) | number
                to[slice_id] += 1
    return records, edges
