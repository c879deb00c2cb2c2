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

from redone_data.config import load_yaml, plain, read_config
from redone_data.engine import Output, Step
from redone_data.errors import USER_ERROR_EXIT_CODE, RedoneError, did_you_mean
from redone_data.manifest import atomic, read_json, write_json
from redone_data.mix.checkpoint import LoraConfig
from redone_data.mix.conversion import Conversion
from redone_data.mix.counting.model import CONCENTRATION, SAMPLE_SHARE, CountModel
from redone_data.mix.counting.step import Counted
from redone_data.mix.held_out import held_out
from redone_data.mix.tables import Swarm, load_swarm
from redone_data.mixture import Mixture
from redone_data.processes import die_with_parent
from redone_data.proxy_shape import SIZES, ProxyShape
from redone_data.tokens.pool import Pool, pools
from redone_data.tokens.tokenizer import TOKENIZER_FILE, TokenizerConfig, opening_token

SCHEMA_VERSION = 1
LOG = "swarm.log"
COUNTS = "counts"  # the size of a proxy that is not trained
MIXTURES = "mixtures.csv"  # the runs again, in shares of the target's tokens; runs.csv is what is trained
BASE = "base.json"  # the untouched checkpoint's losses
SIZE_FILES = (".yaml", ".yml", ".json")
STOP_SECONDS = 45.0  # how long a trainer may take to save its runs and end


@dataclass(frozen=True)
class ProxyConfig:
    """The small models whose losses stand for the large one's."""

    size: str | ProxyShape = field(
        default="0.3m",
        metadata={
            "help": "0.1m to 100m (docs/swarm.md), {layers, width, heads}, or a yaml or json file of these; counts: "
            "n-grams are counted, nothing is trained"
        },
    )
    tokens: int = field(default=200_000, metadata={"help": "training tokens a proxy"})
    context: int = field(default=128, metadata={"help": "tokens a window"})
    batch_tokens: int = field(default=1024, metadata={"help": "tokens a step"})
    learning_rate: float | None = field(default=None, metadata={"help": "default: by the size's rule"})

    def __post_init__(self) -> None:
        if min(self.tokens, self.context, self.batch_tokens) < 1:
            raise RedoneError("proxy: tokens, context and batch_tokens are positive")

    @property
    def is_counted(self) -> bool:
        """Whether losses come from counted n-grams, not from trained models."""
        return self.size == COUNTS

    @property
    def sample(self) -> float:
        """The tokens that counts stand for: what such a proxy learns from its training, about."""
        return self.tokens * SAMPLE_SHARE

    def resolved(self, base: Path = Path()) -> "ProxyConfig":
        """The same with the shape in place of the file that holds it, a path from `base`."""
        if isinstance(self.size, str) and self.size.endswith(SIZE_FILES):
            path = base / Path(self.size).expanduser()
            return replace(self, size=read_config(ProxyShape, load_yaml(path), where=str(path)))
        return self


def check_size(key: str, size: str | ProxyShape) -> None:
    """Refuse a name that redone-train does not have; a command of one's own may have others."""
    if isinstance(size, str) and size not in (*SIZES, COUNTS) and not size.endswith(SIZE_FILES):
        raise RedoneError(
            f"{key}: unknown size '{size}'; {did_you_mean(size, (*SIZES, COUNTS))}; "
            "or give {layers, width, heads}, or a yaml or json file of these"
        )


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
    init: str | None = field(
        default=None, metadata={"help": "folder of a Hugging Face causal model that proxies go on from; none: scratch"}
    )
    adapt: Literal["lora", "full"] = field(
        default="lora", metadata={"help": "with init: train low-rank adapters, or all weights"}
    )
    lora: LoraConfig = field(default_factory=LoraConfig)
    tokenizer: TokenizerConfig | None = field(
        default=None, metadata={"help": "the proxies' own; default: that of init, or else tokens.tokenizer"}
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
    device: Literal["auto", "cuda", "cpu"] = field(
        default="auto", metadata={"help": "auto: GPUs if there are any; slurm cannot tell: it asks for one unless cpu"}
    )
    slurm: dict[str, str] = field(default_factory=dict, metadata={"help": "options of sbatch, such as partition"})

    def __post_init__(self) -> None:
        if self.stack is not None and self.stack < 1:
            raise RedoneError(f"stack: {self.stack}; at least 1 is needed")
        if self.slurm and self.launch != "slurm":
            raise RedoneError("slurm: is set, but launch is not slurm; set launch: slurm")
        if self.command is not None and (self.stack is not None or self.launch != "local" or self.device != "auto"):
            raise RedoneError("command and stack, launch or device are both set; keep one")
        if self.command is None:
            check_size("proxy.size", self.proxy.size)
        if self.validation_tokens < 1:
            raise RedoneError(f"validation_tokens: {self.validation_tokens}; at least 1 is needed")
        if self.command is not None and "{dir}" not in self.command:
            raise RedoneError(
                f"command: {self.command!r} does not say where the swarm's folder goes; put {{dir}} in it"
            )

    @property
    def proxy_tokenizer(self) -> TokenizerConfig | None:
        """The proxies' tokenizer where it is not the target's by default."""
        return self.tokenizer or (None if self.init is None else TokenizerConfig(path=self.init))


@dataclass(frozen=True)
class ProxyRun:
    """One model to train: its name, its seed and its mixture."""

    run_id: str
    seed: int
    mixture: Mixture


@dataclass(frozen=True)
class SwarmStep(Step):
    """Train a set of proxies; the step's folder is the swarm's folder.

    counted: where the losses come from when nothing is trained (`proxy.is_counted`).
    """

    name = "swarm"
    VERSION = 1

    pool: Output
    tokenizer: Output
    runs: tuple[ProxyRun, ...]
    swarm: SwarmConfig
    budget: int
    seed: int
    checkpoint: Output | None = None
    target_pool: Output | None = None  # where the target's tokenizer is another than the proxies'
    counted: Counted | None = None

    def config(self) -> Any:
        runs = [[run.run_id, run.seed, dict(run.mixture)] for run in self.runs]
        if self.counted is not None:
            return {"runs": runs, "sample": self.swarm.proxy.sample, "concentration": CONCENTRATION}
        budget = self.budget if self.swarm.matched_repetition else None
        swarm = plain(replace(self.swarm, proxy=self.swarm.proxy.resolved()))
        # Paths, whose content is among the inputs; and where runs are trained, which changes nothing but rounding.
        for key in ("init", "tokenizer", "stack", "launch", "device", "slurm"):
            del swarm[key]
        return {"swarm": swarm, "runs": runs, "budget": budget, "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        inputs = {"pool": self.pool, "checkpoint": self.checkpoint, "target_pool": self.target_pool}
        counts = {} if self.counted is None else {"counts": self.counted.fingerprint}
        return {**{name: output.fingerprint for name, output in inputs.items() if output is not None}, **counts}

    def tasks(self) -> list[None]:
        return [None]

    def units(self, folder: Path) -> tuple[int, int]:
        return len(list((folder / "results").glob("[!.]*.json"))), len(self.runs)

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        if self.counted is not None:
            _write_runs(folder / "runs.csv", self.runs)
            with atomic(folder / "metrics.csv") as aside:
                aside.write_text(self._counted_metrics(self.counted.model()), encoding="utf-8")
            return {"runs": len(self.runs)}
        write_json(folder / "swarm.json", self._description(folder))
        conversion = self._conversion()
        runs = self.runs
        if conversion is not None:
            _write_runs(folder / MIXTURES, runs)
            runs = tuple(replace(run, mixture=conversion.to_proxy(run.mixture)) for run in runs)
        _write_runs(folder / "runs.csv", runs)
        _launch(self.swarm, folder)
        if not (folder / "metrics.csv").is_file():
            raise RedoneError(f"{folder}: the swarm command ended without writing metrics.csv")
        # Tables that cannot be used are the command's failure: mended, it is run again.
        self._check_metrics(folder)
        timings = {path.stem: read_json(path) for path in sorted((folder / "timings").glob("*.json"))}
        for scratch in ("timings", "checkpoints"):
            shutil.rmtree(folder / scratch, ignore_errors=True)
        (folder / LOG).unlink(missing_ok=True)
        return {"runs": len(self.runs), "timings": timings}

    def _check_metrics(self, folder: Path) -> None:
        missing = sorted(set(self.runs[0].mixture) - set(trained(folder).metrics))
        if missing:
            raise RedoneError(f"{folder / 'metrics.csv'}: no column for domain '{missing[0]}'; it needs one a domain")

    def _conversion(self) -> Conversion | None:
        return None if self.target_pool is None else Conversion.between(pools(self.target_pool), pools(self.pool))

    def _init(self) -> dict[str, Any]:
        """What swarm.json says of the checkpoint, if there is one."""
        if self.checkpoint is None:
            return {}
        longest = self.checkpoint.statistics["context"]
        if longest is not None and self.swarm.proxy.context > longest:
            raise RedoneError(
                f"mix.swarm.proxy.context is {self.swarm.proxy.context}; the checkpoint of mix.swarm.init reads "
                f"{longest} tokens at most"
            )
        return {
            "init": {
                "path": f"../{self.checkpoint.folder.name}",
                "sha256": self.checkpoint.fingerprint,
                "adapt": self.swarm.adapt,
                "lora": plain(self.swarm.lora),
                "bos_token_id": opening_token(self.tokenizer.folder / TOKENIZER_FILE),
            }
        }

    def measured_pools(self) -> dict[str, Pool]:
        """Domain -> the tokens that proxies learn from, and those that they are measured on."""
        return pools(self.pool)

    def _counted_metrics(self, model: CountModel) -> str:
        """The table that a trainer would write, by counts."""
        weights_RD = np.array([[run.mixture[name] for name in model.domains] for run in self.runs])
        losses_RM = model.losses(weights_RD, self.swarm.proxy.sample).round(9)
        rows = [[run.run_id, *losses_M] for run, losses_M in zip(self.runs, losses_RM.tolist(), strict=True)]
        return _csv([["run_id", *model.metrics], *rows])

    def _description(self, folder: Path) -> dict[str, Any]:
        meta = self.tokenizer.statistics
        conversion = self._conversion()
        budget = self.budget if conversion is None else conversion.budget(self.budget)
        domains: dict[str, Any] = {}
        for i, (name, pool) in enumerate(self.measured_pools().items()):
            held_out = folder / f"validation-{i:03d}.ds"
            limit = None
            if self.swarm.matched_repetition:
                limit = max(1, round(pool.tokens * min(1.0, self.swarm.proxy.tokens / budget)))
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
            **self._init(),
        }

    def _write_held_out(self, pool: Pool, path: Path) -> int:
        """Write the held-out documents that proxies are measured on; their bytes of text."""
        found = held_out(pool, self.swarm.validation_tokens, self.pool.statistics["token_bytes"], self.seed)
        with atomic(path) as aside:
            found.tokens.tofile(aside)
        with atomic(path.with_name(path.name + ".index")) as aside:
            found.ends.astype("<u8").tofile(aside)
        return found.num_bytes


@dataclass(frozen=True)
class ValidationStep(SwarmStep):
    """The same for the found mixture and the baselines, over fresh seeds."""

    name = "validation"


def trained(folder: Path) -> Swarm:
    """The runs of a finished swarm folder with what they measured; those whose result says "diverged" are left out.

    Weights are shares of the target tokenizer's tokens, also where the proxies have another.
    """
    diverged = diverged_runs(folder)
    if all_diverged(folder):
        raise RedoneError(f"{folder}: all {len(diverged)} proxy runs diverged; lower mix.swarm.proxy.learning_rate")
    runs = folder / MIXTURES
    return load_swarm(runs if runs.is_file() else folder / "runs.csv", folder / "metrics.csv", without=diverged)


def trained_batches(swarms: Sequence[Output]) -> list[Swarm]:
    """The same of several folders; a batch in which every run diverged is left out, unless nothing else is left."""
    left = [output.folder for output in swarms if not all_diverged(output.folder)]
    return [trained(folder) for folder in left or [swarms[-1].folder]]


def diverged_runs(folder: Path) -> tuple[str, ...]:
    """The runs that are left out, by name."""
    results = [read_json(path) for path in sorted((folder / "results").glob("[!.]*.json"))]
    return tuple(sorted(result["run_id"] for result in results if result.get("status") == "diverged"))


def all_diverged(folder: Path) -> bool:
    """Whether no run of a finished swarm folder is left; results that no one wrote say nothing."""
    results = list((folder / "results").glob("[!.]*.json"))
    return bool(results) and len(diverged_runs(folder)) == len(results)


def base_losses(folder: Path) -> dict[str, float] | None:
    """Domain -> bits per byte of the untouched checkpoint; None where no base.json was written."""
    path = folder / BASE
    return {name: float(loss) for name, loss in read_json(path)["loss_bpb"].items()} if path.is_file() else None


def _relative(path: Path) -> str:
    # Swarm and pool are neighbours below steps/, so the run's folder can be moved or shipped as a whole.
    return f"../{path.parent.name}/{path.name}"


def _write_runs(path: Path, runs: Sequence[ProxyRun]) -> None:
    domains = list(runs[0].mixture)
    rows = [[run.run_id, run.seed, *(repr(run.mixture[name]) for name in domains)] for run in runs]
    with atomic(path) as aside:
        aside.write_text(_csv([["run_id", "seed", *domains], *rows]), encoding="utf-8")


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def training_command(swarm: SwarmConfig, folder: Path) -> list[str]:
    """The program that trains a swarm folder, and its arguments."""
    if swarm.command is not None:
        return [part.replace("{dir}", str(folder)) for part in shlex.split(swarm.command)]
    if importlib.util.find_spec("torch") is None:
        raise RedoneError(
            "training proxies needs torch: pip install 'redone[train]'; or set mix.weights, or mix.swarm.command"
        )
    return [
        *(sys.executable, "-m", "redone_train", "swarm", str(folder)),
        *("--launch", swarm.launch, "--device", swarm.device),
        *([] if swarm.stack is None else ["--stack", str(swarm.stack)]),
        *(part for name, value in swarm.slurm.items() for part in ("--slurm-option", f"{name}={value}")),
    ]


def _launch(swarm: SwarmConfig, folder: Path) -> None:
    """Run the swarm command until it ends; its output is kept in a log and shown when it fails."""
    arguments = training_command(swarm, folder)
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
