"""How long fit and search take: 17 domains, 512 runs, 13 metrics, on made runs (seconds of CPU, one process a core).

python benchmarks/fit_speed.py [--domains 17] [--runs 512] [--metrics 13] [--workers 2]
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "mix"))

import numpy as np
from measuring import machine
from planted import Planted

from redone_data.config import read_config
from redone_data.mix.config import MixConfig
from redone_data.mix.constraints import Constraints
from redone_data.mix.fit import FitConfig, fit
from redone_data.mix.limits import Limits
from redone_data.mix.searching import searched
from redone_data.mix.tables import Swarm
from redone_data.rng import stream


def clocked(what: str, function: object, *arguments: object, **keys: object) -> object:
    cpu, wall = time.process_time(), time.perf_counter()
    result = function(*arguments, **keys)  # type: ignore[operator]
    print(f"| {what} | {time.process_time() - cpu:.1f} | {time.perf_counter() - wall:.1f} |", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", type=int, default=17)
    parser.add_argument("--runs", type=int, default=512)
    parser.add_argument("--metrics", type=int, default=13)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--surrogate", help="one for all metrics; default: compared as in a recipe")
    arguments = parser.parse_args()
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
    print("| what | CPU s of this process | s |\n|---|---|---|")
    config = FitConfig(surrogate=arguments.surrogate)
    fitted = clocked(f"fit, {arguments.workers} processes", fit, swarm, config, 0, workers=arguments.workers)
    drawn_CD = stream(0, "rows").dirichlet(np.full(len(names), 0.5), 20_000)
    clocked("constraints, 20,000 mixtures brought inside", Constraints.of(mix, limits).project, drawn_CD)
    found = clocked("search, with front, optimum without caps, optimism, finalists", searched, fitted, mix, limits, 0)
    print(f"\nfound by {found['found_by']}; front of {len(found['front'])}; {len(found['finalists'])} finalists")
    print(machine("scipy", "numpy", "lightgbm"))


if __name__ == "__main__":
    main()
