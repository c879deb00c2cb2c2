"""A planted optimum: regret of what is proposed, beside RegMix's way (LightGBM + simulation) on the same runs.

Surfaces whose best weights are known (the lowest of descents on the true surface from twelve mixtures and from all that
was proposed). Families; each metric has its own helpful domain:
  law        the saturating law, the form that one of our surrogates has
  loglinear  c + exp(sum t_j w_j), the data mixing law: some domains help, some hurt
  crossed    the saturating law with cross terms: pairs of domains that help only together, and one that hurts
  repeated   the law with harm by passes over a domain (the fit is told the passes), .18 at the six allowed ones: the
             square of passes over three; others differ in where it begins and how it grows (HARMS): early (1, linear),
             soon (2, square), late (4, linear), steep (2, cube), hasty (2, logarithm: concave, which no fit here is)
Regret: the true objective at the proposal less that at the best mixture within the same caps, mean and worst of the
draws. Noise floor: the standard deviation of the objective of one run over seeds. Ours is made by fit and search as in
a recipe: from one designed swarm, and from as many runs of which the fit chose two batches (a recipe's default, each a
fifth of the designed runs). LightGBM's is made from the designed swarm by 20,000 simulated mixtures and the mean of the
best 64, within the same caps and trust rule.
Optimism: the true objective at our proposal less the predicted one, and what the search says that it is.

    python benchmarks/planted.py [--draws 3] [--sizes 5:24,17:64,60:128] [--families law,crossed,repeated,...]
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "mix"))

import numpy as np
from measuring import machine
from numpy.typing import NDArray
from planted import Planted

from redone_data.mix import descent
from redone_data.mix.batch import next_batch
from redone_data.mix.constraints import Constraints
from redone_data.mix.design import DesignConfig, design
from redone_data.mix.fit import Fit, FitConfig, fit
from redone_data.mix.limits import Limits
from redone_data.mix.optimism import optimism
from redone_data.mix.rounds import RUNS_SHARE
from redone_data.mix.search import Objective, SearchConfig, search
from redone_data.mix.surrogates.base import Beside
from redone_data.mix.tables import Swarm
from redone_data.rng import stream

Floats = NDArray[np.float64]

NOISE = 0.01  # of each metric; losses vary by some tenths
METRICS = 3
BATCHES = 2
BUDGET = 10**9  # tokens
EPOCHS = 6.0  # allowed passes over the rarest domains
HARM = 0.18  # at EPOCHS passes
# Passes that do no harm, and the power by which further ones do; 0: their logarithm.
HARMS = {"repeated": (3.0, 2.0), "early": (1.0, 1.0), "soon": (2.0, 2.0), "late": (4.0, 1.0), "steep": (2.0, 3.0)}
HARMS["hasty"] = (2.0, 0.0)
REGMIX = SearchConfig(candidates=20_000, top=64, refine=False)


@dataclass(frozen=True, eq=False)
class Surface:
    """A true objective of D domains, with caps."""

    family: str
    planted: Planted
    tilt_MD: Floats
    pairs_M2: NDArray[np.int64]
    epochs_D: Floats

    @classmethod
    def draw(cls, family: str, domains: int, seed: int) -> "Surface":
        rng = stream(seed, "surface", family, domains)
        planted = Planted.draw(domains, METRICS, seed)
        tilt_MD = rng.normal(0.0, 0.6, size=(METRICS, domains))
        tilt_MD[np.arange(METRICS), np.arange(METRICS)] = -3.0
        pairs_M2 = np.array([rng.choice(domains, 2, replace=False) for _ in range(METRICS)])
        # Natural shares are tokens; the budget is such that the rarest domains could fill half of it in EPOCHS passes.
        epochs_D = EPOCHS / np.maximum(np.array(planted.prior.shares) * domains * 0.8, 0.2)
        return cls(family, planted, tilt_MD, pairs_M2, epochs_D)

    @property
    def caps(self) -> dict[str, float]:
        return dict(zip(self.planted.prior.names, np.minimum(EPOCHS / self.epochs_D, 1.0).tolist(), strict=True))

    def losses(self, weights_RD: Floats) -> Floats:
        if self.family == "loglinear":
            return 1.0 + 0.8 * np.exp(weights_RD @ self.tilt_MD.T)
        losses_RM = self.planted.losses(weights_RD)
        if self.family == "crossed":
            both_RM = np.sqrt(weights_RD[:, self.pairs_M2[:, 0]] * weights_RD[:, self.pairs_M2[:, 1]])
            losses_RM = losses_RM - 0.3 * both_RM + 0.4 * weights_RD[:, -1:] ** 2
        if self.family in HARMS:
            harmless, power = HARMS[self.family]
            passes_RD = np.maximum(weights_RD * self.epochs_D, harmless)
            share_RD = (passes_RD - harmless) / (EPOCHS - harmless)
            if not power:
                share_RD = np.log(passes_RD / harmless) / np.log(EPOCHS / harmless)
            losses_RM = losses_RM + HARM * (share_RD ** (power or 1.0)).sum(axis=1, keepdims=True)
        return losses_RM

    def objective(self, weights_RD: Floats) -> Floats:
        mean_R: Floats = self.losses(weights_RD).mean(axis=1)
        return mean_R

    def slopes(self, weights_RD: Floats) -> Floats:
        """By differences, all in one call."""
        step = 1e-6
        near_RDD = weights_RD[:, None, :] + step * np.eye(weights_RD.shape[1])
        ahead_RD = self.objective(near_RDD.reshape(-1, weights_RD.shape[1])).reshape(weights_RD.shape)
        slopes_RD: Floats = (ahead_RD - self.objective(weights_RD)[:, None]) / step
        return slopes_RD

    def best(self, constraints: Constraints, proposed_RD: Floats) -> float:
        domains = len(self.epochs_D)
        drawn_RD = constraints.project(stream(0, "starts", domains).dirichlet(np.ones(domains), 2_000))
        starts_RD = np.vstack([drawn_RD[np.argsort(self.objective(drawn_RD))[:12]], proposed_RD])
        true = descent.Surface(self.objective, self.slopes)
        # Twice: from where the first stops the solver builds its curvature anew.
        ends_RD = [descent.descend(true, constraints, descent.descend(true, constraints, row_D)) for row_D in starts_RD]
        return float(self.objective(np.vstack([*ends_RD, proposed_RD])).min())

    def fit(self, swarm: Swarm, config: FitConfig, seed: int) -> Fit:
        return fit(swarm, config, seed, dict.fromkeys(swarm.metrics, Beside(self.epochs_D)))


def swarm_of(surface: Surface, runs: int, seed: int) -> Swarm:
    prior = surface.planted.prior
    mixtures = design(prior, surface.caps, DesignConfig(runs=runs), stream(seed, "design"))
    weights_RD = np.array([mixture.shares for mixture in mixtures])
    noise_RM = stream(seed, "noise", surface.family).normal(scale=NOISE, size=(len(mixtures), METRICS))
    run_ids = tuple(f"run{r:04d}" for r in range(len(mixtures)))
    return Swarm(run_ids, prior.names, surface.planted.metrics, weights_RD, surface.losses(weights_RD) + noise_RM)


def in_batches(surface: Surface, runs: int, seed: int, surrogate: str | None) -> Fit:
    """The fit of a swarm of which BATCHES batches were chosen by the fits before."""
    prior, metrics = surface.planted.prior, surface.planted.metrics
    batch_runs = round(runs / (RUNS_SHARE + BATCHES))
    config = DesignConfig(runs=runs - BATCHES * batch_runs)
    tokens = dict(zip(prior.names, (BUDGET / surface.epochs_D).astype(int).tolist(), strict=True))
    limits = Limits(tokens, BUDGET, EPOCHS)
    constraints = Constraints.caps(prior.names, surface.caps)
    swarm = swarm_of(surface, config.runs, seed)
    for batch in range(BATCHES):
        fitted = surface.fit(swarm, FitConfig(surrogate=surrogate), seed)
        planned = next_batch(fitted, dict.fromkeys(metrics, 1.0), limits, constraints, config, batch_runs, seed).planned
        if not planned:  # the fit says that none would pay
            return fitted
        weights_RD = np.array([[run.mixture.on(prior.names)[name] for name in prior.names] for run in planned])
        noise_RM = stream(seed, "noise", surface.family, batch).normal(scale=NOISE, size=(len(planned), METRICS))
        swarm = Swarm(
            (*swarm.run_ids, *(f"batch{batch}-{r:04d}" for r in range(len(planned)))),
            prior.names,
            metrics,
            np.vstack([swarm.weights_RD, weights_RD]),
            np.vstack([swarm.losses_RM, surface.losses(weights_RD) + noise_RM]),
        )
    return surface.fit(swarm, FitConfig(surrogate=surrogate), seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--sizes", default="5:24,17:64,60:128", help="domains:runs, ...")
    parser.add_argument("--families", default="law,loglinear,crossed," + ",".join(HARMS))
    parser.add_argument("--surrogate", help="one for all; default: compared as in a recipe")
    arguments = parser.parse_args()
    floor = NOISE / METRICS**0.5
    print(f"noise floor of the objective {floor:.4f}; {arguments.draws} draws; regret mean (worst)\n")
    print(
        "| surface | domains | runs | ours, in batches | ours, one swarm | LightGBM + simulation | prior | uniform "
        "| optimism: said, true | CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for size in arguments.sizes.split(","):
        domains, runs = map(int, size.split(":"))
        for family in arguments.families.split(","):
            rows = [one(family, domains, runs, draw, arguments.surrogate) for draw in range(arguments.draws)]
            table = np.array(rows)
            mean, worst = table.mean(axis=0), table.max(axis=0)
            regrets = [f"{mean[i]:.4f} ({worst[i]:.4f})" for i in range(5)]
            said = f"{mean[5]:.4f}, {mean[6]:.4f}"
            print(f"| {family} | {domains} | {runs} | {' | '.join(regrets)} | {said} | {mean[7]:.1f} |", flush=True)
    print("\n" + machine("scipy", "lightgbm"))


def one(family: str, domains: int, runs: int, draw: int, surrogate: str | None) -> list[float]:
    surface = Surface.draw(family, domains, draw)
    prior = surface.planted.prior
    constraints = Constraints.caps(prior.names, surface.caps)
    swarm = swarm_of(surface, runs, draw)
    objective = Objective(dict.fromkeys(surface.planted.metrics, 1.0))
    before = time.process_time()
    fitted = surface.fit(swarm, FitConfig(surrogate=surrogate), draw)
    ours = search(fitted, objective, constraints, prior, SearchConfig(), DesignConfig(), draw)
    seconds = time.process_time() - before
    later = in_batches(surface, runs, draw, surrogate)
    chosen = search(later, objective, constraints, prior, SearchConfig(), DesignConfig(), draw)
    said = optimism(fitted, objective, constraints, prior, DesignConfig(), draw) or 0.0
    trees = fit(swarm, FitConfig(surrogate="lightgbm"), draw)
    theirs = search(trees, objective, constraints, prior, REGMIX, DesignConfig(), draw)
    anchors = constraints.project(np.array([prior.shares, np.full(domains, 1 / domains)]))
    rows = np.vstack([fitted.weights_of([chosen.mixture, ours.mixture, theirs.mixture]), anchors])
    best = surface.best(constraints, rows)
    regrets = surface.objective(rows) - best
    return [*regrets.tolist(), said, float(regrets[1]) + best - ours.predicted, seconds]


if __name__ == "__main__":
    main()
