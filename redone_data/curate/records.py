"""What every reader yields: columns of readable records, and what could not be read with its place and reason."""

import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from redone_data.curate.sources import COMPRESSION_OF_SUFFIX

BLOCK_BYTES = 8 << 20
# Floats below it are exact whole numbers; an id that reached us as a larger one is another document's id as well.
EXACT_FLOAT = 2.0**53
NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
MOMENT = re.compile(r"-?[0-9]{9,}(?:\.[0-9]+)?")
NO_ID = "field '{}' (id) is missing, empty, or neither text nor an exact whole number"

SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("native_id", pa.large_string()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("engagement", pa.float64()),
        ("meta", pa.large_string()),
        ("parent", pa.large_string()),
        ("embedding", pa.large_binary()),
    ]
)


def id_prefix(source: str) -> str:
    """What stands before a platform's id in the text whose hash is the document's id."""
    return f"{source}\x1fid\x1f"


# A stretch of a file, [first, end): rows of Parquet, bytes of a format of lines. A line is in the one it begins in.
Span = tuple[int, int]


@dataclass
class Records:
    """Readable records as a table of :data:`SCHEMA`, and the unreadable ones as (place, reason).

    The place is a row or line of the file, but a line of the span where one is read; `num_lines` leads to the file's.
    """

    table: pa.Table
    bad: list[tuple[int, str]] = field(default_factory=list)
    num_lines: int = 0

    @property
    def num_seen(self) -> int:
        return int(self.table.num_rows) + len(self.bad)


def compression_of(path: str) -> str | None:
    return COMPRESSION_OF_SUFFIX.get(Path(path).suffix)


def open_input(path: str) -> pa.NativeFile:
    return pa.input_stream(path, compression=compression_of(path))


def table_of(columns: dict[str, Any], num_rows: int) -> pa.Table:
    arrays = [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(num_rows, f.type) for f in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def too_long_reason(max_record_bytes: int) -> str:
    return f"longer than read.max_record_bytes ({max_record_bytes})"


def timestamp(value: Any) -> datetime.datetime | None:
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
