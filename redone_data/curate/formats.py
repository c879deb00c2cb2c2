"""Raw files -> record batches: one reader a format, all with the same result.

A reader yields :class:`Records`: columns of what could be read, and what could not with its place and reason. Rows are
parsed by libraries (orjson, pyarrow, datatrove); this is the one place where a record is a Python object, and only in
formats that have no columns. Cost: 150 MB/s a core for JSON lines, 1 GB/s for Parquet (docs/curation.md).
"""

import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from redone_data.curate.sources import COMPRESSION_OF_SUFFIX, FieldsConfig, InputFile, SourceConfig
from redone_data.errors import RedoneError, did_you_mean

BLOCK_BYTES = 8 << 20

SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("native_id", pa.large_string()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("engagement", pa.float64()),
        ("meta", pa.large_string()),
    ]
)


@dataclass
class Records:
    """Readable records as a table of :data:`SCHEMA`, and the unreadable ones as (place, reason)."""

    table: pa.Table
    bad: list[tuple[int, str]] = field(default_factory=list)

    @property
    def num_seen(self) -> int:
        return self.table.num_rows + len(self.bad)


def read_file(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    """Read one input file in batches of about 8 MB.

    Raises RedoneError when the file itself cannot be read (missing, truncated, not what its format says).
    """
    readers: dict[str, Callable[[InputFile, SourceConfig, int], Iterator[Records]]] = {
        "jsonl": _read_jsonl,
        "json": _read_json,
        "parquet": _read_parquet,
        "csv": _read_csv,
        "text": _read_text,
        "warc": _read_warc,
        "huggingface": _read_dataset,
    }
    try:
        yield from readers[file.format](file, source, max_record_bytes)
    except (OSError, EOFError, pa.ArrowInvalid) as error:
        reason = str(error).strip().splitlines()[0]
        raise RedoneError(
            f"{file.label}: cannot be read as {file.format}: {reason}; replace the file or leave it out"
        ) from None


# --- Lines -----------------------------------------------------------------------------------------------------------


def _open(path: str) -> pa.NativeFile:
    compression = COMPRESSION_OF_SUFFIX.get(Path(path).suffix)
    return pa.input_stream(path, compression=compression)


def _lines(path: str, max_bytes: int) -> Iterator[tuple[int, list[bytes | None]]]:
    """Blocks of lines with the number of their first line; a line over `max_bytes` is None, and never held whole.

    A line ends at ``\\n`` only: U+2028 and its kin occur inside posts.
    """
    first, rest, too_long = 1, b"", False
    with _open(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            pieces: list[bytes] = block.split(b"\n")
            if len(pieces) == 1:
                rest = b"" if too_long else rest + block
                too_long = too_long or len(rest) > max_bytes
                continue
            lines: list[bytes | None] = [None if too_long else rest + pieces[0], *pieces[1:-1]]
            rest, too_long = pieces[-1], False
            lines = [None if line is None or len(line) > max_bytes else line for line in lines]
            yield first, lines
            first += len(lines)
    if rest or too_long:
        yield first, [None if too_long or len(rest) > max_bytes else rest]


def _read_jsonl(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    for first, lines in _lines(file.path, max_record_bytes):
        rows, bad = _Rows(source.fields), []
        for number, line in enumerate(lines, first):
            if line is None:
                bad.append((number, f"longer than read.max_record_bytes ({max_record_bytes})"))
            elif line.strip():
                try:
                    reason = rows.add(orjson.loads(line))
                except orjson.JSONDecodeError:
                    reason = _json_fault(line)
                if reason:
                    bad.append((number, reason))
        yield Records(rows.table(), bad)


def _json_fault(line: bytes) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "not valid UTF-8"
    return "not valid JSON"


def _read_text(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    if source.unit == "file":
        with _open(file.path) as stream:
            data = stream.read(max_record_bytes + 1)
        yield _texts([(1, data if len(data) <= max_record_bytes else None)], max_record_bytes)
        return
    for first, lines in (
        _lines(file.path, max_record_bytes) if source.unit == "line" else _paragraphs(file.path, max_record_bytes)
    ):
        yield _texts(
            [(number, line) for number, line in enumerate(lines, first) if line is None or line.strip()],
            max_record_bytes,
        )


def _paragraphs(path: str, max_bytes: int) -> Iterator[tuple[int, list[bytes | None]]]:
    """Runs of lines between blank lines; numbered by paragraph."""
    number, held, size = 1, [], 0
    for _, lines in _lines(path, max_bytes):
        done: list[bytes | None] = []
        for line in [*lines]:
            if line is None or line.strip():
                size += max_bytes + 1 if line is None else len(line) + 1
                held.append(line if size <= max_bytes else None)
            elif held:
                done.append(None if None in held else b"\n".join(filter(None, held)))
                held, size = [], 0
        if done:
            yield number, done
            number += len(done)
    if held:
        yield number, [None if None in held else b"\n".join(filter(None, held))]


def _texts(numbered: list[tuple[int, bytes | None]], max_bytes: int) -> Records:
    texts, bad = [], []
    for number, line in numbered:
        if line is None:
            bad.append((number, f"longer than read.max_record_bytes ({max_bytes})"))
            continue
        try:
            texts.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            bad.append((number, "not valid UTF-8"))
    columns: dict[str, Any] = {"text": texts}
    return Records(_table(columns, len(texts)), bad)


# --- Records as Python objects ---------------------------------------------------------------------------------------


@dataclass
class _Rows:
    """Collects the wanted fields of parsed records, column by column."""

    fields: FieldsConfig
    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in SCHEMA.names})

    def add(self, record: Any) -> str | None:
        """Take one record; the reason when it is malformed."""
        if not isinstance(record, dict):
            return "not a JSON object"
        text = _lookup(record, self.fields.text)
        if text is None:
            return f"field '{self.fields.text}' is missing (has: {', '.join(sorted(map(str, record))[:12])})"
        if not isinstance(text, str):
            return f"field '{self.fields.text}' is not text"
        native = None
        if self.fields.id is not None:
            native = _lookup(record, self.fields.id)
            if native is None or isinstance(native, dict | list | bool):
                return f"field '{self.fields.id}' (id) is missing or not text or number"
        counts = [_lookup(record, name) for name in self.fields.engagement]
        numbers = [count for count in counts if isinstance(count, int | float) and not isinstance(count, bool)]
        meta = {name: value for name in self.fields.meta if (value := _lookup(record, name)) is not None}
        self.columns["text"].append(text)
        self.columns["native_id"].append(None if native is None else str(native))
        self.columns["created_at"].append(_timestamp(_lookup(record, self.fields.created_at)))
        self.columns["engagement"].append(float(sum(numbers)) if numbers else None)
        self.columns["meta"].append(json.dumps(meta, ensure_ascii=False, sort_keys=True, default=str) if meta else None)
        return None

    def table(self) -> pa.Table:
        return _table(self.columns, len(self.columns["text"]))


def _lookup(record: Any, path: str | None) -> Any:
    if path is None:
        return None
    if isinstance(record, dict) and path in record:
        return record[path]
    for key in path.split("."):
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record


def _timestamp(value: Any) -> datetime.datetime | None:
    """A moment in UTC from ISO text or from (milli)seconds since 1970; None when it is neither."""
    try:
        if isinstance(value, datetime.datetime):
            moment = value
        elif isinstance(value, str):
            moment = datetime.datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.datetime.fromtimestamp(value / 1000 if value > 1e11 else value, datetime.UTC)
        else:
            return None
        return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _table(columns: dict[str, Any], num_rows: int) -> pa.Table:
    arrays = [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(num_rows, f.type) for f in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _from_objects(
    numbered: Iterator[tuple[int, Any]], source: SourceConfig, batch_rows: int = 10_000
) -> Iterator[Records]:
    rows, bad = _Rows(source.fields), list[tuple[int, str]]()
    for number, record in numbered:
        reason = rows.add(record)
        if reason:
            bad.append((number, reason))
        if len(rows.columns["text"]) + len(bad) >= batch_rows:
            yield Records(rows.table(), bad)
            rows, bad = _Rows(source.fields), []
    yield Records(rows.table(), bad)


def _read_json(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    """One JSON document: an array of records, or an object whose values are records. Held in memory."""
    with _open(file.path) as stream:
        data = stream.read()
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RedoneError(f"{file.label}: not valid JSON: {error}; JSON lines need format: jsonl") from None
    records = list(values.values()) if isinstance(values, dict) else values
    if not isinstance(records, list):
        raise RedoneError(f"{file.label}: expected an array or an object of records")
    yield from _from_objects(iter(enumerate(records, 1)), source)


def _read_warc(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    """WARC and WET through datatrove's reader; pages are reduced to their main text by trafilatura."""
    try:
        import pylibmagic  # noqa: F401 - brings libmagic where the system has none
        import trafilatura
        from datatrove.pipeline.readers import WarcReader

        path = Path(file.path)
        reader = WarcReader(str(path.parent))
    except ImportError as error:
        raise RedoneError(f"format: warc needs more packages ({error.name}); pip install 'redone[web]'") from None

    def records() -> Iterator[tuple[int, Any]]:
        for number, document in enumerate(reader.read_file(path.name), 1):
            is_page = "<" in document.text[:1000]
            text = trafilatura.extract(document.text, include_comments=False) if is_page else document.text
            yield number, {"text": text, "id": document.id, **document.metadata}

    yield from _from_objects(records(), source)


def _read_dataset(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    """A Hugging Face dataset, by hub name or local folder, through datatrove's reader."""
    try:
        from datatrove.pipeline.readers import HuggingFaceDatasetReader

        def keep_raw(reader: object, record: dict[str, Any], path: str, index: int | str) -> dict[str, Any]:
            # A text that is never empty, so that the reader passes every record on to our own checks.
            return {"text": "-", "id": str(index), "metadata": {"record": record}}

        options = {"split": "train", **source.options}
        reader = HuggingFaceDatasetReader(file.path, dataset_options=options, streaming=True, adapter=keep_raw)
        documents = reader.run()
        yield from _from_objects(
            ((number, document.metadata["record"]) for number, document in enumerate(documents, 1)), source
        )
    except ImportError as error:
        raise RedoneError(
            f"format: huggingface needs more packages ({error.name}); pip install 'redone[web]'"
        ) from None
    except (ValueError, ConnectionError) as error:
        raise RedoneError(
            f"{file.label}: cannot be loaded as a Hugging Face dataset: {str(error).splitlines()[0]}"
        ) from None


# --- Columns ---------------------------------------------------------------------------------------------------------


def _read_parquet(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    wanted = source.fields
    with pq.ParquetFile(file.path) as parquet:
        names = parquet.schema_arrow.names
        _check_names(file, wanted, names)
        roots = sorted({name if name in names else name.split(".")[0] for name in _wanted_names(wanted)} & set(names))
        first = 1
        for batch in parquet.iter_batches(batch_size=16_384, columns=roots):
            yield _from_columns(pa.table(batch), first, wanted, max_record_bytes)
            first += batch.num_rows


def _read_csv(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    bad: list[tuple[int, str]] = []

    def skip(row: Any) -> str:
        bad.append((row.number or 0, f"{row.actual_columns} columns where the header has {row.expected_columns}"))
        return "skip"

    delimiter = source.delimiter or ("\t" if ".tsv" in Path(file.path).suffixes else ",")
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    # One thread: only then does pyarrow give the number of a bad row.
    read = pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
    with _open(file.path) as stream, pyarrow.csv.open_csv(stream, read_options=read, parse_options=parse) as reader:
        names = reader.schema.names
    _check_names(file, source.fields, names)
    bad.clear()
    # Every column as text: an id 007 stays 007, and one odd value spoils no column.
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=True, null_values=[""]
    )
    with (
        _open(file.path) as stream,
        pyarrow.csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert) as reader,
    ):
        first = 1
        for batch in reader:
            records = _from_columns(pa.table(batch), first, source.fields, max_record_bytes)
            first += batch.num_rows
            yield Records(records.table, records.bad + bad)
            bad.clear()


def _wanted_names(fields: FieldsConfig) -> list[str]:
    optional = [name for name in (fields.id, fields.created_at) if name is not None]
    return [fields.text, *optional, *fields.engagement, *fields.meta]


def _check_names(file: InputFile, fields: FieldsConfig, names: list[str]) -> None:
    for key, name in (("text", fields.text), ("id", fields.id)):
        if name is not None and name not in names and name.split(".")[0] not in names:
            raise RedoneError(
                f"{file.label}: there is no column '{name}'; put the name of the {key} column under fields.{key} "
                f"({did_you_mean(name, names)})"
            )


def _column(table: pa.Table, path: str | None) -> pa.ChunkedArray | None:
    if path is None:
        return None
    if path in table.column_names:
        return table[path]
    root, *inner = path.split(".")
    if root not in table.column_names or not pa.types.is_struct(table.schema.field(root).type):
        return None
    try:
        return pc.struct_field(table[root], inner)
    except (pa.ArrowInvalid, KeyError):
        return None


def _from_columns(table: pa.Table, first: int, fields: FieldsConfig, max_record_bytes: int) -> Records:
    """The wanted columns of a table, and its rows that lack a readable text or id. Rows are numbered from `first`."""
    text, native = _column(table, fields.text), _column(table, fields.id)
    if text is None:
        raise RedoneError(f"there is no column '{fields.text}' for the text")
    reasons: dict[int, str] = {}
    if not _is_textual(text.type):
        raise RedoneError(
            f"column '{fields.text}' holds {text.type}, not text; put the name of your text field under fields.text"
        )
    for row in _rows_where(pc.is_null(text)):
        reasons[row] = f"field '{fields.text}' is missing"
    for row in _rows_where(pc.fill_null(pc.greater(pc.binary_length(text), max_record_bytes), fill_value=False)):
        reasons[row] = f"longer than read.max_record_bytes ({max_record_bytes})"
    for row in _invalid_utf8(text):
        reasons[row] = "not valid UTF-8"
    if fields.id is not None:
        if native is None:
            raise RedoneError(f"there is no column '{fields.id}' for the id")
        for row in _rows_where(pc.is_null(native)):
            reasons.setdefault(row, f"field '{fields.id}' (id) is missing")
    keep = [row for row in range(table.num_rows) if row not in reasons] if reasons else None
    table = table if keep is None else table.take(pa.array(keep, pa.int64()))
    columns = {
        "text": _column(table, fields.text).cast(pa.large_string()),
        "native_id": _text_column(_column(table, fields.id), table.num_rows),
        "created_at": _moments(_column(table, fields.created_at), table.num_rows),
        "engagement": _sum([_column(table, name) for name in fields.engagement], table.num_rows),
        "meta": _meta({name: _column(table, name) for name in fields.meta}, table.num_rows),
    }
    arrays = [columns[f.name] for f in SCHEMA]
    return Records(
        pa.Table.from_arrays(arrays, schema=SCHEMA), sorted((first + row, why) for row, why in reasons.items())
    )


def _is_textual(kind: pa.DataType) -> bool:
    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    if pa.types.is_dictionary(kind):
        return _is_textual(kind.value_type)
    return any(check(kind) for check in checks)


def _rows_where(mask: pa.ChunkedArray) -> list[int]:
    rows: list[int] = pc.indices_nonzero(mask).to_pylist()
    return rows


def _invalid_utf8(text: pa.ChunkedArray) -> list[int]:
    """Rows that are not UTF-8. Arrow checks a whole column at once; rows are looked at only when it complains."""
    try:
        text.cast(pa.large_binary()).cast(pa.large_string()).validate(full=True)
    except pa.ArrowInvalid:
        return [
            row
            for row, value in enumerate(text.cast(pa.large_binary()))
            if value.is_valid and not _is_utf8(value.as_py())
        ]
    return []


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _text_column(column: pa.ChunkedArray | None, num_rows: int) -> pa.Array | pa.ChunkedArray:
    return pa.nulls(num_rows, pa.large_string()) if column is None else column.cast(pa.large_string())


def _moments(column: pa.ChunkedArray | None, num_rows: int) -> pa.Array:
    kind = SCHEMA.field("created_at").type
    if column is None:
        return pa.nulls(num_rows, kind)
    if pa.types.is_binary(column.type):
        column = column.cast(pa.string())
    return pa.array([_timestamp(value) for value in column.to_pylist()], kind)


def _sum(columns: list[pa.ChunkedArray | None], num_rows: int) -> pa.Array | pa.ChunkedArray:
    total: Any = pa.nulls(num_rows, pa.float64())
    for column in columns:
        if column is None:
            continue
        if _is_textual(column.type):
            column = pc.replace_substring_regex(column.cast(pa.string()), "^$|.*[^0-9.eE+-].*", "nan")
        numbers = pc.cast(column, pa.float64(), safe=False)
        numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
        total = pc.if_else(pc.is_null(total), numbers, pc.add(total, pc.fill_null(numbers, 0.0)))
    return total


def _meta(columns: dict[str, pa.ChunkedArray | None], num_rows: int) -> pa.Array:
    present = {name: column.to_pylist() for name, column in columns.items() if column is not None}
    if not present:
        return pa.nulls(num_rows, pa.large_string())
    rows: Sequence[dict[str, Any]] = [
        {name: values[row] for name, values in present.items() if values[row] is not None} for row in range(num_rows)
    ]
    return pa.array(
        [json.dumps(row, ensure_ascii=False, sort_keys=True, default=_plain) if row else None for row in rows],
        pa.large_string(),
    )


def _plain(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
