"""Which documents share an id, and which share a text: grouping by 128-bit hash, by range of hashes.

Exact in its result and linear in cost: rows come sliced by hash (exchange.py), a task sorts its slices (70 ns a row).
Only members of groups of two or more are written, sliced by part, so that each part can fetch its own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from redone_data.corpus import Corpus, Part
from redone_data.engine import Output, Step
from redone_data.exchange import bucket_ranges, read_slices, write_slices

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GroupStep(Step):
    """Group the rows of a corpus by a hash that `read` wrote beside each part."""

    suffix: ClassVar[str]
    order: ClassVar[tuple[str, ...]]

    corpus: Corpus

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return self.corpus.inputs()

    def tasks(self) -> list[tuple[int, int]]:
        return bucket_ranges(self.corpus.num_rows)

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        tables = [read_slices([part.beside(self.suffix)], *task) for part in self.corpus.parts]
        rows = np.concatenate(
            [table["row"].to_numpy() + part.offset for table, part in zip(tables, self.corpus.parts, strict=True)]
        )
        num_rows, table = len(rows), pa.concat_tables(tables)
        # Most hashes are alone: one fast sort by half of the hash finds those that are not.
        shared = _shared(table["hi"].to_numpy())
        taken, rows = table.take(pa.array(shared)), rows[shared]
        hi, lo = taken["hi"].to_numpy(), taken["lo"].to_numpy()
        order = np.lexsort((rows, *(taken[name].to_numpy() for name in reversed(self.order)), lo, hi))
        hi, lo, rows = hi[order], lo[order], rows[order]
        starts_group = np.ones(len(rows), dtype=bool)
        starts_group[1:] = (hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1])
        group = np.cumsum(starts_group) - 1
        starts = np.flatnonzero(starts_group)
        sizes = np.diff(np.append(starts, len(rows)))
        member = sizes[group] > 1 if len(rows) else np.zeros(0, dtype=bool)
        rank = np.arange(len(rows)) - starts[group] if len(rows) else rows
        columns = {"row": rows[member], "first": rows[starts][group][member], "rank": rank[member]}
        write_slices(
            folder / f"groups-{index:05d}.arrow", part_of(self.corpus, columns["row"]), len(self.corpus.parts), columns
        )
        return {"rows": num_rows, "groups": int((sizes > 1).sum()), "members": int(member.sum())}


def _shared(hashes: npt.NDArray[np.uint64]) -> Int64:
    """Places of the values that occur more than once, ascending."""
    order = np.argsort(hashes)
    same = hashes[order[1:]] == hashes[order[:-1]]
    return np.sort(order[np.append(same, False) | np.append(False, same)]) if len(order) else order


@dataclass(frozen=True)
class IdentifyStep(GroupStep):
    """Records with one and the same id: ranked by engagement, then text; all but the first are repeats."""

    name = "identify"
    VERSION = 1
    suffix = ".keys.arrow"
    order = ("order", "text_hi")


@dataclass(frozen=True)
class ExactStep(GroupStep):
    """Documents with one and the same text, across all domains. Who stays is decided later (curate/resolve.py)."""

    name = "exact"
    VERSION = 1
    suffix = ".texts.arrow"
    order = ()


def part_of(corpus: Corpus, rows: Int64) -> Int64:
    """The index of the part that holds each global row."""
    offsets = np.array([part.offset for part in corpus.parts], dtype=np.int64)
    return np.searchsorted(offsets, rows, side="right").astype(np.int64) - 1


def groups_of_part(groups: Output, part: Part) -> tuple[Int64, Int64, Int64]:
    """Members of groups in one part: local rows, the global row of each one's group's first, rank in the group."""
    table = read_slices(groups.files(".arrow"), part.index, part.index + 1)
    return table["row"].to_numpy() - part.offset, table["first"].to_numpy(), table["rank"].to_numpy()
