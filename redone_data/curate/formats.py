"""Raw files -> record batches: one reader a format, all with the same result.

Formats whose records are objects are read one record at a time (record_formats.py), those with columns column by column
(column_formats.py). Cost: 150 MB/s a core for JSON lines, 1 GB/s for Parquet (docs/curation.md).
"""

from collections.abc import Callable, Iterator

import pyarrow as pa

from redone_data.curate.column_formats import read_csv, read_parquet
from redone_data.curate.record_formats import read_dataset, read_json, read_jsonl, read_text, read_warc
from redone_data.curate.records import BLOCK_BYTES, Records
from redone_data.curate.sources import InputFile, SourceConfig
from redone_data.errors import RedoneError


def read_file(file: InputFile, source: SourceConfig, max_record_bytes: int) -> Iterator[Records]:
    """Read one input file in batches of about 8 MB.

    Raises RedoneError when the file itself cannot be read (missing, truncated, not what its format says).
    """
    readers: dict[str, Callable[[InputFile, SourceConfig, int], Iterator[Records]]] = {
        "jsonl": read_jsonl,
        "json": read_json,
        "parquet": read_parquet,
        "csv": read_csv,
        "text": read_text,
        "warc": read_warc,
        "huggingface": read_dataset,
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
