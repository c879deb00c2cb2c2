"""One step by itself over files: what ``redone-data dedup FILES --out DIR`` and its kin do.

The files are the one domain of an implied recipe with everything else switched off, so the steps, their guarantees
(resumable, exact, bounded memory) and their settings are those of a recipe. What comes out is one or two Parquet
tables; ``DIR/steps`` holds the work, makes a changed setting quick, and may be deleted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redone_data.config import read_config, set_key
from redone_data.corpus import CURATED_SCHEMA
from redone_data.curate.contamination import read_hits
from redone_data.curate.identity import ids_of_part
from redone_data.curate.rules import QUALITY
from redone_data.engine import Progress, Silent
from redone_data.manifest import atomic
from redone_data.pipeline import Run, Stage
from redone_data.recipe import LoadedRecipe, Recipe
from redone_data.text.hashing import to_hex

Verb = Literal["dedup", "redact", "language", "rules", "quality", "decontaminate"]
DOMAIN = "documents"
# What is carried along when the input has it; the id is the input's own if it was named, else the document's hash.
CARRIED = ("created_at", "engagement", "meta")

TEXTS = [("id", pa.large_string()), ("text", pa.large_string())]
DOCUMENT_SCHEMA = pa.schema([*TEXTS, *((name, CURATED_SCHEMA.field(name).type) for name in CARRIED)])

# What each verb switches on in a recipe that does nothing, and up to which stage it runs.
OFF: dict[str, Any] = {"read": {"redact": []}, "curate": {"metrics": False, "deduplicate": False}}
SETTINGS: dict[Verb, dict[str, Any]] = {
    "dedup": {"curate": {"deduplicate": True}},
    "redact": {"read": {}},
    "language": {"curate": {"metrics": True}},
    "rules": {"curate": {"metrics": True}},
    "quality": {},
    "decontaminate": {},
}
STAGE: dict[Verb, Stage] = {
    "dedup": "curate",
    "redact": "read",
    "language": "judge",
    "rules": "curate",
    "quality": "curate",
    "decontaminate": "curate",
}


@dataclass(frozen=True)
class Files:
    """What a verb is given: files of any format that `read` knows, and the names of their fields."""

    paths: tuple[str, ...]
    text_field: str = "text"
    id_field: str | None = None
    format: str | None = None
    carry: tuple[str, ...] = ()  # other fields, carried along in `meta`
    engagement: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()  # KEY=VALUE over the implied recipe
    workers: int = 1

    def recipe(self, verb: Verb, settings: dict[str, Any]) -> LoadedRecipe:
        """The implied recipe. Raises RedoneError for a key or value that a recipe would not take either."""
        fields = {"text": self.text_field, "id": self.id_field, "meta": list(self.carry)}
        source = {"paths": list(self.paths), "fields": {**fields, "engagement": list(self.engagement)}}
        values: dict[str, Any] = {
            "domains": {DOMAIN: {"sources": [{**source, "format": self.format}], "rules": {"preset": "none"}}},
            "executor": {"workers": self.workers},
            "mix": {"weights": {DOMAIN: 1.0}},
        }
        for layer in (OFF, SETTINGS[verb], settings):
            _merge(values, layer)
        if verb == "redact":
            values["read"].pop("redact", None)
        values["read"]["native_ids"] = self.id_field is not None
        values["curate"]["validation"] = {"fraction": 0.0}
        for assignment in self.assignments:
            set_key(values, assignment)
        where = f"redone-data {verb}"
        return LoadedRecipe(read_config(Recipe, values, where=where), Path(where))


def _merge(values: dict[str, Any], layer: dict[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = {**value} if isinstance(value, dict) else value


@dataclass
class Result:
    """What a verb found: counts to show, and the tables it wrote."""

    documents: int
    counts: dict[str, int] = field(default_factory=dict)
    tables: dict[str, Path] = field(default_factory=dict)

    @property
    def fractions(self) -> dict[str, float]:
        return {name: count / max(self.documents, 1) for name, count in self.counts.items()}


def run(
    verb: Verb, files: Files, out: Path, settings: dict[str, Any] | None = None, progress: Progress | None = None
) -> Result:
    """Do one verb and write its tables into `out`; the same call again goes on, or finds all done.

    settings: keys of a recipe over the verb's own. Raises RedoneError as a recipe with these files would.
    """
    loaded = files.recipe(verb, settings or {})
    done = Run(loaded, out, progress=progress or Silent())
    done.execute(STAGE[verb])
    return publish(verb, done, out)


def publish(verb: Verb, done: Run, out: Path) -> Result:
    """Write the tables of a verb from a run that has come far enough."""
    return WRITERS[verb](done, out)


def _redacted(done: Run, out: Path) -> Result:
    result = Result(sum(output.statistics["rows"] for output in done.reads))
    for output in done.reads:
        for kind, count in output.statistics["redacted"].items():
            result.counts[kind] = result.counts.get(kind, 0) + count
    assert done.curation.corpus is not None

    def batches() -> Iterator[pa.Table]:
        assert done.curation.corpus is not None
        for part in done.curation.corpus.parts:
            for batch in part.batches(["key_hi", "key_lo", "text", *CARRIED, "native_id"]):
                keys = to_hex(batch.column("key_hi").to_numpy(), batch.column("key_lo").to_numpy())
                yield _documents(pa.table(batch).append_column("id", keys))

    result.tables["redacted"] = _write(out / "redacted.parquet", batches())
    return result


def _kept_and_dropped(done: Run, out: Path, dropped: str, columns: Callable[[pl.LazyFrame], pl.LazyFrame]) -> Result:
    assert done.kept is not None
    assert done.curation.ledger is not None
    counts = done.curation.ledger.statistics["domains"][DOMAIN]
    result = Result(counts["read"], {"kept": counts["train"]})
    for rule, count in counts["drops"].items():
        result.counts[rule.partition("/")[2]] = count
    kept = [done.kept.folder / task["file"] for task in done.kept.tasks if task["rows"]]

    def batches() -> Iterator[pa.Table]:
        for path in kept:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(columns=["id", "text", *CARRIED, "native_id"]):
                    yield _documents(pa.table(batch))

    result.tables["kept"] = _write(out / "kept.parquet", batches())
    ledger = pl.concat(
        [pl.scan_parquet(path).with_columns(pl.col("step", "rule").cast(pl.String)) for path in _ledgers(done)]
    )
    if done.recipe.read.native_ids:
        ledger = _with_native_ids(ledger, done, ["id", "duplicate_of"])
    with atomic(out / f"{dropped}.parquet") as aside:
        columns(ledger).sink_parquet(aside, compression="zstd")
    result.tables[dropped] = out / f"{dropped}.parquet"
    return result


def _ledgers(done: Run) -> list[Path]:
    assert done.curation.ledger is not None
    return [done.curation.ledger.folder / task["file"] for task in done.curation.ledger.tasks]


def _with_native_ids(frame: pl.LazyFrame, done: Run, columns: list[str]) -> pl.LazyFrame:
    """The same with the input's own ids in some columns."""
    assert done.curation.corpus is not None
    assert done.curation.ids is not None
    names = []
    for part in done.curation.corpus.parts:
        hi, lo = ids_of_part(done.curation.ids, part)
        names.append(pl.LazyFrame({"hash": to_hex(hi, lo), "own": part.read(["native_id"])["native_id"]}))
    own = pl.concat(names)
    for column in columns:
        frame = frame.join(own, left_on=column, right_on="hash", how="left", maintain_order="left")
        frame = frame.with_columns(pl.coalesce("own", column).alias(column)).drop("own")
    return frame


def _deduplicated(done: Run, out: Path) -> Result:
    kind = pl.col("rule").str.replace("_duplicate", "").str.replace("repeated_id", "id").alias("kind")
    columns = ["id", "duplicate_of", pl.col("value").alias("similarity"), kind]
    return _kept_and_dropped(done, out, "duplicates", lambda ledger: ledger.select(columns))


def _ruled(done: Run, out: Path) -> Result:
    result = _kept_and_dropped(done, out, "dropped", lambda ledger: ledger.select("id", "rule", "value", "bound"))
    result.tables["attributes"] = _attributes(done, out / "attributes.parquet", None)
    return result


def _scored(done: Run, out: Path) -> Result:
    names = [QUALITY + name for name in sorted(done.recipe.curate.quality)]
    result = _kept_and_dropped(done, out, "dropped", lambda ledger: ledger.select("id", "rule", "value", "bound"))
    result.tables["scores"] = _attributes(done, out / "scores.parquet", names)
    return result


def _decontaminated(done: Run, out: Path) -> Result:
    columns = ["id", pl.col("detail").alias("item"), pl.col("value").alias("fraction")]
    result = _kept_and_dropped(done, out, "contaminated", lambda ledger: ledger.select(columns))
    hits = pl.LazyFrame(read_hits(*done.curation.contaminated))
    if done.recipe.read.native_ids:
        hits = _with_native_ids(hits, done, ["id"])
    with atomic(out / "hits.parquet") as aside:
        hits.sink_parquet(aside, compression="zstd")
    result.tables["hits"] = out / "hits.parquet"
    return result


def _languages(done: Run, out: Path) -> Result:
    table = _attributes(done, out / "languages.parquet", ["language", "language_confidence"])
    counts = pl.scan_parquet(table).group_by("language").len().sort("len", descending=True).collect()
    return Result(int(counts["len"].sum()), dict(counts.iter_rows()), {"languages": table})


def _attributes(done: Run, path: Path, columns: Sequence[str] | None) -> Path:
    """Some attributes (None: all) of every document, by id."""
    assert done.curation.corpus is not None
    assert done.curation.ids is not None
    assert done.curation.attributes is not None
    attributes = done.curation.attributes

    def batches() -> Iterator[pa.Table]:
        assert done.curation.corpus is not None
        assert done.curation.ids is not None
        for part in done.curation.corpus.parts:
            names = columns or sorted(attributes.names(part))
            ids = to_hex(*ids_of_part(done.curation.ids, part))
            own = part.read(["native_id"])["native_id"]
            yield attributes.read(part, names).add_column(0, "id", pc.coalesce(own, ids))

    return _write(path, batches())


def _documents(table: pa.Table) -> pa.Table:
    """id, text and what else the input had."""
    identity = pc.coalesce(table["native_id"], table["id"].cast(pa.large_string()))
    return pa.table({"id": identity, "text": table["text"], **{name: table[name] for name in CARRIED}})


def _write(path: Path, tables: Iterator[pa.Table]) -> Path:
    first = next(tables, DOCUMENT_SCHEMA.empty_table())
    with atomic(path) as aside, pq.ParquetWriter(aside, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
    return path


WRITERS: dict[Verb, Callable[[Run, Path], Result]] = {
    "dedup": _deduplicated,
    "redact": _redacted,
    "language": _languages,
    "rules": _ruled,
    "quality": _scored,
    "decontaminate": _decontaminated,
}
