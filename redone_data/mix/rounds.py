"""Which proxies are trained: a designed swarm first, then small batches where the fit says that they pay (batch.py).

Each batch is a step of its own, so a run that is killed goes on in the batch where it was; its runs have the next
numbers and seeds of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redone_data.errors import RedoneError
from redone_data.mix.design import DesignConfig, capped, design
from redone_data.mix.limits import Limits
from redone_data.mix.swarm import ProxyRun, SwarmStep, all_diverged
from redone_data.mixture import Mixture
from redone_data.rng import stream, stream_seed

RUNS_SHARE = 5  # a batch is the designed runs divided by this, unless the recipe says otherwise


@dataclass(frozen=True)
class RoundsConfig:
    """Batches of proxies that are chosen by the fit of the runs before."""

    max: int = field(default=2, metadata={"help": "batches after the first swarm; 0 trains the first swarm alone"})
    runs: int | None = field(default=None, metadata={"help": "proxies a batch; default: a fifth of design.runs"})

    def __post_init__(self) -> None:
        if self.max < 0:
            raise RedoneError(f"rounds.max is {self.max}; 0 or more")
        if self.runs is not None and self.runs < 1:
            raise RedoneError(f"rounds.runs is {self.runs}; at least 1 is needed, or rounds.max: 0 for no batches")

    def runs_of(self, design_config: DesignConfig) -> int:
        return self.runs or max(1, design_config.runs // RUNS_SHARE)


@dataclass(frozen=True)
class RoundStep(SwarmStep):
    """A later batch of the swarm; its name, which the progress shows, has its number.

    A batch in which every run diverged is left out of the fit; the runs before it still hold.
    """

    number: int = 1

    def __post_init__(self) -> None:
        # A class is one name, and the engine goes by the name of the step: each round is told apart there.
        object.__setattr__(self, "name", f"round-{self.number}")

    def _check_metrics(self, folder: Path) -> None:
        if not all_diverged(folder):
            super()._check_metrics(folder)


def design_runs(
    limits: Limits, config: DesignConfig, targets: Mapping[str, float], seed: int, reused: int = 0
) -> tuple[ProxyRun, ...]:
    """The first swarm's runs: anchors and samples, then the prior with further seeds.

    reused: so many runs of earlier swarms stand for samples of this one; at least the prior and uniform are trained.
    """
    mixtures = design(limits.prior, limits.max_weights, config, stream(seed, "design"), targets)
    prior = capped(limits.prior, limits.max_weights)
    fresh = max(2, config.runs - config.again - reused)
    return proxies([*mixtures[:fresh], *[prior] * config.again], 0, seed)


def proxies(mixtures: Sequence[Mixture], first: int, seed: int) -> tuple[ProxyRun, ...]:
    """Runs of these mixtures, numbered from `first`; each number has a seed of its own."""
    # torch and LightGBM take seeds of 31 bits.
    return tuple(
        ProxyRun(f"run-{i:04d}", stream_seed(seed, "proxy", i) >> 33, mixture)
        for i, mixture in enumerate(mixtures, start=first)
    )
