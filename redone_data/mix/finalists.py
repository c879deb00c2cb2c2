"""Which mixtures are trained to be compared: the search's finalists, the best measured run, prior and uniform weights.

The best run of the swarm is there because a surrogate's own optimum is optimistic: choosing among measured mixtures
removes most of the regret (docs/mixture.md). It won among many single measurements, so it is measured again like the
others. Two mixtures closer than DISTINCT in total variation are one: no proxy could tell them apart.

Shapes: R runs, D domains.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from redone_data.mix.design import mixture_of
from redone_data.mix.limits import OBJECTIVE, PROPOSAL
from redone_data.mix.proposal import Kind
from redone_data.mix.tables import Swarm
from redone_data.mixture import Mixture
from redone_data.rng import stream

Floats = NDArray[np.float64]
Project = Callable[[Floats], Floats]  # rows of weights to the allowed mixtures; an allowed one stays as it is

DISTINCT = 0.005
ALLOWED = 1e-6
NEIGHBOUR_DISTANCE = 0.05  # total variation: a few percent of the tokens change their domain
NEIGHBOUR_TRIES = 50
BISECTIONS = 40
BEST, BEST_RUN = "best", "best-run"


@dataclass(frozen=True)
class Finalist:
    """A mixture to be trained. predicted: metric -> {predicted, low, high} at the swarm's scale, as far as known."""

    name: str
    kind: Kind
    mixture: Mixture
    predicted: dict[str, dict[str, float]] = field(default_factory=dict)


def finalists(
    found: Mapping[str, Any], baselines: Mapping[str, Mixture], best_run: Finalist | None, count: int
) -> tuple[Finalist, ...]:
    """The first `count` mixtures of the search, the best run, and the baselines; each mixture once."""
    rivals = [
        Finalist(name, "baseline", mixture, found["predicted"].get(name, {})) for name, mixture in baselines.items()
    ]
    best = {"name": BEST, "weights": found["weights"], "predicted": found["predicted"][PROPOSAL]}
    listed = [] if found["found_by"] == "no skill" else found.get("finalists", [best])[:count]
    contenders = [Finalist(item["name"], "found", Mixture.of(item["weights"]), item["predicted"]) for item in listed]
    if best_run is not None and listed:
        contenders.append(best_run)
    chosen: list[Finalist] = []
    for item in contenders:
        if all(distance(item.mixture, other.mixture) >= DISTINCT for other in [*rivals, *chosen]):
            chosen.append(item)
    return (*chosen, *rivals)


def best_measured_run(swarm: Swarm, wanted: Mapping[str, float], project: Project, fitted: Path) -> Finalist | None:
    """The run with the lowest measured objective among those that are allowed; None: no run is.

    fitted: the fit's folder, with the run's held-out predictions.
    """
    total = sum(wanted.values())
    objective_R = sum(weight / total * swarm.losses(metric) for metric, weight in wanted.items())
    moved_R = np.abs(project(swarm.weights_RD) - swarm.weights_RD).sum(axis=1) / 2
    allowed_R = np.flatnonzero(moved_R <= ALLOWED)
    if not len(allowed_R):
        return None
    best = min(allowed_R.tolist(), key=lambda run: (float(objective_R[run]), swarm.run_ids[run]))  # type: ignore[index]
    rows = pl.read_parquet(fitted / "held_out.parquet").filter(pl.col("run_id") == swarm.run_ids[best])
    losses = dict(zip(rows["metric"], rows["predicted"], strict=True))
    losses[OBJECTIVE] = sum(weight / total * losses[metric] for metric, weight in wanted.items())
    known = {metric: {"predicted": loss} for metric, loss in losses.items()}
    return Finalist(BEST_RUN, "run", mixture_of(swarm.domains, swarm.weights_RD[best]), known)


def neighbours(mixture: Mixture, project: Project, count: int, seed: int) -> tuple[Finalist, ...]:
    """Allowed mixtures at a total variation of NEIGHBOUR_DISTANCE, in random directions and their opposites."""
    rng = stream(seed, "neighbours")
    here_D = np.array(mixture.shares)
    found: list[Finalist] = []
    direction_D = np.zeros(len(here_D))
    for attempt in range(NEIGHBOUR_TRIES * count):
        if len(found) == count:
            break
        direction_D = -direction_D if attempt % 2 else rng.normal(size=len(here_D))
        there_D = _at_distance(here_D, direction_D - direction_D.mean(), project)
        if there_D is not None:
            found.append(Finalist(f"neighbour-{len(found) + 1}", "neighbour", mixture_of(mixture.names, there_D)))
    return tuple(found)


def distance(left: Mixture, right: Mixture) -> float:
    """Total variation: the share of tokens that change their domain."""
    return sum(abs(left[name] - right[name]) for name in left) / 2


def _at_distance(here_D: Floats, direction_D: Floats, project: Project) -> Floats | None:
    """Where the way in this direction, brought inside, is NEIGHBOUR_DISTANCE long; None: it never is."""

    def at(step: float) -> tuple[Floats, float]:
        there_D = project(np.maximum(here_D + step * direction_D, 0.0)[None])[0]
        return there_D, float(np.abs(there_D - here_D).sum()) / 2

    low, high = 0.0, 1.0 / float(np.abs(direction_D).max())
    if at(high)[1] < NEIGHBOUR_DISTANCE:
        return None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle)[1] < NEIGHBOUR_DISTANCE else (low, middle)
    return at(high)[0]
