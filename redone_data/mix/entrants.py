"""Which mixtures are trained to be compared: the search's finalists, the best measured run, prior and uniform weights.

The best run of the swarm is there because a surrogate's own optimum is optimistic: choosing among measured mixtures
removes most of the regret (docs/mixture.md). It won among many single measurements, so it is measured again like the
others. Two mixtures closer than DISTINCT in total variation are one: no proxy could tell them apart.

Shapes: D domains.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redone_data.mix.constraints import Constraints
from redone_data.mix.design import mixture_of
from redone_data.mix.limits import OBJECTIVE, PROPOSAL
from redone_data.mix.proposal import Kind
from redone_data.mixture import Mixture
from redone_data.rng import stream

Floats = NDArray[np.float64]

DISTINCT = 0.005
NEIGHBOUR_DISTANCE = 0.05  # total variation: a few percent of the tokens change their domain
NEIGHBOUR_TRIES = 50
BISECTIONS = 40
BEST, BEST_MEASURED = "best", "best-measured"  # names that the search gives


@dataclass(frozen=True)
class Entrant:
    """A mixture to be trained. predicted: metric -> {predicted, low, high} at the swarm's scale, as far as known."""

    name: str
    kind: Kind
    mixture: Mixture
    predicted: dict[str, dict[str, float]] = field(default_factory=dict)


def entrants(searched: Mapping[str, Any], baselines: Mapping[str, Mixture], count: int) -> tuple[Entrant, ...]:
    """The first `count` found mixtures of search.json, the best measured run, and the baselines; each mixture once."""
    predicted = searched["predicted"]
    rivals = [Entrant(name, "baseline", mixture, predicted[name]) for name, mixture in baselines.items()]
    contenders = []
    for item in searched["finalists"]:
        kind: Kind = "run" if item["name"] == BEST_MEASURED else "found"
        losses = predicted[PROPOSAL] if item["name"] == BEST else predicted.get(item["name"])
        known = losses or {OBJECTIVE: {"predicted": item["predicted"]}}
        contenders.append(Entrant(item["name"], kind, Mixture.of(item["weights"]), known))
    found = [item for item in contenders if item.kind == "found"][:count]
    chosen: list[Entrant] = []
    for item in (*found, *(item for item in contenders if item.kind == "run")):
        if all(distance(item.mixture, other.mixture) >= DISTINCT for other in [*rivals, *chosen]):
            chosen.append(item)
    return (*chosen, *rivals)


def neighbours(mixture: Mixture, allowed: Constraints, count: int, seed: int) -> tuple[Entrant, ...]:
    """Allowed mixtures at a total variation of NEIGHBOUR_DISTANCE, in random directions and their opposites."""
    rng = stream(seed, "neighbours")
    here_D = np.array(mixture.shares)
    found: list[Entrant] = []
    direction_D = np.zeros(len(here_D))
    for attempt in range(NEIGHBOUR_TRIES * count):
        if len(found) == count:
            break
        direction_D = -direction_D if attempt % 2 else rng.normal(size=len(here_D))
        there_D = _at_distance(here_D, direction_D - direction_D.mean(), allowed)
        if there_D is not None:
            found.append(Entrant(f"neighbour-{len(found) + 1}", "neighbour", mixture_of(mixture.names, there_D)))
    return tuple(found)


def distance(left: Mixture, right: Mixture) -> float:
    """Total variation: the share of tokens that change their domain."""
    return sum(abs(left[name] - right[name]) for name in left) / 2


def _at_distance(here_D: Floats, direction_D: Floats, allowed: Constraints) -> Floats | None:
    """Where the way in this direction, brought inside, is NEIGHBOUR_DISTANCE long; None: it never is."""

    def at(step: float) -> tuple[Floats, float]:
        there_D = allowed.project(np.maximum(here_D + step * direction_D, 0.0)[None])[0]
        return there_D, float(np.abs(there_D - here_D).sum()) / 2

    low, high = 0.0, 1.0 / float(np.abs(direction_D).max())
    if at(high)[1] < NEIGHBOUR_DISTANCE:
        return None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle)[1] < NEIGHBOUR_DISTANCE else (low, middle)
    return at(high)[0]
