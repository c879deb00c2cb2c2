"""A tiny step, in a module that other processes (workers, Ray, Slurm, killed ones) can import."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from redone_data.engine import Step
from redone_data.errors import RedoneError
from redone_data.manifest import atomic


@dataclass(frozen=True)
class Count(Step):
    """Writes a file a task; fails or dies at one of them when the file `trouble` says so."""

    name = "count"
    VERSION = 1

    numbers: tuple[int, ...]
    power: int = 2
    trouble: str | None = None
    source: dict[str, str] = field(default_factory=dict)

    def config(self) -> Any:
        return {"power": self.power}

    def inputs(self) -> dict[str, str]:
        return self.source

    def tasks(self) -> Sequence[int]:
        return self.numbers

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        if self.trouble and (trouble := Path(self.trouble)).exists() and index == 2:
            match trouble.read_text():
                case "user":
                    raise RedoneError("posts-2.jsonl line 41: field 'text' is missing; set fields.text")
                case "defect":
                    raise ZeroDivisionError("a defect")
                case "die":
                    (folder / f".count-2.txt.tmp-{os.getpid()}").write_text("half wri")
                    os.kill(os.getpid(), signal.SIGKILL)
                case "wait":
                    Path(self.trouble + ".waiting").touch()
                    time.sleep(60)
        with atomic(folder / f"count-{index}.txt") as aside:
            aside.write_text(str(task**self.power))
        return {"value": task**self.power, "timings": {"process": os.getpid(), "threads": pl.thread_pool_size()}}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {"total": sum(result["value"] for result in results)}


@dataclass(frozen=True)
class NextVersion(Count):
    VERSION = 2


STEP = Count((3, 1, 4, 1, 5))
