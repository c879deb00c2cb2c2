"""Exposure against the pass rate, a panel a set: a line a model, between a random order (dashed) and a perfect one."""

import math
import re

from matplotlib.figure import Figure

from redone_data.report.canvas import GRID, INK, MUTED, SERIES, grid_chart, name_axes, nothing, panel_title, tick_format
from redone_data.report.human import decimals, label
from redone_train.evaluate.results import Results

POINT = re.compile(r"exposure at ([\d.]+) %")


def exposure_curves(results: Results) -> Figure:
    """What each model lets pass, with 95 % intervals."""
    points = {
        task: [
            (float(match[1]), part, ends) for part, ends in results.shown(task).items() if (match := POINT.match(part))
        ]
        for task in results.tasks
    }
    panels = {task: sorted(found) for task, found in points.items() if len(found) > 1}
    if not panels:
        return nothing("exposure was not measured at two pass rates")
    colours = [SERIES[place % len(SERIES)] for place in range(len(results.models))]
    legend = list(zip(results.models, colours, strict=True))
    figure, drawn = grid_chart(len(panels), columns=2, panel=(3.9, 2.1), gap=(0.7, 1.0), left=0.6, legend=legend)
    for axes, (task, found) in zip(drawn, panels.items(), strict=True):
        rates = [rate for rate, _, _ in found]
        for (model, colour), shift in zip(legend, range(len(legend)), strict=True):
            if task not in results.scores.get(model, {}):
                continue
            estimates = [results.part(model, task, part) for _, part, _ in found]
            values = [math.nan if one.value is None else one.value for one in estimates]
            axes.plot(rates, values, color=colour, linewidth=1.6, marker="o", markersize=3.5)
            for rate, one in zip(rates, estimates, strict=True):
                if (interval := one.interval) is not None:
                    axes.plot([rate + 0.4 * shift] * 2, interval, color=colour, linewidth=0.9, alpha=0.7)
        random, perfect = (
            [math.nan if (end := ends[side]) is None else end for _, _, ends in found] for side in (0, 1)
        )
        axes.plot(rates, random, color=INK, linewidth=0.9, linestyle=(0, (2, 1)))
        axes.plot(rates, perfect, color=MUTED, linewidth=0.9)
        panel_title(axes, label(task.partition("/")[2], 40))
        axes.grid(color=GRID, linewidth=0.6)
        tick_format(axes, "x", lambda value: decimals(value, 0))
        tick_format(axes, "y", lambda value: decimals(value, 0))
        name_axes(axes, x="posts that pass, %", y="harmful among them, %")
    return figure
