"""What an ablation found: for each variant and metric, the change in bits per byte and its interval.

A difference is the variant's mean minus the recipe's: above zero, the recipe's own setting is better. The spread over
seeds is pooled over the recipe and all variants, so that three seeds a variant give an interval of 2 x variants degrees
of freedom instead of 2. The recipe is trained with twice the seeds, because its noise enters every difference: a lucky
recipe would make all variants look worse at once. With many variants, one in twenty intervals misses zero by chance.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

OBJECTIVE = "objective"
INTERVAL = 0.95


@dataclass(frozen=True)
class Change:
    """One metric: bits per byte of the recipe, and the variant's minus it; None where too few runs finished."""

    metric: str
    recipe: float | None
    difference: float | None
    half_width: float | None

    @property
    def verdict(self) -> str:
        if self.difference is None or self.half_width is None:
            return "unknown"
        if abs(self.difference) <= self.half_width:
            return "no difference seen"
        return "worse" if self.difference > 0 else "better"


@dataclass(frozen=True)
class Measured:
    """One variant. documents, share: what it trains on, and the change from the recipe as a share; by domain too."""

    variant: str
    documents: int
    share: float
    share_by_domain: dict[str, float]
    changes: tuple[Change, ...]

    @property
    def objective(self) -> Change:
        return self.changes[0]

    @property
    def most_touched(self) -> Change | None:
        """The domain whose documents change most; None: none is measured.

        Where a switch acts, not where its loss happens to differ most: of many domains one always does.
        """
        touched = [change for change in self.changes[1:] if self.share_by_domain.get(change.metric)]
        return max(touched, key=lambda change: abs(self.share_by_domain[change.metric]), default=None)


@dataclass(frozen=True)
class NotMeasured:
    """A variant that changes too few documents to show in a proxy's loss."""

    variant: str
    documents_changed: int


@dataclass(frozen=True)
class Ablation:
    """All of it; what `redone-data ablate` prints and stores."""

    measured: tuple[Measured, ...]
    not_measured: tuple[NotMeasured, ...]
    documents: int
    mixture: dict[str, float]
    mixture_from: str
    scale: str
    seeds: int
    interval: float = INTERVAL

    @property
    def intervals(self) -> int:
        """How many there are, by domain and for the objective."""
        return sum(change.half_width is not None for row in self.measured for change in row.changes)

    @property
    def smallest_seen(self) -> float | None:
        """A change of the objective that is smaller is not told from noise; None: no interval is known."""
        widths = [row.objective.half_width for row in self.measured if row.objective.half_width is not None]
        return statistics.median(widths) if widths else None

    def record(self) -> dict[str, Any]:
        return {"schema_version": 1, **asdict(self)}


def compare(
    losses: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    recipe: str,
    objective: Mapping[str, float],
    documents: Mapping[str, Mapping[str, int]],
    skipped: Sequence[NotMeasured],
    mixture: dict[str, float],
    mixture_from: str,
    scale: str,
    seeds: int,
) -> Ablation:
    """losses: variant -> metric -> one loss a run that did not diverge; `recipe` is among the variants."""
    with_objective = {name: _with_objective(by_metric, objective) for name, by_metric in losses.items()}
    own = with_objective.pop(recipe)
    changes: dict[str, list[Change]] = {name: [] for name in with_objective}
    for metric, before in own.items():
        groups = [before, *(by_metric[metric] for by_metric in with_objective.values())]
        spread, freedom = _pooled(groups)
        mean = statistics.fmean(before) if before else None
        for name, by_metric in with_objective.items():
            after, difference, half_width = by_metric[metric], None, None
            if after and mean is not None:
                difference = statistics.fmean(after) - mean
                if freedom:
                    half_width = _t_quantile(freedom) * spread * math.sqrt(1 / len(after) + 1 / len(before))
            changes[name].append(Change(metric, mean, difference, half_width))
    measured = [
        _measured(name, changes[name], documents[recipe], documents[name])
        for name in sorted(changes, key=lambda name: -(changes[name][0].difference or 0.0))
    ]
    total = sum(documents[recipe].values())
    return Ablation(tuple(measured), tuple(skipped), total, mixture, mixture_from, scale, seeds)


def _measured(name: str, changes: list[Change], before: Mapping[str, int], after: Mapping[str, int]) -> Measured:
    total = sum(after.values())
    by_domain = {domain: after.get(domain, 0) / count - 1 for domain, count in before.items() if count}
    return Measured(name, total, total / max(sum(before.values()), 1) - 1, by_domain, tuple(changes))


def _with_objective(by_metric: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> dict[str, list[float]]:
    total = sum(weights.values())
    columns = [[weight * value for value in by_metric[metric]] for metric, weight in weights.items()]
    return {OBJECTIVE: [sum(values) / total for values in zip(*columns, strict=True)]} | {
        metric: list(values) for metric, values in by_metric.items()
    }


def _pooled(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Standard deviation within groups, and its degrees of freedom."""
    large = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in large)
    if not freedom:
        return math.nan, 0
    return math.sqrt(sum(statistics.variance(g) * (len(g) - 1) for g in large) / freedom), freedom


def _t_quantile(freedom: int) -> float:
    from scipy.stats import t  # half a second, and every command imports this

    return float(t.ppf(0.5 + INTERVAL / 2, freedom))
