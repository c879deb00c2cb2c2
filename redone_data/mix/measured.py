"""What validation proxies measured: mixture -> seed -> metric -> loss in bits per byte, and the scale of it."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redone_data.mix.limits import OBJECTIVE
from redone_data.mix.proposal import Measured
from redone_data.mix.swarm import SwarmConfig, diverged_runs, trained

COUNTED = "counted n-grams"
COUNTED_ONLY = " By counted n-grams, not by trained models: a screen, not a measurement."


def scale_of(swarm: SwarmConfig) -> str:
    if swarm.proxy.is_counted:
        return f"{COUNTED} x {swarm.proxy.tokens / 1e6:g}M tokens"
    if swarm.init is not None:
        return f"{Path(swarm.init).name} ({swarm.adapt}) x {swarm.proxy.tokens / 1e6:g}M tokens"
    size = swarm.proxy.size
    named = f"{size} parameters" if isinstance(size, str) else f"{size.layers} layers of {size.width}"
    return f"{named} x {swarm.proxy.tokens / 1e6:g}M tokens"


@dataclass(frozen=True)
class Measurement:
    """One set of proxies: the same seeds for every mixture. diverged: run ids that are left out."""

    scale: str
    losses: dict[str, dict[int, dict[str, float]]]
    diverged: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path, scale: str, wanted: Mapping[str, float]) -> "Measurement":
        """Of a finished step's folder; the objective is among the metrics."""
        swarm = trained(folder)
        total = sum(wanted.values())
        table: dict[str, dict[int, dict[str, float]]] = {}
        for run_id, losses_M in zip(swarm.run_ids, swarm.losses_RM, strict=True):
            of_run = dict(zip(swarm.metrics, map(float, losses_M), strict=True))
            of_run[OBJECTIVE] = sum(weight * of_run[metric] for metric, weight in wanted.items()) / total
            name, _, number = run_id.rpartition("-")
            table.setdefault(name, {})[int(number)] = of_run
        return cls(scale, table, diverged_runs(folder))

    @property
    def is_counted(self) -> bool:
        return self.scale.startswith(COUNTED)

    def of(self, metric: str) -> dict[str, dict[int, float]]:
        """Mixture -> seed -> loss."""
        return {
            name: {seed: losses[metric] for seed, losses in of_seed.items()} for name, of_seed in self.losses.items()
        }

    def weighted(self, weights: Mapping[str, float]) -> dict[str, dict[int, float]]:
        """Mixture -> seed -> weighted mean of metrics."""
        total = sum(weights.values())
        return {
            name: {
                seed: sum(weight * losses[metric] for metric, weight in weights.items()) / total
                for seed, losses in of_seed.items()
            }
            for name, of_seed in self.losses.items()
        }

    def values(self, name: str, metric: str) -> tuple[float, ...]:
        """One loss a seed; nothing where the mixture was not trained, or always diverged."""
        return tuple(losses[metric] for _, losses in sorted(self.losses.get(name, {}).items()))

    def record(self, name: str) -> Measured | None:
        """Means and spreads as the proposal holds them."""
        if name not in self.losses:
            return None
        seeds = len(self.losses[name])
        metrics = sorted(next(iter(self.losses[name].values())))
        values = {metric: self.values(name, metric) for metric in metrics}
        return Measured(
            scale=self.scale,
            seeds=seeds,
            mean={metric: statistics.fmean(losses) for metric, losses in values.items()},
            sd={metric: statistics.stdev(losses) if seeds > 1 else None for metric, losses in values.items()},
        )
