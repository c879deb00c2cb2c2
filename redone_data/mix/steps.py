"""Fit and search as steps of a run: from a trained swarm to the weights that are predicted best."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from redone_data.config import plain
from redone_data.engine import Output, Step
from redone_data.manifest import atomic, read_json, write_json
from redone_data.mix.batch import next_batch
from redone_data.mix.config import MixConfig
from redone_data.mix.constraints import Constraints
from redone_data.mix.fit import Fit
from redone_data.mix.limits import Limits
from redone_data.mix.searching import searched
from redone_data.mix.swarm import trained
from redone_data.mix.together import fit_together
from redone_data.mixture import Mixture

ROUNDS = "rounds.json"


def _fitted(swarms: Sequence[Output], config: MixConfig, seed: int) -> Fit:
    return fit_together([trained(swarm.folder) for swarm in swarms], config.fit, seed)


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
    VERSION = 2

    swarms: tuple[Output, ...]
    limits: Limits
    mix: MixConfig
    seed: int
    earlier: Output | None = None
    round: int = 0

    def config(self) -> Any:
        chosen = {
            "rounds": plain(self.mix.rounds),
            "round": self.round,
            "design": plain(self.mix.design),
            "objective": self.mix.objective(tuple(self.limits.tokens)),
            "limits": plain(self.limits),
            "constraints": [plain(self.mix.bounds), plain(self.mix.groups), plain(self.mix.trust)],
        }
        return {"fit": plain(self.mix.fit), "seed": self.seed, **(chosen if self.mix.rounds.max else {})}

    def inputs(self) -> dict[str, str]:
        earlier = {} if self.earlier is None else {"earlier": self.earlier.fingerprint}
        return {**swarm_inputs(self.swarms), **earlier}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        fitted = _fitted(self.swarms, self.mix, self.seed)
        rows = {"report": [asdict(row) for row in fitted.report], "compared": [asdict(row) for row in fitted.compared]}
        write_json(folder / "fit.json", rows)
        swarm = fitted.swarm
        frame = pl.DataFrame(
            {
                "run_id": [run for run in swarm.run_ids for _ in swarm.metrics],
                "metric": list(swarm.metrics) * len(swarm.run_ids),
                "measured": swarm.losses_RM.ravel(),
                "predicted": fitted.held_out_RM.ravel(),
            }
        )
        with atomic(folder / "held_out.parquet") as aside:
            frame.write_parquet(aside)
        if self.mix.rounds.max:
            write_json(folder / ROUNDS, self._rounds(fitted))
        return {"runs": len(swarm.run_ids), "skilled": sorted(row.metric for row in fitted.report if row.skilled)}

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
    VERSION = 2

    swarms: tuple[Output, ...]
    fitted: Output
    limits: Limits
    mix: MixConfig
    seed: int

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
        }

    def inputs(self) -> dict[str, str]:
        return {**swarm_inputs(self.swarms), "fit": self.fitted.fingerprint}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        found = searched(_fitted(self.swarms, self.mix, self.seed), self.mix, self.limits, self.seed)
        write_json(folder / "search.json", _rounded(found))
        return {"found_by": found["found_by"]}


def _rounded(value: Any) -> Any:
    """Twelve significant digits: beyond them lies only the order of additions."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value
