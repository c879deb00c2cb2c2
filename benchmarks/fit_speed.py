"""How long fit and search take: 17 domains, 512 runs, 13 metrics, on made runs; and a small swarm's three fits.

    OMP_NUM_THREADS=1 python benchmarks/fit_speed.py [--domains 17] [--runs 512] [--metrics 13] [--workers 2] [--small]

CPU is that of this process and its workers: at most `workers` times the seconds on an idle machine; a busy one shows
more of the clock. --small: what a recipe with two rounds fits, 20, 24 and 28 runs of 5 domains and metrics.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "mix"))

import numpy as np
from measuring import machine
from planted import Planted

from redone_data.config import read_config
from redone_data.mix.config import MixConfig
from redone_data.mix.constraints import Constraints
from redone_data.mix.diagnostics import learning_curve
from redone_data.mix.fit import FitConfig, fit
from redone_data.mix.fit_files import read_fit, write_fit
from redone_data.mix.limits import Limits
from redone_data.mix.searching import searched
from redone_data.mix.tables import Swarm
from redone_data.rng import stream


def clocked(what: str, function: object, *arguments: object, **keys: object) -> object:
    cpu, wall = sum(os.times()[:4]), time.perf_counter()
    result = function(*arguments, **keys)  # type: ignore[operator]
    print(f"| {what} | {sum(os.times()[:4]) - cpu:.1f} | {time.perf_counter() - wall:.1f} |", flush=True)
    return result


def small(config: FitConfig) -> None:
    planted = Planted.draw(5, 5, 0)
    for runs in (20, 24, 28):
        clocked(f"fit of {runs} runs, 5 domains, 5 metrics", fit, planted.swarm(runs, 0.01, 0), config, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", type=int, default=17)
    parser.add_argument("--runs", type=int, default=512)
    parser.add_argument("--metrics", type=int, default=13)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--surrogate", help="one for all metrics; default: compared as in a recipe")
    parser.add_argument("--small", action="store_true", help="only the fits of a small swarm")
    arguments = parser.parse_args()
    config = FitConfig(surrogate=arguments.surrogate)
    if arguments.small:
        print("| what | CPU s | s |\n|---|---|---|")
        small(config)
        print(machine("scipy", "numpy", "lightgbm"))
        return
    planted = Planted.draw(arguments.domains, arguments.metrics, 0)
    names = planted.prior.names
    swarm = planted.swarm(arguments.runs, 0.01, 0)
    swarm = Swarm(swarm.run_ids, names, names[: arguments.metrics], swarm.weights_RD, swarm.losses_RM)
    limits = Limits({name: int(1e6 * share) for name, share in planted.prior.items()}, 1_000_000, 4.0)
    keys = {
        "targets": dict.fromkeys(names[: arguments.metrics // 2], 1.0),
        "retention": {"metrics": dict.fromkeys(names[arguments.metrics // 2 : arguments.metrics], 1.0)},
        "groups": {"licensed": {"domains": list(names[:3]), "max": 0.5}},
    }
    mix = read_config(MixConfig, keys, where="recipe", path="mix")
    print(f"{arguments.domains} domains, {arguments.runs} runs, {arguments.metrics} metrics\n")
    print("| what | CPU s | s |\n|---|---|---|")
    fitted = clocked(f"fit, {arguments.workers} processes", fit, swarm, config, 0, workers=arguments.workers)
    with tempfile.TemporaryDirectory() as folder:
        write_fit(fitted, Path(folder))
        fitted = read_fit(Path(folder), [swarm], config, 0)  # what the search step of a recipe does
        clocked("the chosen surrogates fitted again from fit.json", lambda: [fitted.fitted[m] for m in fitted.metrics])
    drawn_CD = stream(0, "rows").dirichlet(np.full(len(names), 0.5), 20_000)
    clocked("constraints, 20,000 mixtures brought inside", Constraints.of(mix, limits).project, drawn_CD)
    found = clocked("search, with front, optimum without caps, optimism, finalists", searched, fitted, mix, limits, 0)
    clocked("learning curve", learning_curve, fitted, 0)
    for kind, names in (
        ("chosen", [row.surrogate for row in fitted.report]),
        ("dropped", [f"{name} after {runs} runs" for lost in fitted.dropped.values() for name, runs in lost.items()]),
    ):
        print(f"\n{kind}: " + ", ".join(f"{name} ({names.count(name)} metrics)" for name in sorted(set(names))))
    print(f"\nfound by {found['found_by']}; front of {len(found['front'])}; {len(found['finalists'])} finalists")
    print(machine("scipy", "numpy", "lightgbm"))


if __name__ == "__main__":
    main()
