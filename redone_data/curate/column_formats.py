"""Formats with columns: Parquet and CSV. No record becomes a Python object, but for its meta fields."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from redone_data.curate.embeddings import holds_vectors, vectors_of_column
from redone_data.curate.records import (
    BLOCK_BYTES,
    EXACT_FLOAT,
    NO_ID,
    NUMBER,
    SCHEMA,
    Records,
    Span,
    id_prefix,
    open_input,
    table_of,
    timestamp,
    too_long_reason,
)
from redone_data.curate.sources import FieldsConfig, InputFile, SourceConfig
from redone_data.errors import RedoneError, did_you_mean

MAX_BATCH_ROWS = 16_384
READ_AHEAD_BYTES = 1 << 20
# Cutting a row group into n pieces decodes it (n + 1) / 2 times: a quarter of all work at this many.
MAX_PIECES_OF_ROW_GROUP = 8


def read_parquet(
    file: InputFile, source: SourceConfig, max_record_bytes: int, span: Span | None = None
) -> Iterator[Records]:
    """The rows of the span; those before it in its first row group are decoded as well, 1.8 ms/MB, and left."""
    wanted = source.fields
    # Buffered: the compressed column of a row group, which may be gigabytes, is never held whole.
    with pq.ParquetFile(file.path, buffer_size=READ_AHEAD_BYTES) as parquet:
        names = parquet.schema_arrow.names
        _check_names(file, wanted, names)
        roots = _roots(wanted, names)
        groups = [group for group in _row_groups(parquet.metadata, roots) if span is None or group.overlaps(*span)]
        if not groups:
            return
        at = groups[0].first
        start, end = span or (at, groups[-1].end)
        longest = max(group.num_bytes // max(1, group.end - group.first) for group in groups)
        batch_rows = max(1, min(MAX_BATCH_ROWS, BLOCK_BYTES // max(1, longest)))
        numbers = [group.number for group in groups]
        # Tasks are what runs in parallel.
        for batch in parquet.iter_batches(batch_rows, row_groups=numbers, columns=roots, use_threads=False):
            first, last = max(start, at), min(end, at + batch.num_rows)
            if first < last:
                table = pa.table(batch.slice(first - at, last - first))
                yield _from_columns(file, table, np.arange(first + 1, last + 1), wanted, max_record_bytes)
            at += batch.num_rows
            if at >= end:
                return


def parquet_spans(path: str, fields: FieldsConfig, piece_bytes: int) -> list[Span]:
    """A file in runs of row groups of about `piece_bytes` on disk in the wanted columns; none for a file without rows.

    A row group twice as large is cut by rows, into a few pieces only: each must decode it up to its own first row.
    """
    with pq.ParquetFile(path) as parquet:
        groups = _row_groups(parquet.metadata, _roots(fields, parquet.schema_arrow.names))
    spans: list[Span] = []
    room = 0
    for group in groups:
        if spans and group.stored_bytes <= room:
            spans[-1] = (spans[-1][0], group.end)
            room -= group.stored_bytes
            continue
        num_rows = group.end - group.first
        num_pieces = max(1, min(MAX_PIECES_OF_ROW_GROUP, num_rows, group.stored_bytes // piece_bytes))
        spans += pairwise(group.first + num_rows * i // num_pieces for i in range(num_pieces + 1))
        room = piece_bytes - group.stored_bytes
    return [(first, end) for first, end in spans if first < end]


class _RowGroup(NamedTuple):
    """Its rows [first, end), and the bytes of the wanted columns: decoded, and as stored."""

    number: int
    first: int
    end: int
    num_bytes: int
    stored_bytes: int

    def overlaps(self, start: int, end: int) -> bool:
        return self.first < end and start < self.end


def _row_groups(metadata: pq.FileMetaData, roots: list[str]) -> list[_RowGroup]:
    groups = []
    first = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(i) for i in range(group.num_columns)]
        wanted = [c for c in columns if any(f"{c.path_in_schema}.".startswith(f"{root}.") for root in roots)]
        num_bytes = sum(column.total_uncompressed_size for column in wanted)
        stored_bytes = sum(column.total_compressed_size for column in wanted)
        groups.append(_RowGroup(number, first, first + group.num_rows, num_bytes, stored_bytes))
        first += group.num_rows
    return groups


def _roots(fields: FieldsConfig, names: list[str]) -> list[str]:
    """The columns that hold the wanted fields: ``meta.score`` is in ``meta``, unless a column has that very name."""
    return sorted({name if name in names else name.split(".")[0] for name in _wanted_names(fields)} & set(names))


def read_csv(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    """Rows are numbered as lines are: the header is row 1, and a row with line breaks in quotes is one row."""
    bad: list[tuple[int, str]] = []

    def skip(row: Any) -> str:
        bad.append((row.number or 0, f"{row.actual_columns} columns where the header has {row.expected_columns}"))
        return "skip"

    with open_input(file.path) as stream:
        if not stream.read(1):
            return
    delimiter = source.delimiter or ("\t" if ".tsv" in Path(file.path).suffixes else ",")
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    # One thread: only then does pyarrow give the number of a bad row.
    read = pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
    with (
        open_input(file.path) as stream,
        pyarrow.csv.open_csv(stream, read_options=read, parse_options=parse) as reader,
    ):
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
        open_input(file.path) as stream,
        pyarrow.csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert) as reader,
    ):
        for batch in reader:
            rows = _row_numbers(num_good, batch.num_rows, [number for number, _ in bad])
            records = _from_columns(file, pa.table(batch), rows, source.fields, max_record_bytes)
            yield Records(records.table, sorted(records.bad + bad[num_told:]))
            num_good, num_told = num_good + batch.num_rows, len(bad)
    if bad[num_told:]:
        yield Records(table_of({}, 0), bad[num_told:])


def _row_numbers(first: int, count: int, skipped: list[int]) -> npt.NDArray[np.int64]:
    """Numbers of the rows `first`, `first` + 1, ... of those that were not skipped, where the header is row 1."""
    good_before = np.array(skipped, dtype=np.int64) - 2 - np.arange(len(skipped))
    good = np.arange(first, first + count)
    return good + 2 + np.searchsorted(good_before, good, side="right")


def _wanted_names(fields: FieldsConfig) -> list[str]:
    optional = [name for name in (fields.id, fields.created_at) if name is not None]
    parents = [parent.name for parent in fields.parent]
    vectors = [] if fields.embedding is None else [fields.embedding.name]
    return [fields.text, *optional, *fields.engagement, *fields.meta, *parents, *vectors]


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
    reasons |= dict.fromkeys(_rows_where(too_long), too_long_reason(max_record_bytes))
    native: pa.Array | pa.ChunkedArray = pa.nulls(table.num_rows, pa.large_string())
    if fields.id is not None:
        native = _ids(_needed(file, table, "id", fields.id, _is_scalar))
        reasons = dict.fromkeys(_rows_where(pc.is_null(native)), NO_ID.format(fields.id)) | reasons
    vectors: pa.Array = pa.nulls(table.num_rows, pa.large_binary())
    if fields.embedding is not None:
        column = _needed(file, table, "embedding", fields.embedding.name, holds_vectors)
        vectors, unfit = vectors_of_column(column, fields.embedding)
        reasons = unfit | reasons
    columns = {
        "text": text,
        "native_id": native,
        "created_at": _moments(_column(table, fields.created_at), table.num_rows),
        "engagement": _sum([_column(table, name) for name in fields.engagement], table.num_rows),
        "meta": _meta({name: _column(table, name) for name in fields.meta}, table.num_rows),
        "parent": _parents(table, fields),
        "embedding": vectors,
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


def _parents(table: pa.Table, fields: FieldsConfig) -> pa.Array | pa.ChunkedArray:
    result: Any = pa.nulls(table.num_rows, pa.large_string())
    for parent in fields.parent:
        column = _column(table, parent.name)
        if column is not None and _is_scalar(column.type):
            before = pa.scalar(id_prefix(parent.source) + parent.prefix, pa.large_string())
            empty = pa.scalar("", pa.large_string())
            result = pc.coalesce(result, pc.binary_join_element_wise(before, _ids(column), empty))
    return result


def _moments(column: pa.ChunkedArray | None, num_rows: int) -> pa.Array | pa.ChunkedArray:
    kind = SCHEMA.field("created_at").type
    if column is None:
        return pa.nulls(num_rows, kind)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return pc.cast(column, options=pc.CastOptions(target_type=kind, allow_time_truncate=True))
    if _is_textual(column.type):
        column, _ = _texts_of(column)
    return pa.array([timestamp(value) for value in column.to_pylist()], kind)


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
