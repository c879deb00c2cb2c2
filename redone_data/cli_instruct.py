"""``redone-data sft`` and ``redone-data pairs``: an instruction set and a pair set from their recipes."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from redone_data.engine import Engine

RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="The set's recipe, a YAML file.", show_default=False)
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The set's folder; overrides the recipe's output.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the recipe. Repeatable.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="N", help="Override the recipe's seed.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the manifest as JSON on standard output.")]


def sft(
    recipe: RecipePath,
    out: OutOption = None,
    set_: SetOption = None,
    seed: SeedOption = None,
    shares: Annotated[
        bool,
        typer.Option("--shares", help="Write DIR/shares/recipe.yaml: the shares of capabilities, for redone-data mix."),
    ] = False,
    as_json: JsonOption = False,
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
    root, console = loaded.output(out), _console(as_json=as_json)
    with locked(root), Bars(console) as bars:
        made = InstructionSet(loaded, root, bars)
        manifest = made.run()
        if made.engine.ran or not (root / REPORT).exists():
            write_set_report(manifest, root, recipe.stem)
        found = write_shares(root, manifest, seed=loaded.recipe.seed) if shares else None
    _tell(manifest, made.engine, console, print_set, as_json=as_json)
    if found is not None:
        console.print(f"Shares: redone-data mix {found}", highlight=False, markup=False)


def pairs(
    recipe: RecipePath,
    out: OutOption = None,
    set_: SetOption = None,
    seed: SeedOption = None,
    prompts: Annotated[
        bool,
        typer.Option("--prompts", help="Only write the prompts of structure and outputs, for redone-train generate."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask the endpoints; else the cost is shown and nothing sent.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make preference pairs: from structure, model outputs, judges and engagement, checked alike.

    Writes train.jsonl, held_out.jsonl, manifest.json, ledger.parquet and report.html. Run the same command again after
    any interruption: it goes on where it was, and no answer that was paid for is asked again.
    """
    from redone_data.instruct.pairs.recipe import load_pairs_recipe
    from redone_data.instruct.pairs.set import PairSet
    from redone_data.pipeline import REPORT, locked
    from redone_data.report.pairs import print_pairs, write_pairs_page
    from redone_data.report.terminal import Bars

    loaded = load_pairs_recipe(recipe, set_ or (), seed)
    root, console = loaded.output(out), _console(as_json=as_json)
    with locked(root), Bars(console) as bars:
        made = PairSet(loaded, root, bars, confirmed=yes)
        if prompts:
            typer.echo("\n".join(map(str, made.write_prompts())))
            return
        manifest = made.run()
        if made.engine.ran or not (root / REPORT).exists():
            write_pairs_page(manifest, root, recipe.stem, root / REPORT)
    _tell(manifest, made.engine, console, print_pairs, as_json=as_json)


def _console(*, as_json: bool) -> Console:
    return Console(stderr=as_json, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def _tell(
    manifest: Mapping[str, Any],
    engine: "Engine",
    console: Console,
    show: Callable[[Mapping[str, Any], Console], None],
    *,
    as_json: bool,
) -> None:
    """What was made: as JSON, or as tables and the folder."""
    if as_json:
        typer.echo(json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True))
        return
    show(manifest, console)
    if not engine.ran:
        console.print("Nothing to do: everything was already done.")
    console.print(f"\nDone: {engine.root}", highlight=False, markup=False)
