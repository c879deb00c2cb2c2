"""The records of a table's files: JSON lines, JSON, CSV, Parquet, lines of text, each also .gz or .zst.

A line of text is a record of `text` and `file`, the file's name: where labels are files (pos.txt, neg.txt), it tells.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from redone_data.curate.records import open_input
from redone_data.curate.sources import InputFile
from redone_data.errors import RedoneError
from redone_data.instruct.columns import ABSENT, lookup
from redone_data.instruct.conversation import stream_lines

_BLANK = re.compile(rb"\s*")


def place_name(file: InputFile) -> str:
    return "line" if file.format == "jsonl" else "row"


def records(file: InputFile, explode: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line or row from 1, record) of a file; those of the list under `explode` have it as `item`."""
    read = _READERS.get(file.format)
    if read is None:
        raise RedoneError(f"{file.label}: format {file.format} is no table; allowed: {', '.join(sorted(_READERS))}")
    try:
        for place, record in read(file):
            if not isinstance(record, dict):
                raise RedoneError(f"{file.label} {place_name(file)} {place}: a JSON object is expected")
            if explode is None:
                yield place, record
                continue
            items = lookup(record, explode)
            if items is ABSENT or items is None:
                continue
            if not isinstance(items, list):
                raise RedoneError(f"{file.label} {place_name(file)} {place}: explode: '{explode}' is not a list")
            for item in items:
                yield place, {**record, "item": item}
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RedoneError(f"{file.label}: cannot be read as {file.format}: {reason}") from None


def _json_lines(file: InputFile) -> Iterator[tuple[int, Any]]:
    with open_input(file.path) as stream:
        for number, line in enumerate(stream_lines(stream), 1):
            if _BLANK.fullmatch(line):
                continue
            try:
                yield number, orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise RedoneError(f"{file.label} line {number}: not valid JSON: {error}") from None


def _json_array(file: InputFile) -> Iterator[tuple[int, Any]]:
    with open_input(file.path) as stream:
        try:
            records = orjson.loads(stream.read())
        except orjson.JSONDecodeError as error:
            raise RedoneError(f"{file.label} line {error.lineno}: not valid JSON: {error.msg}") from None
    if isinstance(records, dict) and all(isinstance(value, dict) for value in records.values()):
        records = list(records.values())  # an object of records, by name
    if not isinstance(records, list):
        raise RedoneError(f"{file.label}: a JSON array of objects is expected; for an object a line set format: jsonl")
    yield from enumerate(records, 1)


def _csv(file: InputFile) -> Iterator[tuple[int, Any]]:
    separator = "\t" if ".tsv" in Path(file.path).suffixes else ","
    with open_input(file.path) as stream:
        frame = pl.read_csv(stream.read(), separator=separator, infer_schema=False)
    yield from enumerate(frame.iter_rows(named=True), 2)


def _parquet(file: InputFile) -> Iterator[tuple[int, Any]]:
    yield from enumerate(pl.read_parquet(file.path).iter_rows(named=True), 1)


def _text(file: InputFile) -> Iterator[tuple[int, Any]]:
    name = Path(file.path).name
    with open_input(file.path) as stream:
        for number, line in enumerate(stream_lines(stream), 1):
            if not _BLANK.fullmatch(line):
                yield number, {"text": line.decode("utf-8-sig", errors="replace").strip(), "file": name}


_READERS = {"jsonl": _json_lines, "json": _json_array, "csv": _csv, "parquet": _parquet, "text": _text}
