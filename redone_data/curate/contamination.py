"""Decontamination: which evaluation items a document holds, by word n-grams shared with them.

An item's fields (prompt, passage, answer) are passages of their own. ``contamination_fraction`` is the share of a
passage's words that lie in 8-grams it shares with the document, the highest over all passages; of a passage over 50
words, 50 count as all of it. So a short prompt inside a long post scores 1, a changed word costs that word, a cut-off
passage is found, and one common phrase in a long passage is not. Wording that many items share (the task's instruction)
counts for none. Case, full width and punctuation do not matter; a translation or a paraphrase is not found.

Cost: splitting words, and little more (docs/curation.md); the index is small and built once. Method: word n-grams as in
GPT-3 (arXiv:2005.14165, appendix C: 8 to 13), measured by coverage of the item as in Llama 2 (arXiv:2307.09288, A.6).
"""

import csv
import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.config import plain
from redone_data.curate.attributes import BATCH_ROWS, SourceAttributes, write_attributes
from redone_data.curate.sources import (
    COMPRESSION_OF_SUFFIX,
    DigestCache,
    Format,
    InputFile,
    SourceConfig,
    resolve_inputs,
)
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError, did_you_mean
from redone_data.manifest import atomic
from redone_data.text.hashing import to_hex
from redone_data.text.normalize import normalize
from redone_data.text.overlap import Overlaps, PassageIndex, index_passages

EXCERPT_BYTES = 300
HITS_SUFFIX = ".hits.parquet"
HIT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("item", pa.string()),
        ("field", pa.string()),
        ("fraction", pa.float32()),
        ("shared_words", pa.int64()),
        ("run_words", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("excerpt", pa.large_string()),
        ("passage", pa.large_string()),
    ]
)


@dataclass(frozen=True)
class EvaluationSet:
    """Items that must not be trained on: one a record of the files."""

    paths: tuple[str, ...] = field(metadata={"help": "files or globs, relative to the recipe"})
    fields: tuple[str, ...] = field(
        default=(), metadata={"help": "the fields that make up an item; empty: every text in the record"}
    )
    format: Format | None = field(default=None, metadata={"help": "default: by the files' suffix"})

    def __post_init__(self) -> None:
        SourceConfig(self.paths)
        if self.format in ("warc", "huggingface"):
            raise RedoneError(f"format: {self.format} is no format of evaluation sets; json, jsonl, parquet, csv, text")


@dataclass(frozen=True)
class ContaminationConfig:
    """Evaluation sets to keep out of the corpus, and what counts as sharing text with them."""

    sets: dict[str, EvaluationSet] = field(default_factory=dict, metadata={"help": "name -> evaluation set"})
    ngram: int = field(default=8, metadata={"help": "words per n-gram; a Han character is a word"})
    min_words: int = field(
        default=6,
        metadata={
            "help": "a shorter passage is not looked for (Han characters count half); below an n-gram it must be whole"
        },
    )
    enough_words: int = field(
        default=50, metadata={"help": "of a longer passage, so many words found are all of it: cut-off copies count"}
    )
    max_items: int = field(
        default=10, metadata={"help": "an n-gram in more items than this is the task's wording and counts for none"}
    )
    max_fraction: float = field(
        default=0.5,
        metadata={"help": "share of a passage above which a document is dropped; a domain's bounds override"},
    )
    report_from: float = field(default=0.3, metadata={"help": "share of a passage from which a hit is listed"})

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.ngram <= self.enough_words:
            raise RedoneError(
                f"1 <= min_words <= ngram <= enough_words is needed; they are {self.min_words}, {self.ngram} and "
                f"{self.enough_words}"
            )
        if self.max_items < 1:
            raise RedoneError(f"max_items: {self.max_items}; at least 1")
        if not 0 <= self.report_from <= 1:
            raise RedoneError(f"report_from: {self.report_from}; a share between 0 and 1")


# --- Items -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Passage:
    """One text of one item: ``item`` is "set/file#number", counted from 1 as lines are."""

    item: str
    field: str
    text: str


def read_passages(name: str, evaluation: EvaluationSet, file: InputFile) -> Iterator[Passage]:
    """Every passage of one file of an evaluation set.

    Raises RedoneError for a file that cannot be read, and for a field that none of its records has.
    """
    label = f"{name}/{Path(file.label).name}"
    missing = set(evaluation.fields)
    known: set[str] = set()
    for number, record in enumerate(_records(file), 1):
        if not isinstance(record, dict):
            raise RedoneError(f"{file.label} record {number}: not a record of named fields")
        known.update(map(str, record))
        for wanted in evaluation.fields or record:
            value = record.get(wanted)
            missing -= {wanted} if value is not None else set()
            for text in _texts(value):
                yield Passage(f"{label}#{number}", wanted, text)
    if known and missing == set(evaluation.fields) and missing:
        first = min(missing)
        raise RedoneError(f"{file.label}: no record has the field '{first}'; {did_you_mean(first, known)}")


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, however nested: answers come in lists, prompts in chats."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _records(file: InputFile) -> list[Any]:
    if file.format == "parquet":
        rows: list[Any] = pq.read_table(file.path).to_pylist()
        return rows
    try:
        with pa.input_stream(file.path, compression=COMPRESSION_OF_SUFFIX.get(Path(file.path).suffix)) as stream:
            text = stream.read().decode("utf-8-sig")
        lines = text.split("\n")
        if file.format == "json":
            values = orjson.loads(text)
            records = list(values.values()) if isinstance(values, dict) else values
            if not isinstance(records, list):
                raise ValueError("expected an array or an object of records")
            return records
        if file.format == "jsonl":
            return [orjson.loads(line) for line in lines if line.strip()]
        if file.format == "csv":
            return list(
                csv.DictReader(io.StringIO(text), delimiter="\t" if ".tsv" in Path(file.path).suffixes else ",")
            )
        if file.format == "text":
            return [{"text": line} for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise RedoneError(f"{file.label}: cannot be read as {file.format}: {str(error).splitlines()[0]}") from None
    raise RedoneError(f"{file.label}: {file.format} is no format of evaluation sets; json, jsonl, parquet, csv, text")


# --- Index -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluationIndex:
    """Passages of evaluation items, and their n-grams."""

    items: tuple[str, ...]
    fields: tuple[str, ...]
    texts: pa.Array
    grams: PassageIndex

    @classmethod
    def of(cls, passages: list[Passage], config: ContaminationConfig) -> "EvaluationIndex":
        items, fields = tuple(p.item for p in passages), tuple(p.field for p in passages)
        texts = normalize(pa.array([p.text for p in passages], pa.large_string()))
        numbers = {item: number for number, item in enumerate(dict.fromkeys(items))}
        item_of = np.array([numbers[item] for item in items], np.int64)
        grams = index_passages(
            texts, item_of, ngram=config.ngram, min_words=config.min_words, max_items=config.max_items
        )
        return cls(items, fields, texts, grams)

    @functools.cached_property
    def names(self) -> pa.Array:
        return pa.array(self.items, pa.string())

    def write(self, folder: Path) -> None:
        grams = self.grams
        postings = [grams.hashes, grams.prefixes, grams.passages, grams.positions]
        own = pa.LargeListArray.from_arrays(grams.own_offsets, grams.own)
        tables = {
            "ngrams.parquet": pa.table(postings, names=["hash", "prefix", "passage", "position"]),
            "passages.parquet": pa.table(
                [self.names, pa.array(self.fields, pa.string()), self.texts, own, grams.sizes],
                names=["item", "field", "text", "own", "size"],
            ),
        }
        for name, table in tables.items():
            with atomic(folder / name) as aside:
                pq.write_table(table, aside, compression="zstd")

    @classmethod
    def open(cls, folder: Path) -> "EvaluationIndex":
        ngrams, passages = pq.read_table(folder / "ngrams.parquet"), pq.read_table(folder / "passages.parquet")
        own = passages["own"].combine_chunks()
        lengths = own.value_lengths().to_numpy()
        grams = PassageIndex(
            ngrams["hash"].to_numpy(),
            ngrams["prefix"].to_numpy(),
            ngrams["passage"].to_numpy(),
            ngrams["position"].to_numpy(),
            np.append(0, np.cumsum(lengths)).astype(np.int64),
            own.flatten().to_numpy(zero_copy_only=False),
            passages["size"].to_numpy(),
        )
        texts = passages["text"].combine_chunks()
        return cls(tuple(passages["item"].to_pylist()), tuple(passages["field"].to_pylist()), texts, grams)

    def counts(self) -> dict[str, int]:
        indexed = np.unique(self.grams.passages)
        return {
            "items": len(set(self.items)),
            "indexed_items": len({self.items[passage] for passage in indexed.tolist()}),
            "passages": len(self.items),
            "indexed_passages": len(indexed),
            "ngrams": len(self.grams.hashes),
        }


@dataclass(frozen=True)
class Contamination:
    """What a batch of texts shares with evaluation items: ``frame``, a row a text (contamination_fraction, _words and
    _item of the item most of which it holds), and ``hits``, every passage found."""

    frame: pl.DataFrame
    hits: Overlaps


def contamination(
    array: pa.Array | pa.ChunkedArray, index: EvaluationIndex, config: ContaminationConfig
) -> Contamination:
    """Look for the passages of ``index`` in every text; texts should be normalised (text/normalize.py)."""
    # What is below report_from is measured, too: a histogram without its low end would mislead.
    found = index.grams.find(array, enough_words=config.enough_words, min_fraction=0.0)
    order = np.lexsort((found.passages, -found.run_words, -found.fractions, found.rows))
    rows, first = np.unique(found.rows[order], return_index=True)
    best = order[first]
    fraction, words = np.zeros(len(array), np.float32), np.zeros(len(array), np.int64)
    fraction[rows], words[rows] = found.fractions[best], found.run_words[best]
    passage = np.full(len(array), -1, np.int64)
    passage[rows] = found.passages[best]
    item = index.names.take(pa.array(passage, mask=passage < 0))
    frame = pl.DataFrame(
        {"contamination_fraction": fraction, "contamination_words": words, "contamination_item": pl.Series(item)}
    )
    listed = order[found.fractions[order] >= config.report_from]
    return Contamination(frame, found.take(listed))


def hit_table(array: pa.Array | pa.ChunkedArray, ids: pa.Array, hits: Overlaps, index: EvaluationIndex) -> pa.Table:
    """Hits as a person reads them: whose text, which item, what they share. Offsets are bytes of the text."""
    texts = array.take(pa.array(hits.rows)).to_pylist()
    excerpts = [
        text.encode()[start : min(end, start + EXCERPT_BYTES)].decode(errors="ignore")
        for text, start, end in zip(texts, hits.starts.tolist(), hits.ends.tolist(), strict=True)
    ]
    passages = hits.passages.tolist()
    return pa.table(
        [
            ids.take(pa.array(hits.rows)).cast(pa.string()),
            pa.array([index.items[passage] for passage in passages], pa.string()),
            pa.array([index.fields[passage] for passage in passages], pa.string()),
            pa.array(hits.fractions, pa.float32()),
            hits.shared_words,
            hits.run_words,
            hits.starts,
            hits.ends,
            pa.array(excerpts, pa.large_string()),
            index.texts.take(pa.array(hits.passages)),
        ],
        schema=HIT_SCHEMA,
    )


# --- Steps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluationFile:
    """One file of an evaluation set."""

    set_name: str
    evaluation: EvaluationSet
    file: InputFile


def evaluation_files(config: ContaminationConfig, base: Path, where: str, cache: DigestCache) -> list[EvaluationFile]:
    """The files of every set. Raises RedoneError when a pattern matches nothing."""
    return [
        EvaluationFile(name, evaluation, file)
        for name, evaluation in sorted(config.sets.items())
        for file in resolve_inputs(
            SourceConfig(evaluation.paths, format=evaluation.format), base, f"{where}.sets.{name}.paths", cache
        )
    ]


@dataclass(frozen=True)
class ContaminationIndexStep(Step):
    """The n-grams of every evaluation item. Held in memory: some 100 bytes a word of the sets."""

    name = "contamination-index"
    VERSION = 1

    files: tuple[EvaluationFile, ...]
    contamination: ContaminationConfig

    def config(self) -> Any:
        settings = {key: getattr(self.contamination, key) for key in ("ngram", "min_words", "max_items")}
        # Items are named after their files, so a renamed file is another index.
        names = [[f.set_name, list(f.evaluation.fields), Path(f.file.label).name] for f in self.files]
        return {**settings, "files": names}

    def inputs(self) -> dict[str, str]:
        return {f"{i:06d}.{file.file.format}": file.file.sha256 for i, file in enumerate(self.files)}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        passages = [p for f in self.files for p in read_passages(f.set_name, f.evaluation, f.file)]
        built = EvaluationIndex.of(passages, self.contamination)
        built.write(folder)
        return built.counts()

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]


@dataclass(frozen=True)
class ContaminationStep(SourceAttributes):
    """What every document of one `read` step shares with evaluation items, and the list of hits."""

    name = "contamination"
    VERSION = 1
    # The column that names what a document matched, for the ledger.
    matches: ClassVar[dict[str, str]] = dict.fromkeys(
        ("contamination_fraction", "contamination_words"), "contamination_item"
    )

    index: Output
    contamination: ContaminationConfig

    def config(self) -> Any:
        return {key: plain(getattr(self.contamination, key)) for key in ("enough_words", "report_from")}

    def inputs(self) -> dict[str, str]:
        return {**super().inputs(), "index": self.index.fingerprint}

    def columns(self) -> dict[str, str]:
        return {
            "contamination_fraction": "share found of the evaluation item most of which the document holds",
            "contamination_words": "words of the longest run that the document shares with that item",
        }

    def needs(self) -> list[str]:
        return ["text", "key_hi", "key_lo"]

    def measure(self, batch: pa.RecordBatch) -> pl.DataFrame:
        return contamination(batch.column("text"), _index(self.index.folder), self.contamination).frame

    def run(self, task: str, index: int, folder: Path) -> dict[str, Any]:
        known = _index(self.index.folder)
        frames, hits = [], [HIT_SCHEMA.empty_table()]
        with pq.ParquetFile(self.source.folder / task) as part:
            for batch in part.iter_batches(batch_size=BATCH_ROWS, columns=self.needs()):
                text = batch.column("text")
                found = contamination(text, known, self.contamination)
                frames.append(found.frame)
                ids = to_hex(batch.column("key_hi").to_numpy(), batch.column("key_lo").to_numpy())
                hits.append(hit_table(text, ids, found.hits, known))
        frame = pl.concat(frames)
        write_attributes(folder / task, frame)
        listed = pa.concat_tables(hits)
        with atomic(folder / f"{task.removesuffix('.parquet')}{HITS_SUFFIX}") as aside:
            pq.write_table(listed, aside, compression="zstd")
        domain = self.source.manifest["config"]["domain"]
        return {"domain": domain, "hits": listed.num_rows, **self.summary(frame)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {"hits": sum(result["hits"] for result in results)}


def read_hits(*outputs: Output) -> pa.Table:
    """All hits of finished contamination steps, most of an item first."""
    tables = [pq.read_table(path) for output in outputs for path in output.files(HITS_SUFFIX)]
    return pa.concat_tables([HIT_SCHEMA.empty_table(), *tables]).sort_by(
        [("fraction", "descending"), ("id", "ascending")]
    )


@functools.lru_cache(maxsize=2)
def _index(folder: Path) -> EvaluationIndex:
    return EvaluationIndex.open(folder)
