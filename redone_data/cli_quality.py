"""``redone-data quality``: train a classifier from examples, label examples with a model, score files."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from redone_data.cli_files import (
    FilesArgument,
    FormatOption,
    IdOption,
    JsonOption,
    OutOption,
    SetOption,
    TextOption,
    WorkersOption,
    files_of,
    run_verb,
)

app = typer.Typer(
    name="quality",
    help="Scores that tell good posts from bad: train on examples, label examples with a model, score files.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the model and its report go.")],
    good: Annotated[
        list[str] | None, typer.Option("--good", metavar="FILE", help="Examples that are good. Repeatable.")
    ] = None,
    bad: Annotated[
        list[str] | None, typer.Option("--bad", metavar="FILE", help="Examples that are bad. Repeatable.")
    ] = None,
    labelled: Annotated[
        list[str] | None, typer.Option("--labelled", metavar="FILE", help="Examples with a label field. Repeatable.")
    ] = None,
    label_field: Annotated[str | None, typer.Option("--label-field", help="Of --labelled: the field.")] = None,
    good_value: Annotated[
        list[str] | None, typer.Option("--good-value", help="Of --labelled: a value that is good. Repeatable.")
    ] = None,
    text_field: TextOption = "text",
    engagement: Annotated[
        list[str] | None,
        typer.Option("--engagement", metavar="NAME", help="lightgbm: counts to add up and learn from."),
    ] = None,
    kind: Annotated[str, typer.Option("--kind", help="fasttext (words) or lightgbm (text metrics).")] = "fasttext",
    keep: Annotated[float, typer.Option("--keep", help="The share of documents that the threshold shall keep.")] = 0.5,
    seed: Annotated[int, typer.Option("--seed", help="Of every random choice.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train a classifier: the model, and how it does on held-out examples in report.json and report.html.

    A tenth of the examples chooses the threshold, another is reported; both are chosen by the text's hash.
    """
    from redone_data.config import read_config
    from redone_data.curate.quality_train import ExamplesConfig, TrainConfig, read_examples
    from redone_data.curate.quality_train import train as train_classifier
    from redone_data.errors import RedoneError

    fields = {"text": text_field, "engagement": list(engagement or [])}
    sets: list[dict[str, Any]] = [
        {"source": {"paths": paths, "fields": fields}, "label": label}
        for label, paths in (("good", good), ("bad", bad))
        if paths
    ]
    if labelled:
        if label_field is None:
            raise RedoneError("--labelled needs --label-field, and --good-value for each value that is good")
        source = {"paths": labelled, "fields": {**fields, "meta": [label_field]}}
        sets.append({"source": source, "label_field": label_field, "good_values": list(good_value or [])})
    if not sets:
        raise RedoneError("no examples: give --good and --bad, or --labelled with --label-field and --good-value")
    where = "redone-data quality train"
    configs = [read_config(ExamplesConfig, values, where=where) for values in sets]
    settings = {"kind": kind, "keep": keep, "seed": seed, "use_engagement": bool(engagement)}
    config = read_config(TrainConfig, settings, where=where)
    report = train_classifier(read_examples(configs, Path()), config, out)
    if as_json:
        typer.echo(json.dumps(report, indent=1))
        return
    console = Console(soft_wrap=True)
    table = Table("held out", "documents", "AUC", "threshold", "kept", "precision", "recall", box=None)
    for name, row in [("all", report["held_out"]), *report["by_language"].items()]:
        _add_row(table, name, row)
    for rate, row in report["by_keep_rate"].items():
        _add_row(table, f"keeping {float(rate):.0%}", row)
    console.print(table)
    console.print(
        f"\n{report['training_documents']:,} training examples; wrote {out} (report.html shows it)", highlight=False
    )
    bound = f"{{quality_NAME: {{min: {report['threshold']:.3f}}}}}"
    console.print(f"In a recipe: curate.quality: {{NAME: {{model: {out}}}}}, bounds: {bound}", markup=False)


def _add_row(table: Table, name: str, row: dict[str, Any]) -> None:
    numbers = ("" if row[key] is None else f"{row[key]:.3f}" for key in ("auc", "threshold", "kept"))
    rates = ("" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall"))
    table.add_row(name, str(row["documents"]), *numbers, *rates)


@app.command()
def label(
    config: Annotated[Path, typer.Argument(metavar="JUDGE.yaml", help="Endpoint, model, prompt, answers.")],
    files: FilesArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="Text and label of each post.")],
    sample: Annotated[int, typer.Option("--sample", help="So many posts, chosen by the hash of their text.")] = 1000,
    text_field: TextOption = "text",
    format: FormatOption = None,
    generate: Annotated[
        str | None,
        typer.Option(
            "--generate", metavar="MODEL_DIR", help="A local model, by redone-train, in place of an endpoint."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Start; else the cost is shown and nothing sent.")] = False,
) -> None:
    """Label a sample with a language model (an OpenAI-compatible endpoint or a local one), for quality train.

    Every answer is kept beside the output: the same command goes on where it was, and asks for no text twice.
    """
    from redone_data.config import load_yaml, read_config
    from redone_data.curate.judge import JudgeConfig, estimate, judge, sample_posts
    from redone_data.curate.sources import SourceConfig
    from redone_data.manifest import atomic

    asked = load_yaml(config)
    if generate is not None:
        asked = {**asked, "base_url": None, "model": None, "generate": generate}
    judging = read_config(JudgeConfig, asked, where=str(config))
    values = {"paths": files, "format": format, "fields": {"text": text_field}}
    texts = sample_posts(read_config(SourceConfig, values, where="redone-data quality label"), Path(), sample)
    cache = out.with_name(f"{out.name}.answers")
    typer.echo(str(estimate(texts, judging, cache)), err=True)
    labels = judge(texts, judging, cache, confirmed=yes).labels
    with atomic(out) as aside, aside.open("w", encoding="utf-8") as file:
        for text, found in zip(texts, labels, strict=True):
            if found is not None:
                file.write(json.dumps({"text": text, "label": found}, ensure_ascii=False) + "\n")
    unreadable = sum(found is None for found in labels)
    counts = {name: sum(found == name for found in labels) for name in ("good", "bad")}
    typer.echo(f"{counts['good']} good, {counts['bad']} bad, {unreadable} answers that could not be read: {out}")


@app.command()
def score(
    files: FilesArgument,
    out: OutOption,
    model: Annotated[str, typer.Option("--model", metavar="DIR", help="What quality train wrote.")],
    minimum: Annotated[
        float | None, typer.Option("--min", help="Drop what scores below; default: drop nothing.")
    ] = None,
    kind: Annotated[str, typer.Option("--kind", help="fasttext or lightgbm.")] = "fasttext",
    name: Annotated[str, typer.Option("--name", help="Of the score: the column is quality_NAME.")] = "score",
    text_field: TextOption = "text",
    id_field: IdOption = None,
    format: FormatOption = None,
    workers: WorkersOption = 1,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score documents: scores.parquet, kept.parquet and dropped.parquet."""
    from redone_data.standalone import DOMAIN

    settings: dict[str, Any] = {"curate": {"quality": {name: {"model": model, "kind": kind}}}}
    if minimum is not None:
        settings["domains"] = {DOMAIN: {"rules": {"bounds": {f"quality_{name}": {"min": minimum}}}}}
    run_verb(
        "quality", files_of(files, text_field, id_field, format, None, set_, workers), out, settings, as_json=as_json
    )
