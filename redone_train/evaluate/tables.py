"""The tables of results in RedOne's layout (layout.py): made once, as texts; a terminal, a page and Markdown show them.

A cell is a value and, in brackets, its 95 % interval. What has no value is a dash.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from redone_data.report.human import ABSENT, count, decimals, label, share
from redone_train.evaluate.estimate import Estimate
from redone_train.evaluate.layout import (
    Column,
    against_without_general,
    chains,
    columns_of,
    num_tasks,
)
from redone_train.evaluate.results import Results
from redone_train.evaluate.terminal import with_interval

MARK = "†"
FEW = 6
MOST_COLUMNS = 12
INTERVAL = re.compile(r" \[[^\]]*\]")
AT_CHANCE = (
    f"{MARK}: of the first model, not above the trivial answer by three standard errors; a loss there says nothing."
)
PAPER = (
    "RedOne-7B over Qwen2.5-7B, as published: SNS-Bench 52.86 to 66.88 (+14.02), translation 40.55 to 48.11 (+7.56), "
    "general 63.01 to 63.83."
)
CPT_MAY_LOSE = 1.0  # per cent of general bits per byte


@dataclass(frozen=True)
class Grid:
    """A table of texts; the first column names the rows. wide: a terminal shows it without intervals."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    wide: bool = False


def grids(results: Results) -> list[Grid]:
    """All that there is to show of these results, from the whole to the parts."""
    columns = columns_of(results)
    blocks = list(dict.fromkeys(column.block for column in columns))
    found = [_summary(results, columns)]
    found += [_block(results, block, [one for one in columns if one.block == block]) for block in blocks]
    if len(results.models) > 1 and columns:
        found.append(_gains(results, columns))
    if results.bits:
        found.append(_retention(results))
    if results.general:
        found.append(_harness(results))
    if chains(results):
        found.append(_stages(results))
    return found


def by_file(results: Results) -> Grid:
    """What each file scores, and how many of its answers could be read."""
    columns = columns_of(results)
    in_order = dict.fromkeys(task for column in columns if not column.average for task in column.tasks)
    rows = []
    for task in [*in_order, *(task for task in results.tasks if task not in in_order)]:
        asked, cells = results.tasks[task], []
        for model in results.models:
            found = results.scores[model][task]
            cells.append(f"{with_interval(results.score(model, task))}; {share(found['parse_rate'])}")
        # A set's label is text of its rows, which tables that others read do not quote.
        rule = "one label always" if asked["scorer"].startswith("sets ") else asked["trivial_rule"]
        floor = f"{decimals(asked['trivial'], 1)} {rule}".strip()
        n = count(len(asked["items"]))
        rows.append((task.partition("/")[2], asked["scorer"], n, floor, decimals(asked["ceiling"], 1), *cells))
    names = ("", "scorer", "n", "trivial", "ceiling", *results.models)
    note = "After the semicolon: the share of answers that the scorer could read, right or wrong."
    return Grid("By file", names, tuple(rows), (note,), wide=True)


def without_trained_on(results: Results) -> Grid | None:
    """Tasks, averages and domains of which something was trained on, with it and without it; None: nothing was."""
    rows = []

    def row(name: str, n: int, removed: Sequence[str], kept: Sequence[str], clean: Sequence[str]) -> None:
        rows.append(
            (name, count(n), count(len(removed)), *(cell for pair in zip(kept, clean, strict=True) for cell in pair))
        )

    models = results.models
    for task, asked in results.tasks.items():
        if removed := results.removed(task):
            kept, clean = (
                [with_interval(of(model, task)) for model in models] for of in (results.score, results.clean)
            )
            row(task.partition("/")[2], len(asked["items"]), removed, kept, clean)
    for average in results.averages:
        if removed := [item for task in average.tasks for item in results.removed(task)]:
            kept = [with_interval(results.average(model, average)) for model in models]
            clean = [with_interval(results.clean_average(model, average)) for model in models]
            row(average.name, sum(len(results.tasks[task]["items"]) for task in average.tasks), removed, kept, clean)
    for domain in dict.fromkeys(domain for found in results.bits.values() for domain in found):
        if removed := results.removed(f"bits/{domain}"):
            n = next(found[domain]["documents"] for found in results.bits.values() if domain in found)
            kept, clean = (
                [
                    with_interval(of(model, domain), 3) if domain in results.bits.get(model, {}) else ABSENT
                    for model in models
                ]
                for of in (results.domain_bits, results.clean_bits)
            )
            row(f"bits per byte: {domain}", n, removed, kept, clean)
    if not rows:
        return None
    names = (name for model in models for name in (f"{model}, kept", f"{model}, removed"))
    note = "Kept: all items. Removed: without those that any of the models was trained on, the same ones for all."
    return Grid("With and without what was trained on", ("", "items", "trained on", *names), tuple(rows), (note,))


def _summary(results: Results, columns: Sequence[Column]) -> Grid:
    shown = [one for one in columns if one.average]
    shown += [one for one in columns if not any(other.block == one.block for other in shown)]
    names = [f"{one.block}: {one.name}" for one in shown]
    bits = ["general text, bits per byte"] if results.bits else []
    rows = []
    for model in results.models:
        cells = [with_interval(one.score(model)) for one in shown]
        if bits:
            general = results.general_bits(model)
            cells.insert(0, ABSENT if general is None else with_interval(general, 3))
        rows.append((model, *cells))
    blank = [ABSENT] * len(bits)
    rows.append(("trivial answer", *blank, *(decimals(one.reference("trivial"), 1) for one in shown)))
    left_out = results.about.get("left_out", ())
    notes = (f"Not measured alike, and left out: {', '.join(left_out)}.",) if left_out else ()
    return Grid("The ladder" if chains(results) else "Summary", ("", *bits, *names), tuple(rows), notes)


def _block(results: Results, block: str, columns: Sequence[Column]) -> Grid:
    marked = [not one.average and one.above_chance is False for one in columns]
    names = [one.name + (f" {MARK}" if mark else "") for one, mark in zip(columns, marked, strict=True)]
    notes = (AT_CHANCE,) if any(marked) else ()
    if len(columns) > MOST_COLUMNS:
        return _block_down(results, block, names, columns, notes)
    rows = [(model, *(with_interval(one.score(model)) for one in columns)) for model in results.models]
    for kind, title in (("trivial", "trivial answer"), ("ceiling", "ceiling")):
        rows.append((title, *(decimals(one.reference(kind), 1) for one in columns)))
    rows.append(("items", *(count(one.n) for one in columns)))
    return Grid(block, ("", *names), tuple(rows), notes, wide=True)


def _block_down(
    results: Results, block: str, names: Sequence[str], columns: Sequence[Column], notes: tuple[str, ...]
) -> Grid:
    """Many of them: down, with the models across."""
    rows = []
    for name, one in zip(names, columns, strict=True):
        ends = (decimals(one.reference(kind), 1) for kind in ("trivial", "ceiling"))
        rows.append((name, count(one.n), *ends, *(with_interval(one.score(model)) for model in results.models)))
    return Grid(block, ("", "items", "trivial answer", "ceiling", *results.models), tuple(rows), notes)


def _gains(results: Results, columns: Sequence[Column]) -> Grid:
    """Down what was measured, across the models: two figures of an average, one of a task."""
    rows = []
    for one in columns:
        cells = [with_interval(one.gain(model), sign=True) for model in results.models[1:]]
        rows.append((f"{one.block}: {one.name}", *cells))
        if one.average:
            cells = [with_interval(one.gain_by_task(model), sign=True) for model in results.models[1:]]
            rows.append((f"{one.block}: {one.name}, the better one in each file", *cells))
    first = results.models[0]
    shots = results.shots.get(first)
    asked = f"{first}, {shots} shots," if shots else first
    note = (
        f"Points over the better of {asked} and the trivial answer, on the same items: paired bootstrap, "
        f"{results.resamples} draws, 95 % intervals."
    )
    return Grid("Gains", ("", *results.models[1:]), tuple(rows), (note, PAPER))


def _retention(results: Results) -> Grid:
    first, arms = results.models[0], against_without_general(results)
    others = [f"against {name}, %" for name in (first, *arms)]
    names = ("", "general bits per byte", others[0], f"at most {CPT_MAY_LOSE:.0f} %", *others[1:])
    rows = []
    for model in results.models:
        bits, change = results.general_bits(model), results.retention(model)
        cells = [ABSENT if bits is None else with_interval(bits, 3), _change(change), _within(change)]
        rows.append((model, *cells, *(_change(changes.get(model)) for changes in arms.values())))
    domains = ", ".join(results.general_domains)
    notes = (
        f"Bits per byte of general text ({domains}); above zero, something was lost. At most {CPT_MAY_LOSE:.0f} %: "
        "whether the upper end of the interval is.",
    )
    return Grid("Retention", names, tuple(rows), notes)


def _harness(results: Results) -> Grid:
    names = list(dict.fromkeys(name for found in results.general.values() for name in found))
    rows = []
    for model in results.models:
        cells = []
        for name in names:
            one = results.general.get(model, {}).get(name, {"score": None})
            ends = one.get("interval")
            interval = "" if ends is None else f" [{decimals(ends[0], 1)}, {decimals(ends[1], 1)}]"
            cells.append(str(one["skipped"]) if "skipped" in one else decimals(one["score"], 1) + interval)
        rows.append((model, *cells))
    return Grid("General benchmarks", ("", *names), tuple(rows), ("By lm-evaluation-harness.",), wide=True)


def _stages(results: Results) -> Grid:
    rows = []
    for name, stage in chains(results).items():
        shots = results.shots.get(name)
        settings = ", ".join(f"{key}: {_setting(value)}" for key, value in stage["settings"].items())
        total = sum(stage["tasks"].values())
        rows.append(
            (
                name,
                stage["after"] or "",
                stage["run"] or "the model as it is",
                settings,
                count(num_tasks(stage)) if total else "",
                count(total) if total else "",
                "the benchmark's" if shots is None else str(shots),
            )
        )
    names = ("", "after", "run", "set", "social tasks", "conversations", "shots")
    note = "Tasks and conversations are those that a stage and the stages before it were tuned on."
    return Grid("Stages", names, tuple(rows), (note,))


def _setting(value: Any) -> str:
    """Few words: steps by their names, long lists by their length, of a path its end."""
    if isinstance(value, list):
        names = [str(one["name"]) if isinstance(one, dict) and "name" in one else str(one) for one in value]
        return ", ".join(names) if len(names) <= FEW else f"{len(names)} names"
    return "/".join(Path(value).parts[-2:]) if isinstance(value, str) else str(value)


def _change(change: Estimate | None) -> str:
    return ABSENT if change is None else with_interval(change, 2, sign=True)


def _within(change: Estimate | None) -> str:
    if change is None or change.interval is None:
        return ABSENT
    return "yes" if change.interval[1] <= CPT_MAY_LOSE else "no"


def grid_table(grid: Grid) -> Table:
    """For a terminal: a wide one without its intervals, which are on the page."""
    table = Table(title=grid.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(grid.columns):
        table.add_column(Text(name), justify="right" if place else "left", overflow="fold")
    for name, *cells in grid.rows:
        shown = [INTERVAL.sub("", cell) for cell in cells] if grid.wide else cells
        table.add_row(Text(label(name, 60)), *map(Text, shown))
    if grid.notes:
        table.caption, table.caption_justify, table.caption_style = Text(" ".join(grid.notes)), "left", "dim"
    return table
