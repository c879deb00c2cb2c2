"""When two measured mixtures differ: proxies share their seeds, so differences are taken seed by seed.

Losses are read as mixture + seed + rest. The variance of the rest is pooled over everything that was trained at one
scale, also over what is not compared: with 3 mixtures x 3 seeds and 6 x 2 that is 9 degrees of freedom where a pair
alone has 2. The noise is the half-width of the 95 % interval, Student's quantile x the standard error. A seed explains
a third of the variance of real proxies (8 to 53 % in five runs of 3 mixtures x 3 seeds). Simulated with that design,
two equal mixtures are called different in 4-5 % of cases, with 8 % of runs six times noisier too; two standard errors
from the pair's own spread did so in 6-11 %. A difference of two standard deviations is seen in 59-81 % (paired t-test:
30-41 %; median of the differences: 48-69 %).

Shapes: R runs, X unknowns.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Losses = Mapping[str, Mapping[int, float]]  # mixture -> seed -> loss

CONFIDENCE = 0.975  # of each side


@dataclass(frozen=True)
class Noise:
    """What mixture and seed leave unexplained: the sum of squares, and how many free values it comes from."""

    squares: float
    freedom: int

    @classmethod
    def of(cls, *tables: Losses) -> "Noise":
        """Pooled over tables of one scale; each has seeds, and so effects, of its own."""
        return cls._pooled(tables, with_seeds=True)

    @classmethod
    def of_runs(cls, *tables: Losses) -> "Noise":
        """The same where a mixture is not compared with another on its seeds: what a seed does is noise, too."""
        return cls._pooled(tables, with_seeds=False)

    @classmethod
    def _pooled(cls, tables: Sequence[Losses], *, with_seeds: bool) -> "Noise":
        squares, freedom = 0.0, 0
        for losses in tables:
            runs = [(name, seed, loss) for name, of_seed in losses.items() for seed, loss in of_seed.items()]
            names, seeds = sorted({run[0] for run in runs}), sorted({run[1] for run in runs})
            design_RX = np.zeros((len(runs), len(names) + len(seeds)))
            for row, (name, seed, _) in enumerate(runs):
                design_RX[row, names.index(name)] = 1.0
                design_RX[row, len(names) + seeds.index(seed)] = float(with_seeds)
            losses_R = np.array([run[2] for run in runs])
            effects_X, _, rank, _ = np.linalg.lstsq(design_RX, losses_R, rcond=None)
            if len(runs) > rank:
                squares += float(((losses_R - design_RX @ effects_X) ** 2).sum())
                freedom += len(runs) - int(rank)
        return cls(squares, freedom)

    def half_width(self, seeds: int, mixtures: int = 2) -> float | None:
        """Of the interval around the mean difference of two mixtures over so many seeds; None: no telling.

        mixtures: 1 for the mean of one, which is compared with a loss that has no noise.
        """
        if not self.freedom or not seeds:
            return None
        from scipy.special import stdtrit  # a tenth of a second, and every command reads recipes

        return float(stdtrit(self.freedom, CONFIDENCE)) * math.sqrt(mixtures * self.squares / self.freedom / seeds)


def shared_seeds(losses: Losses, *names: str) -> list[int]:
    """The seeds that all of these mixtures finished."""
    return sorted(set.intersection(*(set(losses[name]) for name in names)))


def mean_difference(losses: Losses, name: str, against: str) -> float:
    """Over the seeds that both finished; there is one."""
    seeds = shared_seeds(losses, name, against)
    return math.fsum(losses[name][seed] - losses[against][seed] for seed in seeds) / len(seeds)
