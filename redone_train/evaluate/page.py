"""The page of an evaluation: what each model scores, against the trivial answer and the ceiling, stage by stage.

Made with what every report is made with (redone_data/report): one file that loads nothing, plots as inline SVG, names
and texts escaped. Bars carry their intervals; the radar shows what each task reaches of the way from the trivial answer
to the ceiling, so that tasks with different floors share an axis.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from redone_data.manifest import atomic
from redone_data.report.canvas import (
    FONT,
    GRID,
    INK,
    MUTED,
    SERIES,
    SMALL,
    WIDTH,
    draw_legend,
    fonts,
    grid_chart,
    legend_inches,
    name_axes,
    nothing,
    panel_title,
    row_chart,
    tick_format,
)
from redone_data.report.html import inline_svg, page_environment
from redone_data.report.human import decimals, label
from redone_train.evaluate.curves import exposure_curves
from redone_train.evaluate.estimate import Estimate
from redone_train.evaluate.results import Results
from redone_train.evaluate.tables import grids, without_trained_on
from redone_train.evaluate.task_plot import score_by_tasks
from redone_train.evaluate.terminal import with_interval
from redone_train.evaluate.trained_on import statement

PAGE = "page.html"
TEMPLATE = "page.html.j2"
NUM_EXAMPLES = 3  # of a task
MAX_CHARACTERS = 600
_FEW_SPOKES = 3
MOST_UPRIGHT = 5  # names of models below a panel
_UNKNOWN = Estimate(None, np.zeros(0))


def write_page(results: Results, path: Path) -> None:
    """Write the page; it appears whole or not at all."""
    environment = page_environment()
    assert environment.loader is not None
    environment.loader = jinja2.ChoiceLoader([jinja2.FileSystemLoader(Path(__file__).parent), environment.loader])
    text = environment.get_template(TEMPLATE).render(
        results=results,
        models=results.models,
        bars=inline_svg(bars(results), "bars", "Score of each model with its interval, by task"),
        radar=inline_svg(radar(results), "radar", "Share of the way from trivial answer to ceiling, by task and model"),
        stages=inline_svg(stages(results), "stages", "Averages and retention, stage by stage"),
        curves=inline_svg(exposure_curves(results), "curves", "Harmful posts among those that pass, by pass rate"),
        rows=_rows(results),
        parts=_parts(results),
        grids=grids(results),
        tasks=inline_svg(score_by_tasks(results), "tasks", "Score out of distribution by number of social tasks"),
        bits=_bits(results),
        general=list(dict.fromkeys(name for found in results.general.values() for name in found)),
        examples=_examples(results),
        statement=statement(results.trained_on, results.models),
        removed=without_trained_on(results),
        held=_held(results),
    )
    with atomic(path) as aside:
        aside.write_text(text, encoding="utf-8")


def bars(results: Results) -> Figure:
    """A row a task and average, a bar a model; the trivial answer as a line, the ceiling as a triangle."""
    rows = _scored_rows(results)
    if not rows:
        return nothing("no task was scored")
    legend = list(zip(results.models, _colours(results.models), strict=True))
    high = 0.14 * len(results.models) + 0.16
    figure, (axes,) = row_chart([name for name, *_ in rows], legend=legend, row=high, right=0.3)
    thick = 0.82 / len(results.models)
    for place, (_, estimates, trivial, ceiling) in enumerate(rows):
        for number, (estimate, colour) in enumerate(zip(estimates, _colours(results.models), strict=True)):
            if estimate.value is None:
                continue
            y = place - 0.41 + (number + 0.5) * thick
            axes.barh(y, estimate.value, height=0.86 * thick, color=colour)
            if (interval := estimate.interval) is not None:
                axes.plot(interval, [y, y], color=INK, linewidth=1.0)
        if trivial is not None:
            axes.plot([trivial, trivial], [place - 0.46, place + 0.46], color=INK, linewidth=1.4, linestyle=(0, (2, 1)))
        if ceiling is not None:
            axes.plot([ceiling], [place], marker="<", color=MUTED, markersize=5, clip_on=False)
    axes.set_xlim(0, 102)
    tick_format(axes, "x", lambda value: decimals(value, 0))
    name_axes(axes, x="score; dashed: the trivial answer; triangle: the ceiling; lines: 95 % intervals")
    return figure


def radar(results: Results) -> Figure:
    """A spoke a task, a polygon a model: 0 is the trivial answer, 100 the ceiling."""
    rows = [row for row in _scored_rows(results, averages=False) if all(one.value is not None for one in row[1])]
    if len(rows) < _FEW_SPOKES:
        return nothing("a radar needs at least three tasks")
    legend = list(zip(results.models, _colours(results.models), strict=True))
    head = legend_inches(legend, 0.3)
    size = 4.2
    figure = Figure(figsize=(WIDTH, head + size + 1.0))
    draw_legend(figure, legend, 0.3)
    high = head + size + 1.0
    axes: Any = figure.add_axes(((WIDTH - size) / 2 / WIDTH, 0.5 / high, size / WIDTH, size / high), projection="polar")
    angles = np.linspace(0, 2 * np.pi, len(rows), endpoint=False)
    for number, colour in enumerate(_colours(results.models)):
        reached = [_way(row[1][number].value, row[2], row[3]) for row in rows]
        axes.plot([*angles, angles[0]], [*reached, reached[0]], color=colour, linewidth=1.6)
        axes.fill(angles, reached, color=colour, alpha=0.08)
    axes.set_facecolor("none")
    axes.set_theta_offset(np.pi / 2)
    axes.set_theta_direction(-1)
    axes.set_ylim(0, 100)
    axes.set_yticks([25, 50, 75, 100], labels=["25", "50", "75", ""], color=MUTED, size=SMALL)
    axes.tick_params(axis="x", pad=14)
    axes.set_xticks(angles, labels=[label(row[0], 24) for row in rows], color=INK, size=FONT - 1, family=fonts())
    for text in axes.get_xticklabels():
        text.set(parse_math=False)
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines["polar"].set_visible(False)
    return figure


def stages(results: Results) -> Figure:
    """A panel an average (or a task where there is none), and one for retention: models from left to right."""
    panels: list[tuple[str, list[Estimate | None], float | None]] = [
        (
            average.name,
            [results.average(model, average) for model in results.models],
            results.reference(average, "trivial"),
        )
        for average in results.averages
    ]
    if not panels:
        panels = [(name, list(estimates), trivial) for name, estimates, trivial, _ in _scored_rows(results)]
    panels.append(("retention: general bits per byte, %", [results.retention(model) for model in results.models], 0.0))
    figure, drawn = grid_chart(len(panels), columns=3, panel=(2.55, 1.5), gap=(0.6, 0.85), left=0.55)
    for axes, (name, estimates, floor) in zip(drawn, panels, strict=True):
        _stage(axes, results.models, estimates, floor)
        panel_title(axes, label(name, 34))
    return figure


def _stage(axes: Any, models: Sequence[str], estimates: Sequence[Estimate | None], floor: float | None) -> None:
    known = [(x, one) for x, one in enumerate(estimates) if one is not None and one.value is not None]
    axes.plot([x for x, _ in known], [one.value for _, one in known], color=MUTED, linewidth=1.0)
    for (x, one), colour in zip(known, [_colours(models)[x] for x, _ in known], strict=True):
        if (interval := one.interval) is not None:
            axes.plot([x, x], interval, color=colour, linewidth=1.6)
        axes.plot([x], [one.value], marker="o", color=colour, markersize=5)
    if floor is not None:
        axes.axhline(floor, color=INK, linewidth=0.9, linestyle=(0, (2, 1)))
    if not known:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=MUTED, size=SMALL)
    axes.set_xlim(-0.5, len(models) - 0.5)
    axes.set_xticks(range(len(models)), labels=[label(name, 10) for name in models], size=SMALL)
    for text in axes.get_xticklabels():
        text.set(parse_math=False, rotation=90 if len(models) > MOST_UPRIGHT else 0)
    axes.grid(axis="x", visible=False)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    tick_format(axes, "y", lambda value: decimals(value, 1))


def _scored_rows(
    results: Results, *, averages: bool = True
) -> list[tuple[str, list[Estimate], float | None, float | None]]:
    rows: list[tuple[str, list[Estimate], float | None, float | None]] = [
        (
            results.title(task),
            [results.score(model, task) for model in results.models],
            one["trivial"],
            one["ceiling"],
        )
        for task, one in results.tasks.items()
    ]
    for average in results.averages if averages else ():
        estimates = [results.average(model, average) for model in results.models]
        rows.append(
            (average.name, estimates, results.reference(average, "trivial"), results.reference(average, "ceiling"))
        )
    return rows


def _way(value: float | None, trivial: float | None, ceiling: float | None) -> float:
    """How far from the trivial answer to the ceiling, in 0-100."""
    low, high = trivial or 0.0, 100.0 if ceiling is None else ceiling
    return 0.0 if value is None or high <= low else min(max(100 * (value - low) / (high - low), 0.0), 100.0)


def _rows(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "trivial": trivial,
            "ceiling": ceiling,
            "cells": [with_interval(estimate) for estimate in estimates],
            "total": place >= len(results.tasks),
            "asked": list(results.tasks.values())[place] if place < len(results.tasks) else None,
            "found": [results.scores[model][list(results.tasks)[place]] for model in results.models]
            if place < len(results.tasks)
            else [],
        }
        for place, (name, estimates, trivial, ceiling) in enumerate(_scored_rows(results))
    ]


def _parts(results: Results) -> list[dict[str, Any]]:
    """A line a part that is shown as scores are."""
    return [
        {
            "name": f"{task.partition('/')[2]}: {part}",
            "trivial": trivial,
            "ceiling": ceiling,
            "cells": [with_interval(results.part(model, task, part)) for model in results.models],
        }
        for task in results.tasks
        for part, (trivial, ceiling) in results.shown(task).items()
    ]


def _held(results: Results) -> list[dict[str, Any]]:
    """The documents that hold an item, some of each task."""
    found = []
    for task, one in (results.trained_on or {"tasks": {}})["tasks"].items():
        for item, held in list(one["found"].items())[:NUM_EXAMPLES]:
            found += [{"item": f"{task} {item}", **leak} for leak in held["documents"][:1]]
    return found


def _bits(results: Results) -> list[dict[str, Any]]:
    domains = list(dict.fromkeys(domain for found in results.bits.values() for domain in found))
    return [
        {
            "name": domain,
            "general": domain in results.general_domains,
            "cells": [
                with_interval(results.domain_bits(model, domain), 3) if domain in results.bits.get(model, {}) else "–"
                for model in results.models
            ],
        }
        for domain in domains
    ] + [
        {
            "name": "retention: change of general bits per byte, %",
            "general": True,
            "cells": [
                "not measured" if change is None else with_interval(change, 2, sign=True)
                for change in (results.retention(model) for model in results.models)
            ],
        }
    ]


def _examples(results: Results) -> list[dict[str, Any]]:
    """The first items of each task, with every model's answer."""
    found = []
    for task, asked in results.tasks.items():
        shown = []
        for place, item in enumerate(asked["items"][:NUM_EXAMPLES]):
            lines = [(model, results.scores[model][task]["answers"][place]) for model in results.models]
            shown.append(
                {
                    "prompt": _cut(item["messages"][-1]["content"]),
                    "gold": _cut(str(item["gold"])),
                    "answers": [(model, _cut(line["answer"]), line["score"]) for model, line in lines],
                }
            )
        found.append({"task": task, "items": shown})
    return found


def _colours(models: Sequence[str]) -> list[str]:
    return [SERIES[place % len(SERIES)] for place in range(len(models))]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else "…" + text[-MAX_CHARACTERS:]
