"""The two-step blend: how many conversations of each task a training step takes, which, and in what order.

Step 1 of RedOne (arXiv:2507.10605) takes everything, step 2 a higher share of social data with general data still in
it. A step asks for shares by weight of a capability, or by temperature: share ~ count ** (1 / T), as multilingual
models are sampled (arXiv:1910.10683, section 3.5.2). A share that its conversations cannot fill, repeated as often as
the step allows, is filled as far as they reach; what is missing goes to the others in proportion, and the plan says so.

Counts are exact: rational arithmetic, then largest remainders. Which conversations are taken, and their order, is a
function of the seed and their ids alone.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar

import numpy as np
import polars as pl

from redone_data.errors import RedoneError, did_you_mean
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import from_hex

GENERAL = "general"
Key = TypeVar("Key", str, tuple[str, str])


@dataclass(frozen=True)
class StepConfig:
    """What one training step takes. As it stands: every conversation, once."""

    conversations: int | None = field(default=None, metadata={"help": "how many; default: as many as there are"})
    shares: dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "capability -> weight; others are left out. Empty: by temperature"},
    )
    proposal: str | None = field(
        default=None, metadata={"help": "in place of shares: proposal.json of redone-data mix, shares of tokens"}
    )
    temperature: float = field(
        default=1.0, metadata={"help": "share ~ count ** (1 / temperature), of capabilities and of tasks within one"}
    )
    general_share: float | None = field(
        default=None, metadata={"help": "of general data, whatever the rest says; the others share what is left"}
    )
    max_repetitions: int = field(default=1, metadata={"help": "how often a conversation may stand in the step"})

    def __post_init__(self) -> None:
        if self.conversations is not None and self.conversations < 1:
            raise RedoneError(f"conversations: {self.conversations}; at least 1, or leave it out for all")
        if any(weight < 0 for weight in self.shares.values()) or (self.shares and not any(self.shares.values())):
            raise RedoneError("shares: weights are 0 or more, and one is above 0")
        if self.proposal is not None and (self.shares or self.general_share is not None):
            raise RedoneError("proposal has the share of every capability; leave shares and general_share out")
        if self.temperature <= 0:
            raise RedoneError(f"temperature: {self.temperature}; above 0 (1: as the counts are, larger: more even)")
        if self.general_share is not None and not 0 <= self.general_share < 1:
            raise RedoneError(f"general_share: {self.general_share}; from 0 to below 1")
        if self.general_share is not None and GENERAL in self.shares:
            raise RedoneError("general_share and shares.general say the same thing; give one of them")
        if self.max_repetitions < 1:
            raise RedoneError(f"max_repetitions: {self.max_repetitions}; at least 1 (each conversation once)")


@dataclass(frozen=True)
class Allotment:
    """One task's part of a step: what there is, what was asked for and what the step takes."""

    capability: str
    task: str
    available: int
    asked: float  # share of the step
    conversations: int


@dataclass(frozen=True)
class Plan:
    """What a step takes of each task."""

    tasks: tuple[Allotment, ...]

    @property
    def total(self) -> int:
        return sum(row.conversations for row in self.tasks)

    def reached(self, row: Allotment) -> float:
        """The share that a task has."""
        return row.conversations / max(self.total, 1)

    def capabilities(self) -> dict[str, tuple[float, float, int]]:
        """Capability -> (share asked, share reached, conversations)."""
        found: dict[str, tuple[float, float, int]] = {}
        for row in self.tasks:
            asked, reached, taken = found.get(row.capability, (0.0, 0.0, 0))
            found[row.capability] = (asked + row.asked, reached + self.reached(row), taken + row.conversations)
        return found

    @property
    def social_share(self) -> float:
        """Of everything but general data."""
        return sum(self.reached(row) for row in self.tasks if row.capability != GENERAL)

    def short(self) -> list[str]:
        """The tasks whose share their conversations could not fill."""
        slack = 1 / max(self.total, 1)  # counts are whole
        return [row.task for row in self.tasks if self.reached(row) < row.asked - slack]


def plan(counts: Mapping[tuple[str, str], int], step: StepConfig, *, where: str = "step") -> Plan:
    """What a step takes, of tasks given as (capability, task) -> conversations there are.

    Raises RedoneError for a capability that has none.
    """
    available = {key: count for key, count in sorted(counts.items()) if count}
    if not available:
        raise RedoneError(f"{where}: there are no conversations to take")
    by_capability = _by_capability(available)
    weights = _capability_weights(by_capability, step, where)
    asked: dict[tuple[str, str], Fraction] = {}
    for capability, weight in weights.items():
        inner = {key: _tempered(count, step.temperature) for key, count in available.items() if key[0] == capability}
        for key, part in inner.items():
            asked[key] = weight * part / sum(inner.values())
    limits = {key: available[key] * step.max_repetitions for key in asked if asked[key]}
    total = min(step.conversations or sum(available.values()), sum(limits.values()))
    amounts = filled({key: asked[key] for key in limits}, limits, total)
    # Capabilities first: the share of one is exact whatever the number of its tasks.
    taken: dict[tuple[str, str], int] = {}
    for capability, count in whole(_by_capability(amounts), total).items():
        taken |= whole({key: amount for key, amount in amounts.items() if key[0] == capability}, count)
    return Plan(
        tuple(Allotment(*key, count, float(asked.get(key, 0)), taken.get(key, 0)) for key, count in available.items())
    )


Number = TypeVar("Number", int, Fraction)


def _by_capability(amounts: Mapping[tuple[str, str], Number]) -> dict[str, Number]:
    sums: dict[str, Number] = {}
    for (capability, _), amount in amounts.items():
        sums[capability] = sums[capability] + amount if capability in sums else amount
    return sums


def _capability_weights(by_capability: Mapping[str, int], step: StepConfig, where: str) -> dict[str, Fraction]:
    """The share of each capability asked for; they sum to one."""
    for name in step.shares:
        if name not in by_capability:
            raise RedoneError(f"{where}: shares.{name}: no conversation has it; {did_you_mean(name, by_capability)}")
    if step.shares:
        weights = {name: Fraction(weight) for name, weight in step.shares.items()}
    else:
        weights = {name: _tempered(count, step.temperature) for name, count in by_capability.items()}
    if step.general_share is not None:
        general = Fraction(step.general_share)
        if general and GENERAL not in by_capability:
            raise RedoneError(f"{where}: general_share: there is no general data; name some under general")
        others = sum(weight for name, weight in weights.items() if name != GENERAL)
        if not others:
            raise RedoneError(f"{where}: general_share: there is nothing but general data")
        weights = {name: weight / others * (1 - general) for name, weight in weights.items() if name != GENERAL}
        weights[GENERAL] = general
    total = sum(weights.values())
    return {name: weight / total for name, weight in sorted(weights.items())}


def _tempered(count: int, temperature: float) -> Fraction:
    return Fraction(count) if temperature == 1 else Fraction(count ** (1 / temperature))


def filled(
    weights: Mapping[tuple[str, str], Fraction], limits: Mapping[tuple[str, str], int], total: int
) -> dict[tuple[str, str], Fraction]:
    """`total` shared by weight, none above its limit; what one cannot take the others get, in proportion."""
    amounts: dict[tuple[str, str], Fraction] = {}
    open_, left = dict(weights), Fraction(total)
    while open_:
        unit = left / sum(open_.values())
        full = [key for key, weight in open_.items() if weight * unit >= limits[key]]
        if not full:
            return {**amounts, **{key: weight * unit for key, weight in open_.items()}}
        for key in full:
            amounts[key] = Fraction(limits[key])
            left -= limits[key]
            del open_[key]
    return amounts


def whole(amounts: Mapping[Key, Fraction], total: int) -> dict[Key, int]:
    """Whole numbers with the sum `total` (that of the amounts, itself rounded): down, and the largest remainders up.

    >>> whole({"a": Fraction(5, 3), "b": Fraction(4, 3)}, 3)
    {'a': 2, 'b': 1}
    """
    counts = {key: int(amount) for key, amount in amounts.items()}
    by_remainder = sorted(amounts, key=lambda key: (counts[key] - amounts[key], key))
    for key in by_remainder[: total - sum(counts.values())]:
        counts[key] += 1
    return counts


def drawn(ids: pl.DataFrame, taken: Plan, seed: int, name: str) -> pl.DataFrame:
    """The conversations of a step in its order: `row` of `ids`, `repetition`, and the key that orders them.

    ids: id (32 hexadecimal digits), capability, task, a row a conversation, in any order.
    """
    keys = from_hex(ids["id"].to_arrow())[1]
    frame = ids.select("id", "capability", "task").with_row_index("row")
    frame = frame.with_columns(pl.Series("draw", keyed_uniform(seed, f"draw/{name}", keys)))
    pieces = []
    for task in taken.tasks:
        mine = frame.filter(pl.col("capability") == task.capability, pl.col("task") == task.task).sort("draw", "id")
        times, rest = divmod(task.conversations, max(mine.height, 1))
        for repetition in range(times + 1):
            taken_now = mine if repetition < times else mine.head(rest)
            pieces.append(taken_now.with_columns(pl.lit(repetition, pl.Int32).alias("repetition")))
    chosen = pl.concat(pieces)
    return _ordered(chosen, keys, seed, name).select("row", "id", "repetition", "order")


def _ordered(
    chosen: pl.DataFrame, keys: "np.ndarray[tuple[int], np.dtype[np.uint64]]", seed: int, name: str
) -> pl.DataFrame:
    order = np.empty(chosen.height)
    rows, repetitions = chosen["row"].to_numpy(), chosen["repetition"].to_numpy()
    for repetition in np.unique(repetitions).tolist():
        there = repetitions == repetition
        order[there] = keyed_uniform(seed, f"order/{name}/{repetition}", keys[rows[there]])
    return chosen.with_columns(pl.Series("order", order)).sort("order", "id", "repetition")


def of_conversations(token_shares: Mapping[str, float], rows: pl.DataFrame) -> dict[str, float]:
    """Weights of conversations that give these shares of tokens. rows: capability and tokens of each conversation."""
    lengths = dict(rows.group_by("capability").agg(pl.col("tokens").mean()).iter_rows())
    return {name: share / max(lengths.get(name, 1.0), 1.0) for name, share in token_shares.items()}


def remarks(plans: Mapping[str, Plan]) -> list[str]:
    """What a reader must know of the steps, a sentence each."""
    lines = []
    for name, taken in plans.items():
        if short := taken.short():
            lines.append(
                f"{name}: the shares asked of {', '.join(short)} are not reached: there are too few conversations; "
                "raise max_repetitions, or lower conversations"
            )
        if not any(row.conversations for row in taken.tasks if row.capability == GENERAL):
            lines.append(f"{name}: no general data; expect general ability to fall (arXiv:2511.07070 measures it)")
    for earlier, later in itertools.pairwise(plans.values()):
        if 0 < later.social_share <= earlier.social_share and later.social_share < 1:
            lines.append(
                f"The share of social data does not rise from step to step: {earlier.social_share:.1%}, then "
                f"{later.social_share:.1%}; set general_share in the second"
            )
    return lines
