"""The swarm folder: what the trainer is given, and what it gives back. The contract is docs/swarm.md.

The data package trains nothing: it writes ``swarm.json`` and ``runs.csv``, calls a command (``redone-train swarm DIR``
unless the recipe names another) and reads ``metrics.csv``. A folder that was left half done is taken up where it was.
"""

import contextlib
import csv
import fcntl
import importlib.util
import io
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from redone_data.config import load_yaml, plain, read_config
from redone_data.engine import Output, Step
from redone_data.errors import USER_ERROR_EXIT_CODE, RedoneError
from redone_data.manifest import atomic, read_json, write_json
from redone_data.mix.tables import Swarm, load_swarm
from redone_data.mixture import Mixture
from redone_data.processes import die_with_parent
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import from_hex
from redone_data.tokens.pool import Pool, pools

SCHEMA_VERSION = 1
LOG = "swarm.log"
STOP_SECONDS = 45.0  # how long a trainer may take to save its runs and end


@dataclass(frozen=True)
class ProxyShape:
    """A proxy of another size than those with names."""

    layers: int
    width: int
    heads: int


@dataclass(frozen=True)
class ProxyConfig:
    """The small models whose losses stand for the large one's."""

    size: str | ProxyShape = field(
        default="0.3m",
        metadata={"help": "0.1m to 100m (docs/swarm.md), {layers, width, heads}, or a yaml or json file of these"},
    )
    tokens: int = field(default=200_000, metadata={"help": "training tokens a proxy"})
    context: int = field(default=128, metadata={"help": "tokens a window"})
    batch_tokens: int = field(default=1024, metadata={"help": "tokens a step"})
    learning_rate: float | None = field(default=None, metadata={"help": "default: by the size's rule"})

    def __post_init__(self) -> None:
        if min(self.tokens, self.context, self.batch_tokens) < 1:
            raise RedoneError("proxy: tokens, context and batch_tokens are positive")

    def resolved(self, base: Path = Path()) -> "ProxyConfig":
        """The same with the shape in place of the file that holds it, a path from `base`."""
        if isinstance(self.size, str) and self.size.endswith((".yaml", ".yml", ".json")):
            path = base / Path(self.size).expanduser()
            return replace(self, size=read_config(ProxyShape, load_yaml(path), where=str(path)))
        return self


@dataclass(frozen=True)
class SwarmConfig:
    """Proxy runs and how they are launched."""

    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    matched_repetition: bool = field(
        default=True, metadata={"help": "proxies see each domain as often as the real run will (subsampled pools)"}
    )
    validation_tokens: int = field(
        default=50_000,
        metadata={"help": "held-out tokens a domain that proxies are measured on, about; the same for all"},
    )
    command: str | None = field(
        default=None, metadata={"help": "trains the swarm in {dir}; default: redone-train swarm {dir}"}
    )
    stack: int | None = field(
        default=None, metadata={"help": "proxies trained as one stacked model; default: by GPU memory, 1 on a CPU"}
    )
    launch: Literal["local", "ray", "slurm"] = field(
        default="local", metadata={"help": "where groups of proxies are trained: here, or a task a group on a cluster"}
    )
    slurm: dict[str, str] = field(default_factory=dict, metadata={"help": "options of sbatch, such as partition"})

    def __post_init__(self) -> None:
        if self.stack is not None and self.stack < 1:
            raise RedoneError(f"stack: {self.stack}; at least 1 is needed")
        if self.slurm and self.launch != "slurm":
            raise RedoneError("slurm: is set, but launch is not slurm; set launch: slurm")
        if self.command is not None and (self.stack is not None or self.launch != "local"):
            raise RedoneError("command and stack or launch are both set; keep one")
        if self.validation_tokens < 1:
            raise RedoneError(f"validation_tokens: {self.validation_tokens}; at least 1 is needed")
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
        swarm = plain(replace(self.swarm, proxy=self.swarm.proxy.resolved()))
        # How and where runs are trained changes nothing but rounding.
        for key in ("stack", "launch", "slurm"):
            del swarm[key]
        return {"swarm": swarm, "runs": runs, "budget": budget, "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {"pool": self.pool.fingerprint}

    def tasks(self) -> list[None]:
        return [None]

    def units(self, folder: Path) -> tuple[int, int]:
        return len(list((folder / "results").glob("[!.]*.json"))), len(self.runs)

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        write_json(folder / "swarm.json", self._description(folder))
        with atomic(folder / "runs.csv") as aside:
            aside.write_text(_runs_csv(self.runs), encoding="utf-8")
        _launch(self.swarm, folder)
        if not (folder / "metrics.csv").is_file():
            raise RedoneError(f"{folder}: the swarm command ended without writing metrics.csv")
        # Tables that cannot be used are the command's failure: mended, it is run again.
        missing = sorted(set(self.runs[0].mixture) - set(trained(folder).metrics))
        if missing:
            raise RedoneError(f"{folder / 'metrics.csv'}: no column for domain '{missing[0]}'; it needs one a domain")
        timings = {path.stem: read_json(path) for path in sorted((folder / "timings").glob("*.json"))}
        for scratch in ("timings", "checkpoints"):
            shutil.rmtree(folder / scratch, ignore_errors=True)
        (folder / LOG).unlink(missing_ok=True)
        return {"runs": len(self.runs), "timings": timings}

    def _description(self, folder: Path) -> dict[str, Any]:
        meta = self.tokenizer.statistics
        domains: dict[str, Any] = {}
        for i, (name, pool) in enumerate(pools(self.pool).items()):
            held_out = folder / f"validation-{i:03d}.ds"
            limit = None
            if self.swarm.matched_repetition:
                limit = max(1, round(pool.tokens * min(1.0, self.swarm.proxy.tokens / self.budget)))
            domains[name] = {
                "train": [_relative(file.ds) for file in pool.train],
                "validation": [held_out.name],
                "validation_bytes": self._write_held_out(pool, held_out),
                "train_limit_tokens": limit,
            }
        return {
            "schema_version": SCHEMA_VERSION,
            "seed": self.seed,
            "vocab_size": meta["vocab_size"],
            "token_bytes": self.pool.statistics["token_bytes"],
            "eos_token_id": meta["eos_token_id"],
            "proxy": plain(self.swarm.proxy.resolved()),
            "domains": domains,
        }

    def _write_held_out(self, pool: Pool, path: Path) -> int:
        """Write the held-out documents that proxies are measured on; their bytes of text.

        Drawn by a hash of their ids, so that every swarm of the run is measured on the same ones.
        """
        total = sum(file.tokens for file in pool.validation)
        dtype = "<u2" if self.pool.statistics["token_bytes"] == 2 else "<u4"
        tokens: list[npt.NDArray[Any]] = []
        ends: list[npt.NDArray[Any]] = []
        num_bytes = 0
        # Where the documents are so long that none is drawn, all of them stand for the domain.
        for share in (self.swarm.validation_tokens / total, 1.0):
            for file in pool.validation:
                spans = pq.read_table(file.spans, columns=["id", "num_tokens", "num_bytes"])
                chosen = keyed_uniform(self.seed, "held out", from_hex(spans["id"])[1]) < share
                lengths = spans["num_tokens"].to_numpy()
                tokens.append(np.fromfile(file.ds, dtype=dtype)[np.repeat(chosen, lengths)])
                ends.append(lengths[chosen])
                num_bytes += int(spans["num_bytes"].to_numpy()[chosen].sum())
            if num_bytes:
                break
        with atomic(path) as aside:
            np.concatenate(tokens).tofile(aside)
        with atomic(path.with_name(path.name + ".index")) as aside:
            np.cumsum(np.concatenate(ends)).astype("<u8").tofile(aside)
        return num_bytes


@dataclass(frozen=True)
class ValidationStep(SwarmStep):
    """The same for the found mixture and the baselines, over fresh seeds."""

    name = "validation"


def trained(folder: Path) -> Swarm:
    """The runs of a finished swarm folder with what they measured; those whose result says "diverged" are left out."""
    results = [read_json(path) for path in sorted((folder / "results").glob("[!.]*.json"))]
    diverged = {result["run_id"] for result in results if result.get("status") == "diverged"}
    if results and len(diverged) == len(results):
        raise RedoneError(f"{folder}: all {len(diverged)} proxy runs diverged; lower mix.swarm.proxy.learning_rate")
    return load_swarm(folder / "runs.csv", folder / "metrics.csv", without=diverged)


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


def _launch(swarm: SwarmConfig, folder: Path) -> None:
    """Run the swarm command until it ends; its output is kept in a log and shown when it fails."""
    command = swarm.command
    if command is None:
        if importlib.util.find_spec("torch") is None:
            raise RedoneError(
                "training proxies needs torch: pip install 'redone[train]'; or set mix.weights, or mix.swarm.command"
            )
        arguments = [sys.executable, "-m", "redone_train", "swarm", str(folder), "--launch", swarm.launch]
        arguments += [] if swarm.stack is None else ["--stack", str(swarm.stack)]
        for name, value in swarm.slurm.items():
            arguments += ["--slurm-option", f"{name}={value}"]
    else:
        arguments = [part.replace("{dir}", str(folder)) for part in shlex.split(command)]
    with (folder / LOG).open("ab") as log:
        _wait_for_earlier(log.fileno(), folder)
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
                process.wait(timeout=STOP_SECONDS)
            process.kill()
            raise
    if status:
        tail = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-30:]
        if status == USER_ERROR_EXIT_CODE:
            raise RedoneError(f"the swarm command stopped: {tail[-1] if tail else 'no message'}")
        raise RuntimeError(f"{shlex.join(arguments)} exited with {status}:\n" + "\n".join(tail))


def _wait_for_earlier(log: int, folder: Path) -> None:
    """Wait for the trainer of a run that was killed: it may still be saving its work.

    It holds the log's lock, which it inherited with its standard output, until it ends.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > deadline:
            raise RedoneError(f"{folder}: an earlier swarm command is still at work here; wait for it, or stop it")
        time.sleep(0.2)
