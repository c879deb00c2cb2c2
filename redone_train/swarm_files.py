"""Reading and checking a swarm folder: everything that a user can get wrong is refused before a run starts.

The contract of the folder is docs/swarm.md.
"""

import csv
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from redone_data.config import plain, read_config
from redone_data.errors import RedoneError, did_you_mean
from redone_data.mixture import Mixture
from redone_data.proxy_shape import ProxyShape, proxy_shape
from redone_train.pretrained_config import PretrainedConfig
from redone_train.proxy_data import TokenPool
from redone_train.proxy_rate import learning_rate

SCHEMA_VERSION = 1
# Raised when the same swarm would give other numbers; results of another version are trained again.
TRAINER_VERSION = 1
WEIGHT_TOLERANCE = 1e-3
_RUN_ID = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class ProxyConfig:
    """What every run of the swarm trains, but for its mixture and seed."""

    size: str | ProxyShape = field(metadata={"help": "a named size, or layers, width and heads"})
    tokens: int = field(metadata={"help": "training tokens of a run"})
    context: int = 128
    batch_tokens: int = 1024
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        proxy_shape(self.size)
        if self.context < 1 or self.tokens < self.context:
            raise RedoneError(f"context is {self.context} and tokens {self.tokens}; needed: 1 <= context <= tokens")
        if self.batch_tokens < self.context:
            raise RedoneError(f"batch_tokens is {self.batch_tokens}; it must be at least context ({self.context})")
        if self.learning_rate is not None and not (0 < self.learning_rate < math.inf):
            raise RedoneError(f"learning_rate is {self.learning_rate}; give a number above 0, or null for the rule")

    @property
    def shape(self) -> ProxyShape:
        return proxy_shape(self.size)

    @property
    def rows_per_step(self) -> int:
        return self.batch_tokens // self.context

    @property
    def num_steps(self) -> int:
        """Whole steps nearest to `tokens`."""
        return max(1, round(self.tokens / (self.rows_per_step * self.context)))

    @property
    def peak_rate(self) -> float:
        return self.learning_rate or learning_rate(self.shape, self.rows_per_step * self.context)


@dataclass(frozen=True)
class DomainConfig:
    train: tuple[str, ...]
    validation: tuple[str, ...]
    validation_bytes: int
    train_limit_tokens: int | None = None


@dataclass(frozen=True)
class SwarmConfig:
    """The contents of swarm.json."""

    schema_version: int
    seed: int
    vocab_size: int
    token_bytes: int
    eos_token_id: int
    proxy: ProxyConfig
    domains: dict[str, DomainConfig]
    init: PretrainedConfig | None = field(
        default=None, metadata={"help": "the checkpoint that proxies go on from; null: from scratch"}
    )

    def __post_init__(self) -> None:
        if self.token_bytes not in (2, 4):
            raise RedoneError(f"token_bytes is {self.token_bytes}; allowed are 2 and 4")
        if not 0 <= self.eos_token_id < self.vocab_size:
            raise RedoneError(f"eos_token_id is {self.eos_token_id}; it must be in [0, vocab_size = {self.vocab_size})")
        if not self.domains:
            raise RedoneError("domains: empty; a swarm needs at least one domain")
        for name in ("run_id", "seed"):
            if name in self.domains:
                raise RedoneError(f"domains: '{name}' is the name of another column of runs.csv; rename the domain")


@dataclass(frozen=True)
class ProxyRun:
    """One row of runs.csv."""

    run_id: str
    seed: int
    mixture: Mixture


class Swarm:
    """A swarm folder, opened and checked: its configuration, its runs and its token pools, memory-mapped."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = _read_swarm_json(directory / "swarm.json")
        self.domains = tuple(sorted(self.config.domains))
        self.runs = _read_runs(directory / "runs.csv", self.domains)
        self.train = {name: self._pool(self.config.domains[name].train) for name in self.domains}
        self.validation = {name: self._pool(self.config.domains[name].validation) for name in self.domains}
        self._check_domains()
        if self.config.init is not None:
            self.config.init.check(directory, self.config.vocab_size, self.config.proxy.context)

    def _pool(self, files: tuple[str, ...]) -> TokenPool:
        return TokenPool([self.directory / file for file in files], self.config.token_bytes)

    def _check_domains(self) -> None:
        where = self.directory / "swarm.json"
        for name, domain in self.config.domains.items():
            if not len(self.validation[name]) or domain.validation_bytes < 1:
                raise RedoneError(
                    f"{where}: domain '{name}' has {len(self.validation[name])} validation tokens of "
                    f"{domain.validation_bytes} bytes; give it validation documents, or leave the domain out"
                )
            if domain.train_limit_tokens is not None and domain.train_limit_tokens < 1:
                raise RedoneError(
                    f"{where}: train_limit_tokens of domain '{name}' is {domain.train_limit_tokens}; "
                    "give a number above 0, or null for no limit"
                )
        for run in self.runs.values():
            for name, weight in run.mixture.items():
                if weight > 0 and not len(self.train[name]):
                    raise RedoneError(
                        f"{where}: domain '{name}' has no train tokens, but run '{run.run_id}' gives it "
                        f"a weight of {weight:.4g}; give it documents, or a weight of 0"
                    )

    @cached_property
    def peak_rate(self) -> float:
        """The learning rate: as given, or by the rule for proxies from scratch or from a checkpoint."""
        if self.config.init is None or self.config.proxy.learning_rate is not None:
            return self.config.proxy.peak_rate
        return self.config.init.learning_rate(self.directory)

    def check_tokens(self) -> None:
        """Read every token once; one outside the vocabulary is an error."""
        for pools in (self.train, self.validation):
            for name in self.domains:
                pools[name].check_tokens(self.config.vocab_size)

    def fingerprint(self, run: ProxyRun) -> str:
        """A short hash of all that a run's result depends on, but for the machine: another one means train again."""
        return _short_hash([self._common, run.seed, dict(run.mixture)])

    @cached_property
    def _common(self) -> str:
        proxy = self.config.proxy
        return _short_hash(
            [
                TRAINER_VERSION,
                [self.config.seed, self.config.vocab_size, self.config.eos_token_id],
                [plain(proxy.shape), proxy.num_steps, proxy.rows_per_step, proxy.context, self.peak_rate],
                {
                    name: [
                        len(self.train[name]),
                        len(self.validation[name]),
                        domain.validation_bytes,
                        domain.train_limit_tokens,
                    ]
                    for name, domain in self.config.domains.items()
                },
                *([] if self.config.init is None else [self.config.init.identity]),
            ]
        )

    def file_of(self, kind: str, run_id: str) -> Path:
        """Where a run's result, checkpoint or timing lies."""
        return self.directory / kind / f"{run_id}{'.pt' if kind == 'checkpoints' else '.json'}"

    def finished(self, run: ProxyRun) -> dict[str, Any] | None:
        """The run's result, if there is one and it is of this very run."""
        if self.measures_base(run) and self.base() is None:
            return None
        return _result_at(self.file_of("results", run.run_id), self.fingerprint(run))

    @property
    def base_path(self) -> Path:
        """Where the losses of the untouched checkpoint lie."""
        return self.directory / "base.json"

    @property
    def base_fingerprint(self) -> str:
        return self._common

    def base(self) -> dict[str, Any] | None:
        """The untouched checkpoint's record, if it is measured already."""
        return _result_at(self.base_path, self.base_fingerprint)

    def measures_base(self, run: ProxyRun) -> bool:
        """Whether this run, before its first step, measures the checkpoint: the first one does."""
        return self.config.init is not None and run.run_id == next(iter(self.runs))


def _result_at(path: Path, fingerprint: str) -> dict[str, Any] | None:
    try:
        result = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return result if isinstance(result, dict) and result.get("fingerprint") == fingerprint else None


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]


def _read_swarm_json(path: Path) -> SwarmConfig:
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RedoneError(f"{path}: not found; give a swarm folder, as redone-data writes it") from None
    except OSError as error:
        raise RedoneError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RedoneError(f"{path}: not valid JSON: {error}") from None
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version != SCHEMA_VERSION:
        raise RedoneError(
            f"{path}: schema_version is {version!r}, this redone-train reads {SCHEMA_VERSION}; "
            "design the swarm and train it with the same version of redone"
        )
    return read_config(SwarmConfig, values, where=str(path))


def _read_runs(path: Path, domains: tuple[str, ...]) -> Mapping[str, ProxyRun]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except FileNotFoundError:
        raise RedoneError(f"{path}: not found; it lists the runs of the swarm, one mixture a row") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RedoneError(f"{path}: cannot be read: {error}") from None
    header = rows[0] if rows else []
    _check_header(path, header, domains)
    runs: dict[str, ProxyRun] = {}
    for line, row in enumerate(rows[1:], start=2):
        where = f"{path} row {line}"
        if len(row) != len(header):
            raise RedoneError(f"{where}: {len(row)} values under {len(header)} columns; write the row again")
        run = _read_run(where, dict(zip(header, row, strict=True)), domains)
        if run.run_id in runs:
            raise RedoneError(f"{where}: run_id '{run.run_id}' is given twice; give each run its own")
        runs[run.run_id] = run
    if not runs:
        raise RedoneError(f"{path}: has no runs; add rows of run_id, seed and weights")
    return {run_id: runs[run_id] for run_id in sorted(runs)}


def _check_header(path: Path, header: list[str], domains: tuple[str, ...]) -> None:
    known = {"run_id", "seed", *domains}
    for column in header:
        if column not in known:
            hint = did_you_mean(column, domains)
            raise RedoneError(f"{path}: column '{column}' is no domain of swarm.json; {hint}")
        if header.count(column) > 1:
            raise RedoneError(f"{path}: column '{column}' is given twice; keep one")
    for column in sorted(known):
        if column not in header:
            raise RedoneError(
                f"{path}: column '{column}' is missing; it needs run_id, seed and every domain of swarm.json"
            )


def _read_run(where: str, row: Mapping[str, str], domains: tuple[str, ...]) -> ProxyRun:
    run_id = row["run_id"]
    if not _RUN_ID.fullmatch(run_id):
        raise RedoneError(f"{where}: run_id {run_id!r} names files; use letters, digits, '_', '.' and '-' only")
    try:
        seed = int(row["seed"])
        weights = {name: float(row[name]) for name in domains}
    except ValueError as error:
        raise RedoneError(
            f"{where} (run '{run_id}'): {error}; the seed is a whole number, weights are numbers"
        ) from None
    for name, weight in weights.items():
        if not 0 <= weight <= 1 + WEIGHT_TOLERANCE:
            raise RedoneError(f"{where} (run '{run_id}'): the weight of '{name}' is {weight}; weights lie in [0, 1]")
    total = math.fsum(weights.values())
    if abs(total - 1) > WEIGHT_TOLERANCE:
        raise RedoneError(
            f"{where} (run '{run_id}'): the weights sum to {total:.6g}, not to 1; divide them by their sum"
        )
    return ProxyRun(run_id, seed, Mixture.of(weights))
