"""Formats whose records are objects: JSON lines, JSON, text, WARC, Hugging Face datasets.

Rows are parsed by libraries (orjson, datatrove); this is the one place where a record is a Python object.
"""

import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from redone_data.curate.embeddings import vectors_of_lists
from redone_data.curate.records import (
    BLOCK_BYTES,
    EXACT_FLOAT,
    NO_ID,
    NUMBER,
    Records,
    Span,
    id_prefix,
    open_input,
    table_of,
    timestamp,
    too_long_reason,
)
from redone_data.curate.sources import FieldsConfig, InputFile, ParentConfig, SourceConfig
from redone_data.errors import RedoneError

OBJECTS_AT_A_TIME, BATCH_ROWS = 500, 10_000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PAGE = re.compile(r"<\s*(?:!doctype|html|head|body|title|meta|div|p)\b", re.IGNORECASE)


def read_jsonl(
    file: InputFile, source: SourceConfig, max_record_bytes: int, span: Span | None = None
) -> Iterator[Records]:
    for first, lines in _lines(file.path, max_record_bytes, span):
        objects, places, bad = [], [], []
        for number, line in enumerate(lines, first):
            if line is None:
                bad.append((number, too_long_reason(max_record_bytes)))
                continue
            try:
                objects.append(orjson.loads(line))
                places.append(number)
            except orjson.JSONDecodeError:
                if line.strip():
                    bad.append((number, _json_fault(line)))
        yield replace(_records_of(objects, places, bad, source.fields), num_lines=len(lines))


def _lines(path: str, max_bytes: int, span: Span | None = None) -> Iterator[tuple[int, list[bytes | None]]]:
    """Blocks of lines with the number of their first line; a line over `max_bytes` is None, and never held whole.

    A line ends at ``\\n`` only: U+2028 and its kin occur inside posts.
    """
    first, rest, too_long = 1, b"", False
    for block in _blocks(path, span):
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
    if rest or too_long:
        yield first, [None if too_long or len(rest) > max_bytes else rest]


def _blocks(path: str, span: Span | None) -> Iterator[bytes]:
    """A file's bytes; of a span, those of the lines that begin in it, wherever they end.

    A byte order mark is no part of the first line.
    """
    start, end = span or (0, sys.maxsize)
    with open_input(path) as stream:
        # The byte before tells whether a line begins at `start`.
        position, begun = max(0, start - 1), start == 0
        if position:
            stream.seek(position)
        while block := stream.read(BLOCK_BYTES):
            if not begun:
                begin = block.find(b"\n") + 1
                begun, position, block = begin > 0, position + (begin or len(block)), block[begin:] if begin else b""
                if position >= end:
                    return
            last = block.find(b"\n", max(0, end - 1 - position)) + 1
            found = block[:last] if last else block
            yield found if position else found.removeprefix(BYTE_ORDER_MARK)
            if last:
                return
            position += len(block)


def _json_fault(line: bytes) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "not valid UTF-8"
    return "not valid JSON"


def read_text(
    file: InputFile, source: SourceConfig, max_record_bytes: int, span: Span | None = None
) -> Iterator[Records]:
    if source.unit == "file":
        with open_input(file.path) as stream:
            data = stream.read(max_record_bytes + 1)
        if data.strip():
            yield _texts([(1, data if len(data) <= max_record_bytes else None)], max_record_bytes, 1)
        return
    for first, lines in (
        _lines(file.path, max_record_bytes, span) if source.unit == "line" else _paragraphs(file.path, max_record_bytes)
    ):
        numbered = [(number, line) for number, line in enumerate(lines, first) if line is None or line.strip()]
        yield _texts(numbered, max_record_bytes, len(lines))


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


def _texts(numbered: list[tuple[int, bytes | None]], max_bytes: int, num_lines: int) -> Records:
    texts, bad = [], []
    for number, line in numbered:
        if line is None:
            bad.append((number, too_long_reason(max_bytes)))
            continue
        try:
            texts.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            bad.append((number, "not valid UTF-8"))
    columns: dict[str, Any] = {"text": texts}
    return Records(table_of(columns, len(texts)), bad, num_lines)


def read_json(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    """One JSON document: an array of records, or an object whose values are records. Held in memory."""
    with open_input(file.path) as stream:
        data = stream.read().removeprefix(BYTE_ORDER_MARK)
    try:
        values = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RedoneError(f"{file.label}: not valid JSON: {error}; JSON lines need format: jsonl") from None
    records = list(values.values()) if isinstance(values, dict) else values
    if not isinstance(records, list):
        raise RedoneError(f"{file.label}: expected an array or an object of records")
    yield from _from_objects(iter(enumerate(records, 1)), source, max_record_bytes)


def read_warc(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
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


def read_dataset(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
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


def _from_objects(
    numbered: Iterator[tuple[int, Any]], source: SourceConfig, max_record_bytes: int
) -> Iterator[Records]:
    few: list[Records] = []
    for records in _few_objects(numbered, source.fields, max_record_bytes):
        few.append(records)
        if sum(one.table.nbytes for one in few) >= BLOCK_BYTES or sum(one.num_seen for one in few) >= BATCH_ROWS:
            yield _together(few)
            few = []
    yield _together(few)


def _together(few: list[Records]) -> Records:
    tables = [one.table for one in few]
    return Records(pa.concat_tables(tables) if tables else table_of({}, 0), [bad for one in few for bad in one.bad])


def _few_objects(numbered: Iterator[tuple[int, Any]], fields: FieldsConfig, max_record_bytes: int) -> Iterator[Records]:
    # Few at a time: what else is in an object (an image) may be far larger than its text.
    objects, places, bad, held = list[Any](), list[int](), list[tuple[int, str]](), 0
    for number, record in numbered:
        text = _lookup(record, fields.text)
        size = len(text.encode("utf-8", "replace")) if isinstance(text, str) else 0
        if size > max_record_bytes:
            bad.append((number, too_long_reason(max_record_bytes)))
        else:
            objects.append(record)
            places.append(number)
            held += size
        if held >= BLOCK_BYTES or len(objects) + len(bad) >= OBJECTS_AT_A_TIME:
            yield _records_of(objects, places, bad, fields)
            objects, places, bad, held = [], [], [], 0
    yield _records_of(objects, places, bad, fields)


def _records_of(objects: list[Any], places: list[int], bad: list[tuple[int, str]], fields: FieldsConfig) -> Records:
    """The wanted fields of parsed records with their places; what is malformed joins the `bad` ones.

    Field by field, not record by record: of the usual source that is two list comprehensions.
    """
    bad = [*bad]
    texts = _values(objects, fields.text)
    natives = None if fields.id is None else _id_texts(_values(objects, fields.id))
    vectors, unfit = None, dict[int, str]()
    if fields.embedding is not None:
        vectors, unfit = vectors_of_lists(_values(objects, fields.embedding.name), fields.embedding)
    if not set(map(type, texts)) <= {str} or (natives is not None and None in natives) or unfit:
        good = []
        for row, (record, text) in enumerate(zip(objects, texts, strict=True)):
            fault = _fault(record, text, fields)
            if fault is None and natives is not None and natives[row] is None:
                fault = NO_ID.format(fields.id)
            fault = fault or unfit.get(row)
            if fault is None:
                good.append(row)
            else:
                bad.append((places[row], fault))
        objects, texts = [objects[row] for row in good], [texts[row] for row in good]
        natives = None if natives is None else [natives[row] for row in good]
        vectors = None if vectors is None else vectors.take(pa.array(good, pa.int64()))
    columns: dict[str, Any] = {"text": texts}
    if natives is not None:
        columns["native_id"] = natives
    if fields.created_at is not None:
        columns["created_at"] = [timestamp(value) for value in _values(objects, fields.created_at)]
    if fields.engagement:
        counts = zip(*(_values(objects, name) for name in fields.engagement), strict=True)
        columns["engagement"] = [_total(row) for row in counts]
    if fields.meta:
        columns["meta"] = [_meta(record, fields.meta) for record in objects]
    if fields.parent:
        columns["parent"] = [_parent(record, fields.parent) for record in objects]
    if vectors is not None:
        columns["embedding"] = vectors
    return Records(table_of(columns, len(texts)), sorted(bad))


def _fault(record: Any, text: Any, fields: FieldsConfig) -> str | None:
    if not isinstance(record, dict):
        return "not a JSON object"
    if text is None:
        return f"field '{fields.text}' is missing (has: {', '.join(sorted(map(str, record))[:12])})"
    return None if isinstance(text, str) else f"field '{fields.text}' is not text"


def _total(values: tuple[Any, ...]) -> float | None:
    """The sum of the finite numbers there are; None where there are none, or it is not finite itself."""
    numbers = [count for value in values if (count := _count(value)) is not None]
    return _count(sum(numbers)) if numbers else None


def _meta(record: dict[str, Any], names: tuple[str, ...]) -> str | None:
    meta = {name: value for name in names if (value := _lookup(record, name)) is not None}
    return json.dumps(meta, ensure_ascii=False, sort_keys=True, default=str) if meta else None


def _parent(record: dict[str, Any], parents: tuple[ParentConfig, ...]) -> str | None:
    for parent in parents:
        native = _id_text(_lookup(record, parent.name))
        if native is not None:
            return id_prefix(parent.source) + parent.prefix + native
    return None


def _values(objects: list[Any], path: str) -> list[Any]:
    """What each object has at the path; None where it has nothing, or is no object."""
    if "." in path or not set(map(type, objects)) <= {dict}:
        return [_lookup(record, path) for record in objects]
    return [record.get(path) for record in objects]


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


def _id_texts(values: list[Any]) -> list[str | None]:
    kinds = set(map(type, values))
    if kinds <= {str} and "" not in values:
        return values
    return list(map(str, values)) if kinds <= {int} else [_id_text(value) for value in values]


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
