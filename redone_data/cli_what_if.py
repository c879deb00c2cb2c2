"""The verb ``what-if``: the loss of a mixture by counts."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from redone_data.errors import RedoneError


def weights_of(text: str) -> dict[str, float]:
    """`a=.3,b=.7` as domain -> weight.

    >>> weights_of("posts=.3, wiki=.7")
    {'posts': 0.3, 'wiki': 0.7}
    """
    weights: dict[str, float] = {}
    for item in text.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        try:
            number = float(value)
        except ValueError:
            equals = ""
        if not equals or not name or name in weights:
            raise RedoneError(f"--weights: '{item.strip()}'; expected domain=share, each domain once: a=.3,b=.7")
        weights[name] = number
    return weights


def add_what_if(app: typer.Typer) -> None:
    """Add the verb to the command."""

    @app.command("what-if")
    def command(
        recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)],
        weights: Annotated[
            str, typer.Option("--weights", metavar="A=.3,B=.7", help="Shares of the domains, scaled to sum to one.")
        ],
        out: Annotated[
            Path | None, typer.Option("--out", metavar="DIR", help="The run's folder; overrides the recipe's output.")
        ] = None,
        set_: Annotated[
            list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the recipe.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")] = False,
    ) -> None:
        """Bits per byte of any mixture, by counted n-grams: nothing is trained. A screen, not a measurement."""
        given = weights_of(weights)
        from redone_data.pipeline import Run
        from redone_data.recipe import load_recipe
        from redone_data.what_if import COLUMNS, WARNING, what_if

        loaded = load_recipe(recipe, set_ or ())
        answer = what_if(Run(loaded, loaded.output(out)), given)
        if as_json:
            typer.echo(json.dumps({"counted": True, **asdict(answer)}, ensure_ascii=False, indent=1, sort_keys=True))
            return
        width = max(map(len, answer.losses["asked"]))
        typer.echo("Bits per byte by counted n-grams (weight, epochs)")
        typer.echo(f"{'':{width}s} " + " ".join(f"{name:>14s}" for name in COLUMNS))
        for metric in answer.losses["asked"]:
            row = f"{metric:{width}s} " + " ".join(f"{answer.losses[name][metric]:14.3f}" for name in COLUMNS)
            share = answer.weights["asked"].get(metric)
            typer.echo(row if share is None else f"{row}   {share:.3f}, {answer.epochs[metric]:.2f}x")
        typer.echo(WARNING)
