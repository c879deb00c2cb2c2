"""``redone-data ablate``: what each step and rule of curation is worth."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from redone_data.manifest import write_json


def ablate(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run's folder; overrides the recipe's output.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the recipe. Repeatable.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="VARIANT", help="Measure this variant only. Repeatable.")
    ] = None,
    try_: Annotated[
        list[str] | None,
        typer.Option("--try", metavar="KEY=VALUE", help="A variant of your own, under curate. or domains. Repeatable."),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=2, help="Proxies a variant; the recipe itself gets twice as many.")
    ] = 3,
    min_share: Annotated[
        float, typer.Option("--min-share", min=0, max=1, help="Variants that change fewer documents are not trained.")
    ] = 0.002,
    list_: Annotated[bool, typer.Option("--list", help="Name the variants and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
) -> None:
    """Measure what each step and rule of curation is worth: switch it, train proxies, compare what they learn.

    Every variant trains on the same mixture, tokens and seeds, and is measured on the recipe's held-out documents.
    Writes ablation/ablation.json and ablation.html. Interrupted, the same command goes on.
    """
    # Imported late: --help answers at once.
    from redone_data.ablation.measure import FOLDER, Ablator
    from redone_data.ablation.page import remarks, table, write_ablation_page
    from redone_data.ablation.variants import chosen, tried, variants
    from redone_data.recipe import load_recipe
    from redone_data.report.terminal import Bars

    loaded = load_recipe(recipe, set_ or ())
    mine = tried(loaded, try_ or (), set_ or ())
    found = (*chosen(variants(loaded.recipe), only or ()), *mine)
    if try_ and not only:
        found = mine
    if list_:
        typer.echo("\n".join(variant.name for variant in found))
        return
    console = Console(stderr=as_json, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    root = loaded.output(out)
    with Bars(console) as bars:
        result = Ablator(loaded, root, bars, seeds=seeds, min_share=min_share).measure(found)
    folder = root / FOLDER
    write_json(folder / "ablation.json", result.record())
    write_ablation_page(result, loaded.path.stem, folder / "ablation.html")
    if as_json:
        typer.echo(json.dumps(result.record(), ensure_ascii=False, indent=1, sort_keys=True))
        return
    console.print(table(result))
    for line in remarks(result, min_share):
        console.print(line, highlight=False, markup=False)
    console.print(f"\nDone: {folder / 'ablation.html'}", highlight=False, markup=False)
