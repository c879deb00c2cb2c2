"""`redone-train results`: what was measured before, as tables in a terminal or as Markdown with plots."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from redone_train.evaluate.results import Results
from redone_train.evaluate.tables import grid_table, grids


def show_results(paths: Sequence[Path], markdown: Path | None = None) -> None:
    """RedoneError: a file is not one of results. markdown: a file to write, in place of the terminal."""
    found = [((path if path.is_dir() else path.parent).resolve().name, Results.read(path)) for path in paths]
    if markdown is not None:
        from redone_train.evaluate.markdown import write_markdown

        write_markdown(found, markdown)
        return
    for name, results in found:
        print_tables(results, name if len(found) > 1 else None)


def print_tables(results: Results, name: str | None = None) -> None:
    """A file or a pipe is as wide as the tables."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    if name is not None:
        console.rule(name)
    for grid in grids(results):
        console.print(grid_table(grid))
