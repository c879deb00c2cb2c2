"""The report: one HTML page that needs nothing but itself.

No script, no font, no image and no address outside it; a content security policy holds the browser to that. Names and
texts come from a platform's users: Jinja escapes them, as matplotlib does in the plots. Plots are inline SVG, coloured
by CSS variables, so the page follows the reader's light or dark setting, and prints light. Six domains give 0.6 MB in
2 s, sixty domains and 500 proxy runs 3.2 MB in 13 s; examples and histograms are capped so that it stays readable.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from redone_data.manifest import atomic
from redone_data.report import human, mixture_plots, plots, swarm_plots
from redone_data.report.summary import DomainRow, Example, Histogram, Summary
from redone_data.report.svg import to_svg
from redone_data.report.tables import drops_by_rule, drops_by_step, losses, weight_rows
from redone_data.report.verdict import caps_that_bind, fell_back, verdict

TEMPLATE = "report.html.j2"
KEPT = "kept"
_MAX_EXAMPLES = 4  # of one rule
_MAX_KEPT = 24
_MAX_PANELS = 18  # histograms of one metric
_LONG_TABLE = 40
_MANY_DOMAINS, _HEAVIEST = 24, 20  # above so many, the overview shows the heaviest


def write_report(summary: Summary, path: Path) -> None:
    """Write the page; it appears whole or not at all."""
    text = render(summary)
    with atomic(path) as aside:
        aside.write_text(text, encoding="utf-8")


def render(summary: Summary) -> str:
    """The page's text."""
    environment = page_environment()
    environment.filters["rule"] = plots.rule_name
    duplicates = [example for example in summary.examples if example.duplicate_of is not None]
    dropped = [example for example in summary.examples if example.duplicate_of is None and example.step != KEPT]
    return environment.get_template(TEMPLATE).render(
        summary=summary,
        domains=summary.domains,
        verdict=verdict(summary),
        fell_back=fell_back(summary),
        caps=caps_that_bind(summary),
        heaviest=_HEAVIEST if len(summary.domains) > _MANY_DOMAINS else None,
        by_rule=drops_by_rule(summary),
        by_step=drops_by_step(summary),
        losses=losses(summary),
        weights=weight_rows(summary),
        plot=_plotter(summary),
        metrics=_metrics(summary),
        dropped=_by_rule(dropped, _MAX_EXAMPLES),
        duplicates=_by_rule(duplicates, _MAX_EXAMPLES),
        kept=_spread([example for example in summary.examples if example.step == KEPT], _MAX_KEPT),
        long_table=_LONG_TABLE,
    )


def page_environment() -> jinja2.Environment:
    """What pages are made with: names and texts escaped, figures shown as in every report."""
    # A reader of a template error sees a missing name at once; in the page it would be an empty cell.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for show in (human.count, human.size, human.share, human.duration, human.loss, human.signed, human.printable):
        environment.filters[show.__name__] = show
    environment.filters["decimals"] = human.decimals
    environment.filters["label"] = lambda name: human.label(name, 48)
    return environment


def _plotter(summary: Summary) -> Callable[[str], Markup]:
    """plot("weights") in the template draws that plot, where it stands."""
    draw: dict[str, tuple[Callable[[], Figure], str]] = {
        "documents": (lambda: plots.documents(summary.domains), "Documents and bytes read and kept, by domain"),
        "drops": (
            lambda: plots.drops(summary.drops, summary.domains),
            "Share of documents dropped, by domain and rule",
        ),
        "weights": (
            lambda: plots.weights(_heaviest(summary.domains), summary.uniform, caps_that_bind(summary)),
            "Recommended, prior and uniform weights, by domain",
        ),
        "swarm": (lambda: plots.swarm(summary.run_weights, summary.domains), "Weights that proxy runs tried"),
        "held_out": (lambda: plots.held_out(summary.held_out, summary.skill), "Predicted and measured loss, by metric"),
        "weight_ranges": (
            lambda: mixture_plots.weight_ranges(_heaviest(summary.domains), summary.weight_ranges),
            "Weights of optima when parts of the runs are left out, by domain",
        ),
        "front": (
            lambda: mixture_plots.front(summary.front, summary.rivals),
            "Pareto front of the objective and what is to be retained",
        ),
        "effects": (
            lambda: mixture_plots.effects(summary.effects),
            "Change of each metric's loss for a percentage point more of each domain",
        ),
        "ranks": (lambda: mixture_plots.ranks(summary.held_out), "Rank correlation of held-out runs, by metric"),
        "learning": (
            lambda: mixture_plots.learning(summary.learning),
            "Rank correlation of held-out runs against the number of runs",
        ),
        "finalists": (
            lambda: mixture_plots.finalists(summary.finalists),
            "Objective of each mixture that was trained to be compared, predicted and measured",
        ),
        "measured": (lambda: plots.measured(summary.measured), "Measured loss relative to the prior, by metric"),
        "odd_runs": (lambda: swarm_plots.odd_runs(summary.held_out), "Errors on held-out runs, by metric"),
        "noise": (lambda: swarm_plots.noise(summary.proxies), "Spread of losses over runs and over seeds, by metric"),
        "rounds": (
            lambda: swarm_plots.rounds(summary.rounds),
            "Expected gain, noise floor and best objective, by runs trained",
        ),
        "nearest": (
            lambda: swarm_plots.nearest(summary.proxies, summary.mixtures),
            "Distance of runs and compared mixtures to the nearest run",
        ),
        "curves": (lambda: plots.curves(summary.curves), "Training losses of the proxy runs"),
        "bytes_per_token": (
            lambda: plots.bytes_per_token(summary.languages),
            "Bytes per token, by domain and language",
        ),
        "timings": (lambda: plots.timings(summary.seconds), "Wall time of each step"),
    }

    def plot(name: str) -> Markup:
        figure, description = draw[name]
        return inline_svg(figure(), name.replace("_", "-"), description)

    return plot


def _heaviest(domains: Sequence[DomainRow]) -> Sequence[DomainRow]:
    if len(domains) <= _MANY_DOMAINS:
        return domains
    return sorted(domains, key=lambda row: -(row.weight or 0.0))[:_HEAVIEST]


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    # Safe: an element tree that was parsed and serialised, of matplotlib's drawing elements only.
    return Markup(to_svg(figure, name, description))


def _metrics(summary: Summary) -> list[dict[str, Any]]:
    """Each metric's histograms as one plot: the domains that lose most to its bounds, where there are too many."""
    by_metric: dict[str, list[Histogram]] = {}
    for row in summary.histograms:
        by_metric.setdefault(row.metric, []).append(row)
    found = []
    for i, (metric, rows) in enumerate(by_metric.items()):
        shown = rows
        if len(rows) > _MAX_PANELS:
            most = sorted(range(len(rows)), key=lambda index: -_lost(rows[index]))[:_MAX_PANELS]
            shown = [rows[index] for index in sorted(most)]
        figure = plots.histograms(shown)
        found.append(
            {
                "metric": metric,
                "meaning": rows[0].meaning,
                "plot": inline_svg(figure, f"histogram-{i}", f"Histograms of a metric, by domain, {i + 1}"),
                "shown": len(shown),
                "total": len(rows),
                "broken": any(_lost(row) for row in rows),
            }
        )
    return found


def _lost(row: Histogram) -> float:
    out = sum(number for number, outside in zip(row.counts, plots.outside_bounds(row), strict=True) if outside)
    return out / max(sum(row.counts), 1)


def _by_rule(examples: Sequence[Example], limit: int) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[Example]] = {}
    seen = set()
    for example in examples:
        key = (example.step, example.rule, example.domain, example.text, example.duplicate_of)
        if key not in seen:
            groups.setdefault((example.step, example.rule), []).append(example)
        seen.add(key)
    return [
        {"step": step, "rule": rule, "examples": _spread(group, limit), "total": len(group)}
        for (step, rule), group in groups.items()
    ]


def _spread(examples: Sequence[Example], limit: int) -> list[Example]:
    """At most so many, taken in turn from each domain."""
    turns: dict[str, int] = {}
    ranked = []
    for place, example in enumerate(examples):
        turn = turns[example.domain] = turns.get(example.domain, -1) + 1
        ranked.append((turn, place, example))
    return [example for _, _, example in sorted(ranked, key=lambda item: item[:2])[:limit]]
