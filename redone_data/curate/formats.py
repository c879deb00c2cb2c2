"""Raw files -> record batches: one reader a format, all with the same result.

Formats whose records are objects are parsed one by one (record_formats.py), those with columns column by column
(column_formats.py). Cost: 10 ms/MB of text for JSON lines, four fifths of it orjson, and 2 ms/MB for Parquet.

A large file is read in spans, each by a task of its own, where the format tells without reading on where a record
begins: Parquet by its row groups, lines by their ends. The others stay whole: a line break in a CSV file may be inside
quotes, and what is compressed, or one JSON document, has no beginning but the first.
"""

import contextlib
from collections.abc import Callable, Iterator

import pyarrow as pa

from redone_data.curate.column_formats import parquet_spans, read_csv, read_parquet
from redone_data.curate.record_formats import read_dataset, read_json, read_jsonl, read_text, read_warc
from redone_data.curate.records import BLOCK_BYTES, Records, Span, compression_of
from redone_data.curate.sources import InputFile, SourceConfig
from redone_data.errors import RedoneError


def spans_of(file: InputFile, source: SourceConfig, piece_bytes: int) -> list[Span | None]:
    """A file in pieces of about `piece_bytes` on disk, told from the file alone; None is the file whole.

    Every record is in one span, and read the same in it as in the whole file. Lines cost nothing to cut, Parquet the
    reading of its footer. Raises RedoneError when that cannot be read.
    """
    if file.num_bytes <= piece_bytes:
        return [None]
    if file.format == "parquet":
        with _errors_named(file):
            spans = parquet_spans(file.path, source.fields, piece_bytes)
        return [*spans] if len(spans) > 1 else [None]
    lines = file.format == "jsonl" or (file.format == "text" and source.unit == "line")
    if not lines or compression_of(file.path) is not None:
        return [None]
    count = -(-file.num_bytes // piece_bytes)
    return [(file.num_bytes * i // count, file.num_bytes * (i + 1) // count) for i in range(count)]


def read_file(
    file: InputFile, source: SourceConfig, max_record_bytes: int, span: Span | None = None
) -> Iterator[Records]:
    """Read one input file, or a span of it, in batches of about 8 MB.

    Raises RedoneError when the file itself cannot be read (missing, truncated, not what its format says).
    """
    with _errors_named(file):
        if span is None:
            yield from READERS[file.format](file, source, max_record_bytes)
        else:
            yield from SPAN_READERS[file.format](file, source, max_record_bytes, span)


READERS: dict[str, Callable[[InputFile, SourceConfig, int], Iterator[Records]]] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "parquet": read_parquet,
    "csv": read_csv,
    "text": read_text,
    "warc": read_warc,
    "huggingface": read_dataset,
}
SPAN_READERS: dict[str, Callable[[InputFile, SourceConfig, int, Span], Iterator[Records]]] = {
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "text": read_text,
}


@contextlib.contextmanager
def _errors_named(file: InputFile) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, pa.ArrowInvalid) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "straddles two block boundaries" in reason:
            reason = f"a row is longer than {BLOCK_BYTES >> 20} MB, or a quote is never closed"
        raise RedoneError(
            f"{file.label}: cannot be read as {file.format}: {reason}; replace the file or leave it out"
        ) from None
