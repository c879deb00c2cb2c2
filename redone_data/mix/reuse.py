"""Proxy runs of an earlier recipe that still hold for this one, and why the others do not.

A run holds where its proxy would be trained on the same tokens today: the same proxy settings, seed and tokenizer, and
for every domain that it put weight on the same documents (ids, tokens and bytes of each), seen as often. A domain that
was split holds where its parts have the documents of the whole: its weight is shared by their natural shares. A metric
holds where the domain's held-out documents are the same; a metric of a new domain was not measured by earlier runs, and
is fitted on those that did. Reading the list of documents is all it costs; a million takes a few seconds.

The earlier folder may come from anywhere: JSON, CSV and Parquet are read, nothing outside of it, and what does not fit
is an error that names the file.
"""

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from redone_data.config import plain
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.manifest import MANIFEST, atomic, digest, read_json, write_json
from redone_data.mix.design import DesignConfig
from redone_data.mix.swarm import SwarmConfig, all_diverged, diverged_runs, trained
from redone_data.mix.tables import Swarm
from redone_data.mixture import Mixture
from redone_data.tokens.pool import pools

REUSE = "reuse.json"
SWARMS = re.compile(r"(swarm|round-\d+)-[0-9a-f]{12}")
POOL = re.compile(r"pool-[0-9a-f]{12}")
STEM = re.compile(r"pool-\d+-(train|validation)")
RUN_ID = re.compile(r"[A-Za-z0-9_.-]+")
WHAT_A_DOCUMENT_IS = ["id", "num_tokens", "num_bytes"]
# Launching differently gives the same losses.
DOES_NOT_MATTER = ("command", "stack", "launch", "device", "slurm")
OF_ANOTHER_MODEL = ("checkpoint", "target_pool")  # inputs of proxies with a checkpoint or a tokenizer of their own


@dataclass(frozen=True)
class EarlierRun:
    """A finished run's folder, with the steps that hold its swarm."""

    root: Path
    label: str
    steps: dict[str, str]

    @classmethod
    def open(cls, root: Path, label: str) -> "EarlierRun":
        if not (root / MANIFEST).is_file():
            raise RedoneError(
                f"mix.reuse: {label} has no {MANIFEST}; name the folder of a run that is finished, or leave it out"
            )
        steps = _object(_read(root, MANIFEST), "steps", label)
        known = [name for name in sorted(steps) if SWARMS.fullmatch(name) or POOL.fullmatch(name)]
        return cls(root, label, {name: str(steps[name]) for name in known})

    @property
    def fingerprint(self) -> str:
        return digest(self.steps)

    @property
    def swarms(self) -> list[str]:
        return [name for name in self.steps if SWARMS.fullmatch(name)]

    def folder(self, name: str) -> Path:
        return _inside(self.root, f"steps/{name}")

    def swarm(self, name: str) -> tuple[Swarm | None, tuple[str, ...]]:
        """One of its swarms: the runs that did not diverge (None: there is none), and the names of those that did."""
        folder = self.folder(name)
        for path in (folder / "runs.csv", folder / "metrics.csv", *folder.glob("results/*.json")):
            _inside(self.root, path.relative_to(self.root.resolve()).as_posix())
        return None if all_diverged(folder) else trained(folder), diverged_runs(folder)

    def read(self, name: str) -> Any:
        return _read(self.root, f"steps/{name}")

    def documents(self) -> tuple[str, dict[str, dict[str, pl.DataFrame]]]:
        """The tokenizer's fingerprint, and domain -> split -> its documents."""
        name = next((name for name in self.steps if POOL.fullmatch(name)), None)
        if name is None:
            raise RedoneError(f"mix.reuse: {self.label} has no token pool; name the folder of a run of redone-data mix")
        manifest = self.read(f"{name}/{MANIFEST}")
        found: dict[str, dict[str, list[pl.DataFrame]]] = {}
        try:
            for task in manifest["tasks"]:
                for split, stem in task["files"].items():
                    if not STEM.fullmatch(stem):
                        raise RedoneError(
                            f"mix.reuse: {self.label}/steps/{name}/{MANIFEST}: file {stem!r} is no pool's"
                        )
                    path = _inside(self.root, f"steps/{name}/{stem}.spans.parquet")
                    frame = pl.read_parquet(path, columns=WHAT_A_DOCUMENT_IS)
                    found.setdefault(task["domain"], {}).setdefault(split, []).append(frame)
            tokenizer = str(manifest["config"]["tokenizer"])
        except (KeyError, TypeError, AttributeError, OSError, pl.exceptions.PolarsError) as error:
            raise RedoneError(f"mix.reuse: {self.label}/steps/{name} cannot be read: {error}") from None
        return tokenizer, {domain: {s: pl.concat(f) for s, f in splits.items()} for domain, splits in found.items()}


@dataclass(frozen=True)
class ReuseStep(Step):
    """Takes over what still holds of one earlier run.

    Writes reuse.json: the runs that are `reused`, the `metrics` that they measured, and why others are `left_out`; and
    runs.csv and metrics.csv as a swarm's folder has them, where any run holds.
    """

    name = "reuse"
    VERSION = 1

    earlier: EarlierRun
    number: int
    pool: Output
    swarm: SwarmConfig
    budget: int
    seed: int

    def config(self) -> Any:
        return {
            "number": self.number,
            "earlier": self.earlier.fingerprint,
            "label": self.earlier.label,
            "swarm": plain(self.swarm),
            "budget": self.budget,
            "seed": self.seed,
        }

    def inputs(self) -> dict[str, str]:
        return {"pool": self.pool.fingerprint}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        held: dict[str, tuple[Mixture, dict[str, float]]] = {}
        left_out: dict[str, str] = {}
        metrics: set[str] | None = None
        tokenizer, documents = self.earlier.documents()
        today = Today.of(self.pool, self.swarm, self.budget)
        for name in self.earlier.swarms:
            swarm, diverged = self.earlier.swarm(name)
            left_out |= dict.fromkeys(diverged, "its proxy diverged")
            if swarm is None:
                continue
            why = self._swarm_differs(self.earlier.read(f"{name}/{MANIFEST}"), tokenizer)
            parts, reasons = ({}, {}) if why else today.match(documents, self.earlier.read(f"{name}/swarm.json"))
            same = {d for d in swarm.metrics if today.measures_the_same(d, documents)}
            metrics = same if metrics is None else metrics & same
            for run_id, weights_D, losses_M in zip(swarm.run_ids, swarm.weights_RD, swarm.losses_RM, strict=True):
                weights = {d: float(w) for d, w in zip(swarm.domains, weights_D, strict=True) if w > 0}
                fault = why or next((reasons[d] for d in sorted(weights) if d in reasons), None)
                if fault is None and (not RUN_ID.fullmatch(run_id) or run_id in held):
                    fault = "its name is not one of redone-data's, or given twice"
                if fault is None and not same:
                    fault = "the held-out documents of every domain differ, so nothing that it measured holds"
                if fault is not None:
                    left_out[run_id] = fault
                    continue
                shared = dict.fromkeys(today.tokens, 0.0)
                for domain, weight in weights.items():
                    total = sum(today.tokens[part] for part in parts[domain])
                    for part in parts[domain]:
                        shared[part] += weight * today.tokens[part] / total
                held[run_id] = Mixture.of(shared), dict(zip(swarm.metrics, map(float, losses_M), strict=True))
        names = sorted(metrics or ())
        if held:
            domains = sorted(today.tokens)
            rows = {run_id: [mixture[d] for d in domains] for run_id, (mixture, _) in held.items()}
            _write_table(folder / "runs.csv", domains, {self._renamed(r): values for r, values in rows.items()})
            losses = {self._renamed(r): [of_run[m] for m in names] for r, (_, of_run) in held.items()}
            _write_table(folder / "metrics.csv", names, losses)
        report = {
            "folder": self.earlier.label,
            "reused": {run_id: self._renamed(run_id) for run_id in held},
            "left_out": left_out,
            "metrics": names,
            "not_measured": sorted(set(today.tokens) - set(names)),
        }
        write_json(folder / REUSE, report)
        return {"reused": len(held), "left_out": len(left_out)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]

    def _renamed(self, run_id: str) -> str:
        return f"reused{self.number}-{run_id}"

    def _swarm_differs(self, manifest: Any, tokenizer: str) -> str | None:
        """Why no run of an earlier swarm holds, whatever its mixture."""
        config = _object(manifest, "config", self.earlier.label)
        if self.swarm.proxy.is_counted or "sample" in config:
            return "losses that are counted, not trained, are counted anew"
        there, here = _object(config, "swarm", self.earlier.label), plain(self.swarm)
        if self.swarm.init is not None or self.swarm.tokenizer is not None:
            return "proxies with mix.swarm.init or a tokenizer of their own are trained anew"
        if set(OF_ANOTHER_MODEL) & set(manifest.get("inputs") or ()):
            return "its proxies went on from a checkpoint or had a tokenizer of their own"
        for key in sorted({*there, *here} - {*DOES_NOT_MATTER, "init", "tokenizer"}):
            if there.get(key) != here.get(key):
                return f"mix.swarm.{key} was {there.get(key)!r}, now it is {here.get(key)!r}"
        if config.get("seed") != self.seed:
            return "the recipe had another seed, so its proxies were measured on other held-out documents"
        if tokenizer != self.pool.manifest["config"]["tokenizer"]:
            return "the text was tokenized by another tokenizer; set tokens.tokenizer.path to the earlier one"
        return None


def reused_runs(reused: Sequence[Output], config: DesignConfig) -> int:
    """How many designed runs the reused ones stand for; where they lack a metric, at most half: it needs runs too."""
    held = [output for output in reused if output.statistics["reused"]]
    runs: int = sum(output.statistics["reused"] for output in held)
    lacking = any(read_json(output.folder / REUSE)["not_measured"] for output in held)
    return min(runs, config.runs // 2) if lacking else runs


@dataclass(frozen=True)
class Today:
    """The pools of this recipe: what earlier ones are compared with."""

    tokens: dict[str, int]
    limits: dict[str, int | None]
    documents: dict[str, dict[str, pl.DataFrame]]

    @classmethod
    def of(cls, pool: Output, swarm: SwarmConfig, budget: int) -> "Today":
        found = pools(pool)
        tokens = {name: domain.tokens for name, domain in found.items()}
        share = min(1.0, swarm.proxy.tokens / budget)
        limits = {name: max(1, round(n * share)) if swarm.matched_repetition else None for name, n in tokens.items()}
        documents = {
            name: {
                split: pl.concat([pl.read_parquet(file.spans, columns=WHAT_A_DOCUMENT_IS) for file in files])
                for split, files in (("train", domain.train), ("validation", domain.validation))
            }
            for name, domain in found.items()
        }
        return cls(tokens, limits, documents)

    def match(
        self, earlier: Mapping[str, Mapping[str, pl.DataFrame]], description: Any
    ) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Earlier domain -> the domains that it is today; and for those that do not hold, why."""
        parts: dict[str, list[str]] = {}
        reasons: dict[str, str] = {}
        for name, splits in earlier.items():
            parts[name] = [name] if name in self.tokens else [d for d in self.tokens if d.startswith(f"{name}/")]
            limits = [limit for part in parts[name] if (limit := self.limits[part]) is not None]
            there = _object(_object(description, "domains", "swarm.json"), name, "swarm.json").get("train_limit_tokens")
            if not parts[name]:
                reasons[name] = f"it has '{name}' in its mixture, which is no domain of this recipe"
            elif _digest([splits["train"]]) != _digest([self.documents[part]["train"] for part in parts[name]]):
                reasons[name] = f"the documents of '{name}' differ"
            elif not _alike(there, limits):
                seen = f"was seen from {there or 'all'} tokens, now it is from {sum(limits) or 'all'}"
                reasons[name] = f"'{name}' {seen}: the budget or the proxies' tokens differ"
        return parts, reasons

    def measures_the_same(self, domain: str, earlier: Mapping[str, Mapping[str, pl.DataFrame]]) -> bool:
        here, there = self.documents.get(domain), earlier.get(domain)
        return bool(here and there and _digest([here["validation"]]) == _digest([there["validation"]]))


def _alike(there: int | None, limits: Sequence[int]) -> bool:
    """Whether proxies see as much of a domain as of its parts together, each of which is rounded on its own."""
    return not limits if there is None else bool(limits) and abs(there - sum(limits)) < len(limits)


def _digest(frames: Sequence[pl.DataFrame]) -> str:
    """Of the documents in any order."""
    whole = pl.concat(frames).sort(WHAT_A_DOCUMENT_IS)
    return hashlib.sha256(whole.write_csv().encode()).hexdigest()


def _write_table(path: Path, columns: Sequence[str], rows: Mapping[str, Sequence[float]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run_id", *columns])
    writer.writerows([run_id, *map(repr, values)] for run_id, values in sorted(rows.items()))
    with atomic(path) as aside:
        aside.write_text(text.getvalue(), encoding="utf-8")


def _inside(root: Path, name: str) -> Path:
    """A path below the folder, whatever links lie there."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise RedoneError(f"mix.reuse: {root / name} leads out of {root}; name a run's folder as it was written")
    return path


def _read(root: Path, name: str) -> Any:
    return read_json(_inside(root, name))


def _object(value: Any, key: str, where: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise RedoneError(f"mix.reuse: {where}: '{key}' is not what redone-data writes there")
    return found
