"""A checkpoint of DeepSpeed's shards, for another number of ranks.

ZeRO's shards fit the number of ranks that wrote them. DeepSpeed's own converter makes a "universal" checkpoint of them
(one file a parameter and state; arXiv 2406.18820), which any number of ranks loads. It is written beside the checkpoint
as `.step-N.universal`, aside and renamed, and removed with the next checkpoint; it costs a second copy of the states.
The global batch and the data's state, the step, do not depend on ranks at all.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from redone_data.errors import RedoneError
from redone_data.manifest import link
from redone_train.train.checkpoints import Checkpoint

MOST_WORKERS = 8  # each holds a shard in memory


def for_other_ranks(checkpoint: Checkpoint) -> Path:
    """A folder that Trainer loads on any number of ranks, with `checkpoint.load_universal` in DeepSpeed's settings."""
    folder = checkpoint.folder.with_name(f".{checkpoint.folder.name}.universal")
    aside = folder.with_name(f"{folder.name}.tmp")
    for leftover in (folder, aside):
        shutil.rmtree(leftover, ignore_errors=True)
    shards = checkpoint.folder / f"global_step{checkpoint.step}"
    _convert(shards, aside / shards.name)
    for name in checkpoint.mark["files"]:
        if not name.startswith(("global_step", "rng_state")):
            link(checkpoint.folder / name, aside / name)
    aside.rename(folder)
    return folder


def _convert(shards: Path, universal: Path) -> None:
    """In a process of its own: it forks, prints, and leaves its memory behind."""
    universal.mkdir(parents=True)
    workers = str(min(MOST_WORKERS, os.cpu_count() or 1))
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    folders = ["--input_folder", str(shards), "--output_folder", str(universal)]
    counts = ["--num_extract_workers", workers, "--num_merge_workers", workers]
    done = subprocess.run([*command, *folders, *counts], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RedoneError(
            f"{shards}: DeepSpeed could not convert it for another number of ranks: {last}; go on with as many ranks "
            "as wrote it"
        )
