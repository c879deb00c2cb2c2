"""A note with its comments and queries as one training document, as RedOne's continued pretraining has them.

Whatever answers a note, at any depth of replies, follows it as a line of its own, best first, within limits on number
and length; what finds no place is in a ledger with its reason. Notes and answers may lie in different sources and in
any order: ids are joined by ranges of their hash, reply chains are followed in one array of 24 bytes a document, texts
move once, by thread (exchange.py). What comes out looks like what `read` wrote, so every later step is as before.

Source: RedOne, arXiv 2507.10605, section 3.1. Cost: see docs/curation.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redone_data.config import plain
from redone_data.corpus import CORPUS_SCHEMA, Corpus
from redone_data.curate.groups import IdentifyStep, groups_of_part, part_of
from redone_data.curate.identity import told_apart
from redone_data.curate.ledger import LEDGER_SCHEMA
from redone_data.curate.lookup import place_of
from redone_data.curate.parts import KEYS, PARENTS, write_parts
from redone_data.curate.sources import SourceConfig
from redone_data.engine import Engine, Output, Step
from redone_data.errors import RedoneError, did_you_mean
from redone_data.exchange import NUM_BUCKETS, bucket_of, bucket_ranges, read_slices, write_slices
from redone_data.manifest import atomic
from redone_data.text.hashing import hash128, to_hex

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

NAME = "interactions"
REASONS = ("repeated_id", "orphan", "repeated_comment", "short_comment", "too_many_comments", "over_length")
# Spreads neighbouring rows evenly over the slices (2^64 divided by the golden ratio).
SPREAD = np.uint64(0x9E3779B97F4A7C15)
EMPTY = pa.scalar("", pa.large_string())


@dataclass(frozen=True)
class SectionConfig:
    """What answers a note from one source: its comments, or the queries that led to it."""

    source: str = field(metadata={"help": "the source's name"})
    prefix: str = field(metadata={"help": "what stands before each of its lines"})


@dataclass(frozen=True)
class InteractionsConfig:
    """How a note and what answers it become one document."""

    order: Literal["engagement", "time"] = field(
        default="engagement", metadata={"help": "which answers come first: the most liked, or the earliest"}
    )
    max_comments: int = field(default=50, metadata={"help": "answers in a document; the rest go to the ledger"})
    max_chars: int = field(default=8_000, metadata={"help": "characters of a document; a longer note stays whole"})
    min_chars: int = field(default=2, metadata={"help": "characters an answer must have"})
    orphans: Literal["keep", "drop"] = field(
        default="keep", metadata={"help": "an answer whose note is not there: keep as a note of its own, or drop"}
    )
    prefix: str = field(default="评论：", metadata={"help": "what stands before answers of sources without a section"})
    separator: str = field(default="\n", metadata={"help": "what stands between the lines of a document"})
    sections: tuple[SectionConfig, ...] = field(
        default=(), metadata={"help": "sources whose answers come first, in this order, each with its own prefix"}
    )

    def __post_init__(self) -> None:
        for name in ("max_comments", "max_chars", "min_chars"):
            if getattr(self, name) < 1:
                raise RedoneError(f"{name}: {getattr(self, name)}; at least 1 is needed")
        if not self.separator:
            raise RedoneError("separator: it must not be empty")
        named = [section.source for section in self.sections]
        for name in named:
            if named.count(name) > 1:
                raise RedoneError(f"sections: source '{name}' has two sections; give it one")


def check_sources(config: InteractionsConfig, sources: Sequence[SourceConfig], domain: str) -> None:
    """Raises RedoneError unless parents and sections name sources of this domain, and parents ones that have ids."""
    named = {source.name or domain: source for source in sources}
    wanted = [("fields.parent", p.source) for source in sources for p in source.fields.parent]
    if not wanted:
        raise RedoneError(
            "interactions: no source says what its records answer; set fields.parent, "
            "for example [{name: note_id, source: notes}]"
        )
    for where, name in [*wanted, *(("interactions.sections", section.source) for section in config.sections)]:
        if name not in named:
            raise RedoneError(f"{where}: this domain has no source '{name}'; {did_you_mean(name, named)}")
    for where, name in wanted:
        if named[name].fields.id is None:
            raise RedoneError(f"{where}: documents of source '{name}' have no ids to be answered by; set its fields.id")
    for source in sources:
        if NAME in source.fields.meta:
            raise RedoneError(f"fields.meta: '{NAME}' is where grouping lists its members; leave it out")


class Grouped(NamedTuple):
    """The documents, which stand in for all reads of the domain, and where the ledger of those without a place is."""

    documents: Output
    members: Output

    @property
    def dropped(self) -> dict[str, int]:
        """Reason -> documents without a place."""
        counts: dict[str, int] = self.documents.statistics["dropped"]
        return counts

    def ledger_files(self) -> list[Path]:
        """Orphans and repeats, then answers without a place."""
        own = (path for path in self.documents.files(".parquet") if path.name.startswith("ledger"))
        return [*self.members.files(".parquet"), *own]


def group_interactions(
    engine: Engine, domain: str, reads: Sequence[Output], config: InteractionsConfig, part_bytes: int
) -> Grouped:
    """Group the finished reads of one domain."""
    corpus = Corpus.of(reads)
    parents = engine.run(ParentsStep(corpus))
    threads = engine.run(ThreadsStep(corpus, parents, config.orphans))
    members = engine.run(MembersStep(corpus, threads, engine.run(IdentifyStep(corpus))))
    return Grouped(engine.run(InteractionsStep(corpus, members, domain, config, part_bytes)), members)


@dataclass(frozen=True)
class ParentsStep(Step):
    """The row of the document that each answer answers, by a join on ids; -1 where it is not there."""

    name = "interactions-parents"
    VERSION = 1

    corpus: Corpus

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return self.corpus.inputs()

    def tasks(self) -> list[tuple[int, int]]:
        return bucket_ranges(self.corpus.num_rows)

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        asked = self._slices(PARENTS, task, ["hi", "lo", "row"])
        best = ["order", "text_hi", "row"]  # of records with one id, the same as identify's (curate/groups.py)
        there = self._slices(KEYS, task, ["hi", "lo", *best]).join(asked, on=["hi", "lo"], how="semi")
        there = there.sort(["hi", "lo", *best]).unique(["hi", "lo"], keep="first", maintain_order=True)
        found = asked.join(there, on=["hi", "lo"], how="left", suffix="_parent").sort("row")
        row, parent = found["row"].to_numpy(), found["row_parent"].fill_null(-1).to_numpy()
        columns = {"row": row, "parent": parent}
        write_slices(folder / f"parents-{index:05d}.arrow", part_of(self.corpus, row), len(self.corpus.parts), columns)
        return {"answers": len(row), "found": int((parent >= 0).sum())}

    def _slices(self, suffix: str, task: tuple[int, int], columns: list[str]) -> pl.DataFrame:
        parts = [part for part in self.corpus.parts if part.beside(suffix).is_file()]
        tables = [read_slices([part.beside(suffix)], *task) for part in parts]
        frames = [
            pl.DataFrame(pl.from_arrow(table)).with_columns(pl.col("row") + part.offset)
            for table, part in zip(tables, parts, strict=True)
        ]
        empty = {"hi": pl.UInt64, "lo": pl.UInt64, "row": pl.Int64}
        return pl.concat(frames).select(columns) if frames else pl.DataFrame(schema=empty)


@dataclass(frozen=True)
class ThreadsStep(Step):
    """The row of the note at the head of each document's thread; -1 for what is dropped as an orphan.

    One task: chains of replies run through all files. 24 bytes a document, a round for each doubling of depth.
    """

    name = "interactions-threads"
    VERSION = 1

    corpus: Corpus
    parents: Output
    orphans: Literal["keep", "drop"]

    def config(self) -> Any:
        return {"orphans": self.orphans}

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), "parents": self.parents.fingerprint}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        table = read_slices(self.parents.files(".arrow"), 0, len(self.corpus.parts))
        root = thread_roots(self.corpus.num_rows, table["row"].to_numpy(), table["parent"].to_numpy(), self.orphans)
        parts = np.repeat(np.arange(len(self.corpus.parts)), [part.rows for part in self.corpus.parts])
        write_slices(folder / "threads.arrow", parts, len(self.corpus.parts), {"root": root})
        return {"threads": int((root == np.arange(len(root))).sum()), "orphans": int((root < 0).sum())}


def thread_roots(num_rows: int, row: Int64, parent: Int64, orphans: Literal["keep", "drop"]) -> Int64:
    """The head of each row's thread, by pointer doubling. row, parent: int64[answers]; a parent of -1 is not there.

    An answer whose parent is not there heads its own thread, or is dropped (-1) with all that answers it. So does one
    whose chain of replies ends in a circle.

    >>> thread_roots(5, np.array([1, 2, 4]), np.array([0, 1, -1]), "keep").tolist()
    [0, 0, 0, 3, 4]
    >>> thread_roots(5, np.array([1, 2, 4]), np.array([0, 1, -1]), "drop").tolist()
    [0, 0, 0, 3, -1]
    """
    nowhere = num_rows  # a row of its own, which is its own parent
    above = np.arange(num_rows + 1)
    above[row] = np.where(parent >= 0, parent, row if orphans == "keep" else nowhere)
    above[row[parent == row]] = nowhere if orphans == "drop" else row[parent == row]
    root = above
    for _ in range(max(1, num_rows.bit_length())):
        further = root[root]
        if np.array_equal(further, root):
            break
        root = further
    circular = np.flatnonzero(above[root] != root)
    root[circular] = nowhere if orphans == "drop" else circular
    return np.where(root[:num_rows] == nowhere, -1, root[:num_rows])


@dataclass(frozen=True)
class MembersStep(Step):
    """Move every document to the slice of its thread; repeats of an id, and orphans that are dropped, go no further."""

    name = "interactions-members"
    VERSION = 1

    corpus: Corpus
    threads: Output
    identified: Output

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        prints = {"threads": self.threads.fingerprint, "identify": self.identified.fingerprint}
        return {**self.corpus.inputs(), **prints}

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        table = part.read([name for name in CORPUS_SCHEMA.names if name != "domain"])
        root = read_slices(self.threads.files(".arrow"), task, task + 1)["root"].to_numpy()
        first_ids = to_hex(table["key_hi"].to_numpy(), table["key_lo"].to_numpy())
        rank = np.zeros(part.rows, dtype=np.int64)
        rows, _, ranks = groups_of_part(self.identified, part)
        rank[rows] = ranks
        hi, lo = told_apart(table["key_hi"].to_numpy(), table["key_lo"].to_numpy(), rank)
        table = table.set_column(0, "key_hi", pa.array(hi)).set_column(1, "key_lo", pa.array(lo))
        repeated = (rank > 0) & part.named
        inside = (root >= 0) & ~repeated

        members = table.append_column("row", pa.array(np.arange(part.rows) + part.offset))
        members = members.append_column("root", pa.array(root)).filter(pa.array(inside))
        slices = bucket_of(members["root"].to_numpy().astype(np.uint64) * SPREAD)
        columns = {name: members[name].combine_chunks() for name in members.column_names}
        write_slices(folder / f"members-{index:05d}.arrow", slices, NUM_BUCKETS, columns)

        gone = np.flatnonzero(~inside)
        reasons = np.where(repeated[gone], "repeated_id", "orphan").tolist()
        value = np.where(repeated[gone], rank[gone], np.nan)
        bound = np.where(repeated[gone], 0, np.nan)
        twins = pc.if_else(pa.array(repeated), first_ids, None).take(pa.array(gone))
        sources = table["source"].take(pa.array(gone))
        path = folder / f"ledger-{index:05d}.parquet"
        ids = to_hex(hi[gone], lo[gone])
        _write_ledger(path, self.corpus, gone + part.offset, part.domain, ids, sources, reasons, value, bound, twins)
        return {"documents": int(inside.sum()), "dropped": _counts(reasons)}


@dataclass(frozen=True)
class InteractionsStep(Step):
    """Write each thread as one document, and a ledger line for each answer that found no place."""

    name = NAME
    VERSION = 2

    corpus: Corpus
    members: Output
    domain: str
    interactions: InteractionsConfig
    part_bytes: int

    def config(self) -> Any:
        sources = sorted({part.source for part in self.corpus.parts})
        return {
            "domain": self.domain,
            "source_name": "+".join(sources),
            NAME: plain(self.interactions),
            "part_bytes": self.part_bytes,
        }

    def inputs(self) -> dict[str, str]:
        return {"members": self.members.fingerprint}

    def tasks(self) -> list[tuple[int, int]]:
        return bucket_ranges(sum(part.text_bytes for part in self.corpus.parts), self.part_bytes)

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        named = all(part.named for part in self.corpus.parts)
        threads = Threads(read_slices(self.members.files(".arrow"), *task), self.interactions)
        documents = threads.documents(self.domain)
        parts = write_parts(folder, f"part-{index:05d}", documents, self.part_bytes, named=named)
        dropped = threads.write_ledger(folder / f"ledger-{index:05d}.parquet", self.corpus, self.domain)
        return {
            "parts": parts,
            "documents": len(threads.reason),
            "rows": documents.num_rows,
            "text_bytes": sum(part["text_bytes"] for part in parts),
            "dropped": dropped,
        }

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        before = self.members.tasks
        gone = sum(count for task in before for count in task["dropped"].values())
        assert gone + sum(result["documents"] for result in results) == self.corpus.num_rows
        dropped = {reason: sum(r["dropped"].get(reason, 0) for r in [*before, *results]) for reason in REASONS}
        return {
            "documents": self.corpus.num_rows,
            "rows": sum(result["rows"] for result in results),
            "text_bytes": sum(result["text_bytes"] for result in results),
            "dropped": {reason: count for reason, count in dropped.items() if count},
        }


class Threads:
    """Whole threads, sorted: each note followed by its answers in their order, each answer with its reason to go."""

    def __init__(self, table: pa.Table, config: InteractionsConfig) -> None:
        self.config = config
        sources = [section.source for section in config.sections]
        section = pc.fill_null(pc.index_in(table["source"], pa.array(sources, pa.string())), len(sources)).to_numpy()
        if config.order == "engagement":
            rank = -pc.fill_null(table["engagement"], -np.inf).to_numpy()
        else:
            rank = pc.fill_null(table["created_at"].cast(pa.int64()), np.iinfo(np.int64).max).to_numpy()
        root, row = table["root"].to_numpy(), table["row"].to_numpy()
        keys = (row, table["key_lo"].to_numpy(), table["key_hi"].to_numpy())
        order = np.lexsort((*keys, rank, section, row != root, root))
        self.table = table.take(pa.array(order)).combine_chunks()
        self.root = root[order]
        self.is_note = (row == root)[order]
        self.starts = np.flatnonzero(self.is_note)
        self.section = section[order]
        self._decide()

    def _decide(self) -> None:
        """Reason (index into REASONS, -1 to stay), value and bound of every row; the questions in their order."""
        rows = len(self.root)
        self.reason = np.full(rows, -1)
        self.value, self.bound = np.full(rows, np.nan), np.full(rows, np.nan)
        self.twin = np.full(rows, -1)
        frame = pl.DataFrame({name: self.table[name].to_numpy() for name in ("text_hi", "text_lo")})
        frame = frame.with_columns(root=self.root, at=np.arange(rows))
        first = frame.select(pl.col("at").first().over("root", "text_hi", "text_lo")).to_series().to_numpy()
        again = np.flatnonzero(first != np.arange(rows))
        self.reason[again], self.twin[again] = REASONS.index("repeated_comment"), first[again]

        config = self.config
        text = self.table["text"].combine_chunks()
        self._drop("short_comment", pc.utf8_length(text).to_numpy(), config.min_chars, below=True)
        self._drop("too_many_comments", self._running(np.ones(rows, np.int64)), config.max_comments)
        self.lines = self._lines(text)
        length = pc.utf8_length(self.lines).to_numpy() + len(config.separator) * ~self.is_note
        self._drop("over_length", self._running(length, with_note=True), config.max_chars)

    def _drop(self, why: str, value: Int64, bound: int, *, below: bool = False) -> None:
        broken = (self.reason < 0) & ~self.is_note & ((value < bound) if below else (value > bound))
        self.reason[broken], self.value[broken], self.bound[broken] = REASONS.index(why), value[broken], bound

    def _running(self, amount: Int64, *, with_note: bool = False) -> Int64:
        """Sum of what stands in the thread up to and with each row; the note itself counts only `with_note`."""
        counted = (self.reason < 0) & (with_note | ~self.is_note)
        amount = np.where(counted, amount, 0)
        total = np.cumsum(amount)
        before = (total - amount)[self.starts]
        running: Int64 = total - np.repeat(before, np.diff(np.append(self.starts, len(total))))
        return running

    def _lines(self, text: pa.Array) -> pa.Array:
        """Each answer on one line behind its prefix; notes as they are."""
        named = [section.prefix for section in self.config.sections]
        prefixes = pa.array([*named, self.config.prefix], pa.large_string())
        one_line = pc.replace_substring_regex(text, r"\s*\n\s*", " ")
        answers = pc.binary_join_element_wise(prefixes.take(pa.array(self.section)), one_line, EMPTY)
        return pc.if_else(pa.array(self.is_note), text, answers)

    def documents(self, domain: str) -> pa.Table:
        """One document a thread: the note's own columns around the joined text."""
        stays = self.reason < 0
        kept = np.flatnonzero(stays)
        offsets = np.append(np.searchsorted(kept, self.starts), len(kept))
        notes = self.table.take(pa.array(self.starts))

        def joined(values: pa.Array, offsets: Int64, separator: str) -> pa.Array:
            lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)
            return pc.binary_join(lists, pa.scalar(separator, pa.large_string()))

        text = joined(self.lines.take(pa.array(kept)), offsets, self.config.separator)
        text_hi, text_lo = hash128(text)
        answers = np.flatnonzero(stays & ~self.is_note)
        spans = np.append(np.searchsorted(answers, self.starts), len(answers))
        members = joined(self.ids(answers), spans, '","')
        meta = _with_members(notes["meta"].combine_chunks(), members, np.diff(spans) > 0)
        columns = {name: notes[name] for name in notes.column_names}
        columns |= {"text": text, "text_hi": text_hi, "text_lo": text_lo, "meta": meta}
        columns["domain"] = pa.array([domain] * len(text), pa.string())
        return pa.table({name: columns[name] for name in CORPUS_SCHEMA.names if name != "num_bytes"})

    def ids(self, at: Int64) -> pa.Array:
        return to_hex(self.table["key_hi"].to_numpy()[at], self.table["key_lo"].to_numpy()[at])

    def write_ledger(self, path: Path, corpus: Corpus, domain: str) -> dict[str, int]:
        """A line for each row that goes; counts by reason."""
        gone = np.flatnonzero(self.reason >= 0)
        reasons = [REASONS[reason] for reason in self.reason[gone]]
        twin = self.twin[gone]
        twins = pc.if_else(pa.array(twin >= 0), self.ids(np.maximum(twin, 0)), None)
        sources = self.table["source"].take(pa.array(gone))
        rows, value, bound = self.table["row"].to_numpy()[gone], self.value[gone], self.bound[gone]
        _write_ledger(path, corpus, rows, domain, self.ids(gone), sources, reasons, value, bound, twins)
        return _counts(reasons)


def _counts(reasons: list[str]) -> dict[str, int]:
    return {reason: reasons.count(reason) for reason in REASONS if reason in reasons}


def _with_members(meta: pa.Array, members: pa.Array, has_members: Mask) -> pa.Array:
    """Meta, a JSON object or null, with the ids of the members joined on where there are any."""
    entry = pc.binary_join_element_wise(
        pa.scalar(f'"{NAME}": {{"members": ["', pa.large_string()), members, pa.scalar('"]}}', pa.large_string()), EMPTY
    )
    opened = pc.replace_substring_regex(meta, r"\}\z", ", ")
    opened = pc.fill_null(opened, "{")
    return pc.if_else(pa.array(has_members), pc.binary_join_element_wise(opened, entry, EMPTY), meta)


def _write_ledger(
    path: Path,
    corpus: Corpus,
    rows: Int64,
    domain: str,
    ids: pa.Array,
    sources: pa.ChunkedArray,
    reasons: list[str],
    value: npt.NDArray[np.float64],
    bound: npt.NDArray[np.float64],
    duplicate_of: pa.Array,
) -> None:
    count = len(ids)
    parts = part_of(corpus, rows)
    names = pa.array([place_of(part) for part in corpus.parts], pa.string())
    offsets = np.array([part.offset for part in corpus.parts], dtype=np.int64)
    columns = {
        "id": ids.cast(pa.string()),
        "domain": pa.array([domain] * count, pa.string()),
        "source": sources,
        "step": pa.array([NAME] * count, pa.string()).dictionary_encode(),
        "rule": pa.array(reasons, pa.string()).dictionary_encode(),
        "value": pa.array(value, from_pandas=True),
        "bound": pa.array(bound, from_pandas=True),
        "duplicate_of": duplicate_of.cast(pa.string()),
        "detail": pa.nulls(count, pa.string()),
        "part": names.take(pa.array(parts)),
        "row": rows - offsets[parts],
    }
    with atomic(path) as aside:
        pq.write_table(pa.table(columns, schema=LEDGER_SCHEMA), aside, compression="zstd")
