"""Stretches of text that several documents share, found by hash: lines (repeated.py) and substrings (substring.py).

Three steps. Each part counts its spans' hashes, a row for each distinct one; a range of hashes adds up the parts and
keeps what enough documents share; each part gets back the shared hashes that it has itself, and marks its documents.
So memory is bounded by a part and by a range of hashes, disk by 16 bytes a distinct span of a part, and every step runs
in parallel.

Of the documents that share a span, the one whose text has the least hash holds it, and the span counts as repeated in
all others: one copy stays, whatever the order of files. Documents with equal texts count once, and hold together: which
of them stays is for exact duplicates to say.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redone_data.corpus import Corpus, Part
from redone_data.curate.attributes import AttributeStep, corpus_file, histograms, write_attributes
from redone_data.curate.groups import groups_of_part
from redone_data.engine import Output, Step
from redone_data.exchange import NUM_BUCKETS, bucket_of, bucket_ranges, read_slices, write_slices
from redone_data.manifest import atomic
from redone_data.text.buffers import Int64, UInt64
from redone_data.text.hash_table import build_table, find_keys
from redone_data.text.hashing import to_hex
from redone_data.text.kernel import kernel
from redone_data.text.windows import Spans

Flags: TypeAlias = npt.NDArray[np.bool_]
Int32: TypeAlias = npt.NDArray[np.int32]

# A batch of long texts has several spans a word: fewer rows than other steps take.
SPAN_BATCH_ROWS = 10_000
HOLDERS = ("text_hi", "key_hi", "key_lo")
RUN_SCHEMA = pa.schema(
    [("row", pa.int64()), ("start", pa.int64()), ("end", pa.int64()), ("documents", pa.int64()), ("of", pa.string())]
)


@dataclass(frozen=True)
class SharedSpanConfig(ABC):
    """What a span is, and how many documents make it shared. Subclasses are the configurations of users."""

    @abstractmethod
    def spans(self, text: pa.Array) -> Spans:
        """The spans of each text."""

    @abstractmethod
    def cut(self) -> dict[str, Any]:
        """The settings that decide :meth:`spans`."""

    @property
    @abstractmethod
    def least_documents(self) -> int:
        """How many documents must share a span."""


@dataclass(frozen=True)
class SpanHashStep(Step):
    """Distinct hashes of each part's spans: how many texts have it, and which of them has the least hash."""

    corpus: Corpus
    exact: Output
    settings: SharedSpanConfig

    def config(self) -> Any:
        return self.settings.cut()

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), "exact": self.exact.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        holders = part.read(list(HOLDERS)).combine_chunks()
        with (
            atomic(_holders_file(folder, index)) as aside,
            pa.OSFile(str(aside), "wb") as file,
            pa.ipc.new_file(file, holders.schema) as writer,
        ):
            writer.write_table(holders)
        hashes, rows = [np.zeros(0, np.uint64)], [np.zeros(0, np.int32)]
        start = 0
        for batch in part.batches(["text"], SPAN_BATCH_ROWS):
            spans = self.settings.spans(batch.column("text"))
            hashes.append(spans.hashes)
            rows.append(_rows_of(spans, start).astype(np.int32))
            start += batch.num_rows
        counted = _first_of_text(self.exact, part)
        text_hi = holders["text_hi"].to_numpy()
        distinct, documents, first = _count_hashes(np.concatenate(hashes), np.concatenate(rows), counted, text_hi)
        columns = {"hash": distinct, "documents": documents, "row": first}
        write_slices(_hashes_file(folder, index), bucket_of(distinct), NUM_BUCKETS, columns)
        return {"spans": len(distinct)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {"spans": sum(result["spans"] for result in results)}


def _hashes_file(folder: Path, index: int) -> Path:
    return folder / f"hashes-{index:05d}.arrow"


def _holders_file(folder: Path, index: int) -> Path:
    return folder / f"holders-{index:05d}.arrow"


def _rows_of(spans: Spans, start: int) -> Int64:
    """The row of each span, counted from `start`."""
    return np.repeat(np.arange(len(spans.offsets) - 1) + start, np.diff(spans.offsets))


def _first_of_text(exact: Output, part: Part) -> Flags:
    """bool[rows]: one document of each text in the corpus."""
    counted = np.ones(part.rows, np.bool_)
    rows, first, _ = groups_of_part(exact, part)
    counted[rows[first != rows + part.offset]] = False
    return counted


@dataclass(frozen=True)
class SharedSpansStep(Step):
    """The hashes that enough documents share, with their number and holder, sliced by the parts that have them."""

    corpus: Corpus
    hashed: Output
    settings: SharedSpanConfig

    def config(self) -> Any:
        return {"documents": self.settings.least_documents}

    def inputs(self) -> dict[str, str]:
        return {"hashes": self.hashed.fingerprint}

    def tasks(self) -> list[tuple[int, int]]:
        return bucket_ranges(self.hashed.statistics["spans"])

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        num_parts = len(self.corpus.parts)
        tables = [read_slices([_hashes_file(self.hashed.folder, i)], *task) for i in range(num_parts)]
        parts = np.repeat(np.arange(num_parts), [table.num_rows for table in tables])
        table = pa.concat_tables(tables)
        hashes, documents, rows = (table[name].to_numpy() for name in ("hash", "documents", "row"))
        order = np.argsort(hashes, kind="stable")
        hashes, documents, rows, parts = hashes[order], documents[order], rows[order], parts[order]
        group = np.cumsum(np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]) - 1
        total = np.bincount(group, weights=documents).astype(np.int64)
        shared = total[group] >= self.settings.least_documents
        hashes, rows, parts, group = hashes[shared], rows[shared], parts[shared], group[shared]

        holders = np.zeros((len(HOLDERS), len(rows)), np.uint64)
        for part in np.unique(parts).tolist():
            here = parts == part
            with pa.memory_map(str(_holders_file(self.hashed.folder, part))) as file:
                held = pa.ipc.open_file(file).read_all()
                for name, column in zip(HOLDERS, holders, strict=True):
                    column[here] = held[name].to_numpy()[rows[here]]
        # The last key sorts first: by hash, then by the text of the holder; equal texts by id.
        order = np.lexsort((*holders[::-1], group))
        starts = np.flatnonzero(np.append(True, group[order][1:] != group[order][:-1])[: len(order)])
        groups, member = np.unique(group, return_inverse=True)
        holder = holders[:, order[starts]][:, member]
        columns = {"hash": hashes, "documents": total[groups][member], **dict(zip(HOLDERS, holder, strict=True))}
        write_slices(folder / f"shared-{index:05d}.arrow", parts, num_parts, columns)
        return {"shared": len(groups)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {"shared": sum(result["shared"] for result in results)}


@dataclass(frozen=True)
class SharedSpanAttributes(AttributeStep):
    """How much of each document is held by others, by whom most, and every such stretch with its place."""

    prefix: ClassVar[str]
    matches: ClassVar[dict[str, str]]

    corpus: Corpus
    shared: Output
    settings: SharedSpanConfig

    def config(self) -> Any:
        return self.settings.cut()

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), "shared": self.shared.fingerprint}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        known = read_slices(self.shared.files(".arrow"), task, task + 1)
        keys, holder, documents = (known[name].to_numpy() for name in ("hash", "text_hi", "documents"))
        ids = to_hex(known["key_hi"].to_numpy(), known["key_lo"].to_numpy()).cast(pa.string())
        slots = build_table(keys)
        frames, runs = [], [RUN_SCHEMA.empty_table()]
        start = 0
        for batch in part.batches(["text", "text_hi"], SPAN_BATCH_ROWS):
            spans = self.settings.spans(batch.column("text"))
            found = find_keys(slots, keys, spans.hashes)
            own = batch.column("text_hi").to_numpy()[_rows_of(spans, 0)]
            foreign = found >= 0
            foreign[foreign] = holder[found[foreign]] != own[foreign]
            row, first, end, span = _runs(spans.offsets, spans.starts, spans.ends, np.where(foreign, found, -1), holder)
            frames.append(
                self._frame(batch.column("text"), row, end - first, documents[span], ids.take(pa.array(span)))
            )
            columns = [row + start, first, end, documents[span], ids.take(pa.array(span))]
            runs.append(pa.table(columns, schema=RUN_SCHEMA))
            start += batch.num_rows
        frame = pl.concat(frames)
        write_attributes(corpus_file(folder, part), frame)
        with atomic(folder / f"runs-{part.index:05d}.parquet") as aside:
            pq.write_table(pa.concat_tables(runs), aside, compression="zstd")
        return {"domain": part.domain, "histograms": histograms(frame, self.columns())}

    def _frame(self, text: pa.Array, row: Int64, size: Int64, documents: Int64, ids: pa.Array) -> pl.DataFrame:
        sizes = pc.binary_length(text).to_numpy()
        covered = np.bincount(row, weights=size, minlength=len(text))
        most = np.zeros(len(text), np.int64)
        np.maximum.at(most, row, documents)
        order = np.lexsort((-size, row))
        rows, first = np.unique(row[order], return_index=True)
        longest = np.full(len(text), -1, np.int64)
        longest[rows] = order[first]
        of = ids.take(pa.array(longest, mask=longest < 0))
        return pl.DataFrame(
            {
                f"{self.prefix}_fraction": (covered / np.maximum(sizes, 1)).astype(np.float32),
                f"{self.prefix}_count": most,
                f"{self.prefix}_of": pl.Series(of),
            }
        )


@kernel
def _count_hashes(hashes: UInt64, rows: Int32, counted: Flags, text_hi: UInt64) -> tuple[UInt64, Int32, Int32]:
    """Distinct hashes, how many counted rows have each, and which row that has it holds the least text.

    rows ascend, so a row that repeats a hash does so before the next row comes.
    """
    size = 16
    while size < 2 * len(hashes):
        size *= 2
    mask = size - 1
    slots = np.full(size, -1, np.int32)
    distinct = np.empty(len(hashes), np.uint64)
    documents, first = np.empty(len(hashes), np.int32), np.empty(len(hashes), np.int32)
    last = np.empty(len(hashes), np.int32)
    used = 0
    for index in range(len(hashes)):
        value, row = hashes[index], rows[index]
        slot = np.int64(value & np.uint64(mask))
        while slots[slot] >= 0 and distinct[slots[slot]] != value:
            slot = (slot + 1) & mask
        entry = slots[slot]
        if entry < 0:
            slots[slot] = used
            distinct[used], documents[used], first[used], last[used] = value, counted[row], row, row
            used += 1
        elif last[entry] != row:
            documents[entry] += counted[row]
            last[entry] = row
            if text_hi[row] < text_hi[first[entry]]:
                first[entry] = row
    return distinct[:used].copy(), documents[:used].copy(), first[:used].copy()


@kernel
def _runs(
    offsets: Int64, starts: Int64, ends: Int64, found: Int64, holder: UInt64
) -> tuple[Int64, Int64, Int64, Int64]:
    """Row, start, end and first span of each run of found spans that touch and have one holder; runs do not overlap."""
    row_of, first = np.empty(len(found), np.int64), np.empty(len(found), np.int64)
    last, span_of = np.empty(len(found), np.int64), np.empty(len(found), np.int64)
    count = 0
    for row in range(len(offsets) - 1):
        reached = np.int64(0)
        open_run = False
        for span in range(offsets[row], offsets[row + 1]):
            if found[span] < 0:
                continue
            if open_run and starts[span] <= reached and holder[found[span]] == holder[span_of[count - 1]]:
                last[count - 1] = ends[span]
            elif ends[span] > reached:
                row_of[count], first[count], last[count] = row, max(starts[span], reached), ends[span]
                span_of[count] = found[span]
                count += 1
                open_run = True
            reached = max(reached, ends[span])
    return row_of[:count].copy(), first[:count].copy(), last[:count].copy(), span_of[:count].copy()
