"""What swarm, fit and search left for the validation: their files, read.

Shapes: R runs, D domains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from redone_data.engine import Output
from redone_data.manifest import read_json
from redone_data.mix.fit import FitRow
from redone_data.mix.reuse import REUSE
from redone_data.mix.steps import ROUNDS
from redone_data.mix.swarm import base_losses, diverged_runs, trained_batches
from redone_data.mix.tables import Swarm
from redone_data.mixture import Mixture


@dataclass(frozen=True, eq=False)
class Found:
    """searched: search.json. report: how each metric was predicted. rounds: how the swarm grew, {} if in one round.

    reused: runs that were taken over from an earlier recipe. diverged: runs of the swarm that are left out, as
    step/run. untouched: losses of the checkpoint that proxies went on from, by metric; None: they start from scratch.
    """

    swarms: tuple[Swarm, ...]
    searched: dict[str, Any]
    report: tuple[FitRow, ...]
    rounds: dict[str, Any]
    reused: tuple[str, ...] = ()
    diverged: tuple[str, ...] = ()
    untouched: dict[str, float] | None = None

    @classmethod
    def read(cls, swarms: Sequence[Output], fitted: Path, searched: Path) -> "Found":
        """From the swarms' steps and the folders of the fit and the search."""
        grown = read_json(fitted / ROUNDS) if (fitted / ROUNDS).is_file() else {}
        return cls(
            swarms=tuple(trained_batches(swarms)),
            searched=read_json(searched / "search.json"),
            report=tuple(FitRow(**row) for row in read_json(fitted / "fit.json")["report"]),
            reused=tuple(sorted(run for output in swarms for run in _reused(output))),
            diverged=tuple(
                f"{output.folder.name.rpartition('-')[0]}/{run}"
                for output in swarms
                for run in diverged_runs(output.folder)
            ),
            untouched=base_losses(swarms[-1].folder),
            rounds={key: grown[key] for key in ("trace", "stopped") if key in grown},
        )

    def nearest_run_distance(self, mixture: Mixture) -> float:
        """Total variation to the nearest run; a swarm of an earlier recipe may lack domains."""
        distances = []
        for swarm in self.swarms:
            weights_D = np.array([mixture.get(name, 0.0) for name in swarm.domains])
            lacking = 1 - float(weights_D.sum())
            distances.append((float(np.abs(swarm.weights_RD - weights_D).sum(axis=1).min()) + lacking) / 2)
        return min(distances)


def _reused(output: Output) -> list[str]:
    path = output.folder / REUSE
    return list(read_json(path)["reused"].values()) if path.is_file() else []
