"""Batches that the fit chooses against as many random runs, on the published RegMix tables.

    python benchmarks/rounds.py ../shared/data [--draws 10]

The 512 + 256 measured mixtures are all there is: a run is a look into the table, so the best mixture is known. Every
draw starts with 20 random runs. Regret of the best run: its loss less that of the best of the 768, in nats, where the
prize is the mixture that one has trained. The last column is that of the mixture that the last fit predicts best of all
768, trained or not. Objectives: RegMix's own (Pile-CC) and the plain mean of the 13 domains.
"""

import argparse
from pathlib import Path

import numpy as np
from measuring import machine
from numpy.typing import NDArray

from redone_data.mix.batch import next_batch
from redone_data.mix.constraints import Constraints
from redone_data.mix.design import DesignConfig
from redone_data.mix.fit import Fit, FitConfig, fit
from redone_data.mix.limits import Limits
from redone_data.mix.search import Objective
from redone_data.mix.tables import Swarm, load_swarm
from redone_data.rng import stream

Rows = NDArray[np.int64]

FIRST = 20
# Arm -> the batches after the first runs; a negative size is of random runs.
ARMS = {"20": [], "40 random": [-20], "60 random": [-40], "20 + 2 x 4": [4, 4], "20 + 2 x 10": [10, 10]}
LAW = FitConfig(surrogate="saturating")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--draws", type=int, default=10)
    options = arguments.parse_args()
    table = published(options.data)
    print(machine())
    pile_cc = next(name for name in table.metrics if "pile_cc" in name)
    for title, objective in (("Pile-CC", [pile_cc]), ("mean of 13", list(table.metrics))):
        print(f"\n{title}: regret in nats, mean over {options.draws} draws (largest)")
        print(f"{'':14s}{'runs':>6s}{'best run':>18s}{'predicted best':>18s}{'would have stopped':>20s}")
        for arm, batches in ARMS.items():
            rows = [played(table, objective, batches, seed) for seed in range(options.draws)]
            runs, trained, predicted, stops = (np.array(column) for column in zip(*rows, strict=True))
            print(
                f"{arm:14s}{runs.mean():6.0f}{trained.mean():10.4f} ({trained.max():.3f})"
                f"{predicted.mean():10.4f} ({predicted.max():.3f}){stops.mean():20.1f}"
            )


def published(data: Path) -> Swarm:
    """The training and test tables at 1M parameters as one."""
    folder = data / "regmix"
    parts = [
        load_swarm(folder / f"{name}_mixture_1m.csv", folder / f"{name}_pile_loss_1m.csv") for name in ("train", "test")
    ]
    return Swarm(
        tuple(f"{kind}-{run_id}" for kind, part in zip("ab", parts, strict=True) for run_id in part.run_ids),
        parts[0].domains,
        parts[0].metrics,
        np.vstack([part.weights_RD for part in parts]),
        np.vstack([part.losses_RM for part in parts]),
    )


def played(table: Swarm, metrics: list[str], batches: list[int], seed: int) -> tuple[int, float, float, int]:
    """Runs, regret of the best run and of the one predicted best, and batches that would have been skipped."""
    wanted = dict.fromkeys(metrics, 1.0)
    truth_R = table.losses_RM[:, [table.metrics.index(metric) for metric in metrics]].mean(axis=1)
    runs = stream(seed, "draw").permutation(len(truth_R))[: FIRST - sum(min(size, 0) for size in batches)]
    anywhere = Constraints.caps(table.domains, {})
    limits = Limits(dict(zip(table.domains, [1] * len(table.domains), strict=True)), 1, 1.0)
    skipped = 0
    for size in batches:
        if size > 0:
            fitted = fit_of(table, runs, metrics, seed)
            batch = next_batch(
                fitted,
                wanted,
                limits,
                anywhere,
                DesignConfig(),
                size,
                seed,
                only_CD=table.weights_RD,
            )
            skipped += batch.stopped is not None
            chosen = [rows_of(table, np.array([run.mixture[name] for name in table.domains])) for run in batch.planned]
            runs = np.unique(np.concatenate([runs, np.array(chosen, dtype=np.int64)]))
    predicted_R = Objective(wanted).predict(fit_of(table, runs, metrics, seed), table.weights_RD)
    best = truth_R.min()
    return len(runs), truth_R[runs].min() - best, truth_R[predicted_R.argmin()] - best, skipped


def fit_of(table: Swarm, runs: Rows, metrics: list[str], seed: int) -> Fit:
    columns = [table.metrics.index(metric) for metric in metrics]
    ids = tuple(table.run_ids[run] for run in runs)
    swarm = Swarm(ids, table.domains, tuple(metrics), table.weights_RD[runs], table.losses_RM[np.ix_(runs, columns)])
    return fit(swarm, LAW, seed)


def rows_of(table: Swarm, weights_D: NDArray[np.float64]) -> int:
    return int(np.abs(table.weights_RD - weights_D).sum(axis=1).argmin())


if __name__ == "__main__":
    main()
