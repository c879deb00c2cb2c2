"""``redone-data index``: keep what was accepted, and compare new documents with it."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from redone_data.cli_files import (
    CarryOption,
    FilesArgument,
    FormatOption,
    IdOption,
    JsonOption,
    SetOption,
    TextOption,
    WorkersOption,
    files_of,
    show_result,
)

app = typer.Typer(
    name="index",
    help="Compare new documents with those accepted before, without reading these again.\n\n"
    "First: redone-data index add INDEX FILES..., then for new ones: redone-data index match INDEX FILES... --out DIR",
    no_args_is_help=True,
    rich_markup_mode=None,
)
IndexArgument = Annotated[Path, typer.Argument(metavar="INDEX", help="The index's folder.", show_default=False)]


@app.command()
def add(
    index: IndexArgument,
    files: FilesArgument,
    text_field: TextOption = "text",
    id_field: IdOption = None,
    format: FormatOption = None,
    workers: WorkersOption = 1,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in the documents that duplicate nothing in the index; makes the index where there is none."""
    from redone_data.indexing import add as add_files
    from redone_data.report.terminal import Bars

    chosen = files_of(files, text_field, id_field, format, None, set_, workers)
    with Bars() as bars:
        result = add_files(chosen, index, {}, bars)
    show_result(result, as_json=as_json)


@app.command()
def match(
    index: IndexArgument,
    files: FilesArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the tables go.")],
    text_field: TextOption = "text",
    id_field: IdOption = None,
    format: FormatOption = None,
    carry: CarryOption = None,
    workers: WorkersOption = 1,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which new documents duplicate one in the index, or each other: kept.parquet and duplicates.parquet."""
    from redone_data.curate.near import NearConfig
    from redone_data.indexing import describe
    from redone_data.indexing import match as match_files
    from redone_data.report.terminal import Bars

    chosen = files_of(files, text_field, id_field, format, carry, set_, workers)
    describe(index, _near(chosen) or NearConfig())  # an index that is not there, or has other settings, is said first
    with Bars() as bars:
        result = match_files(chosen, index, out, {}, bars)
    show_result(result, as_json=as_json)


@app.command()
def remove(
    index: IndexArgument,
    ids: Annotated[Path, typer.Option("--ids", metavar="FILE", help="Ids to forget, one a line.")],
) -> None:
    """Take documents out of the index by their ids, and off the disk."""
    from redone_data.errors import RedoneError
    from redone_data.indexing import remove as remove_ids

    try:
        wanted = ids.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise RedoneError(f"{ids}: cannot be read as text: {error}") from None
    typer.echo(f"{remove_ids(index, wanted)} of {len(wanted)} were in the index and are out of it")


@app.command()
def compact(index: IndexArgument) -> None:
    """Take removed documents off the disk, where `remove` was interrupted before it did."""
    from redone_data.curate.index_removal import compact as compact_index

    typer.echo(f"{compact_index(index)} removed documents were still on the disk and are off it")


@app.command()
def show(index: IndexArgument) -> None:
    """How many documents, in how many segments, in how many bytes."""
    from redone_data.indexing import describe

    typer.echo(json.dumps(describe(index)))


def _near(files: Any) -> Any:
    return files.recipe("dedup", {}).recipe.curate.near
