"""The report's derived tables: what the page and the terminal both show, joined by name."""

from dataclasses import dataclass

from redone_data.report.summary import DomainRow, MeasuredRow, Summary
from redone_data.report.verdict import MIXTURES, OBJECTIVE, PROPOSAL, mean_and_spread

_STEPS = ("identity", "language", "rules", "exact", "near")


@dataclass(frozen=True)
class RuleTotal:
    """One rule over all domains; `domains`: (domain, documents), most first."""

    step: str
    rule: str
    documents: int
    fraction: float  # of all documents read
    domains: tuple[tuple[str, int], ...]


def drops_by_rule(summary: Summary) -> list[RuleTotal]:
    """Every rule that dropped a document, most first."""
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for row in summary.drops:
        of_rule = groups.setdefault((row.step, row.rule), {})
        of_rule[row.domain] = of_rule.get(row.domain, 0) + row.documents
    read = max(sum(row.documents_read for row in summary.domains), 1)
    totals = [
        RuleTotal(
            step,
            rule,
            sum(of_rule.values()),
            sum(of_rule.values()) / read,
            tuple(sorted(((name, n) for name, n in of_rule.items() if n), key=lambda item: (-item[1], item[0]))),
        )
        for (step, rule), of_rule in groups.items()
    ]
    return sorted((row for row in totals if row.documents), key=lambda row: (-row.documents, row.step, row.rule))


@dataclass(frozen=True)
class StepDrops:
    """Documents that each step dropped: `documents[domain][step]`; steps in the order in which they are asked."""

    steps: tuple[str, ...]
    documents: dict[str, dict[str, int]]


def drops_by_step(summary: Summary) -> StepDrops:
    """Drops by domain and step."""
    found = {row.step for row in summary.drops if row.documents}
    steps = [step for step in _STEPS if step in found] + sorted(found - set(_STEPS))
    documents = {row.domain: dict.fromkeys(steps, 0) for row in summary.domains}
    for drop in summary.drops:
        if drop.documents and drop.domain in documents:
            documents[drop.domain][drop.step] += drop.documents
    return StepDrops(tuple(steps), documents)


@dataclass(frozen=True)
class LossRow:
    """One metric's losses, bits per byte: mean and standard deviation by mixture, and what was predicted."""

    metric: str
    rows: dict[str, MeasuredRow]

    def mean(self, mixture: str) -> float | None:
        return mean_and_spread(self.rows.get(mixture))[0]

    def spread(self, mixture: str) -> float | None:
        return mean_and_spread(self.rows.get(mixture))[1]

    @property
    def predicted(self) -> float | None:
        row = self.rows.get(PROPOSAL)
        return row.predicted if row else None

    def gain(self, baseline: str) -> float | None:
        """The found mixture's loss over a baseline's, minus one: negative is better."""
        found, other = self.mean(PROPOSAL), self.mean(baseline)
        return found / other - 1 if found is not None and other else None


def losses(summary: Summary) -> list[LossRow]:
    """A row a metric, the objective first."""
    groups: dict[str, dict[str, MeasuredRow]] = {}
    for row in summary.measured:
        if row.mixture in MIXTURES:
            groups.setdefault(row.metric, {})[row.mixture] = row
    return [LossRow(metric, rows) for metric, rows in sorted(groups.items(), key=lambda item: item[0] != OBJECTIVE)]


def weight_rows(summary: Summary) -> list[tuple[DomainRow, float | None]]:
    """Domains that have a weight, with their uniform weight; the heaviest first."""
    rows = [row for row in summary.domains if row.weight is not None]
    rows.sort(key=lambda row: (-(row.weight or 0.0), row.domain))
    return [(row, summary.uniform.get(row.domain)) for row in rows]
