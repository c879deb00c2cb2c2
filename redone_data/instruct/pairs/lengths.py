"""Length bias of a set of pairs: measured, and taken out by choosing and matching.

Preference sets reward length (arXiv:2404.04475: a judge's win rates follow it), and DPO learns it (arXiv:2403.19159).
Two things are done. Of a prompt's candidate pairs those are chosen whose differences cancel what was chosen before.
Then pairs are matched in strata of task and length ratio: in each, as many pairs with the longer answer chosen as with
the shorter, so that in a stratum length tells nothing; a last trim takes the widest pairs of the heavier side until the
mean difference is within the bound. Lengths are characters. 1 s per 5 million candidates.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from redone_data.errors import RedoneError
from redone_data.text.kernel import kernel

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Ratios of the longer to the shorter answer: the strata in which pairs are matched.
STRATA = np.log([1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0])
# For the report: counts by log2 of chosen over rejected; the outer bins hold all beyond.
RATIO_EDGES = np.linspace(-2.875, 2.875, 24)
# What a wide pair costs beside the debt that it cancels.
_SPREAD_COST = 0.5


@dataclass(frozen=True)
class LengthConfig:
    """How far the lengths of chosen and rejected answers may tell them apart."""

    control: Literal["match", "off"] = field(default="match", metadata={"help": "match, or off: measured only"})
    max_ratio: float | None = field(default=4.0, metadata={"help": "of the longer answer to the shorter; null: any"})
    max_bias: float = field(
        default=0.02, metadata={"help": "mean difference of chosen and rejected, as a share of the mean length"}
    )

    def __post_init__(self) -> None:
        if self.max_ratio is not None and self.max_ratio < 1:
            raise RedoneError(f"max_ratio: {self.max_ratio}; at least 1")
        if not 0 <= self.max_bias < 1:
            raise RedoneError(f"max_bias: {self.max_bias}; a share from 0 to below 1")


def length_statistics(chosen: Int64, rejected: Int64) -> dict[str, Any]:
    """What lengths tell: `longer_chosen` is what a judge of length alone gets right, ties counted half."""
    if not len(chosen):
        return {"pairs": 0}
    difference = chosen - rejected
    mean = (chosen.mean() + rejected.mean()) / 2
    return {
        "pairs": len(chosen),
        "mean_chosen": round(float(chosen.mean()), 3),
        "mean_rejected": round(float(rejected.mean()), 3),
        "mean_difference": round(float(difference.mean()), 3),
        "bias": round(float(difference.mean() / max(mean, 1e-9)), 5),
        "longer_chosen": round(float((difference > 0).mean() + (difference == 0).mean() / 2), 4),
        "log2_ratio_counts": _ratio_counts(chosen, rejected),
    }


def _ratio_counts(chosen: Int64, rejected: Int64) -> list[int]:
    ratio = np.log2(np.maximum(chosen, 1)) - np.log2(np.maximum(rejected, 1))
    counts: list[int] = np.bincount(np.searchsorted(RATIO_EDGES, ratio), minlength=len(RATIO_EDGES) + 1).tolist()
    return counts


def within_ratio(chosen: Int64, rejected: Int64, config: LengthConfig) -> Flags:
    """Which pairs are of like length."""
    if config.control == "off" or config.max_ratio is None:
        return np.ones(len(chosen), np.bool_)
    longer, shorter = np.maximum(chosen, rejected), np.minimum(chosen, rejected)
    within: Flags = longer <= config.max_ratio * np.maximum(shorter, 1)
    return within


def choose(groups: Int64, tasks: Int64, differences: Int64, limit: int, config: LengthConfig) -> Flags:
    """At most `limit` pairs of each group (rows sorted by group, in each by a random draw).

    Those that bring their task's sum of differences towards zero, wide ones last; the first drawn without control.
    """
    starts = np.append(np.flatnonzero(np.append(True, groups[1:] != groups[:-1])[: len(groups)]), len(groups))
    if config.control == "off":
        rank = np.arange(len(groups)) - np.repeat(starts[:-1], np.diff(starts))
        first: Flags = rank < limit
        return first
    return _choose(starts.astype(np.int64), tasks, differences.astype(np.float64), limit, _SPREAD_COST)


@kernel
def _choose(starts: Int64, tasks: Int64, differences: Float64, limit: int, spread_cost: float) -> Flags:
    taken = np.zeros(len(differences), np.bool_)
    debts = np.zeros(np.max(tasks) + 1 if len(tasks) else 1)
    for group in range(len(starts) - 1):
        for _ in range(min(limit, starts[group + 1] - starts[group])):
            best, best_cost = -1, np.inf
            for row in range(starts[group], starts[group + 1]):
                cost = abs(debts[tasks[row]] + differences[row]) + spread_cost * abs(differences[row])
                if not taken[row] and cost < best_cost:
                    best, best_cost = row, cost
            taken[best] = True
            debts[tasks[best]] += differences[best]
    return taken


def match(chosen: Int64, rejected: Int64, tasks: Int64, draws: Float64, config: LengthConfig) -> Flags:
    """Which pairs stay so that lengths do not tell chosen from rejected, in no task; `draws` decides among equals."""
    stays = np.ones(len(chosen), np.bool_)
    if config.control == "off" or not len(chosen):
        return stays
    difference = chosen - rejected
    ratio = np.abs(np.log(np.maximum(chosen, 1)) - np.log(np.maximum(rejected, 1)))
    stratum = np.searchsorted(STRATA, ratio, side="right") + tasks * (len(STRATA) + 1)
    for number in np.unique(stratum):
        sides = [np.flatnonzero((stratum == number) & (np.sign(difference) == sign)) for sign in (1, -1)]
        fewer = min(map(len, sides))
        for side in sides:
            stays[side[np.argsort(draws[side], kind="stable")][fewer:]] = False
    return stays & _trimmed(difference, (chosen + rejected) / 2, stays, config.max_bias)


def _trimmed(difference: Int64, length: Float64, stays: Flags, max_bias: float) -> Flags:
    """Take pairs of the heavier side, widest first, until the mean difference is within the bound."""
    kept = stays.copy()
    rows = np.flatnonzero(stays)
    side = rows[np.sign(difference[rows]) == np.sign(difference[rows].sum())]
    side = side[np.lexsort((side, -np.abs(difference[side])))]
    # What is left after taking the first n of that side.
    excess = np.abs(difference[rows].sum() - np.append(0, np.cumsum(difference[side])))
    total = length[rows].sum() - np.append(0.0, np.cumsum(length[side]))
    bias = excess / np.maximum(total, 1e-9)
    enough = np.flatnonzero(bias <= max_bias)
    kept[side[: enough[0] if len(enough) else np.argmin(excess)]] = False
    return kept
