"""Synthetic swarms whose true loss surface is known: the saturating law with drawn coefficients, and noise."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redone_data.mix.design import DesignConfig, design
from redone_data.mix.tables import Swarm
from redone_data.mixture import Mixture
from redone_data.rng import stream

Floats = NDArray[np.float64]

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


@dataclass(frozen=True, eq=False)
class Planted:
    """Domain j helps metric m by help_MD[m, j]; every metric has its own domain and a few neighbours."""

    prior: Mixture
    help_MD: Floats
    power_MD: Floats

    @classmethod
    def draw(cls, domains: int, metrics: int, seed: int) -> "Planted":
        rng = stream(seed, "planted", domains)
        names = [f"domain{j:02d}" for j in range(domains)]
        # The helpful domains are the rare ones, so that neither the prior nor the uniform mixture is near the optimum.
        prior = Mixture.of({name: 1.0 / (j + 1) for j, name in enumerate(reversed(names))})
        help_MD = rng.uniform(0.0, 0.1, size=(metrics, domains))
        for metric in range(metrics):
            help_MD[metric, metric] = 3.0
        return cls(prior, help_MD, rng.uniform(0.4, 0.8, size=(metrics, domains)))

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(f"loss{m}" for m in range(len(self.help_MD)))

    def losses(self, weights_RD: Floats) -> Floats:
        """The true losses_RM, without noise."""
        sums_RM = 0.3 + (self.help_MD * weights_RD[:, None, :] ** self.power_MD).sum(axis=2)
        losses_RM: Floats = 1.0 + sums_RM**-0.5
        return losses_RM

    def objective(self, mixture: Mixture) -> float:
        """The true mean of the metrics."""
        return float(self.losses(np.array([mixture.shares])).mean())

    def swarm(self, runs: int, noise: float, seed: int, caps: dict[str, float] | None = None) -> Swarm:
        mixtures = design(self.prior, caps or {}, DesignConfig(runs=runs), stream(seed, "design"))
        weights_RD = np.array([mixture.shares for mixture in mixtures])
        losses_RM = self.losses(weights_RD)
        losses_RM = losses_RM + stream(seed, "noise").normal(scale=noise, size=losses_RM.shape)
        run_ids = tuple(f"run{r:03d}" for r in range(len(mixtures)))
        return Swarm(run_ids, self.prior.names, self.metrics, weights_RD, losses_RM)
