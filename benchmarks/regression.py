"""How well the surrogates rank mixtures they have not seen, on published swarms: RegMix's 1M proxies and olmix's.

    python benchmarks/regression.py ../shared/data [--only law_gp,gp] [--tables regmix,extrapolation,olmix,seconds]

regmix: fit on n of the 512 runs (five draws; all of them at 512), Spearman on the 256 test mixtures.
extrapolation: fit on the worst 75 % of the 512 runs by the metric's own loss, rank the best 25 %.
olmix: fit on 64 of the 127 runs of 24 domains (five draws), predict all 110 metrics one by one, and compare the mean of
the predictions with the mean of the measured ones on the other 63. All metrics there are bits per byte and lower is
better, so the plain mean over metrics is olmix's own default objective.
seconds: of CPU for one fit, 17 domains.

Beside ours: LightGBM with RegMix's settings (1,000 rounds, rate .01, early stopping) and a held-out tenth of the
training runs to stop on, in place of the test set.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np
from measuring import machine
from numpy.typing import NDArray

from redone_data.mix.fit import spearman
from redone_data.mix.surrogates.base import NOTHING, Beside, Fitted, Surrogate
from redone_data.mix.surrogates.named import SURROGATES
from redone_data.mix.surrogates.trees import _Trees
from redone_data.mix.tables import Swarm, load_swarm
from redone_data.rng import stream

Floats = NDArray[np.float64]

DRAWS = 5
SIZES = (20, 32, 64, 128, 512)


@final
@dataclass(frozen=True)
class RegMixTrees(Surrogate):
    """LightGBM as RegMix's regression notebook sets it, stopped early on runs that are not the test set."""

    name: ClassVar[str] = "regmix"

    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator, beside: Beside = NOTHING) -> Fitted:
        import lightgbm

        settings = {
            "objective": "regression",
            "metric": "l2",
            "num_iterations": 1000,
            "learning_rate": 1e-2,
            "seed": 42,
            "verbosity": -1,
            "num_threads": 1,
        }
        rows_R = rng.permutation(len(losses_R))
        stop_R, train_R = rows_R[: max(2, len(rows_R) // 10)], rows_R[max(2, len(rows_R) // 10) :]
        train = lightgbm.Dataset(weights_RD[train_R], label=losses_R[train_R])
        stop = lightgbm.Dataset(weights_RD[stop_R], label=losses_R[stop_R], reference=train)
        stopping = lightgbm.early_stopping(3, verbose=False)
        return _Trees(lightgbm.train(settings, train, valid_sets=[stop], callbacks=[stopping]), 0.0, 1.0)


def regmix_swarms(data: Path) -> tuple[Swarm, Swarm]:
    """The published training and test tables at 1M parameters."""
    folder = data / "regmix"
    train = load_swarm(folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv")
    return train, load_swarm(folder / "test_mixture_1m.csv", folder / "test_pile_loss_1m.csv")


def pile_cc(swarm: Swarm) -> str:
    """The metric that RegMix optimises."""
    return next(name for name in swarm.metrics if "pile_cc" in name)


def regmix(data: Path, surrogates: dict[str, Surrogate]) -> None:
    train, test = regmix_swarms(data)
    print(f"\nRegMix 1M, Spearman on {len(test.run_ids)} test mixtures: Pile-CC / mean of {len(train.metrics)} metrics")
    row("runs", [str(size) for size in SIZES])
    for name, surrogate in surrogates.items():
        cells = []
        for size in SIZES:
            scores_DM = np.array(
                [
                    [
                        spearman(
                            surrogate.fit(
                                train.weights_RD[rows], train.losses(metric)[rows], stream(draw, "fit", metric)
                            ).predict(test.weights_RD),
                            test.losses(metric),
                        )
                        for metric in train.metrics
                    ]
                    for draw, rows in enumerate(draws(len(train.run_ids), size))
                ]
            )
            at = train.metrics.index(pile_cc(train))
            cells.append(f"{scores_DM[:, at].mean():.3f}/{scores_DM.mean():.3f}")
        row(name, cells)


def extrapolation(data: Path, surrogates: dict[str, Surrogate]) -> None:
    train, _ = regmix_swarms(data)
    print("\nRegMix 1M, fit on the worst 75 % of 512 runs, Spearman on the best 25 %")
    row("", ["Pile-CC", "13 metrics", "worst of 13"])
    for name, surrogate in surrogates.items():
        scores = {}
        for metric in train.metrics:
            losses_R = train.losses(metric)
            order_R = np.argsort(losses_R, kind="stable")
            best_R, worst_R = order_R[: len(order_R) // 4], order_R[len(order_R) // 4 :]
            model = surrogate.fit(train.weights_RD[worst_R], losses_R[worst_R], stream(0, "fit", metric))
            scores[metric] = spearman(model.predict(train.weights_RD[best_R]), losses_R[best_R])
        values = list(scores.values())
        row(name, [f"{scores[pile_cc(train)]:.3f}", f"{np.mean(values):.3f}", f"{min(values):.3f}"])


def olmix(data: Path, surrogates: dict[str, Surrogate]) -> None:
    swarm = load_swarm(data / "olmix" / "dclm_ratios.csv", data / "olmix" / "dclm_metrics.csv")
    print(f"\nolmix, {len(swarm.domains)} domains, 64 training runs, on the other {len(swarm.run_ids) - 64}")
    row("", ["average", "lowest draw", "each metric"])
    for name, surrogate in surrogates.items():
        overall, single = [], []
        for draw, rows in enumerate(draws(len(swarm.run_ids), 64)):
            rest = np.setdiff1d(np.arange(len(swarm.run_ids)), rows)
            predicted_RM = np.column_stack(
                [
                    surrogate.fit(
                        swarm.weights_RD[rows], swarm.losses(metric)[rows], stream(draw, "fit", metric)
                    ).predict(swarm.weights_RD[rest])
                    for metric in swarm.metrics
                ]
            )
            measured_RM = swarm.losses_RM[rest]
            overall.append(spearman(predicted_RM.mean(axis=1), measured_RM.mean(axis=1)))
            single += [spearman(*pair) for pair in zip(predicted_RM.T, measured_RM.T, strict=True)]
        row(name, [f"{np.mean(overall):.3f}", f"{min(overall):.3f}", f"{np.mean(single):.3f}"])


def seconds(data: Path, surrogates: dict[str, Surrogate]) -> None:
    train, _ = regmix_swarms(data)
    print("\nSeconds of CPU for one fit, 17 domains")
    sizes = (64, 512)
    row("runs", [str(size) for size in sizes])
    for name, surrogate in surrogates.items():
        cells = []
        for size in sizes:
            before = time.process_time()
            for metric in train.metrics:
                surrogate.fit(train.weights_RD[:size], train.losses(metric)[:size], stream(0, "fit", metric))
            cells.append(f"{(time.process_time() - before) / len(train.metrics):.3f}")
        row(name, cells)


def draws(runs: int, size: int) -> list[NDArray[np.int64]]:
    """Five draws of rows; one where it is all of them."""
    count = DRAWS if size < runs else 1
    return [np.random.default_rng(draw).choice(runs, size, replace=False) for draw in range(count)]


def row(name: str, cells: list[str]) -> None:
    print(f"{name:12}" + "".join(f"{cell:>14}" for cell in cells), flush=True)


TABLES: dict[str, Callable[[Path, dict[str, Surrogate]], None]] = {
    "regmix": regmix,
    "extrapolation": extrapolation,
    "olmix": olmix,
    "seconds": seconds,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", help="surrogates, comma between them")
    parser.add_argument("--tables", default=",".join(TABLES))
    arguments = parser.parse_args()
    if not (arguments.data / "regmix").is_dir():
        sys.exit(f"{arguments.data} has no published tables (regmix/, olmix/); see its README")
    every: dict[str, Surrogate] = {**SURROGATES, RegMixTrees.name: RegMixTrees()}
    chosen = {name: every[name] for name in (arguments.only.split(",") if arguments.only else every)}
    for table in arguments.tables.split(","):
        TABLES[table](arguments.data, chosen)
    print("\n" + machine("numpy", "scipy", "lightgbm"))


if __name__ == "__main__":
    main()
