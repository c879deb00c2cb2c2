"""What swarm, fit and search left for the validation: their files read, the best measured run picked.

Shapes: R runs, D domains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redone_data.engine import Output
from redone_data.manifest import read_json
from redone_data.mix.constraints import Constraints
from redone_data.mix.design import mixture_of
from redone_data.mix.entrants import ALLOWED, BEST_RUN, Finalist
from redone_data.mix.fit import FitRow
from redone_data.mix.limits import OBJECTIVE
from redone_data.mix.rounds import together
from redone_data.mix.steps import ROUNDS
from redone_data.mix.swarm import trained
from redone_data.mix.tables import Swarm
from redone_data.mixture import Mixture


@dataclass(frozen=True, eq=False)
class Found:
    """searched: search.json. report: how each metric was predicted. rounds: how the swarm grew, {} if in one round.

    held_out: run id -> metric -> prediction by a fit that did not see the run.
    """

    swarm: Swarm
    searched: dict[str, Any]
    report: tuple[FitRow, ...]
    held_out: dict[str, dict[str, float]]
    rounds: dict[str, Any]

    @classmethod
    def read(cls, swarms: Sequence[Output], fitted: Path, searched: Path) -> "Found":
        """From the swarms' steps and the folders of the fit and the search."""
        held_out: dict[str, dict[str, float]] = {}
        for row in pl.read_parquet(fitted / "held_out.parquet").to_dicts():
            held_out.setdefault(row["run_id"], {})[row["metric"]] = row["predicted"]
        grown = read_json(fitted / ROUNDS) if (fitted / ROUNDS).is_file() else {}
        return cls(
            swarm=together([trained(output.folder) for output in swarms]),
            searched=read_json(searched / "search.json"),
            report=tuple(FitRow(**row) for row in read_json(fitted / "fit.json")["report"]),
            held_out=held_out,
            rounds={key: grown[key] for key in ("trace", "stopped") if key in grown},
        )

    def nearest_run_distance(self, mixture: Mixture) -> float:
        """Total variation to the nearest run."""
        weights_D = np.array([mixture[name] for name in self.swarm.domains])
        return float(np.abs(self.swarm.weights_RD - weights_D).sum(axis=1).min() / 2)

    def best_run(self, wanted: Mapping[str, float], allowed: Constraints) -> Finalist | None:
        """The run with the lowest measured objective among those that are allowed; None: no run is.

        Runs of the same mixture count by their mean. Its prediction is the held-out one.
        """
        swarm, total = self.swarm, sum(wanted.values())
        objective_R = sum(weight / total * swarm.losses(metric) for metric, weight in wanted.items())
        moved_R = np.abs(allowed.project(swarm.weights_RD) - swarm.weights_RD).sum(axis=1) / 2
        mixture_R = np.unique(np.round(swarm.weights_RD, 9), axis=0, return_inverse=True)[1].ravel()
        means_C = np.bincount(mixture_R, weights=objective_R) / np.bincount(mixture_R)
        runs = np.flatnonzero(moved_R <= ALLOWED).tolist()
        if not runs:
            return None
        best = min(runs, key=lambda run: (float(means_C[mixture_R[run]]), swarm.run_ids[run]))
        losses = dict(self.held_out[swarm.run_ids[best]])
        losses[OBJECTIVE] = sum(weight / total * losses[metric] for metric, weight in wanted.items())
        known = {metric: {"predicted": loss} for metric, loss in losses.items() if np.isfinite(loss)}
        return Finalist(BEST_RUN, "run", mixture_of(swarm.domains, swarm.weights_RD[best]), known)
