"""Launches of `redone-train` in turn on two ranks, some of them killed or told to stop: resume_ranks.py runs them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any


class Launches:
    """What is to be launched in turn on two ranks, and what came of it."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.folder, self.config = folder, config
        self.listed: list[dict[str, Any]] = []

    def add(self, name: str, output: str, *settings: str, verb: str = "cpt", ranks: int = 2, **more: Any) -> None:
        """more: what is to happen meanwhile (resume_ranks.py)."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = [verb, str(self.config.with_stem(verb)), "--set", f"output={self.folder / output}", *settings]
        self.listed.append({"name": name, "ranks": ranks, "port": port, "arguments": arguments, **more})

    def run(self) -> None:
        file = self.folder / "launches.json"
        file.write_text(json.dumps(self.listed))
        here = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1"}
        environment = {**os.environ, **here, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, str(Path(__file__).with_name("resume_ranks.py")), str(file)]
        assert subprocess.run(command, env=environment, timeout=400, check=False).returncode == 0

    def codes(self, name: str) -> list[int]:
        return [int(path.read_text()) for path in sorted(self.folder.glob(f"{name}.?.code"))]

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.0.out").read_text()

    def curve(self, output: str) -> dict[int, tuple[float, ...]]:
        """Step -> all that is logged of it but its speed."""
        lines = (self.folder / output / "log.jsonl").read_text(encoding="utf-8").splitlines()
        values = [json.loads(line) for line in lines]
        return {line["step"]: (line["loss"], line["grad_norm"], line["learning_rate"]) for line in values}
