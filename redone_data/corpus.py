"""A corpus: parts of documents in one global order, which attributes follow row by row.

The order of parts is (domain, source, hash of the input's content), so it depends on what was read and not on how the
files were named or listed. A document's global row is its part's offset plus its row; an id is made from the source and
the platform's own id (or the text), so it survives re-reading and re-ordering.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.engine import Output
from redone_data.errors import RedoneError

# The parts that `read` writes. key_*: hash of (source, native id or text), of which ids are made; text_*: of the text.
CORPUS_SCHEMA = pa.schema(
    [
        ("key_hi", pa.uint64()),
        ("key_lo", pa.uint64()),
        ("text_hi", pa.uint64()),
        ("text_lo", pa.uint64()),
        ("text", pa.large_string()),
        ("num_bytes", pa.int32()),
        ("domain", pa.string()),
        ("source", pa.string()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("engagement", pa.float64()),
        ("meta", pa.large_string()),
        ("native_id", pa.large_string()),
    ]
)

# The parts that `keep` writes: the curated corpus.
CURATED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("domain", pa.string()),
        ("source", pa.string()),
        ("lang", pa.string()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("engagement", pa.float64()),
        ("meta", pa.large_string()),
        ("split", pa.string()),
        ("native_id", pa.large_string()),
    ]
)


@dataclass(frozen=True)
class Part:
    """One Parquet file of documents. `offset` is the global row of its first document;
    `named` says whether its documents came with ids of their own."""

    index: int
    path: Path
    domain: str
    source: str
    rows: int
    offset: int
    text_bytes: int
    named: bool

    def batches(self, columns: list[str], batch_rows: int = 50_000) -> Iterator[pa.RecordBatch]:
        """Stream some columns; memory is bounded by the batch."""
        with pq.ParquetFile(self.path) as file:
            # Tasks are what runs in parallel.
            yield from file.iter_batches(batch_size=batch_rows, columns=columns, use_threads=False)

    def read(self, columns: list[str]) -> pa.Table:
        return pq.read_table(self.path, columns=columns, use_threads=False)

    def beside(self, suffix: str) -> Path:
        """A file that `read` wrote beside the part."""
        return self.path.with_name(self.path.name.removesuffix(".parquet") + suffix)


@dataclass(frozen=True)
class Corpus:
    """All parts of a run, in global order."""

    parts: tuple[Part, ...]
    fingerprint_of_folder: dict[str, str]

    @classmethod
    def of(cls, outputs: Iterable[Output]) -> "Corpus":
        """The corpus of finished `read` steps; their order does not matter."""
        ordered = sorted(
            outputs, key=lambda o: (o.manifest["config"]["domain"], o.manifest["config"]["source_name"], o.folder.name)
        )
        parts: list[Part] = []
        offset = 0
        for output in ordered:
            config = output.manifest["config"]
            for described in (part for task in output.tasks for part in task["parts"]):
                path = output.folder / described["file"]
                parts.append(
                    Part(
                        len(parts),
                        path,
                        config["domain"],
                        config["source_name"],
                        described["rows"],
                        offset,
                        described["text_bytes"],
                        described["named"],
                    )
                )
                offset += described["rows"]
        return cls(tuple(parts), {output.folder.name: output.fingerprint for output in ordered})

    @property
    def num_rows(self) -> int:
        return self.parts[-1].offset + self.parts[-1].rows if self.parts else 0

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(sorted({part.domain for part in self.parts}))

    def inputs(self) -> dict[str, str]:
        return {f"read{i:05d}": value for i, value in enumerate(self.fingerprint_of_folder.values())}


def folder_of(domain: str) -> str:
    """A domain's name as a folder name: nothing in it can climb out of the run's folder.

    >>> folder_of("tweet/hate")
    'tweet%2Fhate'
    """
    return quote(domain, safe="")


# Percent-encoded; a file system's limit is 255 bytes, and writing aside takes some of it.
MAX_FOLDER_NAME = 230


def check_domain_name(domain: str) -> None:
    """Names become folders, table columns and labels: printable, not hidden, not endless."""
    if (
        not domain
        or len(domain) > 80
        or len(folder_of(domain)) > MAX_FOLDER_NAME
        or domain[0] in ".-"
        or not domain.isprintable()
        or "," in domain
        or '"' in domain
    ):
        raise RedoneError(
            f"the domain name {domain!r} is not allowed: up to 80 letters (25 Chinese characters), "
            "no comma or quote, not starting with . or -"
        )
