"""Where raw text comes from: source configuration, and the input files it names.

Input files are ordered by their content's hash, never by name: renaming or re-ordering them changes nothing.
"""

import glob
import importlib.util
import os
import re
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from redone_data.curate.datatrove_blocks import FormatterConfig
from redone_data.errors import RedoneError
from redone_data.manifest import file_digest

Format = Literal["jsonl", "json", "parquet", "csv", "text", "warc", "huggingface"]

# Suffix -> format, after a compression suffix is taken off.
FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".md": "text",
    ".py": "text",
    ".warc": "warc",
    ".wet": "warc",
}
COMPRESSION_OF_SUFFIX = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True)
class ParentConfig:
    """Where a record says which document it answers: a comment's note, a reply's comment, the note a query led to."""

    name: str = field(metadata={"help": "the field with the id of that document"})
    source: str = field(metadata={"help": "the name of the source that document comes from"})
    prefix: str = field(default="", metadata={"help": "what ids of that source begin with and this field leaves out"})

    def __post_init__(self) -> None:
        if not self.name or not self.source:
            raise RedoneError("name and source must not be empty")


@dataclass(frozen=True)
class EmbeddingConfig:
    """The vector that a record came with."""

    name: str = field(metadata={"help": "the field with it: a list of numbers"})
    dimensions: int = field(metadata={"help": "how many; a record with more or fewer is quarantined"})

    def __post_init__(self) -> None:
        if not self.name:
            raise RedoneError("name must not be empty")
        if self.dimensions < 1:
            raise RedoneError(f"dimensions: {self.dimensions}; at least 1 is needed")


@dataclass(frozen=True)
class FieldsConfig:
    """Which fields of a record hold what. A dot reaches into nested records: ``meta.score``."""

    text: str = field(default="text", metadata={"help": "the post itself"})
    id: str | None = field(
        default=None, metadata={"help": "the platform's id; without it the id is a hash of the text"}
    )
    created_at: str | None = field(default=None, metadata={"help": "ISO date and time, or seconds since 1970"})
    engagement: tuple[str, ...] = field(
        default=(), metadata={"help": "counts that are added up (likes, comments, ...)"}
    )
    meta: tuple[str, ...] = field(default=(), metadata={"help": "other fields to carry along, redacted like the text"})
    parent: tuple[ParentConfig, ...] = field(
        default=(), metadata={"help": "what a record answers: the first of these fields that has a value"}
    )
    embedding: EmbeddingConfig | None = field(
        default=None, metadata={"help": "a vector of each document, for split: {by: embeddings}"}
    )


@dataclass(frozen=True)
class SourceConfig:
    """One origin of a domain's documents."""

    paths: tuple[str, ...] = field(
        metadata={
            "help": "files or globs, relative to the recipe; package:NAME/... and stdlib:... reach installed files"
        }
    )
    name: str | None = field(
        default=None, metadata={"help": "provenance; part of every id. Default: the domain's name"}
    )
    format: Format | None = field(default=None, metadata={"help": "default: by the files' suffix"})
    fields: FieldsConfig = field(default_factory=FieldsConfig)
    unit: Literal["line", "paragraph", "file"] = field(
        default="line", metadata={"help": "what is a document in a text file"}
    )
    delimiter: str | None = field(default=None, metadata={"help": "csv: default ',' (tab for .tsv)"})
    replace: dict[str, str] = field(
        default_factory=dict, metadata={"help": "regular expression -> text, applied before anything else"}
    )
    formatters: tuple[FormatterConfig, ...] = field(
        default=(), metadata={"help": "datatrove's formatters, after replace: [{formatter: FTFYFormatter}]"}
    )
    whitespace: Literal["collapse", "keep"] | None = field(
        default=None, metadata={"help": "keep: for code; default: read.whitespace"}
    )
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "huggingface: load_dataset's arguments (name, split, revision, data_files)"},
    )

    def __post_init__(self) -> None:
        if not self.paths:
            raise RedoneError("paths: at least one path is needed")
        if self.delimiter is not None and len(self.delimiter.encode()) != 1:
            raise RedoneError(f"delimiter: {self.delimiter!r}; one ASCII character is allowed")
        for pattern in self.replace:
            _check_pattern(pattern)


def _check_pattern(pattern: str) -> None:
    import polars as pl

    try:
        pl.Series([""]).str.replace_all(pattern, "")
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RedoneError(
            f"replace: {pattern!r} is not a regular expression of Rust's regex syntax: {reason}"
        ) from None


@dataclass(frozen=True)
class InputFile:
    """One file of raw text, known by what is in it. `label` is the path as a person would name it."""

    path: str
    label: str
    format: Format
    num_bytes: int
    sha256: str


@dataclass
class DigestCache:
    """SHA-256 of input files, remembered by size and modification time so that a second run need not read them.

    The first run reads every input once for it: 0.8 ms/MB, several files at a time but one file by one core.
    """

    known: dict[str, list[Any]] = field(default_factory=dict)

    def digest(self, path: Path) -> str:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        remembered = self.known.get(str(path))
        if remembered is None or remembered[:2] != stamp:
            remembered = [*stamp, file_digest(path)]
            self.known[str(path)] = remembered
        digest: str = remembered[2]
        return digest


def resolve_inputs(source: SourceConfig, base: Path, where: str, cache: DigestCache) -> list[InputFile]:
    """The files a source names, in the order of their content hashes.

    Raises RedoneError when a pattern matches nothing, a file cannot be read, or a format cannot be told.
    """
    if source.format == "huggingface":
        return [_dataset_input(path, source, base) for path in source.paths]
    found: dict[Path, str] = {}
    for pattern in source.paths:
        matches = _matches(pattern, base, where)
        if not matches:
            raise RedoneError(
                f"{where}: no files matched {pattern!r} (looked in {base}); give a path or a glob of files"
            )
        found.update({path: _label(path, pattern, base) for path in matches})

    def described(item: tuple[Path, str]) -> InputFile:
        path, label = item
        try:
            size, sha256 = path.stat().st_size, cache.digest(path)
        except OSError as error:
            raise RedoneError(f"{path}: cannot be read: {error.strerror}") from None
        return InputFile(str(path), label, source.format or _format(path, where), size, sha256)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        inputs = list(pool.map(described, found.items()))
    return sorted(inputs, key=lambda item: (item.sha256, item.label))


def _matches(pattern: str, base: Path, where: str) -> list[Path]:
    kind, _, rest = pattern.partition(":")
    if kind == "package":
        package, _, rest = rest.partition("/")
        base, pattern = _package_folder(package, where), rest
    elif kind == "stdlib":
        base, pattern = Path(sysconfig.get_path("stdlib")), rest
    root = "" if os.path.isabs(pattern) else str(base)
    paths = glob.glob(os.path.join(glob.escape(root), pattern) if root else pattern, recursive=True)
    return [path for path in map(Path, sorted(paths)) if path.is_file()]


def _package_folder(package: str, where: str) -> Path:
    # find_spec of a top-level name locates a package without running any of its code.
    spec = importlib.util.find_spec(package) if re.fullmatch(r"\w+", package) else None
    if spec is None or not spec.submodule_search_locations:
        raise RedoneError(f"{where}: package '{package}' is not installed; pip install it, or 'redone[quickstart]'")
    return Path(next(iter(spec.submodule_search_locations)))


def _label(path: Path, pattern: str, base: Path) -> str:
    kind, colon, rest = pattern.partition(":")
    if kind == "package" and colon:
        package = rest.partition("/")[0]
        return f"package:{package}/{path.relative_to(_package_folder(package, ''))}"
    if kind == "stdlib" and colon:
        return f"stdlib:{path.relative_to(sysconfig.get_path('stdlib'))}"
    return os.path.relpath(path, base) if not os.path.isabs(pattern) else str(path)


def _format(path: Path, where: str) -> Format:
    suffixes = path.suffixes
    if suffixes and suffixes[-1] in COMPRESSION_OF_SUFFIX:
        suffixes = suffixes[:-1]
    if suffixes and suffixes[-1].lower() in FORMAT_OF_SUFFIX:
        return FORMAT_OF_SUFFIX[suffixes[-1].lower()]
    known = ", ".join(sorted(set(FORMAT_OF_SUFFIX.values())))
    raise RedoneError(f"{where}: the format of {path.name} cannot be told from its name; set format ({known})")


def _dataset_input(path: str, source: SourceConfig, base: Path) -> InputFile:
    # A hub dataset is known by name, options and revision; a local folder by its files as well.
    from redone_data.manifest import digest

    folder = base / path
    contents = []
    if folder.is_dir():
        contents = [[str(p.relative_to(folder)), file_digest(p)] for p in sorted(folder.rglob("*")) if p.is_file()]
        path_used = str(folder)
    else:
        path_used = path
    return InputFile(path_used, path, "huggingface", 0, digest([path, source.options, contents]))
