"""Ids: what a document is called everywhere downstream.

An id is the 128-bit hash that `read` made of the source and the platform's own id, or of the text where there is none.
Of records with one platform id the one with most engagement keeps it; the others get an id of their own, so that the
ledger can name them, and are dropped as repeated. Equal texts without ids are numbered, and left to deduplication.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redone_data.corpus import Corpus, Part
from redone_data.curate.groups import groups_of_part
from redone_data.engine import Output, Step
from redone_data.manifest import atomic
from redone_data.text.hashing import hash128, to_hex

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class IdsStep(Step):
    """The id of every document, part by part, and which records repeat an earlier one's."""

    name = "ids"
    VERSION = 1

    corpus: Corpus
    identified: Output

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), "identify": self.identified.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        keys = part.read(["key_hi", "key_lo"])
        key_hi, key_lo = keys["key_hi"].to_numpy(), keys["key_lo"].to_numpy()
        rank = np.zeros(part.rows, dtype=np.int64)
        rows, _, ranks = groups_of_part(self.identified, part)
        rank[rows] = ranks
        hi, lo = told_apart(key_hi, key_lo, rank)
        again = np.flatnonzero(rank)
        with atomic(folder / f"ids-{index:05d}.parquet") as aside:
            # Hashes neither compress nor repeat.
            pq.write_table(pa.table({"hi": hi, "lo": lo}), aside, compression="none", use_dictionary=False)
        firsts = to_hex(key_hi[again], key_lo[again])
        repeated = {"row": again, "first": firsts, "rank": rank[again]} if part.named else {"row": again[:0]}
        with atomic(folder / f"repeated-{index:05d}.parquet") as aside:
            pq.write_table(pa.table(repeated), aside)
        return {"rows": part.rows, "repeated": len(repeated["row"])}


def told_apart(hi: UInt64, lo: UInt64, rank: Int64) -> tuple[UInt64, UInt64]:
    """Ids such that later records with one id have one of their own, a hash of that id and their rank."""
    again = np.flatnonzero(rank)
    hi, lo = hi.copy(), lo.copy()
    ranks = pa.array(rank[again]).cast(pa.large_string())
    named = pc.binary_join_element_wise(to_hex(hi[again], lo[again]), ranks, pa.scalar("\x1f", pa.large_string()))
    hi[again], lo[again] = hash128(named)
    return hi, lo


def ids_of_part(ids: Output | None, part: Part) -> tuple[UInt64, UInt64]:
    """(hi, lo), each uint64[rows], of one part; without `ids`, the hashes that `read` made."""
    if ids is None:
        table = part.read(["key_hi", "key_lo"])
    else:
        table = pq.read_table(ids.folder / f"ids-{part.index:05d}.parquet")
    hi, lo = (column.to_numpy() for column in table.columns)
    return hi, lo


def repeated_of_part(ids: Output, index: int) -> pa.Table | None:
    """row, first (the id of the record that stays), rank of the records that repeat an id; None without any."""
    if not ids.tasks[index]["repeated"]:
        return None
    return pq.read_table(ids.folder / f"repeated-{index:05d}.parquet")
