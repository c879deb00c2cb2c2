"""Checkpoints as folders that are whole or not there: OUTPUT/checkpoints/step-N.

A checkpoint is written aside (`.step-N.tmp`), flushed and hashed, gets its mark `checkpoint.json` last, and is then
renamed: what bears the name step-N was complete once. Whoever reads one compares it with its mark: the sizes of all
files (microseconds), and by default their SHA-256 (1.4 GB/s a process, benchmarks/checkpoints.py; ranks
share the files), so that the pickles that Transformers and DeepSpeed write are loaded only as we wrote them. This finds
damage, not malice: a checkpoint is as trusted as the code beside it. No torch here; the ranks' part is saving.py.
"""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from redone_data.errors import RedoneError
from redone_data.manifest import canonical, digest, file_digest, read_json, write_json

FOLDER = "checkpoints"
MARK = "checkpoint.json"
SCHEMA_VERSION = 1

_NAME = re.compile(r"step-([0-9]+)")
_ASIDES = ".step-*"

Verification = Literal["hashes", "sizes"]


@final
@dataclass(frozen=True)
class Checkpoint:
    """A folder with a readable mark. `damage` says whether its files are still those of the mark."""

    folder: Path
    mark: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """RedoneError: no mark, or one of another schema."""
        if not (folder / MARK).is_file():
            raise RedoneError(f"{folder}: no {MARK}: not a checkpoint, or one that was not finished")
        mark = read_json(folder / MARK)
        version = mark.get("schema_version") if isinstance(mark, dict) else None
        if version != SCHEMA_VERSION:
            raise RedoneError(f"{folder / MARK}: schema_version {version!r}; this release reads {SCHEMA_VERSION}")
        return cls(folder, mark)

    @property
    def step(self) -> int:
        return int(self.mark["step"])

    @property
    def ranks(self) -> int:
        return int(self.mark["ranks"])

    @property
    def zero_stage(self) -> int | None:
        """None: written without DeepSpeed."""
        stage = self.mark["zero_stage"]
        return None if stage is None else int(stage)

    def damage(self, verification: Verification = "sizes", rank: int = 0, ranks: int = 1) -> str | None:
        """What is wrong, or None. Hashes are compared of every ranks-th file, from the rank-th on."""
        files: dict[str, dict[str, Any]] = self.mark["files"]
        for name, written in files.items():
            path = self.folder / name
            if not path.is_file():
                return f"{name} is absent"
            if (size := path.stat().st_size) != written["bytes"]:
                return f"{name} has {size} bytes of {written['bytes']}"
        if verification == "hashes":
            for name in sorted(files)[rank::ranks]:
                if file_digest(self.folder / name) != files[name]["sha256"]:
                    return f"{name} is not what was written"
        return None

    def refuse_changes(self, identity: Mapping[str, Any]) -> None:
        """RedoneError where a run of this identity would not go on as the checkpoint's did: what was, what is."""
        changes = list(_changes(self.mark["identity"], dict(identity), ""))
        if changes:
            more = f" (and {len(changes) - 3} more)" if len(changes) > 3 else ""
            raise RedoneError(
                f"{self.folder}: this run differs from the one that wrote it: {'; '.join(changes[:3])}{more}. Put back "
                "what was, to go on; or give another `output`, to start anew (from these weights: `redone-train export`"
                ", then model.start)"
            )


@dataclass(frozen=True)
class Found:
    """The newest good checkpoint, if any, and a line for each newer one that was passed over."""

    checkpoint: Checkpoint | None
    passed_over: tuple[str, ...] = ()


def newest(folders: Sequence[Path], damage: Callable[[Path], str | None] = lambda folder: damage_of(folder)) -> Found:
    """The newest checkpoint that is as it was written, of some folders, newest first.

    RedoneError: there are checkpoints, and not one is good: to start anew in silence would lose what was thought safe.
    """
    passed_over: list[str] = []
    for folder in folders:
        reason = damage(folder)
        if reason is None:
            return Found(Checkpoint.open(folder), tuple(passed_over))
        passed_over.append(f"{folder} is passed over: {reason}")
    if passed_over:
        raise RedoneError(
            f"no checkpoint is good: {'; '.join(passed_over)}. Restore one from a copy, or remove "
            f"{folders[0].parent} to start anew"
        )
    return Found(None)


def damage_of(folder: Path, verification: Verification = "sizes", rank: int = 0, ranks: int = 1) -> str | None:
    """What is wrong with the checkpoint in a folder, its mark included, or None."""
    try:
        return Checkpoint.open(folder).damage(verification, rank, ranks)
    except RedoneError as error:
        return str(error).removeprefix(f"{folder}: ")


def folders(output: Path) -> list[Path]:
    """All folders that are named as checkpoints, newest first."""
    inside = (output / FOLDER).iterdir() if (output / FOLDER).is_dir() else ()
    steps = {int(match[1]): path for path in inside if (match := _NAME.fullmatch(path.name)) and path.is_dir()}
    return [steps[step] for step in sorted(steps, reverse=True)]


def begin(output: Path, step: int) -> Path:
    """An empty folder to write step's checkpoint to; what an interrupted writer left is removed."""
    try:
        _sweep(output)
        aside = output / FOLDER / f".step-{step}.tmp"
        aside.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(output / FOLDER, error) from error
    return aside


def describe(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and hash of these files of a folder, each flushed to disk."""
    described = {}
    for name in names:
        try:
            _flush(folder / name)
            described[name] = {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
        except FileNotFoundError:
            raise RedoneError(
                f"{folder / name}: written by one node, and not seen by another; `output` must be on storage that all "
                "nodes share"
            ) from None
    return described


def files_in(folder: Path) -> list[str]:
    """The files of a folder and of those within it, sorted, as a mark names them."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def finish(
    written: Path,
    output: Path,
    step: int,
    *,
    files: Mapping[str, Mapping[str, Any]],
    identity: Mapping[str, Any],
    ranks: int,
    zero_stage: int | None,
) -> Checkpoint:
    """Mark what was written aside, and give it its name."""
    folder = output / FOLDER / f"step-{step}"
    mark = {
        "schema_version": SCHEMA_VERSION,
        "step": step,
        "ranks": ranks,
        "zero_stage": zero_stage,
        "identity": dict(identity),
        "files": {name: dict(files[name]) for name in sorted(files)},
    }
    try:
        write_json(written / MARK, mark)
        _flush(written / MARK)
        _flush(written)
        remove(folder)  # a damaged one of the same step
        written.rename(folder)
        _flush(folder.parent)
        _sweep(output)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return Checkpoint(folder, mark)


def prune(output: Path, keep: int, besides: Collection[int] = ()) -> None:
    """Remove all but the newest `keep` good checkpoints, so that the only good one always stays. 0: keep all.

    besides: steps whose checkpoints stay whatever their age.
    """
    good = 0
    for folder in folders(output) if keep else ():
        if int(folder.name.removeprefix("step-")) in besides:
            continue
        if good >= keep:
            remove(folder)
            continue
        good += damage_of(folder) is None  # a damaged one that is newer is left for its owner to look at


def remove(folder: Path) -> None:
    """Take a folder's name away first, so that one that is half removed is never taken for a checkpoint."""
    if folder.exists():
        aside = folder.with_name(f".{folder.name}.removed")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def present(output: Path, resume: Literal["auto", "never"]) -> list[Path]:
    """The folders to go on from, newest first. RedoneError: `never`, and there is one."""
    found = folders(output)
    if found and resume == "never":
        raise RedoneError(
            f"{output}: holds a run at {found[0].name}, and checkpoints.resume is never; give another `output`, "
            f"remove {output / FOLDER}, or go on from it with checkpoints.resume: auto"
        )
    return found


def _sweep(output: Path) -> None:
    """Remove what was written aside, and is of no use any more."""
    for leftover in (output / FOLDER).glob(_ASIDES):
        shutil.rmtree(leftover)


def _changes(was: Any, now: Any, path: str) -> Iterator[str]:
    """What differs between two plain values, leaf by leaf: 'batch.rows was 64, is 32'."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted({*was, *now}):
            inner = f"{path}.{key}" if path else str(key)
            if key not in was:
                yield f"{inner} is new"
            elif key not in now:
                yield f"{inner} is gone"
            else:
                yield from _changes(was[key], now[key], inner)
    elif canonical(was) != canonical(now):
        yield f"{path} was {_short(was)}, is {_short(now)}"


def _short(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= 40 else f"{text[:20]}... ({digest(value)[:8]})"


def _flush(path: Path) -> None:
    """To the disk, so that a power failure cannot leave a renamed folder of empty files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> RedoneError:
    return RedoneError(f"{path}: the checkpoint cannot be written: {error.strerror or error}; the ones before it stay")
