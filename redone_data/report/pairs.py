"""What a pair set is made of, in the terminal and as a page: counts, drops, length and position before and after.

Drawn from the set's manifest and the first lines of its files; no text but the few examples, personal data masked.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from redone_data.manifest import atomic
from redone_data.report.canvas import BLUE, INK, MUTED, ORANGE, grid_chart, nothing, panel_title
from redone_data.report.html import inline_svg, page_environment
from redone_data.report.human import count, decimals, label, share
from redone_data.text.redact import redact

TEMPLATE = "pairs.html.j2"
NUM_EXAMPLES = 4
MAX_CHARACTERS = 500
MAX_PANELS = 12
_COLUMNS, _PANEL, _GAP = 3, (2.9, 1.1), (0.35, 0.6)


def write_pairs_page(manifest: Mapping[str, Any], folder: Path, name: str, path: Path) -> None:
    """Write the page of a finished set in `folder`; it appears whole or not at all."""
    sets = [{"name": set_name, **found} for set_name, found in manifest["sets"].items()]
    total = sum(manifest["pairs"].values())
    positions = [one for one in sets if one["positions"]["after"]]
    text = (
        page_environment()
        .get_template(TEMPLATE)
        .render(
            name=name,
            manifest=manifest,
            sets=sets,
            total=total,
            candidates=sum(one["candidates"] for one in sets),
            weak=sum(one["pairs"] for one in sets if one["kind"] == "engagement"),
            longer=_longer(sets, "after"),
            longer_before=_longer(sets, "before"),
            contradictions=sum(one["dropped"].get("contradiction", 0) for one in sets),
            lengths=inline_svg(lengths(sets[:MAX_PANELS]), "lengths", "Pairs by ratio of lengths, before and after"),
            positions=positions,
            places=max((int(at) + 1 for one in positions for at in one["positions"]["after"]["right_at"]), default=0),
            judged=[one for one in sets if one["kind"] == "judge"],
            drops=drops(manifest),
            examples=_examples(manifest, folder / "train.jsonl"),
        )
    )
    with atomic(path) as aside:
        aside.write_text(text, encoding="utf-8")


def drops(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Set, unit (row or pair), reason and number; the most frequent of a set first."""
    found = []
    for name, one in manifest["sets"].items():
        for unit, reasons in (("row", one["source"]["rows_dropped"]), ("pair", one["dropped"])):
            ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
            found += [{"set": name, "unit": unit, "reason": reason, "number": number} for reason, number in ordered]
    return found


def print_pairs(manifest: Mapping[str, Any], console: Console) -> None:
    """What was made, as tables."""
    names = ("rows", "candidates", "pairs", "held out", "bias before", "after", "longer chosen before", "after")
    table = _table("Pairs", ("set", "kind"), names)
    for name, one in manifest["sets"].items():
        before, after = one["length"]["before"], one["length"]["after"]
        numbers = (one["source"]["rows"], one["candidates"], one["pairs"], one["splits"].get("held_out", 0))
        length = (decimals(before.get("bias")), decimals(after.get("bias")))
        longer = (share(before.get("longer_chosen")), share(after.get("longer_chosen")))
        cells = (label(name), one["kind"], *map(count, numbers), *length, *longer)
        table.add_row(*map(Text, cells))
    console.print(table)
    rows = drops(manifest)
    if rows:
        table = _table("Dropped", ("set", "what", "reason"), ("number",))
        for row in rows:
            table.add_row(*map(Text, (label(row["set"]), row["unit"], row["reason"], count(row["number"]))))
        console.print(table)
    for name, one in manifest["sets"].items():
        if (judge := one["source"].get("judge")) is not None:
            agrees = judge["agreement"]
            told = f"{share(agrees['value'])} ({share(agrees['low'])} to {share(agrees['high'])})"
            used = "used" if judge["used"] else "not used: that is no better than the bound asked for"
            words = (
                f"{label(name)}: the judge agrees with people on {told} of {count(agrees['count'])} pairs where both "
                f"orders agree, and takes what stands first in {share(judge['first_taken']['value'])}; {used}."
            )
            console.print(Text(words))


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def lengths(sets: Sequence[Mapping[str, Any]]) -> Figure:
    """A panel a set: shares of pairs by log2 of chosen over rejected length, before and after."""
    shown = [one for one in sets if one["length"]["after"].get("log2_ratio_counts")]
    if not shown:
        return nothing("no pairs")
    legend = [("after control", BLUE), ("before", ORANGE)]
    figure, axes = grid_chart(len(shown), columns=_COLUMNS, panel=_PANEL, gap=_GAP, left=0.3, legend=legend)
    for panel, one in zip(axes, shown, strict=True):
        for when, colour, filled in (("after", BLUE, True), ("before", ORANGE, False)):
            counts = np.array(one["length"][when]["log2_ratio_counts"], np.float64)
            edges = np.linspace(-len(counts) / 8, len(counts) / 8, len(counts) + 1)
            panel.stairs(
                counts / max(counts.sum(), 1), edges, fill=filled, color=colour, linewidth=0 if filled else 1.2
            )
        panel.axvline(0, color=INK, linewidth=0.7)
        panel.grid(visible=False)
        panel.yaxis.set_major_locator(NullLocator())
        panel.set_xticks([-2, -1, 0, 1, 2], labels=["1/4", "1/2", "1", "2", "4"], color=MUTED)
        panel_title(panel, label(one["name"]), count(one["pairs"]))
    return figure


def _longer(sets: Sequence[Mapping[str, Any]], when: str) -> float | None:
    """How often the longer answer is chosen, over all pairs."""
    told = [one["length"][when] for one in sets if one["length"][when].get("pairs")]
    pairs = sum(one["pairs"] for one in told)
    return sum(one["pairs"] * one["longer_chosen"] for one in told) / pairs if pairs else None


def _examples(manifest: Mapping[str, Any], path: Path) -> dict[str, list[dict[str, Any]]]:
    """The first pairs of each set, as a page shows them. A set's pairs stand together in the file, in its order."""
    found: dict[str, list[dict[str, Any]]] = {}
    start = 0
    wanted: dict[int, str] = {}
    for name, one in manifest["sets"].items():
        number = one["splits"].get("train", 0)
        wanted |= {start + place: name for place in range(min(NUM_EXAMPLES, number))}
        start += number
    with path.open(encoding="utf-8") as file:
        for place, line in enumerate(itertools.islice(file, max(wanted, default=-1) + 1)):
            if place in wanted:
                found.setdefault(wanted[place], []).append(_example(json.loads(line)))
    return found


def _example(pair: Mapping[str, Any]) -> dict[str, Any]:
    prompt = "\n\n".join(turn["content"] for turn in pair["prompt"])
    texts = [_cut(text) for text in (prompt, pair["chosen"][0]["content"], pair["rejected"][0]["content"])]
    masked = redact(pa.array(texts, pa.large_string()))[0].to_pylist()
    return {
        **dict(zip(("prompt", "chosen", "rejected"), masked, strict=True)),
        "margin": pair["margin"],
        "task": pair["task"],
    }


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…"
