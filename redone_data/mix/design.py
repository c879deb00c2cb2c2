"""Which mixtures the proxy runs train on: RegMix's sampler under the caps that the data sets, and anchors.

The scheme is that of RegMix (arXiv 2407.01492): the prior is share^temperature; each mixture is a draw of
Dirichlet(prior * s), s one of `strengths` log-spaced values, so that some runs lie near the prior and others near a
corner; a draw that gives a domain more than `max_ratio` times its share is rejected; weights under `min_weight` become
zero; duplicates are dropped. Three things are added. A domain may not be repeated more often than the real run would
repeat it: `max_weights` (available tokens x epochs / budget) caps each weight, and what a cap takes away goes to the
other domains in proportion (:func:`capped`). The prior and the uniform mixture are always the first two runs: every
proposal is compared with them, so they must be measured. And each target has its corner, the mixture with as much of it
as is allowed and the rest by the prior, for what a domain does for itself is the largest effect that there is.
20,000 mixtures of 17 domains take about 0.1 s.

Shapes: R runs, C candidates, D domains.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redone_data.errors import RedoneError, did_you_mean
from redone_data.mixture import Mixture

Floats = NDArray[np.float64]

NOTHING = 1e-100
FEASIBILITY_TOLERANCE = 1e-9
DUPLICATE_DECIMALS = 6  # mixtures that agree to this many decimals are one mixture
MAX_ROUNDS = 60  # rounds of sampling before the ratio limit becomes a cap, and before giving up on new mixtures
MOST_CORNERS = 4  # at most one run in so many is a target's corner
MOST_REPLICATES = 8  # at most one run in so many is a replicate
LATER_ROUND = 300  # draws of each round after the first


@dataclass(frozen=True)
class DesignConfig:
    """How the mixtures of a swarm are sampled.

    runs: proxies of the first swarm, anchors and replicates included.
    replicates: of these, further seeds of the prior, for the noise floor; at most an eighth of the runs.
    temperature: exponent on the natural shares; 1 keeps them, towards 0 they become equal.
    min_strength, max_strength: range of the Dirichlet strengths; small ones give mixtures of one or two domains.
    strengths: how many log-spaced strengths.
    max_ratio: a sampled weight may be at most this many times the domain's natural share.
    min_weight: smaller sampled weights become zero.
    """

    runs: int = 20
    replicates: int = 2
    temperature: float = 0.5
    min_strength: float = 0.1
    max_strength: float = 5.0
    strengths: int = 15
    max_ratio: float = 15.0
    min_weight: float = 2e-4

    def __post_init__(self) -> None:
        rules = (
            (self.runs >= 2, f"design.runs is {self.runs}; at least 2 are needed (the prior and the uniform mixture)"),
            (self.replicates >= 0, f"design.replicates is {self.replicates}; 0 or more"),
            (0 <= self.temperature <= 1, f"design.temperature is {self.temperature}; it lies between 0 and 1"),
            (
                0 < self.min_strength <= self.max_strength,
                f"design.min_strength {self.min_strength} and max_strength {self.max_strength}: "
                "both are positive, the first not above the second",
            ),
            (self.strengths >= 1, f"design.strengths is {self.strengths}; at least 1 is needed"),
            (self.max_ratio >= 1, f"design.max_ratio is {self.max_ratio}; below 1 not even the prior would be allowed"),
            (0 <= self.min_weight < 0.1, f"design.min_weight is {self.min_weight}; it lies between 0 and 0.1"),
        )
        for holds, message in rules:
            if not holds:
                raise RedoneError(message)

    @property
    def again(self) -> int:
        """How many runs are the prior with another seed: a small swarm needs its runs for mixtures."""
        return min(self.replicates, self.runs // MOST_REPLICATES)


def design(
    prior: Mixture,
    max_weights: Mapping[str, float],
    config: DesignConfig,
    rng: np.random.Generator,
    targets: Mapping[str, float] | None = None,
) -> list[Mixture]:
    """`config.runs` mixtures: the capped prior, the capped uniform one, the targets' corners, then samples; all differ.

    Fewer come back only where the caps leave fewer mixtures that differ (in the extreme one, when the caps sum to
    exactly one).
    """
    caps_D = caps_of(prior.names, max_weights)
    anchors = [capped(prior, max_weights), capped(Mixture.uniform(prior.names), max_weights)]
    anchors += corners(prior, max_weights, config, targets or {})
    chosen: dict[tuple[float, ...], Mixture] = {}
    for mixture in anchors:
        chosen.setdefault(_key(np.array(mixture.shares)), mixture)
    for attempt in range(MAX_ROUNDS):
        missing = config.runs - len(chosen)
        if missing <= 0:
            break
        # A first round of just as many keeps the strengths evenly drawn; later ones look for what is rare.
        count = missing if attempt == 0 else max(missing, LATER_ROUND)
        for weights_D in _sampled(prior, caps_D, config, rng, count=count):
            chosen.setdefault(_key(weights_D), mixture_of(prior.names, weights_D))
    return list(chosen.values())[: config.runs]


def corners(
    prior: Mixture, max_weights: Mapping[str, float], config: DesignConfig, targets: Mapping[str, float]
) -> list[Mixture]:
    """Each target's corner: as much of it as cap and `max_ratio` allow, the rest by the prior.

    Of many targets, a quarter of the runs: those of the largest weight first, then those farthest from the prior.
    """
    caps_D, natural_D = caps_of(prior.names, max_weights), np.array(prior.shares)
    ratio_D = _ratio_limits(natural_D, config)
    found: list[tuple[float, float, str, Floats]] = []
    for name, weight in targets.items():
        if name not in prior.names:
            continue  # measured, but nothing to train on
        j = prior.names.index(name)
        most = min(caps_D[j], ratio_D[j])
        if natural_D[j] >= most:
            continue  # as much as allowed is what the capped prior gives it
        # Where the other domains cannot hold the rest, the target takes that too.
        limits_D = caps_D.copy()
        limits_D[j] = max(most, min(caps_D[j], 1 - (caps_D.sum() - caps_D[j])))
        corner_D = natural_D * ((1 - limits_D[j]) / (1 - natural_D[j]))
        corner_D[j] = limits_D[j]
        corner_D = capped_rows(corner_D[None], limits_D)[0]
        found.append((-weight, -float(np.abs(corner_D - natural_D).sum()), name, corner_D))
    found.sort(key=lambda corner: corner[:3])
    return [mixture_of(prior.names, corner_D) for *_, corner_D in found[: config.runs // MOST_CORNERS]]


def sample_weights(
    prior: Mixture, max_weights: Mapping[str, float], config: DesignConfig, rng: np.random.Generator, *, count: int
) -> Floats:
    """`count` mixtures of the design's sampler as rows, over `prior.names`; without anchors, duplicates kept."""
    return _sampled(prior, caps_of(prior.names, max_weights), config, rng, count=count)


def capped(mixture: Mixture, max_weights: Mapping[str, float]) -> Mixture:
    """The mixture with no weight above its cap: what the caps take away goes to the others in proportion.

    A domain that `max_weights` does not name is not capped. Only when the domains that have weight cannot take it all
    do domains of weight zero get any, in proportion to their caps.

    >>> capped(Mixture.of({"posts": 6, "wiki": 3, "code": 1}), {"posts": 0.2})
    Mixture(code=0.2, posts=0.2, wiki=0.6)
    """
    caps_D = caps_of(mixture.names, max_weights)
    return mixture_of(mixture.names, capped_rows(np.array([mixture.shares]), caps_D)[0])


def caps_of(names: tuple[str, ...], max_weights: Mapping[str, float]) -> Floats:
    """The caps in the order of `names`, none above 1; an error when they leave part of the budget unfilled."""
    for name, cap in max_weights.items():
        if name not in names:
            raise RedoneError(f"max_weights caps domain '{name}', unknown here; {did_you_mean(name, names)}")
        if math.isnan(cap) or cap < 0:
            raise RedoneError(f"the cap of domain '{name}' is {cap}; a cap is available tokens x epochs / budget, >= 0")
    caps_D = np.array([min(max_weights.get(name, 1.0), 1.0) for name in names])
    total = math.fsum(caps_D)
    if total < 1 - FEASIBILITY_TOLERANCE:
        held = ", ".join(f"{name} {cap:.3g}" for name, cap in zip(names, caps_D, strict=True))
        factor = f"{math.ceil(1000 / total) / 1000:.3f}" if total > 0 else "infinity: there are no tokens"
        raise RedoneError(
            f"the domains hold tokens for only {total:.1%} of the budget at the allowed epochs (caps: {held}); "
            f"raise the epochs or the tokens by a factor of {factor}, or divide the token budget by it"
        )
    return caps_D


def capped_rows(weights_CD: Floats, caps_D: Floats) -> Floats:
    """Water-filling: each row becomes min(cap, scale * weight), with the row's scale such that it sums to one."""
    rows_CD: Floats = weights_CD / weights_CD.sum(axis=1, keepdims=True)
    full_CD = np.zeros(rows_CD.shape, dtype=bool)
    for _ in range(rows_CD.shape[1]):
        over_CD = (rows_CD > caps_D) & ~full_CD
        if not over_CD.any():
            break
        full_CD |= over_CD
        free_CD = np.where(full_CD, 0.0, rows_CD)
        left_C = 1 - np.where(full_CD, caps_D, 0.0).sum(axis=1)
        free_C: Floats = free_CD.sum(axis=1)
        # A weight that is next to nothing cannot be scaled to fill a row; the room below the caps is shared out below.
        scale_C = np.divide(left_C, free_C, out=np.zeros_like(left_C), where=free_C > NOTHING)
        rows_CD = np.where(full_CD, caps_D, free_CD * scale_C[:, None])
    short_C = 1 - rows_CD.sum(axis=1)
    for row in np.flatnonzero(short_C > FEASIBILITY_TOLERANCE):
        room_D = caps_D - rows_CD[row]
        rows_CD[row] += room_D * (short_C[row] / room_D.sum())
    return rows_CD


def mixture_of(names: tuple[str, ...], weights_D: Floats) -> Mixture:
    """A row of a weights array as a mixture."""
    return Mixture.of({name: max(float(weight), 0.0) for name, weight in zip(names, weights_D, strict=True)})


def _sampled(prior: Mixture, caps_D: Floats, config: DesignConfig, rng: np.random.Generator, *, count: int) -> Floats:
    """Draws that obey the ratio limit, then the caps; where nearly all draws break that limit it becomes a cap."""
    natural_D = np.array(prior.shares)
    support_D = natural_D > 0
    base_D = natural_D[support_D] ** config.temperature
    base_D /= base_D.sum()
    ratio_D = _ratio_limits(natural_D, config)
    strengths_S = np.geomspace(config.min_strength, config.max_strength, config.strengths)
    per_strength = -(-count // config.strengths)
    accepted: list[Floats] = []
    have = 0
    for attempt in range(MAX_ROUNDS):
        rows_CD = np.zeros((per_strength * config.strengths, len(natural_D)))
        rows_CD[:, support_D] = np.concatenate([rng.dirichlet(base_D * s, size=per_strength) for s in strengths_S])
        rng.shuffle(rows_CD)
        if attempt < MAX_ROUNDS - 1:
            rows_CD = rows_CD[(rows_CD <= ratio_D + FEASIBILITY_TOLERANCE).all(axis=1)]
        else:
            rows_CD = capped_rows(rows_CD, ratio_D)
            rows_CD = np.tile(rows_CD, (-(-(count - have) // len(rows_CD)), 1))
        accepted.append(rows_CD)
        have += len(rows_CD)
        if have >= count:
            break
    return _trimmed(np.concatenate(accepted)[:count], caps_D, config.min_weight)


def _ratio_limits(natural_D: Floats, config: DesignConfig) -> Floats:
    # A domain so rare that its limit is a sliver would be in no run: it may always have ten times the least weight.
    limits_D: Floats = np.clip(config.max_ratio * natural_D, 10 * config.min_weight, 1.0)
    return limits_D


def _trimmed(rows_CD: Floats, caps_D: Floats, min_weight: float) -> Floats:
    rows_CD = capped_rows(rows_CD, caps_D)
    kept_CD = np.where(rows_CD < min_weight, 0.0, rows_CD)
    return capped_rows(kept_CD, caps_D)


def _key(weights_D: Floats) -> tuple[float, ...]:
    return tuple(np.round(weights_D, DUPLICATE_DECIMALS).tolist())
