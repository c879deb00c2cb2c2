"""Plots of whether a swarm can be trusted: odd runs, noise against signal, when it stopped, what lies near the answer.

Like plots.py: rows in, a matplotlib Figure out, for any number of runs, and none.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from redone_data.report.canvas import (
    BLUE,
    FAINT,
    GREY,
    INK,
    MUTED,
    SMALL,
    SURFACE,
    VERMILION,
    WIDTH,
    draw_legend,
    name_axes,
    note,
    nothing,
    place,
    row_chart,
    tick_format,
)
from redone_data.report.human import label
from redone_data.report.summary import HeldOutPoint, ProxyRow, RoundRow

Floats = NDArray[np.float64]

ODD = 4.0  # robust standard deviations: one in 16,000 of normal errors
_NEAR = 8  # runs that a scale is taken from, at least
_NORMAL = 1.4826  # standard deviation of normal errors / their median absolute value
_MANY_MARKS = 3000  # above it marks are drawn as one image
_DECIMALS = 6  # weights that agree so far are one mixture


def deviations(points: Sequence[HeldOutPoint]) -> list[tuple[HeldOutPoint, float]]:
    """Each held-out error, measured minus predicted, in robust standard deviations of what is usual there.

    Errors grow with the loss, so the scale is that of the runs with the nearest predictions, where it is more than that
    of all.

    >>> errors = [-0.2, -0.1, 0.0, 0.1, 0.2, 9.0]
    >>> rows = [HeldOutPoint(f"run-{i}", "wiki", 2 + error, 2.0) for i, error in enumerate(errors)]
    >>> [point.run_id for point, size in deviations(rows) if abs(size) > ODD]
    ['run-5']
    """
    found: list[tuple[HeldOutPoint, float]] = []
    for metric in dict.fromkeys(point.metric for point in points):
        mine = [point for point in points if point.metric == metric]
        predicted = np.array([point.predicted for point in mine])
        errors = np.array([point.measured for point in mine]) - predicted
        errors -= np.median(errors)
        near = np.argsort(np.abs(predicted - predicted[:, None]), axis=1)[:, : max(_NEAR, len(mine) // 4)]
        scale = _NORMAL * np.maximum(np.median(np.abs(errors)), np.median(np.abs(errors)[near], axis=1))
        found += list(zip(mine, (errors / np.where(scale > 0, scale, 1.0)).tolist(), strict=True))
    return found


def odd_runs(points: Sequence[HeldOutPoint]) -> Figure:
    """Errors on held-out runs by metric; a run far from what all the others say of it is named."""
    if not points:
        return nothing("no held-out run")
    metrics = list(dict.fromkeys(point.metric for point in points))
    found = deviations(points)
    figure, (axes,) = row_chart(metrics, legend=[("a run", BLUE), ("odd", VERMILION)], row=0.34, right=2.6)
    for colour, wanted in ((BLUE, False), (VERMILION, True)):
        here = [(size, metrics.index(point.metric)) for point, size in found if (abs(size) > ODD) == wanted]
        axes.scatter(
            [size for size, _ in here],
            [row for _, row in here],
            s=22 if wanted else 14,
            color=colour,
            alpha=0.9 if wanted else 0.45,
            linewidth=0,
            rasterized=len(here) > _MANY_MARKS,
        )
    for i, metric in enumerate(metrics):
        odd = sorted(((abs(size), point.run_id) for point, size in found if point.metric == metric), reverse=True)
        odd = [(size, run) for size, run in odd if size > ODD]
        names = ", ".join(label(run, 12) for _, run in odd[:2]) + (f" and {len(odd) - 2} more" if len(odd) > 2 else "")
        note(axes, 1.02, i, names, points=SMALL + 0.5)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    for edge in (-ODD, ODD):
        axes.axvline(edge, color=VERMILION, linewidth=0.8, linestyle=(0, (4, 3)))
    reach = max(1.15 * ODD, *(1.08 * abs(size) for _, size in found))
    axes.set_xlim(-reach, reach)
    tick_format(axes, "x", lambda value: f"{value:g}")
    name_axes(axes, x="measured minus predicted, in robust standard deviations of runs with such a loss")
    return figure


def replicates(runs: Sequence[ProxyRow]) -> dict[tuple[float, ...], list[ProxyRow]]:
    """Runs of one mixture with several seeds, by their weights; runs that diverged are left out."""
    groups: dict[tuple[float, ...], list[ProxyRow]] = {}
    for run in runs:
        if not run.diverged:
            key = tuple(round(weight, _DECIMALS) for _, weight in sorted(run.weights.items()))
            groups.setdefault(key, []).append(run)
    return {key: group for key, group in groups.items() if len(group) > 1}


def noise(runs: Sequence[ProxyRow]) -> Figure:
    """Losses of all runs, and how far those of one mixture scatter by seed alone: below that nothing can be told."""
    finished = [run for run in runs if not run.diverged]
    groups = list(replicates(runs).values())
    if not groups:
        return nothing("no mixture was trained with two seeds (mix.design.replicates)")
    metrics = sorted({metric for run in finished for metric in run.losses})
    legend = [("a run", GREY), ("runs of one mixture, around their mean", VERMILION)]
    figure, (axes,) = row_chart(metrics, legend=legend, row=0.34, right=3.0)
    crowded = len(metrics) * len(finished) > _MANY_MARKS
    for i, metric in enumerate(metrics):
        losses = [run.losses[metric] for run in finished if metric in run.losses]
        middle = float(np.median(losses))
        offsets = [loss - middle for loss in losses]
        ticks = axes.scatter(offsets, [i] * len(offsets), marker="|", s=90, color=GREY, alpha=0.6)
        ticks.set_rasterized(crowded)
        apart = []
        for group in groups:
            here = [run.losses[metric] for run in group if metric in run.losses]
            if len(here) > 1:
                apart.append([loss - float(np.mean(here)) for loss in here])
        if not apart:
            continue
        points = [value for group_losses in apart for value in group_losses]
        axes.scatter(points, [i] * len(points), s=16, color=VERMILION, linewidth=0, zorder=3)
        freedom = sum(len(group_losses) - 1 for group_losses in apart)
        floor, spread = float(np.sqrt(np.sum(np.square(points)) / freedom)), float(np.std(losses, ddof=1))
        times = f" ({spread / floor:.{0 if spread > 10 * floor else 1}f} times)" if floor else ""
        note(axes, 1.02, i, f"noise {floor:.4f}, spread {spread:.3f}{times}", points=SMALL + 0.5)
    tick_format(axes, "x", lambda value: f"{value:.3g}")
    name_axes(axes, x="bits per byte from the median run; at right standard deviations")
    return figure


def rounds(rows: Sequence[RoundRow]) -> Figure:
    """Expected gain of one more run against the noise floor, and the best objective so far, by runs trained."""
    if not rows:
        return nothing("the swarm was trained in one batch (mix.rounds.max is 0)")
    left, gap, high = 0.85, 1.1, 2.2
    wide = (WIDTH - left - gap - 0.3) / 2
    figure = Figure(figsize=(WIDTH, high + 1.0))
    panels = (
        (("expected gain of a run", BLUE, "expected_gain"), ("noise floor", VERMILION, "noise_floor")),
        (("best as predicted", BLUE, "best_predicted"), ("best as measured", INK, "best_measured")),
    )
    sizes = [row.runs for row in rows]
    for panel, series in enumerate(panels):
        x = left + panel * (wide + gap)
        axes = place(figure, x, 0.4, wide, high)
        axes.grid(axis="both", color=FAINT, linewidth=0.6)
        draw_legend(figure, [(name, colour) for name, colour, _ in series], x, 0.05)
        for _, colour, field in series:
            points = [(row.runs, getattr(row, field)) for row in rows if getattr(row, field) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.6, marker="o", markersize=5)
        axes.set_xticks(sizes, labels=[str(size) for size in sizes])
        axes.set_xlim(min(sizes) - 0.5, max(sizes) + 0.5)
        if panel == 0:
            axes.set_ylim(0, max(axes.get_ylim()[1], 1e-6))
        tick_format(axes, "y", lambda value: f"{value:.4g}", bins=4)
        name_axes(axes, x="runs trained", y="objective, bits per byte")
    return figure


def nearest(runs: Sequence[ProxyRow], mixtures: Mapping[str, Mapping[str, float]]) -> Figure:
    """How far each run lies from its nearest other one, and each mixture from its nearest run. Total variation."""
    if not runs or not mixtures:
        return nothing("no proxy run")
    domains = sorted({name for weights in (*mixtures.values(), *(run.weights for run in runs)) for name in weights})
    tried = np.array([[run.weights.get(name, 0.0) for name in domains] for run in runs])
    figure, (axes,) = row_chart(["a run", *mixtures], row=0.32, right=2.4)
    distinct = np.unique(tried.round(_DECIMALS), axis=0)
    between = [float(np.sort(_distances(distinct, row))[min(1, len(distinct) - 1)]) for row in distinct]
    axes.scatter(between, [0] * len(between), marker="|", s=140, color=BLUE, alpha=0.6)
    note(axes, 1.02, 0, f"median {np.median(between):.3f}, at most {max(between):.3f}", points=SMALL + 0.5)
    farthest = max(between)
    for i, weights in enumerate(mixtures.values(), start=1):
        away = _distances(tried, np.array([weights.get(name, 0.0) for name in domains]))
        axes.scatter([away.min()], [i], marker="D", s=36, color=VERMILION, edgecolor=SURFACE, zorder=3)
        note(axes, 1.02, i, f"{away.min():.3f} to {label(runs[int(away.argmin())].run_id, 14)}", points=SMALL + 0.5)
        farthest = max(farthest, float(away.min()))
    axes.set_xlim(-0.015 * farthest - 1e-3, 1.05 * farthest + 1e-3)
    tick_format(axes, "x", lambda value: f"{value:.3g}")
    name_axes(axes, x="total variation to the nearest run: the share of tokens that would have to change their domain")
    return figure


def _distances(rows: Floats, here: Floats) -> Floats:
    distances: Floats = np.abs(rows - here).sum(axis=1) / 2
    return distances
