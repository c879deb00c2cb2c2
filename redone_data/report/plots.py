"""The plots of a run: rows of a Summary in, a matplotlib Figure out. Used by the report and by notebooks.

No pyplot: a figure belongs to its caller, and nothing is shown or kept. Every function takes one domain or sixty, and
none at all (the figure then says so). Plots that compare domains keep the order of their rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from redone_data.report.canvas import (
    BLUE,
    FAINT,
    GREY,
    INK,
    MUTED,
    ORANGE,
    SERIES,
    SMALL,
    SURFACE,
    VERMILION,
    WIDTH,
    Entry,
    fonts,
    grid_chart,
    name_axes,
    note,
    nothing,
    panel_title,
    place,
    row_chart,
    tick_format,
)
from redone_data.report.human import count, duration, label, share, signed, size
from redone_data.report.summary import (
    Curve,
    DomainRow,
    DropRow,
    HeldOutPoint,
    Histogram,
    LanguageRow,
    MeasuredRow,
    SkillRow,
    WeightRow,
)
from redone_data.report.verdict import MIXTURES, OBJECTIVE, PRIOR, PROPOSAL, UNIFORM

COLOURS = {PROPOSAL: BLUE, PRIOR: GREY, UNIFORM: ORANGE}
_MANY_MARKS = 3000  # above it marks are drawn as one image, so that a page stays small
_CURVE_POINTS = 120
_LEAST_SHARE = 0.002


def documents(domains: Sequence[DomainRow]) -> Figure:
    """Documents and bytes that came in, and what was kept of them."""
    if not domains:
        return nothing()
    figure, panels = row_chart(
        [row.domain for row in domains],
        legend=[("kept", BLUE), ("dropped", GREY)],
        right=1.55,
        panels=2,
        title=("documents", "bytes"),
    )
    amounts = (
        [(row.documents_read, row.documents_read - row.documents_dropped) for row in domains],
        [(row.bytes_read, row.bytes_kept) for row in domains],
    )
    for axes, pairs, show in zip(panels, amounts, (count, size), strict=True):
        kept = [min(after, before) for before, after in pairs]
        rest = [before - after for (before, _), after in zip(pairs, kept, strict=True)]
        axes.barh(range(len(pairs)), kept, height=0.62, color=BLUE)
        axes.barh(range(len(pairs)), rest, left=kept, height=0.62, color=GREY, alpha=0.55)
        axes.set_xlim(0, max(max(before for before, _ in pairs), 1))
        tick_format(axes, "x", show, bins=3)
        for i, (before, after) in enumerate(pairs):
            note(axes, 1.03, i, f"{show(after)} of {show(before)}", points=SMALL + 0.5)
    return figure


def drops(rows: Sequence[DropRow], domains: Sequence[DomainRow], *, rules: int = len(SERIES)) -> Figure:
    """Share of each domain's documents that each rule dropped; the rules that drop most apart, the rest together."""
    rows = [row for row in rows if row.documents]
    if not rows or not domains:
        return nothing("no document was dropped")
    read = {row.domain: max(row.documents_read, 1) for row in domains}
    totals: dict[tuple[str, str], int] = {}
    dropped: dict[tuple[str, tuple[str, str]], int] = {}
    for row in rows:
        key = (row.step, row.rule)
        totals[key] = totals.get(key, 0) + row.documents
        dropped[row.domain, key] = dropped.get((row.domain, key), 0) + row.documents
    ranked = sorted(totals, key=lambda key: (-totals[key], key))
    named, rest = ranked[:rules], ranked[rules:]
    legend = [(label(rule_name(*key)), colour) for key, colour in zip(named, SERIES, strict=False)]
    if rest:
        legend.append((f"{len(rest)} more", GREY))
    figure, (axes,) = row_chart(list(read), legend=legend, right=1.7)
    groups = [*((key,) for key in named), *([tuple(rest)] if rest else [])]
    edge = np.zeros(len(read))
    for group, (_, colour) in zip(groups, legend, strict=True):
        part = np.array([sum(dropped.get((name, key), 0) for key in group) / read[name] for name in read])
        axes.barh(range(len(read)), part, left=edge, height=0.62, color=colour, edgecolor=SURFACE, linewidth=0.5)
        edge += part
    for i, name in enumerate(read):
        total = sum(documents for (domain, _), documents in dropped.items() if domain == name)
        note(axes, 1.02, i, f"{share(edge[i])} · {count(total)}", points=SMALL + 0.5)
    axes.set_xlim(0, max(float(edge.max()), 0.01) * 1.02)
    tick_format(axes, "x", _percent)
    name_axes(axes, x="share of the domain's documents")
    return figure


def rule_name(step: str, rule: str) -> str:
    """What to call a rule among those of other steps.

    >>> rule_name("rules", "too_few_words"), rule_name("near", "near_duplicate"), rule_name("exact", "same_text")
    ('too few words', 'near duplicate', 'exact: same text')
    """
    words = rule.replace("_", " ").strip()
    if not words or words == step:
        return step
    return words if step == "rules" or step in words else f"{step}: {words}"


def histograms(rows: Sequence[Histogram]) -> Figure:
    """How a metric is spread over each domain's documents; what lies outside the rule's bounds is marked.

    Bar heights are square roots of shares: what a rule drops is a thin tail beside a tall peak.
    """
    rows = [row for row in rows if row.counts]
    if not rows:
        return nothing()
    one_metric = len({row.metric for row in rows}) == 1
    most, left, gap = 6, 0.1, 0.22
    wide = (WIDTH - 2 * left - gap * (most - 1)) / most
    columns = -(-len(rows) // -(-len(rows) // most))
    figure, panels = grid_chart(len(rows), columns=columns, panel=(wide, 0.62), gap=(gap, 0.52), left=left)
    shown = {metric: _shown(rows, metric) for metric in {row.metric for row in rows}}
    for axes, row in zip(panels, rows, strict=True):
        outside = outside_bounds(row)
        total = max(sum(row.counts), 1)
        dropped = sum(number for number, out in zip(row.counts, outside, strict=True) if out) / total
        name = row.domain if one_metric else f"{row.metric} · {row.domain}"
        panel_title(axes, label(name, 14), share(dropped) if dropped else "")
        _bars(axes, row, outside, shown[row.metric])
    return figure


def _shown(rows: Sequence[Histogram], metric: str) -> tuple[float, float]:
    """The part of an axis that any domain's documents or bounds reach; shares, from 0 to 1, whole."""
    rows = [row for row in rows if row.metric == metric]
    low, high = min(row.edges[0] for row in rows), max(row.edges[-1] for row in rows)
    filled = [edge for row in rows for edge, number in zip(row.edges[1:], row.counts, strict=True) if number]
    bounds = [bound for row in rows for bound in (row.minimum, row.maximum) if bound is not None]
    return low, high if high <= 1 or not filled else min(high, max(filled + [1.5 * bound for bound in bounds]))


def outside_bounds(row: Histogram) -> list[bool]:
    """Which bins lie outside the bounds; one that a bound cuts counts by its middle."""
    low = -np.inf if row.minimum is None else row.minimum
    high = np.inf if row.maximum is None else row.maximum
    middles = [(left + right) / 2 for left, right in zip(row.edges, row.edges[1:], strict=False)]
    return [not low <= middle <= high for middle in middles]


def _bars(axes: Axes, row: Histogram, outside: Sequence[bool], shown: tuple[float, float]) -> None:
    edges = np.asarray(row.edges, dtype=float)
    widths = np.diff(edges)
    ticks: list[float] = []
    if widths.max() > 8 * max(widths.min(), 1e-12):
        smallest = float(min(edges[edges > 0], default=1.0))
        axes.set_xscale("symlog", linthresh=smallest)
        axes.xaxis.set_minor_locator(NullLocator())
        ticks = _log_ticks(*shown, smallest)
    axes.set_xlim(*shown)
    for bound, end in zip((row.minimum, row.maximum), shown, strict=True):
        if bound is not None and shown[0] <= bound <= shown[1]:
            axes.axvspan(min(bound, end), max(bound, end), color=VERMILION, alpha=0.1, linewidth=0)
            axes.axvline(bound, color=VERMILION, linewidth=1.0)
    heights = np.sqrt(np.asarray(row.counts, dtype=float) / max(sum(row.counts), 1))
    for chosen, colour in ((False, BLUE), (True, VERMILION)):
        inside = np.asarray(outside) == chosen
        if inside.any():
            axes.stairs(np.where(inside, heights, 0.0), edges, fill=True, color=colour, linewidth=0)
    axes.set_ylim(0, max(float(heights.max()), 1e-9) * 1.05)
    axes.yaxis.set_major_locator(NullLocator())
    axes.axhline(0, color=MUTED, linewidth=0.6)
    axes.grid(False)
    axes.tick_params(labelsize=SMALL)
    if ticks:
        axes.set_xticks(ticks, labels=[_bin_edge(tick) for tick in ticks])
    else:
        tick_format(axes, "x", _bin_edge, bins=2)


def _bin_edge(value: float) -> str:
    return f"{value:g}" if abs(value) < 1000 else count(value / 1000).replace(",", "") + "k"


def _log_ticks(low: float, high: float, smallest: float) -> list[float]:
    powers = [10.0**power for power in range(-9, 16) if max(low, smallest) <= 10.0**power <= high]
    powers = powers[:: -(-len(powers) // 4)] if powers else [smallest]
    return [0.0, *powers] if low <= 0 else powers


def weights(
    domains: Sequence[DomainRow | WeightRow], uniform: Mapping[str, float], binding_caps: Sequence[str] = ()
) -> Figure:
    """Prior, uniform and recommended weights; beside them the passes over the domain's tokens that result."""
    rows = [row for row in domains if row.weight is not None]
    if not rows:
        return nothing("no mixture was computed")
    legend = [("recommended", COLOURS[PROPOSAL]), ("prior", COLOURS[PRIOR]), ("uniform", COLOURS[UNIFORM])]
    tall = 0.46 if len(rows) <= 20 else 0.34
    figure, (axes,) = row_chart([row.domain for row in rows], legend=legend, row=tall, right=2.3)
    values = (
        [row.weight or 0.0 for row in rows],
        [row.prior or 0.0 for row in rows],
        [uniform.get(row.domain, 0.0) for row in rows],
    )
    places = np.arange(len(rows))
    for column, (_, colour), offset, thick in zip(values, legend, (-0.2, 0.12, 0.32), (0.4, 0.18, 0.18), strict=True):
        axes.barh(places + offset, column, height=thick, color=colour)
    for i, row in enumerate(rows):
        words = [share(row.weight)]
        if row.epochs is not None:
            words.append(f"{row.epochs:.2f} epochs" if row.epochs < 10 else f"{row.epochs:.0f} epochs")
        if row.domain in binding_caps:
            words.append("at cap")
        note(axes, 1.02, i - 0.1, " · ".join(words))
    axes.set_xlim(0, max(*map(max, values), 0.01) * 1.02)
    tick_format(axes, "x", _percent)
    name_axes(axes, x="share of training tokens")
    return figure


def swarm(run_weights: Mapping[str, Mapping[str, float]], domains: Sequence[DomainRow | WeightRow]) -> Figure:
    """The weights that proxy runs tried, and where the recommended and prior weight lie among them."""
    names = [row.domain for row in domains if any(row.domain in mixture for mixture in run_weights.values())]
    if not names:
        return nothing("no proxy run")
    legend = [("a proxy run", BLUE), ("prior", MUTED), ("recommended", VERMILION)]
    figure, (axes,) = row_chart(names, legend=legend, right=0.3)
    of_domain = {row.domain: row for row in domains}
    tried = [[mixture.get(name, 0.0) for mixture in run_weights.values()] for name in names]
    places = [i for i, column in enumerate(tried) for _ in column]
    points = [value for column in tried for value in column]
    axes.scatter(
        points, places, marker="|", s=90, color=BLUE, alpha=0.25, linewidth=1, rasterized=len(points) > _MANY_MARKS
    )
    for column, colour in (("prior", MUTED), ("weight", VERMILION)):
        marks = [(value, i) for i, name in enumerate(names) if (value := getattr(of_domain[name], column)) is not None]
        axes.scatter(*_columns(marks), marker="D", s=26, color=colour, edgecolor=SURFACE, linewidth=0.8, zorder=3)
    axes.set_xlim(-0.01, max(points) * 1.05 + 0.01)
    tick_format(axes, "x", _percent)
    name_axes(axes, x="share of training tokens")
    return figure


def held_out(points: Sequence[HeldOutPoint], skill: Sequence[SkillRow] = ()) -> Figure:
    """Predicted against measured loss of runs that the fit did not see, a panel a metric."""
    if not points:
        return nothing("no held-out run")
    metrics = list(dict.fromkeys(point.metric for point in points))
    stated = {row.metric: row for row in skill if row.chosen}
    columns, left, gap = 4, 0.55, 0.55
    side = (WIDTH - left - 0.1 - gap * (columns - 1)) / columns
    figure, panels = grid_chart(len(metrics), columns=columns, panel=(side, side), gap=(gap, 0.6), left=left)
    crowded = len(points) > _MANY_MARKS
    for axes, metric in zip(panels, metrics, strict=True):
        pairs = [(p.measured, p.predicted) for p in points if p.metric == metric]
        measured, predicted = _columns(pairs)
        row = stated.get(metric)
        rank = row.spearman if row and row.spearman is not None else spearman(measured, predicted)
        skilled = row.skilled if row else True
        aside = f"Spearman {rank:.2f}" if np.isfinite(rank) else "no rank correlation"
        panel_title(axes, label(metric, 14), aside if skilled else f"{aside}, no skill")
        low, high = min(measured + predicted), max(measured + predicted)
        margin = (high - low) * 0.05 or 0.01
        limits = (low - margin, high + margin)
        axes.plot(limits, limits, color=MUTED, linewidth=0.8)
        axes.scatter(
            measured, predicted, s=14, color=BLUE if skilled else GREY, alpha=0.55, linewidth=0, rasterized=crowded
        )
        axes.set(xlim=limits, ylim=limits)
        axes.grid(axis="both", color=FAINT, linewidth=0.6)
        for axis in ("x", "y"):
            tick_format(axes, axis, _plain, bins=4)
        axes.tick_params(labelsize=SMALL)
    name_axes(panels[0], x="measured, bits per byte", y="predicted, bits per byte")
    return figure


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Rank correlation, ties sharing their mean rank; not a number where one side does not vary."""
    x, y = _ranks(left), _ranks(right)
    if len(x) < 2 or not x.std() or not y.std():
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: Sequence[float]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    _, index, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[index], dtype=np.float64)


def measured(rows: Sequence[MeasuredRow]) -> Figure:
    """Losses of the found mixture, prior and uniform, relative to the prior's mean, so that differences can be seen.

    A dot a seed, a bar at their mean; behind them the interval of the prediction, its middle hollow. The axis shows all
    that was measured; a wide interval runs off it.
    """
    reference = {metric: value for metric in {row.metric for row in rows} if (value := _reference(rows, metric))}
    rows = [row for row in rows if row.metric in reference]
    if not rows:
        return nothing("nothing was predicted or measured")
    metrics = sorted(dict.fromkeys(row.metric for row in rows), key=lambda metric: metric != OBJECTIVE)
    legend = [(name, COLOURS[name]) for name in MIXTURES]
    figure, (axes,) = row_chart(metrics, legend=legend, row=0.52, right=1.1)
    shown = [0.0]
    for row in rows:
        if row.mixture not in MIXTURES:
            continue
        y = metrics.index(row.metric) + (MIXTURES.index(row.mixture) - 1) * 0.26
        colour = COLOURS[row.mixture]
        base = reference[row.metric]
        seeds = [value / base - 1 for value in row.measured]
        if row.low is not None and row.high is not None:
            interval = (row.low / base - 1, row.high / base - 1)
            axes.plot(interval, (y, y), color=colour, alpha=0.22, linewidth=6, solid_capstyle="butt")
        if row.predicted is not None:
            shown.append(row.predicted / base - 1)
            axes.scatter(shown[-1:], [y], s=22, facecolor=SURFACE, edgecolor=colour, linewidth=1.1, zorder=3)
        if seeds:
            axes.scatter(seeds, [y] * len(seeds), s=20, color=colour, alpha=0.7, linewidth=0, zorder=4)
            mean = float(np.mean(seeds))
            axes.plot((mean, mean), (y - 0.12, y + 0.12), color=INK, linewidth=1.6, solid_capstyle="butt", zorder=5)
            shown += seeds
            if row.mixture == PROPOSAL:
                note(axes, 1.02, y, f"{signed(100 * mean, 2)} %", points=SMALL + 0.5)
    margin = (max(shown) - min(shown)) * 0.08 or 0.001
    axes.set_xlim(min(shown) - margin, max(shown) + margin)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    for i in range(len(metrics) - 1):
        axes.axhline(i + 0.5, color=FAINT, linewidth=0.8)
    tick_format(axes, "x", lambda value: f"{signed(100 * value, 2).rstrip('0').rstrip('.')} %" if value else "0")
    name_axes(axes, x="loss relative to the prior mixture; left is better")
    return figure


def _reference(rows: Sequence[MeasuredRow], metric: str) -> float | None:
    """The prior's mean as measured, else as predicted; without a prior the mean of all."""
    of_metric = [row for row in rows if row.metric == metric]
    prior = next((row for row in of_metric if row.mixture == PRIOR), None)
    if prior and prior.measured:
        return float(np.mean(prior.measured))
    if prior and prior.predicted:
        return prior.predicted
    values = [value for row in of_metric for value in row.measured] or [
        row.predicted for row in of_metric if row.predicted
    ]
    return float(np.mean(values)) if values else None


def curves(rows: Sequence[Curve]) -> Figure:
    """Training losses of the proxy runs; the lowest and the highest end are named."""
    rows = [row for row in rows if len(row.steps) > 1]
    if not rows:
        return nothing("no curve")
    left, right = 0.75, 1.6
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = place(figure, left, 0.15, WIDTH - left - right, 2.7)
    axes.grid(axis="both", color=FAINT, linewidth=0.6)
    crowded = len(rows) * _CURVE_POINTS > 20_000
    ends = sorted(rows, key=lambda row: row.losses[-1] if np.isfinite(row.losses[-1]) else np.inf)
    marked = {ends[0].run_id: BLUE, ends[-1].run_id: VERMILION}
    for row in rows:
        every = max(1, len(row.steps) // _CURVE_POINTS)
        # The last point always, whatever the thinning.
        keep = sorted({*range(0, len(row.steps), every), len(row.steps) - 1})
        named = row.run_id in marked
        axes.plot(
            [row.steps[i] for i in keep],
            [row.losses[i] for i in keep],
            color=marked.get(row.run_id, GREY),
            alpha=1.0 if named else max(0.15, min(0.6, 12 / len(rows))),
            linewidth=1.4 if named else 0.8,
            zorder=3 if named else 2,
            rasterized=crowded and not named,
        )
    bottom, top = axes.get_ylim()
    low, high = (row.losses[-1] if np.isfinite(row.losses[-1]) else top for row in (ends[0], ends[-1]))
    apart = (top - bottom) * 0.07
    for row, y in ((ends[0], min(low, (low + high - apart) / 2)), (ends[-1], max(high, (low + high + apart) / 2))):
        if row is ends[0] or len(ends) > 1:
            axes.text(
                1.01,
                (y - bottom) / (top - bottom),
                f"{label(row.run_id, 16)}  {row.losses[-1]:.3f}",
                transform=axes.transAxes,
                va="center",
                size=SMALL + 0.5,
                color=marked[row.run_id],
                family=fonts(),
                parse_math=False,
            )
    tick_format(axes, "x", count)
    tick_format(axes, "y", _plain)
    name_axes(axes, x="step", y="loss, nats per token")
    return figure


def bytes_per_token(rows: Sequence[LanguageRow], *, languages: int = len(SERIES)) -> Figure:
    """Bytes of text a token, by domain and language; a mark's area is the language's share of the domain's tokens.

    Languages below 0.2 % of a domain's tokens have no mark; the domain's own line counts them.
    """
    rows = [row for row in rows if row.tokens]
    if not rows:
        return nothing("no tokens")
    of_domain: dict[str, list[LanguageRow]] = {}
    for row in rows:
        of_domain.setdefault(row.domain, []).append(row)
    tokens = {name: sum(row.tokens for row in found) for name, found in of_domain.items()}
    # A few words of a language say nothing of its rate.
    rows = [row for row in rows if row.tokens >= _LEAST_SHARE * tokens[row.domain]]
    totals: dict[str, int] = {}
    for row in rows:
        totals[row.language] = totals.get(row.language, 0) + row.tokens
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    colours = dict(zip(ranked, SERIES[:languages], strict=False))
    legend: list[Entry] = [(label(name, 12), colour) for name, colour in colours.items()]
    if len(ranked) > len(colours):
        legend.append((f"{len(ranked) - len(colours)} more", GREY))
    figure, (axes,) = row_chart(list(of_domain), legend=legend, right=1.3, row=0.3)
    for i, name in enumerate(of_domain):
        overall = sum(row.bytes for row in of_domain[name]) / tokens[name]
        axes.plot((overall, overall), (i - 0.36, i + 0.36), color=INK, linewidth=1.4, zorder=1)
        note(axes, 1.02, i, f"{overall:.2f} · {count(tokens[name])}", points=SMALL + 0.5)
        for row in sorted((row for row in rows if row.domain == name), key=lambda row: -row.tokens):
            axes.scatter(
                [row.bytes / row.tokens],
                [i],
                s=14 + 130 * row.tokens / tokens[name],
                color=colours.get(row.language, GREY),
                alpha=0.85,
                edgecolor=SURFACE,
                linewidth=0.8,
                zorder=2,
            )
    rates = [row.bytes / row.tokens for row in rows]
    margin = (max(rates) - min(rates)) * 0.06 or 0.1
    axes.set_xlim(max(0.0, min(rates) - margin), max(rates) + margin)
    tick_format(axes, "x", _plain)
    name_axes(axes, x="bytes per token; the line is the whole domain, at right with its tokens")
    return figure


def timings(seconds: Mapping[str, float]) -> Figure:
    """Wall time of each step, the longest first."""
    if not seconds:
        return nothing("no step ran")
    names = sorted(seconds, key=lambda name: -seconds[name])
    figure, (axes,) = row_chart(names, right=1.3)
    values = [seconds[name] for name in names]
    axes.barh(range(len(values)), values, height=0.62, color=BLUE)
    for i, value in enumerate(values):
        note(axes, 1.02, i, duration(value))
    axes.set_xlim(0, max(*values, 0.001) * 1.02)
    tick_format(axes, "x", duration)
    return figure


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %" if value else "0"


def _plain(value: float) -> str:
    return f"{value:.4g}"
