"""The paper's figure of breadth: score on sets that were never trained on, against the number of tasks tuned on."""

import math
from typing import Any

from matplotlib.figure import Figure

from redone_data.report.canvas import INK, MUTED, SERIES, SMALL, grid_chart, name_axes, nothing, tick_format
from redone_data.report.human import decimals, label
from redone_train.evaluate.layout import OTHER, Column, chains, columns_of, num_tasks
from redone_train.evaluate.results import Results


def score_by_tasks(results: Results) -> Figure:
    """A point a stage, with its interval; arms of one run from one stage are joined. Dashed: the trivial answer."""
    found = [column for column in columns_of(results) if column.block == OTHER]
    stages = {name: stage for name, stage in chains(results).items() if name in results.models}
    if not found or not any(map(num_tasks, stages.values())):
        return nothing("no set out of distribution, or no stage that was tuned on named tasks")
    column = found[-1]  # their average, where there are several
    figure, (axes,) = grid_chart(1, columns=1, panel=(6.6, 3.0), gap=(0.6, 0.85), left=0.7)
    counts = sorted({num_tasks(stage) for stage in stages.values()})
    for place, arms in enumerate(_arms(stages).values()):
        _line(axes, column, arms, stages, SERIES[place % len(SERIES)])
    if (floor := column.reference("trivial")) is not None:
        axes.axhline(floor, color=INK, linewidth=0.9, linestyle=(0, (2, 1)))
    axes.set_xticks([_x(count) for count in counts], labels=[str(count) for count in counts])
    axes.set_xlim(_x(counts[0]) - 0.3, _x(counts[-1]) + 1.4)
    tick_format(axes, "y", lambda value: decimals(value, 1))
    name_axes(axes, x="social tasks tuned on", y=f"{column.block}: {column.name}")
    return figure


def _line(axes: Any, column: Column, arms: list[str], stages: dict[str, Any], colour: str) -> None:
    points = sorted((num_tasks(stages[name]), name) for name in arms)
    values = [(_x(count), column.score(name), name) for count, name in points]
    known = [(x, one, name) for x, one, name in values if one.value is not None]
    axes.plot([x for x, _, _ in known], [one.value for _, one, _ in known], color=colour, linewidth=0.8, alpha=0.6)
    for x, one, name in known:
        if one.interval is not None:
            axes.plot([x, x], one.interval, color=colour, linewidth=1.4)
        axes.plot([x], [one.value], marker="o", color=colour, markersize=5)
        axes.annotate(
            label(name, 24), (x, one.value), (5, 3), textcoords="offset points", color=MUTED, size=SMALL
        ).set_parse_math(False)


def _arms(stages: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    """Stages of the same run from the same stage: what differs between them are their settings."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, stage in stages.items():
        found.setdefault((str(stage["after"]), str(stage["run"])), []).append(name)
    return found


def _x(count: int) -> float:
    """Twice as many is a step to the right; none is one to the left of one.

    >>> _x(0), _x(1), _x(3)
    (0.0, 1.0, 2.0)
    """
    return math.log2(count + 1)
