"""Raw files -> record batches: one reader a format, all with the same result.

A reader yields :class:`Records`: columns of what could be read, and what could not with its place and reason. Rows are
parsed by libraries (orjson, pyarrow, datatrove); this is the one place where a record is a Python object, and only in
formats that have no columns. Cost: 150 MB/s a core for JSON lines, 1 GB/s for Parquet (docs/curation.md).
"""

import datetime
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from redone_data.curate.sources import COMPRESSION_OF_SUFFIX, FieldsConfig, InputFile, SourceConfig
from redone_data.errors import RedoneError, did_you_mean

BLOCK_BYTES = 8 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Floats below it are exact whole numbers; an id that reached us as a larger one is another document's id as well.
EXACT_FLOAT = 2.0**53
NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
MOMENT = re.compile(r"-?[0-9]{9,}(?:\.[0-9]+)?")
PAGE = re.compile(r"<\s*(?:!doctype|html|head|body|title|meta|div|p)\b", re.IGNORECASE)

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
        return int(self.table.num_rows) + len(self.bad)


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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "straddles two block boundaries" in reason:
            reason = f"a row is longer than {BLOCK_BYTES >> 20} MB, or a quote is never closed"
        raise RedoneError(
            f"{file.label}: cannot be read as {file.format}: {reason}; replace the file or leave it out"
        ) from None


# --- Lines -----------------------------------------------------------------------------------------------------------


def _open(path: str) -> pa.NativeFile:
    compression = COMPRESSION_OF_SUFFIX.get(Path(path).suffix)
    return pa.input_stream(path, compression=compression)


def _lines(path: str, max_bytes: int) -> Iterator[tuple[int, list[bytes | None]]]:
    """Blocks of lines with the number of their first line; a line over `max_bytes` is None, and never held whole.

    A line ends at ``\\n`` only: U+2028 and its kin occur inside posts. A byte order mark is no part of the first line.
    """
    first, rest, too_long = 1, b"", False
    with _open(path) as stream:
        block = stream.read(BLOCK_BYTES).removeprefix(BYTE_ORDER_MARK)
        while block:
            pieces: list[bytes] = block.split(b"\n")
            if len(pieces) == 1:
                rest = b"" if too_long else rest + block
                too_long = too_long or len(rest) > max_bytes
            else:
                lines: list[bytes | None] = [None if too_long else rest + pieces[0], *pieces[1:-1]]
                rest, too_long = pieces[-1], False
                lines = [None if line is None or len(line) > max_bytes else line for line in lines]
                yield first, lines
                first += len(lines)
            block = stream.read(BLOCK_BYTES)
    if rest or too_long:
        yield first, [None if too_long or len(rest) > max_bytes else rest]


def _read_jsonl(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    for first, lines in _lines(file.path, max_record_bytes):
        rows, bad = _Rows(source.fields), []
        for number, line in enumerate(lines, first):
            if line is None:
                bad.append((number, _too_long(max_record_bytes)))
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
        if data.strip():
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
            bad.append((number, _too_long(max_bytes)))
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
            native = _id_text(_lookup(record, self.fields.id))
            if native is None:
                return NO_ID.format(self.fields.id)
        counts = [_count(_lookup(record, name)) for name in self.fields.engagement]
        numbers = [count for count in counts if count is not None]
        meta = {name: value for name in self.fields.meta if (value := _lookup(record, name)) is not None}
        self.columns["text"].append(text)
        self.columns["native_id"].append(native)
        self.columns["created_at"].append(_timestamp(_lookup(record, self.fields.created_at)))
        self.columns["engagement"].append(_count(sum(numbers)) if numbers else None)
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


NO_ID = "field '{}' (id) is missing, empty, or neither text nor an exact whole number"


def _id_text(value: Any) -> str | None:
    """An id as text, the same for 7, 7.0 (a number column with gaps) and "7"; None when it is no id."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() and abs(value) < EXACT_FLOAT else None
    if value is None or isinstance(value, dict | list | bool):
        return None
    return str(value) or None


def _count(value: Any) -> float | None:
    """A finite number, given as one or as text; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not re.fullmatch(NUMBER, value):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _timestamp(value: Any) -> datetime.datetime | None:
    """A moment in UTC from ISO text or from (milli)seconds since 1970; None when it is neither."""
    try:
        if isinstance(value, str) and MOMENT.fullmatch(value):
            value = float(value)
        if isinstance(value, datetime.datetime):
            moment = value
        elif isinstance(value, datetime.date):
            moment = datetime.datetime.combine(value, datetime.time())
        elif isinstance(value, str):
            moment = datetime.datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.datetime.fromtimestamp(value / 1000 if abs(value) > 1e11 else value, datetime.UTC)
        else:
            return None
        return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _table(columns: dict[str, Any], num_rows: int) -> pa.Table:
    arrays = [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(num_rows, f.type) for f in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _from_objects(
    numbered: Iterator[tuple[int, Any]], source: SourceConfig, max_record_bytes: int, batch_rows: int = 10_000
) -> Iterator[Records]:
    rows, bad, held = _Rows(source.fields), list[tuple[int, str]](), 0
    for number, record in numbered:
        text = _lookup(record, source.fields.text)
        size = len(text.encode("utf-8", "replace")) if isinstance(text, str) else 0
        reason = _too_long(max_record_bytes) if size > max_record_bytes else rows.add(record)
        if reason:
            bad.append((number, reason))
        else:
            held += size
        if held >= BLOCK_BYTES or len(rows.columns["text"]) + len(bad) >= batch_rows:
            yield Records(rows.table(), bad)
            rows, bad, held = _Rows(source.fields), [], 0
    yield Records(rows.table(), bad)


def _too_long(max_record_bytes: int) -> str:
    return f"longer than read.max_record_bytes ({max_record_bytes})"


def _read_json(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    """One JSON document: an array of records, or an object whose values are records. Held in memory."""
    with _open(file.path) as stream:
        data = stream.read().removeprefix(BYTE_ORDER_MARK)
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RedoneError(f"{file.label}: not valid JSON: {error}; JSON lines need format: jsonl") from None
    records = list(values.values()) if isinstance(values, dict) else values
    if not isinstance(records, list):
        raise RedoneError(f"{file.label}: expected an array or an object of records")
    yield from _from_objects(iter(enumerate(records, 1)), source, max_record_bytes)


def _read_warc(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    """WARC and WET through datatrove's reader; pages are reduced to their main text by trafilatura."""
    try:
        import pylibmagic  # noqa: F401 - brings libmagic where the system has none
        import trafilatura
        from datatrove.pipeline.readers import WarcReader
        from warcio.exceptions import ArchiveLoadFailed  # type: ignore[import-untyped]

        path = Path(file.path)
        reader = WarcReader(str(path.parent))
    except ImportError as error:
        raise RedoneError(f"format: warc needs more packages ({error.name}); pip install 'redone[web]'") from None

    def records() -> Iterator[tuple[int, Any]]:
        for number, document in enumerate(reader.read_file(path.name), 1):
            is_page = PAGE.search(document.text[:2000])
            # A page without a main text is an empty document, which the rules drop; nothing about it is unreadable.
            text = trafilatura.extract(document.text, include_comments=False) or "" if is_page else document.text
            yield number, {"text": text, "id": document.id, **document.metadata}

    try:
        yield from _from_objects(records(), source, max_record_bytes)
    except (ArchiveLoadFailed, KeyError) as error:
        raise RedoneError(f"{file.label}: cannot be read as warc: {str(error).strip()}; replace the file") from None


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
            ((number, document.metadata["record"]) for number, document in enumerate(documents, 1)),
            source,
            max_record_bytes,
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
            rows = np.arange(first, first + batch.num_rows)
            yield _from_columns(file, pa.table(batch), rows, wanted, max_record_bytes)
            first += batch.num_rows


def _read_csv(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    """Rows are numbered as lines are: the header is row 1, and a row with line breaks in quotes is one row."""
    bad: list[tuple[int, str]] = []

    def skip(row: Any) -> str:
        bad.append((row.number or 0, f"{row.actual_columns} columns where the header has {row.expected_columns}"))
        return "skip"

    with _open(file.path) as stream:
        if not stream.read(1):
            return
    delimiter = source.delimiter or ("\t" if ".tsv" in Path(file.path).suffixes else ",")
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    # One thread: only then does pyarrow give the number of a bad row.
    read = pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
    with _open(file.path) as stream, pyarrow.csv.open_csv(stream, read_options=read, parse_options=parse) as reader:
        try:
            names = reader.schema.names
        except UnicodeDecodeError:
            raise RedoneError(f"{file.label}: its header is not UTF-8; convert it: iconv -f GB18030 -t UTF-8") from None
    _check_names(file, source.fields, names)
    bad.clear()
    # Every column as text: an id 007 stays 007, and one odd value spoils no column.
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=True, null_values=[""]
    )
    num_good = num_told = 0
    with (
        _open(file.path) as stream,
        pyarrow.csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert) as reader,
    ):
        for batch in reader:
            rows = _row_numbers(num_good, batch.num_rows, [number for number, _ in bad])
            records = _from_columns(file, pa.table(batch), rows, source.fields, max_record_bytes)
            yield Records(records.table, sorted(records.bad + bad[num_told:]))
            num_good, num_told = num_good + batch.num_rows, len(bad)
    if bad[num_told:]:
        yield Records(_table({}, 0), bad[num_told:])


def _row_numbers(first: int, count: int, skipped: list[int]) -> npt.NDArray[np.int64]:
    """Numbers of the rows `first`, `first` + 1, ... of those that were not skipped, where the header is row 1."""
    good_before = np.array(skipped, dtype=np.int64) - 2 - np.arange(len(skipped))
    good = np.arange(first, first + count)
    return good + 2 + np.searchsorted(good_before, good, side="right")


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
    for name in _wanted_names(fields):
        if names.count(name) > 1:
            raise RedoneError(f"{file.label}: {names.count(name)} columns are named '{name}'; rename all but one")


def _column(table: pa.Table, path: str | None) -> pa.ChunkedArray | None:
    """A column, plain: neither dictionary-encoded nor a view."""
    if path is None:
        return None
    if path in table.column_names:
        column = table[path]
    else:
        root, *inner = path.split(".")
        if root not in table.column_names or not pa.types.is_struct(table.schema.field(root).type):
            return None
        try:
            column = pc.struct_field(table[root], inner)
        except (pa.ArrowInvalid, KeyError):
            return None
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _from_columns(
    file: InputFile, table: pa.Table, numbers: npt.NDArray[np.int64], fields: FieldsConfig, max_record_bytes: int
) -> Records:
    """The wanted columns of a table, and its rows that lack a readable text or id. numbers: int64[rows], places."""
    text, spoilt = _texts_of(_needed(file, table, "text", fields.text, _is_textual))
    reasons = dict.fromkeys(_rows_where(pc.is_null(text)), f"field '{fields.text}' is missing")
    reasons |= dict.fromkeys(spoilt, "not valid UTF-8")
    too_long = pc.fill_null(pc.greater(pc.binary_length(text), max_record_bytes), fill_value=False)
    reasons |= dict.fromkeys(_rows_where(too_long), _too_long(max_record_bytes))
    native: pa.Array | pa.ChunkedArray = pa.nulls(table.num_rows, pa.large_string())
    if fields.id is not None:
        native = _ids(_needed(file, table, "id", fields.id, _is_scalar))
        reasons = dict.fromkeys(_rows_where(pc.is_null(native)), NO_ID.format(fields.id)) | reasons
    columns = {
        "text": text,
        "native_id": native,
        "created_at": _moments(_column(table, fields.created_at), table.num_rows),
        "engagement": _sum([_column(table, name) for name in fields.engagement], table.num_rows),
        "meta": _meta({name: _column(table, name) for name in fields.meta}, table.num_rows),
    }
    result = pa.Table.from_arrays([columns[f.name] for f in SCHEMA], schema=SCHEMA)
    if reasons:
        result = result.take(pa.array([row for row in range(table.num_rows) if row not in reasons], pa.int64()))
    return Records(result, sorted((int(numbers[row]), why) for row, why in reasons.items()))


def _needed(
    file: InputFile, table: pa.Table, key: str, name: str, fits: Callable[[pa.DataType], bool]
) -> pa.ChunkedArray:
    column = _column(table, name)
    remedy = f"put the name of your {key} column under fields.{key}"
    if column is None:
        raise RedoneError(f"{file.label}: there is no column '{name}'; {remedy}")
    if not fits(column.type):
        raise RedoneError(f"{file.label}: column '{name}' holds {column.type}, which cannot be the {key}; {remedy}")
    return column


def _is_textual(kind: pa.DataType) -> bool:
    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(check(kind) for check in checks)


def _is_scalar(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_boolean(kind))


def _rows_where(mask: pa.ChunkedArray) -> list[int]:
    rows: list[int] = pc.indices_nonzero(mask).to_pylist()
    return rows


def _texts_of(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, list[int]]:
    """A textual column as large_string, and its rows that are not UTF-8, which become null.

    Arrow checks a whole column at once; rows are looked at only when it complains.
    """
    data = column.cast(pa.large_binary())
    try:
        return data.cast(pa.large_string()), []
    except pa.ArrowInvalid:
        spoilt = [row for row, value in enumerate(data) if value.is_valid and not _is_utf8(value.as_py())]
        mask = np.zeros(len(data), dtype=bool)
        mask[spoilt] = True
        return pc.if_else(pa.array(mask), None, data).cast(pa.large_string()), spoilt


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of ids as text; null where it holds none."""
    if _is_textual(column.type):
        text, _ = _texts_of(column)
        return pc.if_else(pc.equal(text, ""), None, text)
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        exact = pc.and_(pc.less(pc.abs(column), EXACT_FLOAT), pc.equal(pc.round(column), column))
        column = pc.if_else(exact, column, None).cast(pa.int64())
    return column.cast(pa.large_string())


def _moments(column: pa.ChunkedArray | None, num_rows: int) -> pa.Array | pa.ChunkedArray:
    kind = SCHEMA.field("created_at").type
    if column is None:
        return pa.nulls(num_rows, kind)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return pc.cast(column, options=pc.CastOptions(target_type=kind, allow_time_truncate=True))
    if _is_textual(column.type):
        column, _ = _texts_of(column)
    return pa.array([_timestamp(value) for value in column.to_pylist()], kind)


def _sum(columns: list[pa.ChunkedArray | None], num_rows: int) -> pa.Array | pa.ChunkedArray:
    """The sum of what is a finite number in each row; null where nothing is."""
    total: Any = pa.nulls(num_rows, pa.float64())
    for column in columns:
        numbers = None if column is None else _numbers(column)
        if numbers is not None:
            total = pc.if_else(pc.is_null(total), numbers, pc.add(total, pc.fill_null(numbers, 0.0)))
    return pc.if_else(pc.is_finite(total), total, None)


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """A column as numbers, null where it holds none; None when its type has none."""
    if _is_textual(column.type):
        text, _ = _texts_of(column)
        column = pc.if_else(pc.match_substring_regex(text, rf"\A(?:{NUMBER})\z"), text, None)
    elif not (
        pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    ):
        return None
    numbers = pc.cast(column, pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(numbers), numbers, None)


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
