"""The page of one quality classifier: how its scores part good from bad on held-out examples, and where it errs.

Drawn from the report and the held-out scores; the texts shown are those nearest to the threshold and the worst
mistakes, as many as a person reads. 0.1 MB, half a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from redone_data.manifest import atomic
from redone_data.report.canvas import (
    BLUE,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    SMALL,
    TOP,
    VERMILION,
    WIDTH,
    Entry,
    draw_legend,
    legend_inches,
    name_axes,
    nothing,
    place,
    tick_format,
    write,
)
from redone_data.report.html import inline_svg, page_environment
from redone_data.report.human import decimals, share

TEMPLATE = "quality.html.j2"
NUM_BINS, NUM_THRESHOLDS = 50, 201
NUM_EXAMPLES = 6
MAX_CHARACTERS = 400
LEFT, HIGH = 0.6, 2.2

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ScoredText:
    """A held-out example as it is shown."""

    text: str
    good: bool
    score: float


def write_quality_page(report: Mapping[str, Any], examples: Sequence[ScoredText], name: str, path: Path) -> None:
    """Write the page of what `quality train` reports; it appears whole or not at all."""
    scores = np.array([example.score for example in examples], np.float64)
    good = np.array([example.good for example in examples], np.bool_)
    threshold = float(report["threshold"])
    rates = [(f"keeping {float(rate):.0%}", row) for rate, row in report["by_keep_rate"].items()]
    kept = scores >= threshold
    text = (
        page_environment()
        .get_template(TEMPLATE)
        .render(
            name=name,
            report=report,
            all=report["held_out"],
            threshold=threshold,
            rows=[("all", report["held_out"]), *report["by_language"].items(), *rates],
            histograms=inline_svg(histograms(scores, good, threshold), "scores", "Held-out scores by label"),
            curves=inline_svg(
                curves(scores, good, threshold), "curves", "Precision, recall and keep rate by threshold"
            ),
            missed=_first(examples, scores, good & ~kept),
            passed=_first(examples, -scores, ~good & kept),
            below=_first(examples, -scores, ~kept),
            above=_first(examples, scores, kept),
        )
    )
    with atomic(path) as aside:
        aside.write_text(text, encoding="utf-8")


def histograms(scores: Floats, good: Bools, threshold: float) -> Figure:
    """Shares of good examples by score upwards, of bad ones downwards; heights are square roots."""
    if not len(scores):
        return nothing("no held-out examples")
    figure, axes = _chart([("good", BLUE), ("bad", VERMILION)])
    edges = np.linspace(0, 1, NUM_BINS + 1)
    for chosen, colour, sign in ((good, BLUE, 1), (~good, VERMILION, -1)):
        counts, _ = np.histogram(scores[chosen], edges)
        axes.stairs(sign * np.sqrt(counts / max(counts.sum(), 1)), edges, fill=True, color=colour, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=0.6)
    high = max(abs(limit) for limit in axes.get_ylim())
    axes.set_ylim(-high, high)
    axes.yaxis.set_major_locator(NullLocator())
    _mark(figure, axes, threshold)
    name_axes(axes, x="score")
    return figure


def curves(scores: Floats, good: Bools, threshold: float) -> Figure:
    """Precision, recall and the share kept, at every threshold."""
    if not len(scores):
        return nothing("no held-out examples")
    figure, axes = _chart([("precision", BLUE), ("recall", ORANGE), ("kept", GREEN)])
    at = np.linspace(0, 1, NUM_THRESHOLDS)
    kept, right = (len(some) - np.searchsorted(np.sort(some), at) for some in (scores, scores[good]))
    lines = {
        BLUE: np.divide(right, kept, out=np.full(len(at), np.nan), where=kept > 0),
        ORANGE: right / max(int(good.sum()), 1),
        GREEN: kept / len(scores),
    }
    for colour, values in lines.items():
        axes.plot(at, values, color=colour, linewidth=1.6)
    axes.set_ylim(0, 1.03)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    tick_format(axes, "y", share)
    _mark(figure, axes, threshold)
    name_axes(axes, x="threshold")
    return figure


def _chart(legend: Sequence[Entry]) -> tuple[Figure, Axes]:
    head = TOP + legend_inches(legend, LEFT) + 0.15
    figure = Figure(figsize=(WIDTH, head + HIGH + 0.6))
    draw_legend(figure, legend, LEFT, TOP / 2)
    axes = place(figure, LEFT, head, WIDTH - LEFT - 0.3, HIGH)
    axes.set_xlim(0, 1)
    tick_format(axes, "x", lambda value: decimals(value, 1), bins=10)
    return figure, axes


def _mark(figure: Figure, axes: Axes, threshold: float) -> None:
    axes.axvline(threshold, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
    box = axes.get_position()
    wide, high = figure.get_size_inches()
    x = (box.x0 + box.width * min(max(threshold, 0.0), 1.0)) * wide
    text = write(figure, x, (1 - box.y1) * high - 0.09, f"threshold {decimals(threshold)}", points=SMALL + 0.5)
    text.set_horizontalalignment("right" if threshold > 0.5 else "left")


def _first(examples: Sequence[ScoredText], order: Floats, chosen: Bools) -> list[ScoredText]:
    """The chosen examples that come first in an order, long texts cut; equal ones in the order given."""
    rows = np.flatnonzero(chosen)
    found = [examples[row] for row in rows[np.argsort(order[rows], kind="stable")[:NUM_EXAMPLES]]]
    return [ScoredText(_cut(one.text), one.good, one.score) for one in found]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…"
