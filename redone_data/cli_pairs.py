"""``redone-data pairs``: preference pairs from a recipe."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def pairs(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="The pair set's recipe, a YAML file.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The set's folder; overrides the recipe's output.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the recipe. Repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Override the recipe's seed.")] = None,
    prompts: Annotated[
        bool,
        typer.Option("--prompts", help="Only write the prompts of structure and outputs, for redone-train generate."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask the endpoints; else the cost is shown and nothing sent.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON on standard output.")] = False,
) -> None:
    """Make preference pairs: from structure, model outputs, judges and engagement, checked alike.

    Writes train.jsonl, held_out.jsonl, manifest.json, ledger.parquet and report.html. Run the same command again after
    any interruption: it goes on where it was, and no answer that was paid for is asked again.
    """
    # Imported late: --help answers at once.
    from redone_data.instruct.pairs.recipe import load_pairs_recipe
    from redone_data.instruct.pairs.set import PairSet
    from redone_data.pipeline import REPORT, locked
    from redone_data.report.pairs import print_pairs, write_pairs_page
    from redone_data.report.terminal import Bars

    loaded = load_pairs_recipe(recipe, set_ or (), seed)
    root = loaded.output(out)
    console = Console(stderr=as_json, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    with locked(root), Bars(console) as bars:
        made = PairSet(loaded, root, bars, confirmed=yes)
        if prompts:
            typer.echo("\n".join(map(str, made.write_prompts())))
            return
        manifest = made.run()
        if made.engine.ran or not (root / REPORT).exists():
            write_pairs_page(manifest, root, recipe.stem, root / REPORT)
    if as_json:
        typer.echo(json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True))
        return
    print_pairs(manifest, console)
    if not made.engine.ran:
        console.print("Nothing to do: everything was already done.")
    console.print(f"\nDone: {root}", highlight=False, markup=False)
