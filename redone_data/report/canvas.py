"""What all plots share: palette, fonts, and a layout in inches that is computed, never measured.

Labels may be Chinese on a machine without a Chinese font: in an SVG the browser draws them. So margins come from
character widths, not from a font, and no layout engine runs. Colours are those of Okabe and Ito, which stay apart for
every common kind of colour blindness. Names come from data: `$` is no formula here.
"""

import functools
import re
from collections.abc import Callable, Iterator, Sequence

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from redone_data.report.human import label, width

INK, MUTED, GRID, FAINT, SURFACE = "#1f2328", "#656d76", "#d8dee4", "#eaeef2", "#ffffff"
BLUE, SKY, GREEN, ORANGE = "#0072b2", "#56b4e9", "#009e73", "#e69f00"
VERMILION, PINK, BROWN, GREY = "#d55e00", "#cc79a7", "#8c6d46", "#9aa3ad"
SERIES = (BLUE, ORANGE, GREEN, PINK, VERMILION, SKY, BROWN)

WIDTH = 10.0  # inches; 960 pixels in a browser
ROW = 0.27
TOP, BOTTOM, LINE = 0.12, 0.5, 0.24
FONT, SMALL = 9.0, 7.5
_EM = FONT / 72

_FALLBACK = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
    "SimHei",
    "Arial Unicode MS",
)

Entry = tuple[str, str]  # label, colour
_ZEROS = re.compile(r"(\.\d*?[1-9])0+(?!\d)|\.0+(?!\d)")


@functools.cache
def fonts() -> list[str]:
    """DejaVu Sans, which comes with matplotlib, and those here that have Chinese characters."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _FALLBACK if name in installed)]


def text_inches(text: str, points: float = FONT) -> float:
    """A little more than a text takes."""
    return width(text) * 0.58 * points / 72


def label_inches(names: Sequence[str]) -> float:
    """Left margin for row labels."""
    return min(max((text_inches(label(name)) for name in names), default=0.0), 2.6) + 0.2


def write(figure: Figure, x: float, y: float, text: str, *, colour: str = INK, points: float = FONT) -> Text:
    """Text at inches from the top left corner."""
    wide, high = figure.get_size_inches()
    return figure.text(
        x / wide, 1 - y / high, text, color=colour, size=points, family=fonts(), va="center", parse_math=False
    )


def note(axes: Axes, x: float, y: float, text: str, *, align: str = "left", points: float = FONT) -> None:
    """Muted text beside a row: x in widths of the axes, y in rows."""
    axes.text(
        x,
        y,
        text,
        transform=axes.get_yaxis_transform(),
        color=MUTED,
        size=points,
        family=fonts(),
        ha=align,
        va="center",
        parse_math=False,
        clip_on=False,
    )


def place(figure: Figure, left: float, top: float, wide: float, high: float) -> Axes:
    """Empty axes at inches from the top left corner: no box, no ticks, a light grid of vertical lines."""
    total_wide, total_high = figure.get_size_inches()
    axes = figure.add_axes((left / total_wide, 1 - (top + high) / total_high, wide / total_wide, high / total_high))
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.tick_params(length=0, labelsize=FONT, labelcolor=MUTED, labelfontfamily=fonts(), pad=4)
    return axes


def name_axes(axes: Axes, *, x: str = "", y: str = "") -> None:
    """Axis labels."""
    axes.set_xlabel(x, color=MUTED, size=FONT, family=fonts(), labelpad=5, parse_math=False)
    axes.set_ylabel(y, color=MUTED, size=FONT, family=fonts(), labelpad=5, parse_math=False)


def tick_format(axes: Axes, axis: str, show: Callable[[float], str], *, bins: int = 5) -> None:
    """Few ticks, written by `show`."""
    which = axes.xaxis if axis == "x" else axes.yaxis
    which.set_major_locator(MaxNLocator(nbins=bins, steps=[1, 2, 2.5, 5, 10], min_n_ticks=2))
    # Ticks are round: "10k", not "10.0k".
    which.set_major_formatter(FuncFormatter(lambda value, _: _ZEROS.sub(r"\1", show(value)).replace("-", "−")))


def _flow(entries: Sequence[Entry], wide: float) -> Iterator[tuple[int, float, Entry]]:
    """Line and offset of each legend entry."""
    line, x = 0, 0.0
    for entry in entries:
        needed = text_inches(entry[0]) + 0.42
        if x and x + needed > wide:
            line, x = line + 1, 0.0
        yield line, x, entry
        x += needed


def legend_inches(entries: Sequence[Entry], left: float) -> float:
    """Height of a legend."""
    lines = [line for line, _, _ in _flow(entries, WIDTH - left)]
    return (lines[-1] + 1) * LINE + 0.08 if lines else 0.0


def draw_legend(figure: Figure, entries: Sequence[Entry], left: float, top: float = 0.0) -> None:
    """Coloured squares and their names, on as many lines as needed."""
    wide, high = figure.get_size_inches()
    for line, x, (name, colour) in _flow(entries, WIDTH - left):
        y = top + (line + 0.5) * LINE
        figure.add_artist(
            Rectangle(
                ((left + x) / wide, 1 - (y + 0.055) / high),
                0.11 / wide,
                0.11 / high,
                transform=figure.transFigure,
                facecolor=colour,
                edgecolor="none",
            )
        )
        write(figure, left + x + 0.17, y, name, colour=MUTED)


def row_chart(
    names: Sequence[str],
    *,
    legend: Sequence[Entry] = (),
    row: float = ROW,
    right: float = 0.3,
    panels: int = 1,
    title: Sequence[str] = (),
) -> tuple[Figure, list[Axes]]:
    """A row a name, from top to bottom, in panels side by side; `right` inches beside each are left for notes."""
    left, gap = label_inches(names), 0.25
    head = TOP + legend_inches(legend, left) + (LINE if title else 0.0)
    figure = Figure(figsize=(WIDTH, head + len(names) * row + BOTTOM))
    draw_legend(figure, legend, left, TOP / 2)
    wide = (WIDTH - left - gap * (panels - 1)) / panels
    axes = [place(figure, left + i * (wide + gap), head, wide - right, len(names) * row) for i in range(panels)]
    for i, panel in enumerate(axes):
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_yticks(range(len(names)), labels=[label(name) for name in names] if i == 0 else [""] * len(names))
        for text in panel.get_yticklabels():
            text.set(parse_math=False, color=INK)
        if title:
            write(figure, left + i * (wide + gap), head - LINE * 0.55, title[i])
    return figure, axes


def grid_chart(
    count: int,
    *,
    columns: int,
    panel: tuple[float, float],
    gap: tuple[float, float],
    left: float,
    legend: Sequence[Entry] = (),
) -> tuple[Figure, list[Axes]]:
    """Small multiples: `panel` and `gap` are (width, height), titles and ticks live in the gaps."""
    lines = -(-count // columns)
    head = TOP + legend_inches(legend, left)
    figure = Figure(figsize=(WIDTH, head + lines * (panel[1] + gap[1])))
    draw_legend(figure, legend, left, TOP / 2)
    axes = []
    for i in range(count):
        x, y = left + (i % columns) * (panel[0] + gap[0]), head + (i // columns) * (panel[1] + gap[1])
        axes.append(place(figure, x, y + 0.2, *panel))
    return figure, axes


def panel_title(axes: Axes, text: str, aside: str = "") -> None:
    """The name of a small panel at its left, a figure at its right."""
    for x, words, align, colour in ((0.0, text, "left", INK), (1.0, aside, "right", MUTED)):
        axes.text(
            x,
            1.0,
            words,
            transform=axes.transAxes,
            ha=align,
            va="bottom",
            color=colour,
            size=SMALL + 0.5,
            family=fonts(),
            parse_math=False,
        )


def nothing(text: str = "nothing to show") -> Figure:
    """A figure that says that there is none."""
    figure = Figure(figsize=(WIDTH, 0.5))
    figure.add_axes((0, 0, 1, 1)).set_axis_off()  # a notebook shows no figure without axes
    write(figure, 0.2, 0.25, text, colour=MUTED)
    return figure
