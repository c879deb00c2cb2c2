"""The page and the tables of an instruction set: what each task gave, what was dropped and why, shares, lengths."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from redone_data.instruct.conversation import Conversation, read_conversations
from redone_data.instruct.drawing import EDGES, HELD_OUT
from redone_data.manifest import atomic
from redone_data.report.canvas import (
    BLUE,
    GREY,
    ORANGE,
    grid_chart,
    name_axes,
    panel_title,
    row_chart,
    tick_format,
)
from redone_data.report.html import inline_svg, page_environment
from redone_data.report.human import count, label, printable, share

REPORT = "report.html"
TEMPLATE = "sft.html.j2"
_EXAMPLES = 2  # of a task
_EXAMPLE_CHARACTERS = 1200
_READ_AT_MOST = 20_000  # lines of the held-out file, for examples


def write_set_report(manifest: Mapping[str, Any], root: Path, name: str) -> None:
    """Write the page; it appears whole or not at all."""
    environment = page_environment()
    environment.filters["rule"] = rule_name
    text = environment.get_template(TEMPLATE).render(
        name=name,
        set=manifest,
        sources=manifest["sources"],
        steps=manifest["steps"],
        capabilities=sorted({source["capability"] for source in manifest["sources"]}),
        shares=inline_svg(shares(manifest["steps"]), "shares", "Share of each capability in each step"),
        lengths=inline_svg(lengths(manifest), "lengths", "Histogram of conversation lengths, by step"),
        drops=sorted(manifest["drops"].items(), key=lambda item: (-item[1], item[0])),
        examples=_examples(root / HELD_OUT),
        characters=_EXAMPLE_CHARACTERS,
    )
    with atomic(root / REPORT) as aside:
        aside.write_text(text, encoding="utf-8")


def rule_name(rule: str) -> str:
    """clean/too_long as people read it."""
    return rule.partition("/")[2].replace("_", " ")


def shares(steps: Mapping[str, Any]) -> Figure:
    """A panel a step, a row a capability: the share reached, and a mark where it was asked to be."""
    names = sorted({capability for step in steps.values() for capability in step["capabilities"]})
    legend = [("reached", BLUE), ("asked", ORANGE)]
    figure, panels = row_chart(names, legend=legend, panels=len(steps), title=list(steps), right=0.2)
    for axes, step in zip(panels, steps.values(), strict=True):
        most = 0.0
        for row, name in enumerate(names):
            found = step["capabilities"].get(name, {"asked": 0, "reached": 0})
            axes.barh([row], [found["reached"]], height=0.62, color=BLUE)
            axes.plot([found["asked"]] * 2, [row - 0.38, row + 0.38], color=ORANGE, linewidth=2)
            most = max(most, found["reached"], found["asked"])
        axes.set_xlim(0, 1.05 * most or 1)
        tick_format(axes, "x", lambda value: f"{100 * value:.0f} %", bins=4)
    return figure


def lengths(manifest: Mapping[str, Any]) -> Figure:
    """A histogram a step, over tokens in powers of two, with median and 95th percentile."""
    steps, paper = manifest["steps"], manifest["lengths"]["paper"]
    legend = [("conversations", BLUE), ("median, 95th percentile", ORANGE), ("the same in RedOne's paper", GREY)]
    figure, panels = grid_chart(len(steps), columns=2, panel=(4.35, 1.7), gap=(0.5, 0.75), left=0.55, legend=legend)
    for axes, (name, step) in zip(panels, steps.items(), strict=True):
        found = step["tokens"]
        counts = found["histogram"]
        filled = [i for i, number in enumerate(counts) if number] or [0]
        first, last = max(filled[0] - 1, 0), min(filled[-1] + 1, len(counts) - 1)
        axes.bar(range(first, last + 1), counts[first : last + 1], width=0.9, color=BLUE)
        for values, colour, style in ((paper, GREY, "--"), (found, ORANGE, "-")):
            for value in (values["median"], values["p95"]):
                axes.axvline(_place(value), color=colour, linewidth=1.2, linestyle=style)
        low, high = min(first, _place(paper["median"])), max(last, _place(paper["p95"]))
        axes.set_xlim(low - 0.6, high + 1.0)
        ticks = [i for i, edge in enumerate(EDGES) if low <= i <= high and (edge & (edge - 1)) == 0]
        axes.set_xticks(ticks[:: max(1, len(ticks) // 6)], [f"{EDGES[i]:,}" for i in ticks[:: max(1, len(ticks) // 6)]])
        tick_format(axes, "y", count, bins=4)
        panel_title(axes, name, f"median {found['median']:,}, 95th percentile {found['p95']:,}")
        name_axes(axes, x="tokens")
    return figure


def _place(tokens: float) -> float:
    """Where a length lies among the histogram's bins."""
    for place, (low, high) in enumerate(itertools.pairwise((0, *EDGES))):
        if tokens <= high:
            return place - 0.5 + (tokens - low) / (high - low)
    return len(EDGES)


def _examples(path: Path) -> list[tuple[str, list[Conversation]]]:
    """A few held-out conversations of each task: their order is random already."""
    found: dict[str, list[Conversation]] = {}
    for row in itertools.islice(read_conversations(path), _READ_AT_MOST):
        mine = found.setdefault(row.task, [])
        if len(mine) < _EXAMPLES:
            mine.append(row)
    return sorted(found.items())


def print_set(manifest: Mapping[str, Any], console: Console) -> None:
    """What was made, as tables."""
    console.print(_tasks(manifest))
    console.print(_drops(manifest))
    for name, step in manifest["steps"].items():
        tokens = step["tokens"]
        console.print(
            Text(
                f"{name}: {step['conversations']:,} conversations, {count(tokens['sum'])} tokens "
                f"({manifest['lengths']['measured']}), median {tokens['median']:,}, 95th percentile {tokens['p95']:,}; "
                f"social share {share(step['social_share'])}"
            )
        )
    paper = manifest["lengths"]["paper"]
    console.print(Text(f"RedOne's set: median {paper['median']:,}, 95th percentile {paper['p95']:,}."))
    for line in manifest["remarks"]:
        console.print(Text(printable(line)))


def _tasks(manifest: Mapping[str, Any]) -> Table:
    steps = manifest["steps"]
    table = _table("Conversations", ["capability", "task", "table", "lang"])
    for name in ("rows read", "made", "kept", "held out", *steps):
        table.add_column(name, justify="right", no_wrap=True)
    for row in sorted(manifest["sources"], key=lambda row: (row["capability"], row["task"], row["table"])):
        cells = [row["capability"], row["task"], row["table"], " ".join(row["languages"])]
        numbers = [row["read"], row["conversations"], row["kept"], row["held_out"]]
        numbers += [row["steps"][name] for name in steps]
        table.add_row(*(Text(label(cell)) for cell in cells), *(f"{number:,}" for number in numbers))
    return table


def _drops(manifest: Mapping[str, Any]) -> Table:
    table = _table("Dropped, every row in ledger.parquet", ["stage", "rule"])
    table.add_column("rows", justify="right")
    for rule, number in sorted(manifest["drops"].items(), key=lambda item: (-item[1], item[0])):
        table.add_row(Text(rule.partition("/")[0]), Text(rule_name(rule)), f"{number:,}")
    return table


def _table(title: str, names: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name == "task")
    return table
