"""Does the found mixture beat prior and uniform weights, as measured? Differences of the objective, and their noise.

The noise is the one by which the proposal was decided (mix/paired.py); a summary without it gets two standard errors
of the difference of two means, from the pooled spread. The decision itself is told in the words of the run; this only
puts figures beside it.
"""

import math
import statistics
from dataclasses import dataclass

from redone_data.report.summary import MeasuredRow, Summary

OBJECTIVE, PROPOSAL, PRIOR, UNIFORM = "objective", "proposal", "prior", "uniform"
MIXTURES = (PROPOSAL, PRIOR, UNIFORM)
_STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Comparison:
    """The objective of the found mixture minus that of a baseline. Bits per byte; negative: the found one is better."""

    baseline: str
    difference: float
    relative: float
    noise: float | None  # None: fewer than two seeds

    @property
    def outcome(self) -> str:
        if self.noise is None:
            return "untested"
        if abs(self.difference) <= self.noise:
            return "within noise"
        return "better" if self.difference < 0 else "worse"


@dataclass(frozen=True)
class Verdict:
    """What measurement says. `hardest` is the comparison with the better baseline, which decides.

    found: a mixture was found to be measured; where no surrogate has skill, there is none.
    fell_back: the baseline that is recommended all the same.
    """

    comparisons: tuple[Comparison, ...]
    found: bool = True
    fell_back: str | None = None

    @property
    def hardest(self) -> Comparison | None:
        return max(self.comparisons, key=lambda item: item.difference, default=None)

    @property
    def headline(self) -> str:
        hardest = self.hardest
        if hardest is None:
            return "Not measured" if self.found else "No mixture was found"
        if hardest.outcome == "better" and self.fell_back:
            return f"Better on the objective, but {self.fell_back} is recommended"
        return {
            "better": f"Measured better than {' and '.join(item.baseline for item in self.comparisons)}",
            "worse": f"Measured worse than {hardest.baseline}",
            "within noise": f"Within the noise of {hardest.baseline}",
            "untested": "One seed: noise unknown",
        }[hardest.outcome]


def verdict(summary: Summary) -> Verdict:
    """Compare what was measured of the objective; nothing where it was not measured."""
    losses = {row.mixture: row.measured for row in summary.measured if row.metric == OBJECTIVE and row.measured}
    found = losses.get(PROPOSAL)
    compared = tuple(
        _compare(found, losses[name], name, summary.noise.get(name))
        for name in (PRIOR, UNIFORM)
        if found and name in losses
    )
    searched = any(row.mixture == PROPOSAL for row in summary.measured) or not summary.measured
    return Verdict(compared, searched, fell_back(summary))


def _compare(found: tuple[float, ...], baseline: tuple[float, ...], name: str, noise: float | None) -> Comparison:
    reference = statistics.fmean(baseline)
    difference = statistics.fmean(found) - reference
    if noise is None and min(len(found), len(baseline)) > 1:
        pooled = (statistics.variance(found) + statistics.variance(baseline)) / 2
        noise = _STANDARD_ERRORS * math.sqrt(pooled * (1 / len(found) + 1 / len(baseline)))
    return Comparison(name, difference, difference / reference if reference else 0.0, noise)


def mean_and_spread(row: MeasuredRow | None) -> tuple[float | None, float | None]:
    """Mean and standard deviation over seeds, as far as they exist."""
    if row is None or not row.measured:
        return None, None
    return statistics.fmean(row.measured), statistics.stdev(row.measured) if len(row.measured) > 1 else None


def fell_back(summary: Summary) -> str | None:
    """The baseline whose weights are recommended although a mixture was searched for and measured, if that is so."""
    weights = {row.domain: row.weight for row in summary.domains if row.weight is not None}
    prior = {row.domain: row.prior for row in summary.domains if row.prior is not None}
    if not weights or not any(row.mixture == PROPOSAL and row.measured for row in summary.measured):
        return None
    return next((name for name, other in ((PRIOR, prior), (UNIFORM, summary.uniform)) if _same(weights, other)), None)


def caps_that_bind(summary: Summary) -> tuple[str, ...]:
    """Domains whose recommended weight is at its cap; what bound a mixture that is not recommended is of no account."""
    return () if fell_back(summary) else summary.binding_caps


def _same(left: dict[str, float], right: dict[str, float]) -> bool:
    return all(math.isclose(left[name], right.get(name, 0.0), abs_tol=1e-9) for name in left)
