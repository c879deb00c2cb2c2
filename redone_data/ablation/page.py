"""The page and the table of an ablation: what each step and rule of curation is worth, with intervals."""

from pathlib import Path

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from redone_data.ablation.result import Ablation, Change
from redone_data.manifest import atomic
from redone_data.report.canvas import (
    BLUE,
    GREY,
    INK,
    SMALL,
    VERMILION,
    name_axes,
    note,
    nothing,
    row_chart,
    tick_format,
)
from redone_data.report.html import inline_svg, page_environment
from redone_data.report.human import count, label, loss, printable, signed

TEMPLATE = "ablation.html.j2"
_COLOURS = {"worse": BLUE, "better": VERMILION}


def write_ablation_page(found: Ablation, name: str, path: Path) -> None:
    """Write the page; it appears whole or not at all."""
    text = (
        page_environment()
        .get_template(TEMPLATE)
        .render(
            name=name,
            found=found,
            by_chance=by_chance(found),
            metrics=[change.metric for change in found.measured[0].changes] if found.measured else [],
            objective=inline_svg(changes(found), "ablation", "Change of the objective, by variant"),
        )
    )
    with atomic(path) as aside:
        aside.write_text(text, encoding="utf-8")


def changes(found: Ablation) -> Figure:
    """A row a variant: the objective's difference and its interval."""
    rows = [row for row in found.measured if row.objective.difference is not None]
    if not rows:
        return nothing("no variant was measured")
    legend = [
        ("without it the loss is higher", BLUE),
        ("without it the loss is lower", VERMILION),
        ("no difference", GREY),
    ]
    figure, (axes,) = row_chart([row.variant for row in rows], legend=legend, right=1.9)
    reach = 0.0
    for i, row in enumerate(rows):
        change = row.objective
        assert change.difference is not None
        wide = change.half_width or 0.0
        colour = _COLOURS.get(change.verdict, GREY)
        axes.plot([change.difference - wide, change.difference + wide], [i, i], color=colour, linewidth=2.2)
        axes.plot([change.difference], [i], marker="o", color=colour, markersize=5)
        note(axes, 1.02, i, f"{_written(change)} · {row.share:+.1%}", points=SMALL + 0.5)
        reach = max(reach, abs(change.difference) + wide)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlim(-1.08 * reach or -1, 1.08 * reach or 1)
    tick_format(axes, "x", lambda value: signed(value))
    name_axes(axes, x="bits per byte, variant minus recipe")
    return figure


def table(found: Ablation) -> Table:
    """For a terminal: the variants, what they train on, the objective's change, and that where the switch acts most."""
    result = Table(
        title=f"Ablation: variant minus recipe, bits per byte ({found.scale}, mixture of {found.mixture_from})",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    words = ("variant", "", "the domain it changes most")
    for name in ("variant", "documents", "objective", "", "the domain it changes most"):
        result.add_column(name, justify="left" if name in words else "right", no_wrap=name == "objective")
    for row in found.measured:
        most = row.most_touched
        result.add_row(
            printable(row.variant),
            f"{row.share:+.1%}",
            _written(row.objective),
            row.objective.verdict,
            "" if most is None else f"{label(most.metric)} {row.share_by_domain[most.metric]:+.1%}: {_written(most)}",
        )
    return result


def remarks(found: Ablation, min_share: float) -> list[str]:
    """What a reader must know of the table, a sentence or two each."""
    lines = []
    if found.smallest_seen is not None:
        lines.append(
            f"A change of the objective under about {loss(found.smallest_seen)} is not seen with {found.seeds} seeds a "
            "variant: more --seeds, or larger proxies, see smaller ones."
        )
        if found.intervals > 1:
            lines.append(
                f"Of {found.intervals} intervals, by domain and for the objective, about {by_chance(found)} miss zero "
                "by chance."
            )
    few = sorted(
        (row for row in found.not_measured if row.documents_changed),
        key=lambda row: (-row.documents_changed, row.variant),
    )
    none = [row.variant for row in found.not_measured if not row.documents_changed]
    if few:
        names = ", ".join(f"{row.variant} ({count(row.documents_changed)})" for row in few)
        lines.append(f"Not trained, for under {min_share:.1%} of the documents change: {names}.")
    if none:
        lines.append(f"Not trained, for no document changes: {', '.join(none)}.")
    return lines


def by_chance(found: Ablation) -> str:
    return f"{found.intervals * (1 - found.interval):.1f}"


def _written(change: Change) -> str:
    if change.difference is None:
        return "diverged"
    noise = "" if change.half_width is None else f" ± {loss(change.half_width)}"
    return f"{signed(change.difference)}{noise}"
