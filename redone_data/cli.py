"""The command ``redone-data``."""

import json
import signal
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from redone_data.cli_ablate import ablate
from redone_data.cli_files import add_file_verbs
from redone_data.cli_fit import (
    TABLES,
    FitInputs,
    PredictOption,
    ScaleOption,
    SurrogateOption,
    TableOptions,
    TargetOption,
    fit_tables,
)
from redone_data.cli_index import app as index_app
from redone_data.cli_instruct import pairs, sft
from redone_data.cli_quality import app as quality_app
from redone_data.cli_what_if import add_what_if
from redone_data.errors import USER_ERROR_EXIT_CODE, RedoneError
from redone_data.processes import children_die_with_us, kill_children, raise_at

if TYPE_CHECKING:
    from redone_data.pipeline import Stage

app = typer.Typer(
    name="redone-data",
    help="Turn a platform's raw posts into an optimized training corpus.\n\n"
    "Start with: redone-data init my.yaml, edit it, then: redone-data mix my.yaml --dry-run",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Emitted(StrEnum):
    tokens = "tokens"
    text = "text"
    both = "both"


RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The run's folder; overrides the recipe's output.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override one key of the recipe, for example mix.design.runs=40. Repeatable."
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="N", help="Override the recipe's seed.")]
EmitOption = Annotated[
    Emitted | None,
    typer.Option("--emit", help="What is sampled: a token dataset, Parquet text, or both.", show_default="tokens"),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan: steps, inputs with sizes, what is done. Runs nothing.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on standard output; tables go nowhere.")
]


@app.command()
def mix(
    recipe: RecipePath,
    out: OutOption = None,
    set_: SetOption = None,
    seed: SeedOption = None,
    emit: EmitOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """The main job: read, curate, tokenize, find the mixture, sample, report.

    Run the same command again after any interruption: it goes on where it was. A finished run does nothing.
    """
    _execute("sample", recipe, out, set_, seed, emit, dry_run=dry_run, as_json=as_json)


def _add_stage(verb: str, until: "Stage", summary: str, *, redraw: bool = False) -> None:
    """A verb that runs the stages of `mix` up to its own, on the same code path."""

    def command(
        recipe: RecipePath,
        out: OutOption = None,
        set_: SetOption = None,
        seed: SeedOption = None,
        emit: EmitOption = None,
        dry_run: DryRunOption = False,
        as_json: JsonOption = False,
    ) -> None:
        _execute(until, recipe, out, set_, seed, emit, dry_run=dry_run, as_json=as_json, redraw=redraw)

    app.command(name=verb, help=summary)(command)


_add_stage("read", "read", "Read the sources into a corpus: normalised, redacted, with stable ids.")
_add_stage(
    "judge", "judge", "What would stay and why not, with a report; writes no text, so thresholds are quick to try."
)
_add_stage("curate", "curate", "Write the documents that stay (after judge).")
_add_stage("tokenize", "tokenize", "Make one token pool a domain (after curate).")
_add_stage("design", "design", "Sample the mixtures of the proxy swarm (after tokenize).")
_add_stage("swarm", "swarm", "Train the proxy swarm with redone-train, or the recipe's command (after design).")


@app.command()
def fit(
    inputs: FitInputs,
    out: OutOption = None,
    set_: SetOption = None,
    seed: SeedOption = None,
    emit: EmitOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    predict: PredictOption = None,
    surrogate: SurrogateOption = None,
    target: TargetOption = None,
    scale: ScaleOption = None,
) -> None:
    """Fit loss on weights and judge it on held-out runs: of a recipe (after swarm), or of two tables of your own."""
    options = TableOptions(predict, surrogate, target, scale, out, seed)
    if len(inputs) == TABLES:
        recipe_only = {"--set": set_, "--emit": emit, "--dry-run": dry_run}
        if given := [name for name, value in recipe_only.items() if value]:
            raise RedoneError(f"fit: {', '.join(given)} goes with a RECIPE, not with two tables")
        fit_tables(inputs, options, _console(stderr=as_json), as_json=as_json)
        return
    if len(inputs) > TABLES:
        raise RedoneError(f"fit: {len(inputs)} files; give one RECIPE, or RUNS.csv and METRICS.csv")
    if options.given():
        raise RedoneError(f"fit: {', '.join(options.given())} goes with two tables, RUNS.csv METRICS.csv")
    _execute("fit", inputs[0], out, set_, seed, emit, dry_run=dry_run, as_json=as_json)


_add_stage("search", "search", "Search the best weights inside the constraints (after fit).")
_add_stage(
    "validate",
    "validate",
    "Train finalists beside prior and uniform, choose, and measure on fresh seeds (after search).",
)
_add_stage("sample", "sample", "Sample spans by weight and epochs into a token dataset; the same as mix.")
_add_stage(
    "report", "sample", "Draw report.html again from what is stored; runs what is missing, as mix does.", redraw=True
)


app.command()(ablate)
app.command()(sft)
app.command()(pairs)
add_file_verbs(app)
add_what_if(app)
app.add_typer(index_app)
app.add_typer(quality_app)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="RECIPE", help="Where to write it.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a commented recipe to start from."""
    from redone_data.starter import STARTER_RECIPE

    if path.exists() and not force:
        raise RedoneError(f"{path} exists; give another name, or --force to overwrite it")
    try:
        path.write_text(STARTER_RECIPE, encoding="utf-8")
    except OSError as error:
        raise RedoneError(f"{path}: cannot be written: {error.strerror}") from None
    typer.echo(f"Wrote {path}. Edit its domains, then: redone-data mix {path} --dry-run")


@app.command()
def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A run, corpus, ledger, token dataset, or one of its files.")
    ],
    examples: Annotated[int, typer.Option("--examples", "-n", help="How many rows or documents to show.", min=0)] = 3,
    dropped: Annotated[
        str | None, typer.Option("--dropped", metavar="RULE", help="Ledger lines of one rule only.")
    ] = None,
    document: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Show one document, and its spans, by id.")
    ] = None,
) -> None:
    """Show anything this project writes: schema, counts, examples, the decoded text of a span."""
    from redone_data.inspection import show

    show(path, _console(), examples=examples, dropped=dropped, document=document)


def _console(*, stderr: bool = False) -> Console:
    # Not a terminal (a log, CI): wide enough for the tables.
    return Console(stderr=stderr, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def _execute(
    until: "Stage",
    recipe_path: Path,
    out: Path | None,
    assignments: list[str] | None,
    seed: int | None,
    emit: Emitted | None,
    *,
    dry_run: bool,
    as_json: bool,
    redraw: bool = False,
) -> None:
    # Imported late: --help answers at once.
    from redone_data.recipe import load_recipe

    if emit is not None and until != "sample":
        raise RedoneError(f"--emit: nothing is sampled up to {until}; it goes with mix, sample and report")
    loaded = load_recipe(recipe_path, assignments or (), seed)
    console = _console(stderr=as_json)
    root = loaded.output(out)
    if dry_run:
        from redone_data.plan import print_plan

        print_plan(loaded, root, until, console, as_json=as_json)
        return
    from redone_data.pipeline import Run
    from redone_data.report.html import write_report
    from redone_data.report.terminal import Bars, print_summary
    from redone_data.summarize import summarize

    with Bars(console) as bars:
        run = Run(loaded, root, (emit or Emitted.tokens).value, bars)
        run.execute(until)
    summary = summarize(run)
    complete = until == "sample"
    if complete and (redraw or not (root / "report.html").exists()):
        write_report(summary, root / "report.html")
    elif until in ("judge", "curate"):
        write_report(summary, root / CURATION_REPORT)
    if as_json:
        typer.echo(json.dumps(_result(run, root, complete=complete), ensure_ascii=False, indent=1, sort_keys=True))
        return
    print_summary(summary, console)
    if not run.engine.ran and not run.published:
        console.print("Nothing to do: everything was already done.")
    if until in ("judge", "curate"):
        console.print(f"\nDone: {root / CURATION_REPORT}", highlight=False)
    if complete:
        console.print(f"\nDone: {root}", highlight=False)
        for name, what in _OUTPUTS.items():
            if (root / name).exists():
                console.print(f"  {name:14s} {what}", highlight=False)


CURATION_REPORT = "curation.html"
_OUTPUTS = {
    "corpus/": "curated documents, Parquet by domain",
    "ledger/": "every dropped document and why",
    "quarantine/": "records that could not be read, by file and line",
    "proposal.json": "recommended weights and the evidence",
    "mixture/": "how the weights were found: runs, losses, fit, search; for notebooks",
    "tokens/": "the token dataset",
    "text/": "the sampled mixture as Parquet",
    "validation/": "held-out token pools by domain",
    "report.html": "the report: open it in a browser",
}


def _result(run: Any, root: Path, *, complete: bool) -> dict[str, Any]:
    return {
        "folder": str(root),
        "complete": complete,
        "steps_run": run.engine.ran,
        "domains": {} if run.curation.ledger is None else run.curation.ledger.statistics["domains"],
        "proposal": None if run.proposal is None else json.loads(run.proposal.to_json()),
    }


INTERRUPTED_EXIT_CODE, TERMINATED_EXIT_CODE = 128 + signal.SIGINT, 128 + signal.SIGTERM


class _Terminated(BaseException):
    """SIGTERM, on its way to exit code 143."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: 0 done, 2 a user's error, 130 and 143 interrupted; anything else is a defect, with traceback."""
    raise_at(signal.SIGINT, KeyboardInterrupt)
    raise_at(signal.SIGTERM, _Terminated)
    children_die_with_us()
    run(arguments)


def run(arguments: Sequence[str] | None = None) -> None:
    """The command without its care for signals and children, which lasts as long as the process."""
    try:
        # Not standalone: click would turn our exit codes and interrupts into its own.
        status = app(args=arguments, standalone_mode=False)
        if status == INTERRUPTED_EXIT_CODE:  # what typer makes of a KeyboardInterrupt
            raise KeyboardInterrupt
    except RedoneError as error:
        sys.stderr.write(f"redone-data: {error}\n")
        sys.exit(USER_ERROR_EXIT_CODE)
    except (KeyboardInterrupt, typer.Abort):
        kill_children()
        sys.stderr.write("redone-data: interrupted; the same command goes on from here\n")
        sys.exit(INTERRUPTED_EXIT_CODE)
    except _Terminated:
        kill_children()
        sys.stderr.write("redone-data: terminated; the same command goes on from here\n")
        sys.exit(TERMINATED_EXIT_CODE)
    except Exception as error:
        # Wrong options and missing arguments: typer's own message, on one line.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            sys.stderr.write(f"redone-data: {error.format_message()} (see redone-data --help)\n")
            sys.exit(USER_ERROR_EXIT_CODE)
        raise
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
