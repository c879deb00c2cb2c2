"""`redone-train results --markdown FILE.md`: tables and plots of results, to be read where the project is.

FILE.md has the tables of each results file, FILE/ their plots as SVG. No path of a machine is written: a folder is
named by itself alone. The same results give the same bytes.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from redone_data.errors import RedoneError
from redone_data.manifest import atomic
from redone_data.report.canvas import SURFACE
from redone_data.report.human import printable
from redone_train.evaluate.layout import chains
from redone_train.evaluate.page import bars, radar, stages
from redone_train.evaluate.results import Results
from redone_train.evaluate.tables import Grid, by_file, grids, without_trained_on
from redone_train.evaluate.task_plot import score_by_tasks
from redone_train.evaluate.trained_on import statement

SETTINGS = ("answers", "shots", "max_items", "max_new_tokens", "precision", "seed", "resamples")
PLOTS = {
    "stages": (stages, "Averages and retention, stage by stage, with 95 % intervals"),
    "tasks": (score_by_tasks, "Score out of distribution against the number of social tasks that were tuned on"),
    "bars": (bars, "Score of each stage with its interval, by file"),
    "radar": (radar, "How far each stage gets from the trivial answer to the ceiling, by file"),
}


def write_markdown(found: Sequence[tuple[str, Results]], path: Path) -> None:
    """found: a section's name and its results. RedoneError: two sections have one name."""
    names = [name for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise RedoneError(f"two results lie in folders named '{name}'; rename one, for its section and plots")
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    command = "redone-train results " + " ".join(f"{name}/results.json" for name in names)
    text = [
        "# Results",
        "",
        f"Written by `{command} --markdown {path.name}`. In brackets: 95 % intervals, by a bootstrap over items.",
    ]
    for name, results in found:
        text += _section(name, results, folder)
    with atomic(path) as aside:
        aside.write_text("\n".join(text) + "\n", encoding="utf-8")


def _section(name: str, results: Results, folder: Path) -> list[str]:
    text = ["", f"## {_cell(name)}", "", _asked(results)]
    whole, *others = grids(results)
    for grid in (whole, *others, by_file(results)):
        text += ["", f"### {_cell(grid.title)}", "", *_table(grid)]
        if grid is whole:
            shown = [plot for plot in PLOTS if plot != "tasks" or chains(results)]
            text += [line for plot in shown for line in _plot(plot, name, results, folder)]
    said = [_cell(_without_folders(line, results)) for line in statement(results.trained_on, results.models)]
    text += ["", "### Trained on what is measured", "", *(f"- {line}" for line in said)]
    removed = without_trained_on(results)
    return text if removed is None else [*text, "", *_table(removed)]


def _without_folders(line: str, results: Results) -> str:
    for model in (results.trained_on or {"models": {}})["models"].values():
        for file in model["files"]:
            line = line.replace(file["file"], "/".join(Path(file["file"]).parts[-2:]))
    return line


def _asked(results: Results) -> str:
    """How it was measured, without paths."""
    config: dict[str, Any] = results.about.get("config", {})
    said = [f"{key} {config[key]}" for key in SETTINGS if config.get(key) is not None]
    for key in ("sns_bench", "trans_bench"):
        if config.get(key):
            said.append(f"{key} scorer {config[key]['scorer']}")
    return f"{', '.join(results.models)}: {len(results.tasks)} files; {', '.join(said)}."


def _table(grid: Grid) -> list[str]:
    lines = ["| " + " | ".join(map(_cell, grid.columns)) + " |", "|---" + "|---:" * (len(grid.columns) - 1) + "|"]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in grid.rows]
    return [*lines, *(line for note in grid.notes for line in ("", _cell(note)))]


def _cell(text: str) -> str:
    return " ".join(printable(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _plot(plot: str, name: str, results: Results, folder: Path) -> list[str]:
    draw, caption = PLOTS[plot]
    file = folder / f"{name}-{plot}.svg"
    _write_svg(draw(results), file)
    return ["", f"![{caption}]({folder.name}/{file.name})", "", f"*{caption}.*"]


def _write_svg(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's own fonts draw it
        with atomic(path) as aside:
            figure.savefig(aside, format="svg", facecolor=SURFACE, metadata={"Date": None})
