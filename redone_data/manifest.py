"""Files that appear whole or not at all, and the hashes that name them.

Everything written is written aside (``.NAME.tmp-PID``) and renamed; a manifest is written last, so that a folder with a
manifest is complete. JSON is canonical (sorted keys), so that equal content is equal bytes.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redone_data.errors import RedoneError

MANIFEST = "manifest.json"
ASIDES = ".*.tmp-*"  # what a killed writer leaves, as a glob
_HASH_BLOCK = 1 << 20


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, non-finite numbers refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            checksum.update(block)
    return checksum.hexdigest()


def folder_stamp(folder: Path) -> str:
    """A hash that changes when a file of the folder does, by names, sizes and times: gigabytes need not be read."""
    files = [(str(path.relative_to(folder)), path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return digest([[name, status.st_size, status.st_mtime_ns] for name, status in files])


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write to; renamed to `path` when the block ends well, removed when it does not."""
    aside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise RedoneError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable, canonical JSON, atomically."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value in a JSON file that this project wrote."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise RedoneError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RedoneError(f"{path}: not valid JSON: {error}") from None


def link(source: Path, target: Path) -> None:
    """Show a finished file under a second name: a hard link, or a copy where the file system has none.

    Finished files are never changed in place, so a link is as safe as a copy and costs nothing.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        with atomic(target) as aside:
            shutil.copyfile(source, aside)
