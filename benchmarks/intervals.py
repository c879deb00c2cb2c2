"""Do the intervals hold: coverage and interval score on the published RegMix 1M test set, ours beside its peers.

    OMP_NUM_THREADS=1 python benchmarks/intervals.py [--runs 64 256] [--draws 50] [--surrogate law_gp]

Each draw takes n of the 512 training runs, fits each of the 13 metrics, and asks for 95 % intervals of the 256 test
mixtures. Interval score (Gneiting and Raftery 2007): width + 2 / .05 x what lies outside, in standard deviations of the
metric; lower is better. Plain: one half-width, the conformal quantile of the same held-out errors. GP: its variance.
Bootstrap: 2.5 % to 97.5 % of 40 refits, on the first 3 draws only. --chance: how often noise passes the test of skill.
../shared/data/regmix is read where it lies.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
from measuring import machine
from numpy.typing import NDArray

from redone_data.mix.fit import FitConfig, fit
from redone_data.mix.intervals import conformal_quantile
from redone_data.mix.surrogates.named import surrogate_named
from redone_data.mix.tables import Swarm, load_swarm
from redone_data.rng import stream

Floats = NDArray[np.float64]

DATA = Path(__file__).parents[2] / "shared" / "data" / "regmix"
LEVEL = 0.95
REFITS, BOOTSTRAP_DRAWS = 40, 3
NOISE_METRICS, NOISE_RUNS = 200, (12, 20, 32, 64)


def drawn(swarm: Swarm, runs: int, draw: int) -> Swarm:
    rows_R = np.sort(stream(draw, "draw", runs).permutation(len(swarm.run_ids))[:runs])
    return dataclasses.replace(
        swarm,
        run_ids=tuple(swarm.run_ids[r] for r in rows_R),
        weights_RD=swarm.weights_RD[rows_R],
        losses_RM=swarm.losses_RM[rows_R],
    )


def judged(low_C: Floats, high_C: Floats, losses_C: Floats) -> tuple[float, float]:
    """Coverage and interval score, the latter in standard deviations of the metric."""
    outside_C = np.maximum(low_C - losses_C, 0) + np.maximum(losses_C - high_C, 0)
    score = (high_C - low_C + 2 / (1 - LEVEL) * outside_C).mean() / losses_C.std()
    return float((outside_C == 0).mean()), float(score)


def one_draw(train: Swarm, test: Swarm, name: str, draw: int) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    result = fit(train, FitConfig(surrogate=name, interval=LEVEL), draw)
    for column, metric in enumerate(test.metrics):
        losses_C, runs_R = test.losses(metric), train.losses(metric)
        middle_C, half_C = (f(metric, test.weights_RD) for f in (result.predict_weights, result.half_width))
        found.setdefault(f"{name}, ours", []).append(judged(middle_C - half_C, middle_C + half_C, losses_C))
        plain, _ = conformal_quantile(np.abs(runs_R - result.held_out_RM[:, column]), LEVEL)
        found.setdefault(f"{name}, plain conformal", []).append(judged(middle_C - plain, middle_C + plain, losses_C))
        process = surrogate_named("gp").fit(train.weights_RD, runs_R, stream(draw, "gp", metric))
        spread_C = process.spread(test.weights_RD)
        assert spread_C is not None
        middle_C = process.predict(test.weights_RD)
        own = judged(middle_C - 1.96 * spread_C, middle_C + 1.96 * spread_C, losses_C)
        found.setdefault("gp alone, its variance", []).append(own)
        if draw < BOOTSTRAP_DRAWS:
            low_C, high_C = bootstrapped(train, runs_R, test.weights_RD, name, draw)
            found.setdefault(f"{name}, bootstrap", []).append(judged(low_C, high_C, losses_C))
    return found


def bootstrapped(train: Swarm, losses_R: Floats, weights_CD: Floats, name: str, draw: int) -> tuple[Floats, Floats]:
    predictions = []
    for refit in range(REFITS):
        rng = stream(draw, "bootstrap", refit)
        rows_R = rng.integers(len(losses_R), size=len(losses_R))
        model = surrogate_named(name).fit(train.weights_RD[rows_R], losses_R[rows_R], rng)
        predictions.append(model.predict(weights_CD))
    low_C, high_C = np.quantile(predictions, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low_C, high_C


def chance(train: Swarm, runs: int) -> float:
    """How many metrics of pure noise count as skilled."""
    few = drawn(train, runs, draw=0)
    noise_RM = stream(runs, "noise").normal(size=(runs, NOISE_METRICS))
    names = tuple(f"noise{m:03d}" for m in range(NOISE_METRICS))
    config = FitConfig(surrogates=("linear", "loglinear", "saturating", "law_gp"))
    result = fit(dataclasses.replace(few, metrics=names, losses_RM=noise_RM), config, runs)
    return float(np.mean([row.skilled for row in result.report]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--runs", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--surrogate", default="law_gp")
    parser.add_argument("--chance", action="store_true", help="how often noise passes the test of skill")
    chosen = parser.parse_args()
    if not chosen.data.is_dir():
        print(f"skipped: {chosen.data} is not there")
        return
    train = load_swarm(chosen.data / "train_mixture_1m.csv", chosen.data / "train_pile_loss_1m.csv").in_order()
    test = load_swarm(chosen.data / "test_mixture_1m.csv", chosen.data / "test_pile_loss_1m.csv").in_order()
    for runs in chosen.runs:
        begun = time.process_time()
        table: dict[str, list[tuple[float, float]]] = {}
        for draw in range(chosen.draws):
            for name, figures in one_draw(drawn(train, runs, draw), test, chosen.surrogate, draw).items():
                table.setdefault(name, []).extend(figures)
        print(f"\n{runs} runs, {chosen.draws} draws, {len(test.metrics)} metrics, 256 test mixtures")
        print(f"{'95 % intervals':32s}  coverage  interval score")
        for name, figures in table.items():
            coverage, score = np.mean(figures, axis=0)
            print(f"{name:32s}  {coverage:8.3f}  {score:14.3f}")
        print(f"{time.process_time() - begun:.0f} s of CPU", flush=True)
    for runs in NOISE_RUNS if chosen.chance else ():
        print(f"{runs} runs of noise: {chance(train, runs):.3f} of {NOISE_METRICS} metrics pass the test of skill")
    print(machine("numpy", "scipy"))


if __name__ == "__main__":
    main()
