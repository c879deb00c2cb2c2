"""The swarm folder: what the trainer is given, and what it gives back. The contract is docs/swarm.md.

The data package trains nothing: it writes ``swarm.json`` and ``runs.csv``, calls a command (``redone-train swarm DIR``
unless the recipe names another) and reads ``metrics.csv``. A folder that was left half done is taken up where it was.
"""

import contextlib
import csv
import importlib.util
import io
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redone_data.config import plain
from redone_data.engine import Output, Step
from redone_data.errors import USER_ERROR_EXIT_CODE, RedoneError
from redone_data.manifest import atomic, read_json, write_json
from redone_data.mixture import Mixture
from redone_data.processes import die_with_parent
from redone_data.tokens.pool import pools

SCHEMA_VERSION = 1
LOG = "swarm.log"


@dataclass(frozen=True)
class ProxyConfig:
    """The small models whose losses stand for the large one's."""

    size: str = field(default="0.3m", metadata={"help": "a name of redone-train's table of sizes"})
    tokens: int = field(default=200_000, metadata={"help": "training tokens a proxy"})
    context: int = field(default=128, metadata={"help": "tokens a window"})
    batch_tokens: int = field(default=2048, metadata={"help": "tokens a step"})
    learning_rate: float | None = field(default=None, metadata={"help": "default: by the size's rule"})

    def __post_init__(self) -> None:
        if min(self.tokens, self.context, self.batch_tokens) < 1:
            raise RedoneError("proxy: tokens, context and batch_tokens are positive")


@dataclass(frozen=True)
class SwarmConfig:
    """Proxy runs and how they are launched."""

    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    matched_repetition: bool = field(
        default=True, metadata={"help": "proxies see each domain as often as the real run will (subsampled pools)"}
    )
    command: str | None = field(
        default=None, metadata={"help": "trains the swarm in {dir}; default: redone-train swarm {dir}"}
    )

    def __post_init__(self) -> None:
        if self.command is not None and "{dir}" not in self.command:
            raise RedoneError(
                f"command: {self.command!r} does not say where the swarm's folder goes; put {{dir}} in it"
            )


@dataclass(frozen=True)
class ProxyRun:
    """One model to train: its name, its seed and its mixture."""

    run_id: str
    seed: int
    mixture: Mixture


@dataclass(frozen=True)
class SwarmStep(Step):
    """Train a set of proxies; the step's folder is the swarm's folder."""

    name = "swarm"
    VERSION = 1

    pool: Output
    tokenizer: Output
    runs: tuple[ProxyRun, ...]
    swarm: SwarmConfig
    budget: int
    seed: int

    def config(self) -> Any:
        runs = [[run.run_id, run.seed, dict(run.mixture)] for run in self.runs]
        budget = self.budget if self.swarm.matched_repetition else None
        return {"swarm": plain(self.swarm), "runs": runs, "budget": budget, "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {"pool": self.pool.fingerprint}

    def tasks(self) -> list[None]:
        return [None]

    def units(self, folder: Path) -> tuple[int, int]:
        return len(list((folder / "results").glob("[!.]*.json"))), len(self.runs)

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        write_json(folder / "swarm.json", self._description())
        with atomic(folder / "runs.csv") as aside:
            aside.write_text(_runs_csv(self.runs), encoding="utf-8")
        _launch(self.swarm.command, folder)
        if not (folder / "metrics.csv").is_file():
            raise RedoneError(f"{folder}: the swarm command ended without writing metrics.csv")
        timings = {path.stem: read_json(path) for path in sorted((folder / "timings").glob("*.json"))}
        for scratch in ("timings", "checkpoints"):
            shutil.rmtree(folder / scratch, ignore_errors=True)
        (folder / LOG).unlink(missing_ok=True)
        return {"runs": len(self.runs), "timings": timings}

    def _description(self) -> dict[str, Any]:
        meta = self.tokenizer.statistics
        domains: dict[str, Any] = {}
        for name, pool in pools(self.pool).items():
            limit = None
            if self.swarm.matched_repetition:
                limit = max(1, round(pool.tokens * min(1.0, self.swarm.proxy.tokens / self.budget)))
            domains[name] = {
                "train": [_relative(file.ds) for file in pool.train],
                "validation": [_relative(file.ds) for file in pool.validation],
                "validation_bytes": sum(file.bytes for file in pool.validation),
                "train_limit_tokens": limit,
            }
        return {
            "schema_version": SCHEMA_VERSION,
            "seed": self.seed,
            "vocab_size": meta["vocab_size"],
            "token_bytes": self.pool.statistics["token_bytes"],
            "eos_token_id": meta["eos_token_id"],
            "proxy": plain(self.swarm.proxy),
            "domains": domains,
        }


@dataclass(frozen=True)
class ValidationStep(SwarmStep):
    """The same for the found mixture and the baselines, over fresh seeds."""

    name = "validation"


def _relative(path: Path) -> str:
    # Swarm and pool are neighbours below steps/, so the run's folder can be moved or shipped as a whole.
    return f"../{path.parent.name}/{path.name}"


def _runs_csv(runs: Sequence[ProxyRun]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    domains = list(runs[0].mixture)
    writer.writerow(["run_id", "seed", *domains])
    for run in runs:
        writer.writerow([run.run_id, run.seed, *(repr(run.mixture[name]) for name in domains)])
    return text.getvalue()


def _launch(command: str | None, folder: Path) -> None:
    """Run the swarm command until it ends; its output is kept in a log and shown when it fails."""
    if command is None:
        if importlib.util.find_spec("torch") is None:
            raise RedoneError(
                "training proxies needs torch: pip install 'redone[train]'; or set mix.weights, or mix.swarm.command"
            )
        arguments = [sys.executable, "-m", "redone_train", "swarm", str(folder)]
    else:
        arguments = [part.replace("{dir}", str(folder)) for part in shlex.split(command)]
    with (folder / LOG).open("ab") as log:
        try:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        except OSError as error:
            raise RedoneError(f"mix.swarm.command: {arguments[0]}: {error.strerror}") from None
        try:
            status = process.wait()
        except BaseException:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            process.kill()
            raise
    if status:
        tail = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-30:]
        if status == USER_ERROR_EXIT_CODE:
            raise RedoneError(f"the swarm command stopped: {tail[-1] if tail else 'no message'}")
        raise RuntimeError(f"{shlex.join(arguments)} exited with {status}:\n" + "\n".join(tail))
