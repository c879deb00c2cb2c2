"""What a finished run gives to the next: result.json says which checkpoint, and a start point may name the run.

A stage of training (continued pre-training, steps of instruction tuning, preferences) starts from the one before by its
folder. The checkpoint is exported once, below the new run, named by the checkpoint's mark; adapters are merged.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from redone_data.errors import RedoneError
from redone_data.manifest import digest, read_json, write_json
from redone_train.train import checkpoints
from redone_train.train.checkpoints import Checkpoint

RESULT = "result.json"


def write_result(run: Path, checkpoint: Path, why: str) -> None:
    """Mark a run as finished with one of its checkpoints, or with one of a step's."""
    write_json(run / RESULT, {"checkpoint": checkpoint.relative_to(run).as_posix(), "why": why})


def finished(run: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint that a run ended with; None: it has not. RedoneError: it was another run that did."""
    if not (run / RESULT).is_file():
        return None
    checkpoint = result_of(run)
    checkpoint.refuse_changes({**checkpoint.mark["identity"], **identity})
    return checkpoint


def result_of(run: Path) -> Checkpoint:
    """The checkpoint of a run's result, or its newest good one; that of a checkpoint's folder is itself."""
    if (run / checkpoints.MARK).is_file():
        folders = [run]
    elif (run / RESULT).is_file():
        folders = [run / read_json(run / RESULT)["checkpoint"]]
    else:
        folders = checkpoints.folders(run)
    found = checkpoints.newest(folders, lambda folder: checkpoints.damage_of(folder, "hashes")).checkpoint
    if found is None:
        raise RedoneError(f"{run}: neither a checkpoint nor a run that has one; give RUN/checkpoints/step-N, or RUN")
    return found


def is_stage(folder: Path) -> bool:
    """Whether a folder is a run's or a checkpoint's, and not a model's."""
    if (folder / "config.json").is_file():
        return (folder / checkpoints.MARK).is_file()
    return any((folder / name).exists() for name in (RESULT, checkpoints.FOLDER))


def exported(run: Path, cache: Path, dtype: Literal["bf16", "fp32"]) -> Path:
    """A Hugging Face folder below `cache` that holds a run's result."""
    from redone_train.train.export import ADAPTER_CONFIG, export

    checkpoint = result_of(run)
    folder = cache / f"{checkpoint.folder.name}-{dtype}-{digest(checkpoint.mark)[:16]}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        adapters = (checkpoint.folder / ADAPTER_CONFIG).is_file()
        export(checkpoint.folder, folder, dtype=dtype, merge=adapters)
    return folder


def num_steps_of(rows: int, epochs: float, batch_rows: int) -> int:
    """Whole steps that read every row `epochs` times; the last batch is filled from one epoch more.

    >>> num_steps_of(10, 2, 8), num_steps_of(3, 1, 8)
    (3, 1)
    """
    return -(-round(rows * epochs) // batch_rows) or 1
