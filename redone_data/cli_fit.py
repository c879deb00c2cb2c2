"""``redone-data fit RUNS.csv METRICS.csv``: the fit for people who bring their own swarm."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redone_data.errors import RedoneError

if TYPE_CHECKING:
    from rich.console import Console

    from redone_data.mix.fit import Fit
    from redone_data.mix.transfer import Transfer

TABLES = 2
ONE_PROCESS_CELLS = 1500  # runs x metrics: below it more processes take longer to start than they save
# Read when numpy is loaded, so set before: on a busy machine threads on small matrices cost ten times what they save.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

FitInputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RECIPE | RUNS.csv METRICS.csv", help="A recipe, or a swarm as two tables.", show_default=False
    ),
]
PredictOption = Annotated[
    Path | None,
    typer.Option("--predict", metavar="MIXTURES.csv", help="Predict these mixtures into DIR/predictions.csv."),
]
SurrogateOption = Annotated[
    str | None, typer.Option("--surrogate", metavar="NAME", help="Fit this one; without it they are compared.")
]
TargetOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--target",
        metavar="RUNS.csv METRICS.csv",
        help="A handful of runs at the target scale: predictions are carried there.",
    ),
]
ScaleOption = Annotated[
    str | None, typer.Option("--scale", metavar="NAME", help="The target scale's name; default: --target's file name.")
]


@dataclass(frozen=True)
class TableOptions:
    """What the verb takes beside the tables."""

    predict: Path | None
    surrogate: str | None
    target: tuple[Path, Path] | None
    scale: str | None
    out: Path | None
    seed: int | None

    def given(self) -> list[str]:
        """The options that only tables have, where they were given."""
        names = ("predict", "surrogate", "target", "scale")
        return [f"--{name}" for name in names if getattr(self, name) is not None]


def fit_tables(tables: Sequence[Path], options: TableOptions, console: "Console", *, as_json: bool) -> None:
    """Fit RUNS.csv and METRICS.csv, show and write; raise RedoneError where no metric can be predicted."""
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    from redone_data.mix.fit import FitConfig, fit
    from redone_data.mix.fit_files import fit_record, write_fit, write_predictions
    from redone_data.mix.tables import load_mixtures, load_swarm
    from redone_data.mix.transfer import transfer

    if options.predict is not None and options.out is None:
        raise RedoneError("--predict needs --out DIR, where predictions.csv is written")
    if options.scale is not None and options.target is None:
        raise RedoneError("--scale names the scale of --target RUNS.csv METRICS.csv; give that, too")
    config = FitConfig(surrogate=options.surrogate)
    swarm = load_swarm(*tables)
    mixtures = None if options.predict is None else load_mixtures(options.predict, swarm.domains)
    target = None if options.target is None else load_swarm(*options.target)
    workers = (len(os.sched_getaffinity(0)) or 1) if swarm.losses_RM.size > ONE_PROCESS_CELLS else 1
    fitted = fit(swarm, config, 1 if options.seed is None else options.seed, workers=workers)
    scaled, skilled = None, any(row.skilled for row in fitted.report)
    if skilled and target is not None and options.target is not None:
        scaled = transfer(fitted, target, options.scale or options.target[1].stem)
    if options.out is not None:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RedoneError(f"{options.out}: cannot be made: {error.strerror}") from None
        write_fit(fitted, options.out)
    if as_json:
        lines = {} if scaled is None else {metric: asdict(line) for metric, line in scaled.lines.items()}
        record = fit_record(fitted) | ({} if scaled is None else {"target": {"scale": scaled.scale, "lines": lines}})
        typer.echo(json.dumps(record, ensure_ascii=False, indent=1, sort_keys=True))
    else:
        _show(fitted, scaled, console)
    if not skilled:
        raise RedoneError(
            "no metric has out-of-fold skill: these runs do not tell mixtures apart, so nothing is predicted. "
            "Keep the natural shares; more runs, larger proxies or more seeds of each mixture may tell"
        )
    if mixtures is not None and options.out is not None:
        write_predictions(fitted, mixtures, options.out / "predictions.csv", scaled)
        if not as_json:
            console.print(f"Done: {options.out / 'predictions.csv'}", highlight=False)


def _show(fitted: "Fit", scaled: "Transfer | None", console: "Console") -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("metric", "surrogate", "Spearman", "RMSE", "interval", "skill", "seed noise"):
        table.add_column(name, justify="left" if name in ("metric", "surrogate") else "right")
    for row in fitted.report:
        noise = fitted.noise[row.metric]
        table.add_row(
            row.metric,
            row.surrogate,
            f"{row.spearman:.3f}",
            f"{row.rmse:.4f}",
            f"±{row.half_width:.4f} ({row.coverage:.0%})",
            "yes" if row.skilled else "no",
            "-" if noise is None else f"{noise:.4f}",
        )
    console.print(table)
    for sentence in _remarks(fitted, scaled):
        console.print(sentence, highlight=False)


def _remarks(fitted: "Fit", scaled: "Transfer | None") -> list[str]:
    compares = fitted.config.surrogate is None
    plain = [row.metric for row in fitted.report if row.surrogate == "linear" and row.skilled]
    blind = [row.metric for row in fitted.report if not row.skilled]
    remarks = ["Spearman and RMSE are of held-out runs, by nested cross-validation; interval: median half-width."]
    if plain and compares:
        remarks.append(f"Nothing beats the linear baseline, so it is used: {_listed(plain)}.")
    if blind:
        remarks.append(f"No skill beyond chance, so the mean of the runs is all that is predicted: {_listed(blind)}.")
    if scaled is not None:
        slopes: list[Any] = [f"{metric} {line.slope:.2f}" for metric, line in scaled.lines.items()]
        remarks.append(f"Carried to {scaled.scale} by {scaled.runs} runs there; slopes: {_listed(slopes)}.")
    return remarks


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
