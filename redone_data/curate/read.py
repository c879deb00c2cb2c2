"""Raw files -> corpus parts: normalised, redacted, with stable ids.

Reading is the only step that sees raw text, and it keeps none of it: what is written has been normalised
(text/normalize.py) and redacted (text/redact.py). A record that cannot be read goes to the quarantine with its file,
place and reason, never its text. A part holds at most `part_bytes` of text, so later steps work in bounded memory.

A task reads one piece of a large file or a few small files, cut and grouped by the files alone: the same parts come out
of one worker and of sixty-four.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redone_data.config import plain
from redone_data.curate.datatrove_blocks import format_texts
from redone_data.curate.embeddings import EMBEDDINGS, write_vectors
from redone_data.curate.formats import read_file, spans_of
from redone_data.curate.parts import PARENTS, write_part
from redone_data.curate.records import Records, Span, id_prefix
from redone_data.curate.sources import InputFile, SourceConfig
from redone_data.engine import Step
from redone_data.errors import RedoneError
from redone_data.exchange import NUM_BUCKETS, bucket_of, write_slices
from redone_data.manifest import atomic
from redone_data.text.buffers import UInt32, UInt64
from redone_data.text.hashing import hash128
from redone_data.text.mentions import Handling
from redone_data.text.normalize import Markup, Whitespace, normalize
from redone_data.text.personal_data import ALL
from redone_data.text.redact import redact, redact_text

# Small files share a task until they reach this size on disk; a larger file is read in pieces of it, where it can be.
TASK_BYTES = 64 << 20
# A file whose first records are all unreadable is stopped here, not after a terabyte.
HOPELESS_AFTER = 1_000
MAX_QUARANTINED_PER_TASK = 1_000_000
MAX_REASON_CHARACTERS = 200
QUARANTINE = ".quarantine.parquet"
EMPTY = pa.scalar("", pa.large_string())

QUARANTINE_SCHEMA = pa.schema(
    [("domain", pa.string()), ("file", pa.string()), ("position", pa.int64()), ("reason", pa.string())]
)
# In the metadata of a quarantine file whose places have become the file's.
LINES_BEFORE = b"lines_before"
# A file that a task reads, by its number, and the span of it; None is the file whole.
Piece = tuple[int, Span | None]


@dataclass(frozen=True)
class ReadConfig:
    """How raw records become documents."""

    max_bad_fraction: float = field(
        default=0.01, metadata={"help": "share of unreadable records in a source above which the run stops"}
    )
    max_record_bytes: int = field(default=16 << 20, metadata={"help": "a longer record is quarantined"})
    part_bytes: int = field(default=64 << 20, metadata={"help": "text per part; bounds memory and the unit of work"})
    whitespace: Whitespace = field(
        default="collapse", metadata={"help": "collapse: one blank between words, one blank line, indentation as it is"}
    )
    markup: Markup = field(
        default="topics",
        metadata={"help": "platform markup to remove; topics: [Topic]; strip: stickers too"},
    )
    redact: tuple[str, ...] = field(default=tuple(ALL), metadata={"help": f"personal data to mask: {', '.join(ALL)}"})
    native_ids: bool = field(
        default=False, metadata={"help": "carry the platform's own ids along as native_id; they are not redacted"}
    )
    mentions: Handling = field(default="keep", metadata={"help": "@mentions; mask: they become @user"})
    urls: Handling = field(default="keep", metadata={"help": "links; mask: they become <URL>"})

    def __post_init__(self) -> None:
        if not 0 <= self.max_bad_fraction <= 1:
            raise RedoneError(f"max_bad_fraction: {self.max_bad_fraction}; a share between 0 and 1")
        if self.max_record_bytes < 1 or self.part_bytes < 1:
            raise RedoneError("max_record_bytes and part_bytes must be positive")
        unknown = sorted(set(self.redact) - set(ALL))
        if unknown:
            raise RedoneError(f"redact: {unknown[0]!r} is unknown; allowed: {', '.join(ALL)}")

    def clean(self, texts: pa.Array) -> tuple[pa.Array, dict[str, UInt32]]:
        """The texts normalised and redacted, and how many of each kind were masked in each."""
        normal = normalize(texts, whitespace=self.whitespace, markup=self.markup)
        return redact(normal, self.redact, mentions=self.mentions, urls=self.urls)


@dataclass(frozen=True)
class ReadStep(Step):
    """Read one source of one domain."""

    name = "read"
    VERSION = 4

    domain: str
    source: SourceConfig
    read: ReadConfig
    files: tuple[InputFile, ...]

    @property
    def source_name(self) -> str:
        return self.source.name or self.domain

    def config(self) -> Any:
        source = {key: value for key, value in plain(self.source).items() if key not in ("paths", "name", "format")}
        read = {key: value for key, value in plain(self.read).items() if key != "max_bad_fraction"}
        if self.source.formatters:
            source["datatrove"] = version("datatrove")
        return {"domain": self.domain, "source_name": self.source_name, "source": source, "read": read}

    def inputs(self) -> dict[str, str]:
        # Equal files (a post dump copied twice) are still two files: the index keeps them apart.
        return {f"{i:06d}.{file.format}": file.sha256 for i, file in enumerate(self.files)}

    def tasks(self) -> list[list[Piece]]:
        tasks: list[list[Piece]] = []
        room = 0
        for index, file in enumerate(self.files):
            spans = spans_of(file, self.source, TASK_BYTES)
            if spans == [None] and tasks and file.num_bytes <= room:
                tasks[-1].append((index, None))
                room -= file.num_bytes
            else:
                tasks += [[(index, span)] for span in spans]
                room = TASK_BYTES - file.num_bytes
        return tasks

    def run(self, task: list[Piece], index: int, folder: Path) -> dict[str, Any]:
        writer = _PartWriter(folder, f"part-{index:05d}", self)
        num_lines = 0
        for number, span in task:
            file, bad, seen = self.files[number], 0, 0
            for records in read_file(file, self.source, self.read.max_record_bytes, span):
                seen += records.num_seen
                bad += len(records.bad)
                num_lines += records.num_lines
                # Of the first piece alone: what stops a run must not depend on where a file is cut.
                if bad == seen and bad >= HOPELESS_AFTER and (span is None or span[0] == 0):
                    raise RedoneError(_hopeless(file, records, self.domain))
                writer.add(records, file.label)
        result = writer.close()
        if span is not None:
            result["piece"] = {"file": number, "lines": num_lines}
        return result

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        redacted: dict[str, int] = {}
        for result in results:
            for kind, count in result["redacted"].items():
                redacted[kind] = redacted.get(kind, 0) + count
        totals = {key: sum(result[key] for result in results) for key in ("rows", "text_bytes", "quarantined")}
        first_bad = None
        lines_before: dict[int, int] = {}
        for index, result in enumerate(results):
            piece = result.get("piece", {"file": -1, "lines": 0})
            before = lines_before.get(piece["file"], 0)
            lines_before[piece["file"]] = before + piece["lines"]
            if result["first_bad"]:
                if before:
                    _number_in_file(folder / f"part-{index:05d}{QUARANTINE}", before)
                label, position, reason = result["first_bad"]
                first_bad = first_bad or f"{label} line {position + before}: {reason}"
        return {**totals, "redacted": redacted, "first_bad": first_bad}


def _number_in_file(path: Path, lines_before: int) -> None:
    """Quarantined lines numbered in their file instead of in their piece of it.

    A piece cannot know how many lines are before it; once all are read, their counts tell. Doing it twice changes
    nothing, for a kill may come between.
    """
    table = pq.read_table(path)
    if LINES_BEFORE not in (table.schema.metadata or {}):
        table = table.set_column(2, QUARANTINE_SCHEMA.field(2), pc.add(table["position"], lines_before))
        _write_quarantine(path, table.replace_schema_metadata({LINES_BEFORE: str(lines_before)}))


def _write_quarantine(path: Path, table: pa.Table) -> None:
    with atomic(path) as aside:
        pq.write_table(table, aside, compression="zstd")


def _hopeless(file: InputFile, records: Records, domain: str) -> str:
    position, reason = records.bad[0]
    return (
        f"{file.label} line {position}: {reason}; so are all of the first {HOPELESS_AFTER} records. "
        f"Put the name of your text field under domains.{domain}.sources: fields.text, and the right format"
    )


class _PartWriter:
    """Writes a task's records as parts of bounded size, each with its hash exchange files."""

    def __init__(self, folder: Path, stem: str, step: ReadStep) -> None:
        self.folder, self.stem, self.step = folder, stem, step
        self.embedding = step.source.fields.embedding
        self.cleaning = replace(step.read, whitespace=step.source.whitespace or step.read.whitespace)
        self.batches: list[pa.Table] = []
        self.hashes: list[tuple[UInt64, UInt64, UInt64, UInt64]] = []
        self.held_bytes = 0
        self.parts: list[dict[str, Any]] = []
        self.redacted: dict[str, int] = {}
        self.quarantine: list[tuple[str, int, str]] = []

    def add(self, records: Records, label: str) -> None:
        self.quarantine += [(label, position, self._short(reason)) for position, reason in records.bad]
        if len(self.quarantine) > MAX_QUARANTINED_PER_TASK:
            raise RedoneError(f"{label}: over {MAX_QUARANTINED_PER_TASK} unreadable records; check the source's format")
        if not records.table.num_rows:
            return
        table = records.table
        text = _one_chunk(table["text"])
        if self.step.source.replace:
            text = _replace(text, self.step.source.replace)
        text = format_texts(text, self.step.source.formatters)
        text, counts = self.cleaning.clean(text)
        for kind, count in counts.items():
            self.redacted[kind] = self.redacted.get(kind, 0) + int(count.sum())
        table = table.set_column(0, "text", text)
        meta = _one_chunk(table["meta"])
        if meta.null_count < len(meta):
            table = table.set_column(4, "meta", _clean_meta(meta, self.step.read))
        named = self.step.source.fields.id is not None
        keys = self._keys(_one_chunk(table["native_id"]) if named else text, named=named)
        self.hashes.append((*keys, *hash128(text)))
        self.batches.append(table)
        self.held_bytes += int(text.nbytes) + (int(table["embedding"].nbytes) if self.embedding else 0)
        if self.held_bytes >= self.step.read.part_bytes:
            self._flush()

    def _short(self, reason: str) -> str:
        # A reason may name the fields that a record has, and these come from outside.
        return redact_text(reason[:MAX_REASON_CHARACTERS], self.step.read.redact)[0]

    def _flush(self) -> None:
        table = pa.concat_tables(self.batches)
        key_hi, key_lo, text_hi, text_lo = map(np.concatenate, zip(*self.hashes, strict=True))
        self.batches, self.hashes, self.held_bytes = [], [], 0
        rows = table.num_rows
        stem = f"{self.stem}-{len(self.parts):03d}"
        if self.step.source.fields.parent:
            answers = _one_chunk(table["parent"])
            child = pc.indices_nonzero(answers.is_valid()).cast(pa.int64())
            hi, lo = hash128(answers.take(child))
            parents = {"hi": hi, "lo": lo, "row": child.to_numpy()}
            write_slices(self.folder / f"{stem}{PARENTS}", bucket_of(hi), NUM_BUCKETS, parents)
        if self.embedding is not None:
            write_vectors(self.folder / f"{stem}{EMBEDDINGS}", table["embedding"], self.embedding.dimensions)
        columns = {
            "key_hi": key_hi,
            "key_lo": key_lo,
            "text_hi": text_hi,
            "text_lo": text_lo,
            "text": table["text"],
            "domain": pa.repeat(pa.scalar(self.step.domain, pa.string()), rows),
            "source": pa.repeat(pa.scalar(self.step.source_name, pa.string()), rows),
            "created_at": table["created_at"],
            "engagement": table["engagement"],
            "meta": table["meta"],
            "native_id": table["native_id"] if self.step.read.native_ids else pa.nulls(rows, pa.large_string()),
        }
        self.parts.append(write_part(self.folder, stem, columns, named=self.step.source.fields.id is not None))

    def _keys(self, content: pa.Array, *, named: bool) -> tuple[UInt64, UInt64]:
        """What an id is made of: the source and its own id, or the text where the source has none."""
        name = self.step.source_name
        prefix = id_prefix(name) if named else f"{name}\x1ftext\x1f"
        return hash128(pc.binary_join_element_wise(pa.scalar(prefix, pa.large_string()), content, EMPTY))

    def close(self) -> dict[str, Any]:
        if self.batches:
            self._flush()
        if self.quarantine:
            files, positions, reasons = zip(*self.quarantine, strict=True)
            table = pa.table([[self.step.domain] * len(files), files, positions, reasons], schema=QUARANTINE_SCHEMA)
            _write_quarantine(self.folder / f"{self.stem}{QUARANTINE}", table)
        return {
            "parts": self.parts,
            "rows": sum(part["rows"] for part in self.parts),
            "text_bytes": sum(part["text_bytes"] for part in self.parts),
            "quarantined": len(self.quarantine),
            "redacted": {kind: count for kind, count in self.redacted.items() if count},
            "first_bad": self.quarantine[0] if self.quarantine else None,
        }


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    # combine_chunks would copy the one chunk that there mostly is.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _replace(text: pa.Array, patterns: dict[str, str]) -> pa.Array:
    import polars as pl

    series = pl.Series(text)
    for pattern, value in patterns.items():
        series = series.str.replace_all(pattern, value)
    return series.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.large_string())


def _clean_meta(meta: pa.Array, read: ReadConfig) -> pa.Array:
    """Meta with every name and value in it normalised and redacted.

    Not the JSON text as a whole: there, the escape of a line break would hide the number behind it, and a masked number
    or a line separator turned into a line break would leave no JSON.
    """
    records = [None if row is None else json.loads(row) for row in meta.to_pylist()]
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    for record in records:
        _with_texts(record, note)
    masked, _ = read.clean(pa.array(found, pa.large_string()))
    clean = iter(masked.to_pylist())
    rows = [None if record is None else _with_texts(record, lambda _: next(clean)) for record in records]
    return pa.array(
        [None if row is None else json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rows],
        pa.large_string(),
    )


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with each text in it changed. A number is shown to `change` as text, and stays when that does."""
    if isinstance(value, dict):
        return {change(name): _with_texts(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_texts(inner, change) for inner in value]
    if isinstance(value, str):
        return change(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not math.isfinite(value):
        return None
    text = str(int(value)) if value == int(value) else str(value)
    changed = change(text)
    return value if changed == text else changed
