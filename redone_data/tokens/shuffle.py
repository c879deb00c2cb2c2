"""A global shuffle out of core, of tokens or of text: scatter chosen copies to random shards, then sort each shard.

Each copy of a document has an order hash h(seed, id, copy). Its shard is floor(h * shards / 2^64); within the shard
copies lie in the order of the whole hash. So the dataset is one random permutation of all chosen copies, a function of
the seed and the ids alone. Every token is written twice and read twice. Choices depend on ids, so text comes out in the
very order of the tokens. Memory, measured on 20 epochs of 20 MB of short posts: a process peaks at 780 MB scattering
(whatever the part's size; more epochs or shorter posts cost more) and at 520 MB sorting a shard of 20M tokens.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.exchange import read_slices, slice_order, write_sliced
from redone_data.manifest import atomic
from redone_data.text.buffers import from_buffers, frozen, string_buffers
from redone_data.text.hashing import from_hex, to_hex
from redone_data.tokens.part import CuratedPart, Hashes, add_sums, hash_halves, languages, split_mask, sums_by
from redone_data.tokens.pool import SPANS_WRITING, pools
from redone_data.tokens.spans import Int64, Values, copy_spans, offsets_of

Emit = Literal["tokens", "text"]
_CHUNK_BYTES = 32_000_000
_PIECES = 8  # gathered for a chunk, so that one can pass its size by an eighth at most
_ROWS = 65_536


class Rows(NamedTuple):
    """Some documents and their content: row i is ``values[starts[i]:][:lengths[i]]``, tokens or UTF-8 bytes."""

    hi: Hashes  # the halves of the ids
    lo: Hashes
    num_bytes: Int64
    lang: pa.Array
    values: Values
    starts: Int64
    lengths: Int64


def token_rows(stem: str, dtype: np.dtype[Any]) -> Iterator[Rows]:
    """The documents of one pool file."""
    values = _mapped(Path(stem + ".ds"), dtype)
    ends = _mapped(Path(stem + ".ds.index"), np.dtype("<u8"))
    first = 0
    with pq.ParquetFile(stem + ".spans.parquet") as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            lengths = batch["num_tokens"].to_numpy()
            starts = ends[first : first + len(batch)].astype(np.int64) - lengths
            first += len(batch)
            hi, lo = from_hex(batch["id"])
            yield Rows(hi, lo, batch["num_bytes"].to_numpy(), languages(batch["lang"]), values, starts, lengths)


def text_rows(part: CuratedPart) -> Iterator[Rows]:
    """The training documents of one curated part."""
    for batch in part.batches(["id", "text", "lang", "split"]):
        chosen = batch.filter(split_mask(batch, "train"))
        offsets, data = string_buffers(chosen["text"])
        lengths = np.diff(offsets)
        hi, lo = from_hex(chosen["id"])
        yield Rows(hi, lo, lengths, languages(chosen["lang"]), data, offsets[:-1], lengths)


@dataclass(frozen=True)
class ScatterStep(Step):
    """Chosen copies of each pool part, grouped by shard, in files of about 32 MB."""

    name: ClassVar[str] = "sample-scatter"
    VERSION: ClassVar[int] = 2

    plan: Output
    pool: Output
    emit: Emit = "tokens"
    parts: tuple[CuratedPart, ...] = ()

    def config(self) -> Any:
        return {"emit": self.emit}

    def inputs(self) -> dict[str, str]:
        return {"plan": self.plan.fingerprint, "pool": self.pool.fingerprint}

    def tasks(self) -> Sequence[Any]:
        part_of = {part.sha256: part for part in self.parts}
        found = pools(self.pool)
        domains = list(found)
        tasks = []
        for choice in self.plan.tasks:
            domain = choice["domain"]
            for file in found[domain].train:
                if file.documents == 0:
                    continue
                task = {"domain": domains.index(domain), "full": choice["full"], "cut": choice["cut"]}
                if self.emit == "tokens":
                    tasks.append({**task, "stem": str(file.folder / file.stem)})
                elif file.part in part_of:
                    tasks.append({**task, "part": part_of[file.part].as_task()})
                else:
                    raise RedoneError(f"domain '{domain}': the curated parts given are not those behind these tokens")
        return tasks

    def run(self, task: Any, index: int, folder: Path) -> dict[str, Any]:
        seed = self.plan.manifest["config"]["seed"]
        writer = _SliceWriter(folder, index, self.plan.statistics["num_shards"])
        if self.emit == "tokens":
            source = token_rows(task["stem"], np.dtype(f"<u{self.pool.statistics['token_bytes']}"))
        else:
            source = text_rows(CuratedPart.of_task(task["part"]))
        for rows in source:
            u = hash_halves(rows.hi, rows.lo, seed, "epoch")
            copies = task["full"] + (u < np.uint64(task["cut"])).astype(np.int64)
            row = np.repeat(np.arange(len(copies)), copies)
            copy = np.arange(len(row)) - np.repeat(offsets_of(copies)[:-1], copies)
            groups = offsets_of(rows.lengths[row] * rows.values.itemsize)[:-1] // (_CHUNK_BYTES // _PIECES)
            edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(row)]
            for start, end in itertools.pairwise(edges):
                writer.add(_copies(rows, row[start:end], copy[start:end], seed, task["domain"], self.emit))
        writer.flush()
        return {"files": writer.num_files, "copies": writer.num_copies}


class Ragged(NamedTuple):
    """Rows of values: row i is ``values[starts[i]:][:lengths[i]]``."""

    values: Values
    starts: Int64
    lengths: Int64


class Copies(NamedTuple):
    """The copies to be written, and where their content lies."""

    columns: dict[str, Any]
    content: Ragged
    emit: Emit

    @property
    def num_bytes(self) -> int:
        """About as many as its rows take in a file: 48 beside the content."""
        return len(self.content.lengths) * 48 + int(self.content.lengths.sum()) * self.content.values.itemsize


def _copies(rows: Rows, row: Int64, copy: Int64, seed: int, domain: int, emit: Emit) -> Copies:
    """The given rows. Tokens stay in their file until they are written; texts would keep their whole batch alive."""
    hi, lo = rows.hi[row], rows.lo[row]
    content = Ragged(rows.values, rows.starts[row], rows.lengths[row])
    if emit == "text":
        offsets, values = in_order_of([content], np.arange(len(row)))
        content = Ragged(values, offsets[:-1], content.lengths)
    columns = {
        "order": hash_halves(hi, lo, seed, "order", copy),
        "hi": hi,
        "lo": lo,
        "copy": copy.astype(np.int32),
        "domain": np.full(len(row), domain, np.int32),
        "num_bytes": rows.num_bytes[row],
        "lang": rows.lang.take(pa.array(row)),
    }
    return Copies(columns, content, emit)


@dataclass
class _SliceWriter:
    """Gathers copies until they are worth a file of the exchange."""

    folder: Path
    index: int
    num_shards: int
    num_files: int = 0
    num_copies: int = 0
    _waiting: list[Copies] = field(default_factory=list)
    _bytes: int = 0

    def add(self, copies: Copies) -> None:
        if len(copies.content.lengths) == 0:
            return
        self._waiting.append(copies)
        self._bytes += copies.num_bytes
        self.num_copies += len(copies.content.lengths)
        if self._bytes >= _CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        waiting, emit = self._waiting, self._waiting[0].emit
        self._waiting, self._bytes = [], 0
        joined = {name: _joined([copies.columns[name] for copies in waiting]) for name in waiting[0].columns}
        order, edges = slice_order(shard_of(joined["order"], self.num_shards), self.num_shards)
        columns = {name: _taken(column, order) for name, column in joined.items()}
        # Each value goes from where it was read to its place in the file's batch.
        offsets, values = in_order_of([copies.content for copies in waiting], order)
        columns[emit] = from_buffers(offsets, values) if emit == "text" else _lists(offsets, values)
        write_sliced(self.folder / f"slices-{self.index:05d}-{self.num_files:03d}.arrow", edges, columns)
        self.num_files += 1


def _joined(pieces: list[Any]) -> Any:
    return np.concatenate(pieces) if isinstance(pieces[0], np.ndarray) else pa.concat_arrays(pieces)


def _taken(column: Any, order: Int64) -> Any:
    return column[order] if isinstance(column, np.ndarray) else column.take(pa.array(order))


def _lists(offsets: Int64, values: Values) -> pa.Array:
    return pa.LargeListArray.from_arrays(offsets, values)


def shard_of(order: Hashes, num_shards: int) -> Int64:
    """floor(order * num_shards / 2^64) from the upper half of the hash, so that shards are runs of the whole order.

    >>> shard_of(np.array([0, 2**63, 2**64 - 1], dtype=np.uint64), 3).tolist()
    [0, 1, 2]
    """
    return (((order >> np.uint64(32)) * np.uint64(num_shards)) >> np.uint64(32)).astype(np.int64)


@dataclass(frozen=True)
class ShardStep(Step):
    """Sorts each shard and writes it: token shards with index and spans, or text as Parquet."""

    name: ClassVar[str] = "sample-shard"
    VERSION: ClassVar[int] = 2

    plan: Output
    pool: Output
    scattered: Output

    @property
    def emit(self) -> Emit:
        return "text" if self.scattered.manifest["config"]["emit"] == "text" else "tokens"

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return {"scattered": self.scattered.fingerprint}

    def tasks(self) -> Sequence[Any]:
        return list(range(self.plan.statistics["num_shards"]))

    def run(self, task: Any, index: int, folder: Path) -> dict[str, Any]:
        table = read_slices(self.scattered.files(".arrow"), task, task + 1)
        hashes, hi, lo, copy, domain, num_bytes = (
            table[name].to_numpy() for name in ("order", "hi", "lo", "copy", "domain", "num_bytes")
        )
        order = np.argsort(hashes)
        if (np.diff(hashes[order]) == 0).any():
            order = np.lexsort((copy, lo, hi, hashes))
        offsets, values = in_order_of([_ragged(chunk) for chunk in table[self.emit].chunks], order)
        domains = pa.array(list(pools(self.pool)), pa.large_string())
        columns = pa.table(
            {
                "id": to_hex(hi[order], lo[order]),
                "domain": domains.take(pa.array(domain[order])),
                "copy": copy[order],
                "num_bytes": num_bytes[order],
                "lang": pa.concat_arrays(table["lang"].chunks).take(pa.array(order)),
            }
        )
        numbers = {"bytes": num_bytes[order]}
        if self.emit == "text":
            files = _write_text(folder, task, columns, from_buffers(offsets, values))
        else:
            files = _write_tokens(folder, task, columns, offsets, values)
            numbers["tokens"] = np.diff(offsets)
        return {
            "shard": task,
            **files,
            "documents": columns.num_rows,
            **{name: int(column.sum()) for name, column in numbers.items()},
            "domains": sums_by(columns["domain"], numbers),
            "langs": sums_by(columns["lang"], numbers),
        }

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        totals: dict[str, Any] = {"token_bytes": self.pool.statistics["token_bytes"]}
        for name in ("domains", "langs"):
            sums: dict[str, dict[str, int]] = {}
            for result in results:
                add_sums(sums, result[name])
            totals[name] = dict(sorted(sums.items()))
        for name in ("documents", "bytes", *(["tokens"] if self.emit == "tokens" else [])):
            totals[name] = sum(result[name] for result in results)
        return totals


def in_order_of(pieces: Sequence[Ragged], order: Int64) -> tuple[Int64, Values]:
    """(offsets, values) of the rows of all pieces in `order`: each value is copied once, to its place."""
    lengths = np.concatenate([piece.lengths for piece in pieces])
    offsets = offsets_of(lengths[order])
    places = np.empty(len(order), np.int64)
    places[order] = offsets[:-1]
    values = np.empty(int(offsets[-1]), pieces[0].values.dtype)
    first = 0
    for source, starts, sizes in pieces:
        to = places[first : first + len(sizes)]
        copy_spans(frozen(source), frozen(starts), frozen(sizes), values, frozen(to))
        first += len(sizes)
    return offsets, values


def _ragged(chunk: pa.Array) -> Ragged:
    if pa.types.is_large_string(chunk.type):
        offsets, values = string_buffers(chunk)
    else:
        offsets, values = chunk.offsets.to_numpy(), chunk.values.to_numpy()
    return Ragged(values, offsets[:-1], np.diff(offsets))


def _write_tokens(folder: Path, shard: int, columns: pa.Table, offsets: Int64, values: Values) -> dict[str, Any]:
    name = f"{shard:05d}"
    with atomic(folder / f"{name}.ds") as aside:
        values.tofile(aside)
    with atomic(folder / f"{name}.ds.index") as aside:
        offsets[1:].astype("<u8").tofile(aside)
    spans = pa.table(
        {
            **{column: columns[column] for column in ("id", "domain", "copy")},
            "start": offsets[:-1],
            "num_tokens": np.diff(offsets),
            **{column: columns[column] for column in ("num_bytes", "lang")},
        }
    )
    with atomic(folder / f"{name}.spans.parquet") as aside:
        pq.write_table(spans, aside, **SPANS_WRITING, row_group_size=_ROWS)
    return {"file": f"{name}.ds", "index": f"{name}.ds.index", "spans": f"{name}.spans.parquet"}


def _write_text(folder: Path, shard: int, columns: pa.Table, texts: pa.Array) -> dict[str, Any]:
    name = f"text-{shard:05d}.parquet"
    table = columns.select(["id", "domain", "copy"]).append_column("text", texts)
    with atomic(folder / name) as aside:
        pq.write_table(table, aside, compression="zstd", row_group_size=_ROWS)
    return {"file": name}


def _mapped(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The values of a file, memory-mapped, as a plain read-only array."""
    if path.stat().st_size == 0:
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(path, dtype, mode="r"))
