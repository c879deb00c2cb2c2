"""``redone-data sft``: an instruction set from a recipe."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def sft(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="The set's recipe, a YAML file.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The set's folder; overrides the recipe's output.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one key, for example lengths.max_tokens=2048."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Override the recipe's seed.")] = None,
    shares: Annotated[
        bool,
        typer.Option("--shares", help="Write DIR/shares/recipe.yaml: the shares of capabilities, for redone-data mix."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON on standard output.")] = False,
) -> None:
    """Make instruction data: tables and general data to conversations, cleaned, blended in two steps.

    Writes step1.jsonl, step2.jsonl, held_out.jsonl, manifest.json, ledger.parquet, lineage.parquet and report.html.
    Run the same command again after any interruption: it goes on where it was.
    """
    # Imported late: --help answers at once.
    from redone_data.instruct.recipe import load_sft_recipe
    from redone_data.instruct.report import REPORT, print_set, write_set_report
    from redone_data.instruct.set import InstructionSet
    from redone_data.instruct.shares import write_shares
    from redone_data.pipeline import locked
    from redone_data.report.terminal import Bars

    loaded = load_sft_recipe(recipe, set_ or (), seed)
    root = loaded.output(out)
    console = Console(stderr=as_json, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    with locked(root), Bars(console) as bars:
        made = InstructionSet(loaded, root, bars)
        manifest = made.run()
        if made.engine.ran or not (root / REPORT).exists():
            write_set_report(manifest, root, recipe.stem)
        found = write_shares(root, manifest, seed=loaded.recipe.seed) if shares else None
    if as_json:
        typer.echo(json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True))
        return
    print_set(manifest, console)
    if not made.engine.ran:
        console.print("Nothing to do: everything was already done.")
    if found is not None:
        console.print(f"Shares: redone-data mix {found}", highlight=False, markup=False)
    console.print(f"\nDone: {root}", highlight=False, markup=False)
