"""Plots of how the mixture was found and how sure that is; like plots.py, for the report and for notebooks."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from redone_data.report.canvas import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    LINE,
    MUTED,
    ORANGE,
    SMALL,
    SURFACE,
    VERMILION,
    WIDTH,
    fonts,
    label_inches,
    name_axes,
    note,
    nothing,
    place,
    row_chart,
    text_inches,
    tick_format,
    write,
)
from redone_data.report.human import decimals, label, loss, share, signed
from redone_data.report.plots import spearman
from redone_data.report.summary import (
    DomainRow,
    Effect,
    FinalistRow,
    FrontPoint,
    HeldOutPoint,
    LearningPoint,
    WeightRange,
    WeightRow,
)

_MANY_CELLS = 24  # columns above which a heat map's cells are an image without figures
_CELL = 0.3


def ranks(points: Sequence[HeldOutPoint]) -> Figure:
    """Rank correlation of held-out runs by metric: over all runs, and in the best quarter, where the search ends."""
    metrics = list(dict.fromkeys(point.metric for point in points))
    if not metrics:
        return nothing("no held-out run")
    legend = [("all runs", BLUE), ("best quarter", ORANGE)]
    figure, (axes,) = row_chart(metrics, legend=legend, right=1.6)
    for i, metric in enumerate(metrics):
        whole, best = best_quarter_ranks([point for point in points if point.metric == metric])
        for value, colour, offset in ((whole, BLUE, -0.14), (best, ORANGE, 0.14)):
            if np.isfinite(value):
                axes.barh(i + offset, value, height=0.26, color=colour)
        note(axes, 1.02, i, " · ".join(decimals(v, 2) for v in (whole, best)))
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), 1)
    tick_format(axes, "x", lambda value: f"{value:.2g}")
    name_axes(axes, x="Spearman rank correlation of predicted and measured loss")
    return figure


def best_quarter_ranks(points: Sequence[HeldOutPoint]) -> tuple[float, float]:
    """Spearman over all runs of one metric, and over the quarter with the lowest measured loss (at least four)."""
    ordered = sorted(points, key=lambda point: point.measured)
    best = ordered[: max(4, len(ordered) // 4)]
    both = [
        spearman([point.measured for point in chosen], [point.predicted for point in chosen])
        for chosen in (ordered, best)
    ]
    return both[0], both[1]


def learning(points: Sequence[LearningPoint]) -> Figure:
    """Held-out rank correlation against the number of runs that the fit saw: would more runs help?"""
    if not points:
        return nothing("no learning curve")
    left, right = 0.75, 0.4
    figure = Figure(figsize=(WIDTH, 3.0))
    axes = place(figure, left, 0.15, WIDTH - left - right, 2.3)
    axes.grid(axis="both", color=FAINT, linewidth=0.6)
    sizes = sorted({point.runs for point in points})
    for metric in dict.fromkeys(point.metric for point in points):
        mine = sorted((point.runs, point.spearman) for point in points if point.metric == metric)
        axes.plot([runs for runs, _ in mine], [rank for _, rank in mine], color=GREY, linewidth=0.8, alpha=0.7)
    means = [float(np.mean([point.spearman for point in points if point.runs == size])) for size in sizes]
    axes.plot(sizes, means, color=BLUE, linewidth=2, marker="o", markersize=5)
    axes.set_ylim(min(0.8, *(point.spearman for point in points)) - 0.02, 1.02)
    axes.set_xticks(sizes, labels=[str(size) for size in sizes])
    tick_format(axes, "y", lambda value: f"{value:.2g}")
    name_axes(axes, x="runs that the fit saw; the thick line is the mean over metrics", y="Spearman")
    return figure


def front(points: Sequence[FrontPoint], marks: Mapping[str, tuple[float, float]] | None = None) -> Figure:
    """Domain gain against general retention, as predicted; `marks`: name of a mixture -> (objective, retention)."""
    if not points:
        return nothing("no Pareto front: nothing was to be retained")
    left, right = 0.85, 1.9
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = place(figure, left, 0.15, WIDTH - left - right, 2.9)
    axes.grid(axis="both", color=FAINT, linewidth=0.6)
    ordered = sorted(points, key=lambda point: point.objective)
    x, y = [point.objective for point in ordered], [point.retention for point in ordered]
    axes.plot(x, y, color=BLUE, linewidth=1.2, marker="o", markersize=4)
    chosen = [point for point in ordered if point.chosen]
    axes.scatter(
        [point.objective for point in chosen],
        [point.retention for point in chosen],
        marker="D",
        s=60,
        color=VERMILION,
        edgecolor=SURFACE,
        zorder=4,
    )
    for point in chosen:
        _beside(axes, point.objective, point.retention, "found", VERMILION)
    for i, (name, (objective, retention)) in enumerate((marks or {}).items()):
        axes.scatter([objective], [retention], marker="s", s=36, color=MUTED, edgecolor=SURFACE, zorder=3)
        _beside(axes, objective, retention, name, MUTED, below=i % 2 == 1)
    for axis in ("x", "y"):
        tick_format(axes, axis, lambda value: f"{value:.4g}")
    name_axes(axes, x="objective, bits per byte (left is better)", y="retention, bits per byte")
    return figure


def _beside(axes: Axes, x: float, y: float, text: str, colour: str, *, below: bool = False) -> None:
    axes.annotate(
        label(text, 20),
        (x, y),
        xytext=(7, -12 if below else 5),
        textcoords="offset points",
        color=colour,
        size=SMALL + 0.5,
        family=fonts(),
        parse_math=False,
        annotation_clip=False,
    )


def effects(rows: Sequence[Effect]) -> Figure:
    """A heat map: what one more percentage point of each domain (a row) does to each metric (a column)."""
    if not rows:
        return nothing("no fit to take effects from")
    domains, metrics = (list(dict.fromkeys(names)) for names in zip(*((r.domain, r.metric) for r in rows), strict=True))
    table = {(row.domain, row.metric): row.change for row in rows}
    values = np.array([[table.get((domain, metric), np.nan) for metric in metrics] for domain in domains])
    left = label_inches(domains)
    wide = min((WIDTH - left - 0.2) / len(metrics), 0.95)
    upright = wide < 0.9
    head = (min(max(text_inches(label(metric, 16)) for metric in metrics), 1.6) if upright else LINE) + 0.2
    figure = Figure(figsize=(WIDTH, head + len(domains) * _CELL + 0.15))
    axes = place(figure, left, head, wide * len(metrics), len(domains) * _CELL)
    axes.grid(False)
    if len(metrics) > _MANY_CELLS:
        axes.set_rasterization_zorder(1.5)  # the cells as one image
    reach = float(np.nanmax(np.abs(values))) or 1.0
    for (i, j), value in np.ndenumerate(values):
        colour = BLUE if value < 0 else VERMILION
        strength = min(abs(value) / reach, 1.0) if np.isfinite(value) else 0.0
        axes.barh(i, 1, left=j, height=1, color=colour, alpha=0.85 * strength, linewidth=0)
        if len(metrics) <= _MANY_CELLS and np.isfinite(value):
            axes.text(
                j + 0.5,
                i,
                signed(1000 * value, 1),
                ha="center",
                va="center",
                size=SMALL,
                color=SURFACE if strength > 0.6 else INK,
                family=fonts(),
            )
    axes.set(xlim=(0, len(metrics)), ylim=(len(domains) - 0.5, -0.5))
    axes.set_yticks(range(len(domains)), labels=[label(domain) for domain in domains])
    for text in axes.get_yticklabels():
        text.set(parse_math=False, color=INK)
    axes.xaxis.set_major_locator(NullLocator())
    for j, metric in enumerate(metrics):
        text = write(figure, left + (j + 0.5) * wide, head - 0.08, label(metric, 16), colour=MUTED, points=SMALL + 0.5)
        text.set(rotation=90 if upright else 0, va="bottom", ha="center")
    return figure


def weight_ranges(domains: Sequence[DomainRow | WeightRow], ranges: Sequence[WeightRange]) -> Figure:
    """The recommended weights, and how far those that were found move when parts of the runs are left out."""
    of_domain = {row.domain: row for row in ranges}
    rows = [row for row in domains if row.domain in of_domain and row.weight is not None]
    if not rows:
        return nothing("no weights were searched for")
    legend = [("recommended", VERMILION), ("prior", MUTED)]
    legend.append(("optimum of the fit (ring), and of fits to parts of the runs", BLUE))
    figure, (axes,) = row_chart([row.domain for row in rows], legend=legend, right=2.2)
    for i, row in enumerate(rows):
        found = of_domain[row.domain]
        axes.plot([found.low, found.high], [i, i], color=BLUE, linewidth=5, alpha=0.45, solid_capstyle="butt")
        axes.scatter([row.prior or 0.0], [i], marker="|", s=90, color=MUTED, linewidth=1.5)
        axes.scatter([found.found], [i], s=60, facecolor="none", edgecolor=BLUE, linewidth=1.5, zorder=4)
        axes.scatter([row.weight or 0.0], [i], marker="D", s=26, color=VERMILION, edgecolor=SURFACE, zorder=3)
        note(axes, 1.02, i, f"{share(row.weight)} ({share(found.low)} to {share(found.high)})", points=SMALL + 0.5)
    high = max(max(found.high, found.found) for found in of_domain.values())
    high = max(high, *(max(row.weight or 0.0, row.prior or 0.0) for row in rows))
    axes.set_xlim(-0.01, high * 1.05 + 0.01)
    tick_format(axes, "x", lambda value: f"{100 * value:.3g} %" if value else "0")
    name_axes(axes, x="share of training tokens")
    return figure


def finalists(rows: Sequence[FinalistRow]) -> Figure:
    """The objective of each mixture that was trained to be compared: predicted, and mean and sd over seeds."""
    rows = sorted(rows, key=lambda row: min(v for v in (row.target, row.fresh, row.choosing) if v is not None))
    if not rows:
        return nothing("nothing was trained to be compared (mix.validate.seeds is 0)")
    stages = [
        ("on the seeds it was chosen on", GREY, "choosing"),
        ("on fresh seeds", BLUE, "fresh"),
        ("at the target's scale", GREEN, "target"),
    ]
    stages = [stage for stage in stages if any(getattr(row, stage[2]) is not None for row in rows)]
    legend = [("predicted (hollow)", MUTED), *((name, colour) for name, colour, _ in stages)]
    legend.append(("recommended", VERMILION))
    figure, (axes,) = row_chart([row.name for row in rows], legend=legend, row=0.42, right=1.6)
    for i, row in enumerate(rows):
        if row.recommended:
            axes.get_yticklabels()[i].set_color(VERMILION)
        if row.predicted is not None:
            axes.scatter([row.predicted], [i], s=34, facecolor=SURFACE, edgecolor=MUTED, linewidth=1.2, zorder=3)
        for k, (_, colour, stage) in enumerate(stages):
            mean, sd, y = getattr(row, stage), getattr(row, f"{stage}_sd"), i + 0.2 * (k - (len(stages) - 1) / 2)
            if mean is None:
                continue
            axes.plot([mean - (sd or 0.0), mean + (sd or 0.0)], [y, y], color=colour, linewidth=2.5, alpha=0.5)
            axes.scatter([mean], [y], s=26, color=colour, linewidth=0, zorder=4)
        shown = [row.fresh] if row.target is None else [row.fresh, row.target]
        note(axes, 1.02, i, " · ".join(loss(value) for value in shown), points=SMALL + 0.5)
    tick_format(axes, "x", lambda value: f"{value:.4g}")
    name_axes(axes, x="objective, bits per byte (left is better), with one standard deviation; at right on fresh seeds")
    return figure
