"""Tables: rows of notes, comments, queries, labels or sessions as columns that tasks name.

JSON lines, a JSON array, CSV and Parquet (also .gz, .zst) are read alike. A table joins another one (a comment its
post) and can gather a log into sessions. A file that cannot be read, a column that no record has and a value of another
type are errors with file, line and field; a row that lacks a value or a partner is dropped and counted.

Every row has an id, and belongs to a document: the document's id decides the split, so that what is held out of one
task is held out of all. Texts without ids are named by a hash of their first letters and digits: the same note is the
same document in every file.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from redone_data.curate.sources import DigestCache, Format, InputFile, SourceConfig, resolve_inputs
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.columns import (
    ABSENT,
    ColumnConfig,
    UnknownLabelError,
    as_label,
    column_config,
    lookup,
    reader,
)
from redone_data.instruct.conversation import MESSAGES, Split
from redone_data.instruct.table_files import place_name, records
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import hash128, to_hex

# Of a text without an id; enough to tell notes apart, few enough for two files that cut one note differently.
DOCUMENT_CHARACTERS = 64
RESERVED = ("row", "document", "documents", "lang", "key")
# One line a row that did not become part of a table or a task.
DROPPED = pl.Schema(
    {"row": pl.String(), "rule": pl.String(), "value": pl.Float64(), "bound": pl.Float64(), "detail": pl.String()}
)
_NOT_LETTERS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class JoinConfig:
    """Columns of another table, from its row with the id that this one names. Rows without a partner are dropped."""

    table: str = field(metadata={"help": "the other table; it may be this one (a reply and its parent)"})
    by: str = field(metadata={"help": "the column of this table with the other row's id"})
    columns: dict[str, str] = field(metadata={"help": "name here -> column there"})


@dataclass(frozen=True)
class SessionConfig:
    """Rows of a log gathered into sessions: `history` is a list of all but the last, whose columns the row has."""

    by: str = field(metadata={"help": "the column that is the same in a session: user, day"})
    order: str = field(metadata={"help": "the column to sort by: time"})
    column: str = field(default="text", metadata={"help": "the column that becomes `history`"})
    size: int = field(default=5, metadata={"help": "rows a session, at most; a longer one becomes several"})
    min_size: int = 3

    def __post_init__(self) -> None:
        if not 2 <= self.min_size <= self.size:
            raise RedoneError(f"size: {self.size}, min_size: {self.min_size}; 2 <= min_size <= size is needed")


@dataclass(frozen=True)
class TableConfig:
    """Where rows come from, and what their columns are called in tasks."""

    paths: tuple[str, ...] = field(metadata={"help": "files or globs, relative to the recipe; also package:NAME/..."})
    columns: dict[str, str | ColumnConfig] = field(metadata={"help": "name in tasks -> field, or how to cut one"})
    lang: str | ColumnConfig = field(metadata={"help": "zh, en, ...; {name: FIELD} where records say it"})
    format: Format | None = field(default=None, metadata={"help": "default: by the files' suffix"})
    id: str | ColumnConfig | None = field(default=None, metadata={"help": "the row's own id; default: the document's"})
    document: str | ColumnConfig | None = field(
        default=None, metadata={"help": "the document a row belongs to, which decides its split; default: the id"}
    )
    document_text: str | None = field(
        default=None, metadata={"help": "the column whose text names the document, where there are no ids"}
    )
    explode: str | None = field(default=None, metadata={"help": "a field with a list of records, a row each: `item`"})
    where: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "field -> value or values; other rows stay out"}
    )
    join: tuple[JoinConfig, ...] = ()
    session: SessionConfig | None = None

    def __post_init__(self) -> None:
        if not self.columns:
            raise RedoneError("columns: at least one is needed")
        for name in self.columns:
            if name in RESERVED:
                raise RedoneError(f"columns.{name}: the name is taken (row, document, ...); choose another")
        if self.document is not None and self.document_text is not None:
            raise RedoneError("document, document_text: give one of them")
        if self.id is None and self.document is None and self.document_text is None:
            raise RedoneError("id or document_text: give the field with ids, or else the column that names documents")
        if self.document_text is not None and self.document_text not in self.columns:
            raise RedoneError(
                f"document_text: {self.document_text!r}: {did_you_mean(self.document_text, self.columns)}"
            )


@dataclass(frozen=True)
class Table:
    """Rows: `row` (id), `document`, `documents` (all it came from), `lang`, the named columns. And what was dropped.

    rows_read: those that `where` takes.
    """

    name: str
    frame: pl.DataFrame
    dropped: pl.DataFrame
    rows_read: int


def table_files(name: str, config: TableConfig, base: Path, cache: DigestCache | None = None) -> list[InputFile]:
    """The files of a table, by the hash of what is in them."""
    source = SourceConfig(paths=config.paths, format=config.format)
    return resolve_inputs(source, base, f"tables.{name}", cache or DigestCache())


def read_table(name: str, tables: Mapping[str, TableConfig], base: Path) -> Table:
    """The rows of the table `name`, joined and gathered as its configuration says."""
    config = tables[name]
    frame, dropped, rows_read = _own_rows(name, config, base)
    others: dict[str, pl.DataFrame] = {}  # each read once, however often it is joined
    for join in config.join:
        if join.table not in tables:
            raise RedoneError(f"tables.{name}: join: {join.table!r}: {did_you_mean(join.table, tables)}")
        if join.table == name:
            other = frame
        else:
            if join.table not in others:
                others[join.table] = _own_rows(join.table, tables[join.table], base)[0]
            other = others[join.table]
        frame, lost = _joined(name, frame, join, other)
        dropped.append(lost)
    if config.session is not None:
        frame, lost = _sessions(name, frame, config.session)
        dropped.append(lost)
    return Table(name, frame.sort("row", maintain_order=True), pl.concat(dropped), rows_read)


def split_of(documents: pl.Series, seed: int, held_out_share: float) -> pl.Series:
    """train or held_out of each document id: a function of id and seed alone, the same in every table and task."""
    lo = hash128(documents.to_arrow().cast(pa.large_string()))[1]
    names: tuple[Split, Split] = ("train", "held_out")
    return pl.Series("split", np.where(keyed_uniform(seed, "held_out", lo) < held_out_share, names[1], names[0]))


def document_name(text: str) -> str:
    """What stands for an id where a document has none: its first letters and digits, whatever their case and width.

    >>> document_name("Ｎote: 今天, so happy!") == document_name("note 今天 so HAPPY...")
    True
    """
    letters = _NOT_LETTERS.sub("", unicodedata.normalize("NFKC", text[: 8 * DOCUMENT_CHARACTERS]).casefold())
    return letters[:DOCUMENT_CHARACTERS] or text.strip()


def _own_rows(name: str, config: TableConfig, base: Path) -> tuple[pl.DataFrame, list[pl.DataFrame], int]:
    """The rows of the table's own files, before any join."""
    columns = {column: reader(column_config(given)) for column, given in config.columns.items()}
    if config.id is not None:
        columns["row"] = reader(column_config(config.id))
    if config.document is not None:
        columns["document"] = reader(column_config(config.document))
    if isinstance(config.lang, ColumnConfig):
        columns["lang"] = reader(config.lang)
    allowed = {
        path: {as_label(value) for value in (wanted if isinstance(wanted, list) else [wanted])}
        for path, wanted in config.where.items()
    }
    values = _Values({column: [] for column in columns}, set(columns))
    unknown: list[tuple[str, str]] = []
    rows_read = 0
    for file in table_files(name, config, base):
        for place, record in records(file, config.explode):
            if allowed and any(as_label(lookup(record, path)) not in wanted for path, wanted in allowed.items()):
                continue
            rows_read += 1
            try:
                row = {column: read(record) for column, read in columns.items()}
                values.add(row)
            except UnknownLabelError as error:
                unknown.append((f"{file.label}#{place}", str(error)))
            except RedoneError as error:
                raise RedoneError(f"{file.label} {place_name(file)} {place}: {error}") from None
    if rows_read and values.count:
        values.check_seen(name, config)
    if not values.count and not unknown:
        raise RedoneError(f"tables.{name}: no row of {', '.join(config.paths)} is left; mend paths or where")
    frame = _identified(values.frame(), config)
    lost = pl.DataFrame(
        {"row": [row for row, _ in unknown], "rule": "unknown_label", "detail": [why for _, why in unknown]},
        schema_overrides={"row": pl.String, "detail": pl.String},
    )
    without_id = frame.filter(pl.col("row").is_null() | pl.col("document").is_null() | pl.col("lang").is_null())
    frame = frame.filter(pl.col("row").is_not_null(), pl.col("document").is_not_null(), pl.col("lang").is_not_null())
    dropped = [_dropped(lost), _dropped(without_id.select("row"), rule="missing_value", detail="id, document or lang")]
    documents = pl.concat_list("document", "row").list.unique(maintain_order=True)
    return frame.with_columns(documents=documents), dropped, rows_read


@dataclass
class _Values:
    """Columns under way: every value of a column has the type of the first."""

    columns: dict[str, list[Any]]
    unseen: set[str]
    count: int = 0
    kinds: dict[str, str] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if value is ABSENT:
                row = {**row, name: None}
            elif value is not None:
                kind = _kind(name, value)
                if {kind, self.kinds.setdefault(name, kind)} == {"a whole number", "a number"}:
                    self.kinds[name] = "a number"
                elif self.kinds[name] != kind:
                    raise RedoneError(f"column '{name}': {kind}, where earlier rows have {self.kinds[name]}")
                self.unseen.discard(name)
        for name, value in row.items():
            self.columns[name].append(value)
        self.count += 1

    def check_seen(self, name: str, config: TableConfig) -> None:
        for column in sorted(self.unseen):
            given = config.columns.get(column) or getattr(config, {"row": "id"}.get(column, column))
            path = column_config(given).name
            raise RedoneError(f"tables.{name}: column '{column}': no record has field '{path}' with a value to read")

    def frame(self) -> pl.DataFrame:
        types: dict[str, Any] = {
            "text": pl.String,
            "a whole number": pl.Int64,
            "a number": pl.Float64,
            "a list of texts": pl.List(pl.String),
            "messages": MESSAGES,
        }
        series = []
        for name, values in self.columns.items():
            kind = self.kinds.get(name, "text")
            if name in ("row", "document", "lang") and kind != "text":
                values, kind = [None if value is None else as_label(value) for value in values], "text"
            series.append(pl.Series(name, values, types[kind], strict=kind != "a number"))
        return pl.DataFrame(series)


def _kind(name: str, value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        raise RedoneError(f"column '{name}': true/false; name its labels under values: {{'true': ..., 'false': ...}}")
    if isinstance(value, int):
        return "a whole number"
    if isinstance(value, float):
        return "a number"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "a list of texts"
    if isinstance(value, list) and all(isinstance(item, dict) and {"role", "content"} <= set(item) for item in value):
        return "messages"
    raise RedoneError(f"column '{name}': text, a number, a list of texts or messages is needed")


def _identified(frame: pl.DataFrame, config: TableConfig) -> pl.DataFrame:
    """The columns row, document and lang, whichever way they are given."""
    if config.document_text is not None:
        if frame.schema[config.document_text] != pl.String:
            raise RedoneError(f"document_text: column {config.document_text!r} holds no text")
        texts = frame[config.document_text].fill_null("")
        names = pa.array([document_name(text) for text in texts], pa.large_string())
        hashes = pl.Series("document", to_hex(*hash128(names))).cast(pl.String)
        frame = frame.with_columns(document=pl.when(texts != "").then(hashes))
    if "document" not in frame.columns:
        frame = frame.with_columns(document=pl.col("row"))
    if "row" not in frame.columns:
        frame = frame.with_columns(row=pl.col("document"))
    if isinstance(config.lang, str):
        frame = frame.with_columns(lang=pl.lit(config.lang))
    return frame


def _joined(name: str, frame: pl.DataFrame, join: JoinConfig, other: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    if join.by not in frame.columns:
        raise RedoneError(f"tables.{name}: join: by: {join.by!r}: {did_you_mean(join.by, frame.columns)}")
    for here, there in join.columns.items():
        if there not in other.columns:
            raise RedoneError(
                f"tables.{join.table}: join: there is no column {there!r}; {did_you_mean(there, other.columns)}"
            )
        if here in frame.columns:
            raise RedoneError(f"tables.{name}: join: column {here!r} is there already; choose another name")
    partner = other.select(
        pl.col("row").alias("_partner"), *(pl.col(there).alias(here) for here, there in join.columns.items())
    ).unique("_partner", keep="first", maintain_order=True)
    lost = frame.join(partner, left_on=join.by, right_on="_partner", how="anti").select("row")
    frame = frame.join(partner, left_on=join.by, right_on="_partner", how="inner", maintain_order="left")
    frame = frame.with_columns(
        documents=pl.concat_list("documents", pl.concat_list(join.by)).list.unique(maintain_order=True)
    )
    return frame, _dropped(lost, rule="no_partner", detail=f"{join.table}, by {join.by}")


def _sessions(name: str, frame: pl.DataFrame, session: SessionConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    for key in ("by", "order", "column"):
        column = getattr(session, key)
        if column not in frame.columns:
            raise RedoneError(f"tables.{name}: session.{key}: {column!r}: {did_you_mean(column, frame.columns)}")
    missing = frame.filter(pl.any_horizontal(pl.col(session.by, session.order, session.column).is_null()))
    frame = frame.drop_nulls([session.by, session.order, session.column]).sort(session.by, session.order, "row")
    frame = frame.with_columns(_chunk=pl.int_range(pl.len()).over(session.by) // session.size)
    last = [pl.col(c).last() for c in frame.columns if c not in (session.by, "_chunk", "documents", "document")]
    made = frame.group_by(session.by, "_chunk", maintain_order=True).agg(
        *last,
        history=pl.col(session.column).head(pl.len() - 1),
        documents=pl.concat([pl.col(session.by).first(), pl.col("row")]).cast(pl.String),
        _size=pl.len(),
    )
    short = made.filter(pl.col("_size") < session.min_size)
    made = made.filter(pl.col("_size") >= session.min_size).with_columns(document=pl.col(session.by).cast(pl.String))
    dropped = pl.concat(
        [
            _dropped(missing.select("row"), rule="missing_value", detail="session"),
            _dropped(short.select("row", value=pl.col("_size").cast(pl.Float64)), rule="short_session"),
        ]
    )
    return made.drop("_size", "_chunk"), dropped


def _dropped(frame: pl.DataFrame, **given: Any) -> pl.DataFrame:
    """Lines of :data:`DROPPED` from some of its columns, with constants for others."""
    return frame.select(
        (pl.lit(given[name]) if name in given else pl.col(name) if name in frame.columns else pl.lit(None))
        .cast(kind)
        .alias(name)
        for name, kind in DROPPED.items()
    )
