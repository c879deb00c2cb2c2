"""Fit and search as steps of a run: from a trained swarm to the weights that are predicted best."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from redone_data.config import plain
from redone_data.engine import Output, Step
from redone_data.manifest import read_json, write_json
from redone_data.mix.batch import next_batch
from redone_data.mix.config import MixConfig
from redone_data.mix.constraints import Constraints
from redone_data.mix.counting.model import CONCENTRATION
from redone_data.mix.counting.screen import Screen
from redone_data.mix.counting.step import Counted
from redone_data.mix.diagnostics import effects, learning_curve
from redone_data.mix.fit import Fit
from redone_data.mix.fit_files import read_fit, write_fit
from redone_data.mix.limits import Limits
from redone_data.mix.searching import searched
from redone_data.mix.surrogates.base import Beside
from redone_data.mix.surrogates.screened import ScreenedSurrogate
from redone_data.mix.swarm import base_losses, trained_batches
from redone_data.mix.tables import Swarm
from redone_data.mix.together import fit_together
from redone_data.mixture import Mixture

ROUNDS = "rounds.json"
MANY_LOSSES = 1500  # runs x metrics from which starting processes pays


def _compared(swarms: Sequence[Output], mix: MixConfig, limits: Limits, seed: int, counts: Counted | None) -> Fit:
    """The fit of all runs."""
    measured, chosen = trained_batches(swarms), mix.fit
    if counts is not None and ScreenedSurrogate.name not in chosen.surrogates:
        chosen = replace(chosen, surrogates=(*chosen.surrogates, ScreenedSurrogate.name))
    losses = sum(swarm.losses_RM.size for swarm in measured)
    workers = len(os.sched_getaffinity(0)) if losses > MANY_LOSSES else 1
    return fit_together(measured, chosen, seed, _beside(measured, mix, limits, counts), workers=workers)


def _beside(measured: Sequence[Swarm], mix: MixConfig, limits: Limits, counts: Counted | None) -> dict[str, Beside]:
    """What is known beside the runs: how often they repeat each domain, and counted n-grams."""
    metrics = {metric for swarm in measured for metric in swarm.metrics}
    epochs_D = np.array([epochs for _, epochs in sorted(limits.epochs_at_one.items())])
    # Proxies that do not repeat what the real run will repeat have nothing to say of repetition.
    beside = {metric: Beside(epochs_D=epochs_D if mix.swarm.matched_repetition else None) for metric in metrics}
    if counts is not None:
        model, sample = counts.model(), mix.swarm.proxy.sample
        for metric in metrics & set(model.metrics):
            beside[metric] = replace(beside[metric], screen=Screen(model.only(metric), sample))
    return beside


def _screening(mix: MixConfig, counts: Counted | None) -> dict[str, Any]:
    """What the screen adds to a step's configuration."""
    return {} if counts is None else {"sample": mix.swarm.proxy.sample, "concentration": CONCENTRATION}


def _repetition(mix: MixConfig, limits: Limits) -> dict[str, Any]:
    return {"epochs_at_one": limits.epochs_at_one} if mix.swarm.matched_repetition else {}


def _counts_of(counts: Counted | None) -> dict[str, str]:
    return {} if counts is None else {"counts": counts.fingerprint}


def swarm_inputs(swarms: Sequence[Output]) -> dict[str, str]:
    """Label -> fingerprint of each swarm, first to last."""
    return {f"swarm {number}": swarm.fingerprint for number, swarm in enumerate(swarms)}


@dataclass(frozen=True)
class FitStep(Step):
    """Surrogates of every metric, judged on held-out runs, and the runs to train next.

    Writes fit.json, held_out.parquet and, where the recipe has rounds, rounds.json: a row of `trace` for each round so
    far, the runs that are `next`, and why it `stopped` (null: it did not).
    """

    name = "fit"
    VERSION = 7

    swarms: tuple[Output, ...]
    limits: Limits
    mix: MixConfig
    seed: int
    earlier: Output | None = None
    round: int = 0
    counts: Counted | None = None

    def config(self) -> Any:
        chosen: dict[str, Any] = {
            "rounds": plain(self.mix.rounds),
            "round": self.round,
            "design": plain(self.mix.design),
            "objective": self.mix.objective(tuple(self.limits.tokens)),
            "limits": plain(self.limits),
            "constraints": [plain(self.mix.bounds), plain(self.mix.groups), plain(self.mix.trust)],
        }
        rounds = chosen if self.mix.rounds.max else {}
        repetition = _repetition(self.mix, self.limits)
        screening = _screening(self.mix, self.counts)
        return {"fit": plain(self.mix.fit), "seed": self.seed, **rounds, **repetition, **screening}

    def inputs(self) -> dict[str, str]:
        earlier = {} if self.earlier is None else {"earlier": self.earlier.fingerprint}
        return {**swarm_inputs(self.swarms), **earlier, **_counts_of(self.counts)}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        fitted = _compared(self.swarms, self.mix, self.limits, self.seed, self.counts)
        write_fit(fitted, folder)
        if self.mix.rounds.max:
            write_json(folder / ROUNDS, self._rounds(fitted))
        return {
            "runs": len(fitted.swarm.run_ids),
            "skilled": sorted(row.metric for row in fitted.report if row.skilled),
        }

    def _rounds(self, fitted: Fit) -> dict[str, Any]:
        wanted, rounds, design = self.mix.objective(tuple(self.limits.tokens)), self.mix.rounds, self.mix.design
        batch = next_batch(
            fitted,
            wanted,
            self.limits,
            Constraints.of(self.mix, self.limits),
            design,
            rounds.runs_of(design),
            self.seed,
        )
        stopped, planned = batch.stopped, batch.planned
        if stopped is None and self.round == rounds.max:
            stopped, planned = f"the budget of rounds is spent (mix.rounds.max is {rounds.max})", ()
        kinds = [run.kind for run in planned]
        row = {name: value for name, value in asdict(batch).items() if name not in ("planned", "stopped")}
        row |= {"round": self.round, "next": {kind: kinds.count(kind) for kind in sorted(set(kinds))}}
        trace = [] if self.earlier is None else read_json(self.earlier.folder / ROUNDS)["trace"]
        return {
            "trace": [*trace, _rounded(row)],
            "next": [{"kind": run.kind, "weights": dict(run.mixture)} for run in planned],
            "stopped": stopped,
        }


def planned_mixtures(fitted: Output) -> list[Mixture]:
    """The mixtures that a fit wants to be trained next; none where it stopped, or where the recipe has no rounds."""
    path = fitted.folder / ROUNDS
    return [Mixture.of(run["weights"]) for run in read_json(path)["next"]] if path.is_file() else []


@dataclass(frozen=True)
class SearchStep(Step):
    """The best mixture inside the constraints, by the fitted surrogates. Writes search.json."""

    name = "search"
    VERSION = 4

    swarms: tuple[Output, ...]
    fitted: Output
    limits: Limits
    mix: MixConfig
    seed: int
    counts: Counted | None = None

    def config(self) -> Any:
        return {
            "search": plain(self.mix.search),
            "fit": plain(self.mix.fit),
            "design": plain(self.mix.design),
            "objective": self.mix.objective(tuple(self.limits.tokens)),
            "retention": plain(self.mix.retention),
            "constraints": {key: plain(getattr(self.mix, key)) for key in ("groups", "bounds", "trust")},
            "limits": plain(self.limits),
            "seed": self.seed,
            **_repetition(self.mix, self.limits),
            **_screening(self.mix, self.counts),
        }

    def inputs(self) -> dict[str, str]:
        return {**swarm_inputs(self.swarms), "fit": self.fitted.fingerprint, **_counts_of(self.counts)}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        measured = trained_batches(self.swarms)
        beside = _beside(measured, self.mix, self.limits, self.counts)
        fitted = read_fit(self.fitted.folder, measured, self.mix.fit, self.seed, beside)
        found = searched(fitted, self.mix, self.limits, self.seed, base_losses(self.swarms[-1].folder))
        found["effects"] = effects(fitted, Mixture.of(found["weights"]))
        found["learning"] = learning_curve(fitted, self.seed)
        write_json(folder / "search.json", _rounded(found))
        return {"found_by": found["found_by"]}


def _rounded(value: Any) -> Any:
    """Twelve significant digits: beyond them lies only the order of additions."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value
