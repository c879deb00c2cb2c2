"""The verbs that do one step over files: dedup, redact, language, rules, decontaminate (and quality score)."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

FilesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES...", help="jsonl, json, parquet, csv, text or warc files, .gz and .zst too; quoted globs."
    ),
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the tables go; DIR/steps holds the work.")]
TextOption = Annotated[str, typer.Option("--text-field", metavar="NAME", help="The field with the text.")]
IdOption = Annotated[
    str | None, typer.Option("--id-field", metavar="NAME", help="The field with the id. Default: a hash of the text.")
]
FormatOption = Annotated[str | None, typer.Option("--format", help="Default: by the files' suffix.")]
CarryOption = Annotated[
    list[str] | None, typer.Option("--carry", metavar="NAME", help="Another field to carry along in meta. Repeatable.")
]
WorkersOption = Annotated[int, typer.Option("--workers", help="Processes at a time; one a core is right.", min=1)]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any key of a recipe, for example curate.near.ngram=2. Repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def add_file_verbs(app: typer.Typer) -> None:
    """Register the verbs; each ends in the same way."""
    for command in (dedup, redact, language, rules, decontaminate):
        app.command()(command)


def dedup(
    files: FilesArgument,
    out: OutOption,
    text_field: TextOption = "text",
    id_field: IdOption = None,
    format: FormatOption = None,
    carry: CarryOption = None,
    engagement: Annotated[
        list[str] | None,
        typer.Option("--engagement", metavar="NAME", help="A count to add up; of duplicates the highest stays."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Jaccard similarity from which two are duplicates.")
    ] = None,
    exact_only: Annotated[bool, typer.Option("--exact-only", help="Only equal texts are duplicates.")] = False,
    workers: WorkersOption = 1,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove duplicates: kept.parquet, and duplicates.parquet with id, duplicate_of, similarity, kind.

    Kinds: exact (equal text), near (verified similarity), id (a record's id was seen before).
    """
    near: dict[str, Any] = {"enabled": not exact_only}
    if threshold is not None:
        near["threshold"] = threshold
    chosen = files_of(files, text_field, id_field, format, carry, set_, workers, engagement)
    run_verb("dedup", chosen, out, {"curate": {"near": near}}, as_json=as_json)


def redact(
    files: FilesArgument,
    out: OutOption,
    text_field: TextOption = "text",
    id_field: IdOption = None,
    format: FormatOption = None,
    carry: CarryOption = None,
    workers: WorkersOption = 1,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Normalise the texts and mask personal data: redacted.parquet, and counts by kind.

    Which kinds: --set read.redact='[email, phone]'. Fields carried along are masked as well.
    """
    run_verb("redact", files_of(files, text_field, id_field, format, carry, set_, workers), out, {}, as_json=as_json)


def language(
    files: FilesArgument,
    out: OutOption,
    text_field: TextOption = "text",
    id_field: IdOption = None,
    format: FormatOption = None,
    workers: WorkersOption = 1,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Identify languages: languages.parquet with id, language, language_confidence."""
    run_verb("language", files_of(files, text_field, id_field, format, None, set_, workers), out, {}, as_json=as_json)


def rules(
    files: FilesArgument,
    out: OutOption,
    preset: Annotated[str, typer.Option("--preset", help="sns, prose, none, ...: docs/curation.md.")] = "sns",
    bound: Annotated[
        list[str] | None,
        typer.Option("--bound", metavar="METRIC.min=N", help="A bound over the preset's, e.g. num_words.min=5."),
    ] = None,
    text_field: TextOption = "text",
    id_field: IdOption = None,
    format: FormatOption = None,
    carry: CarryOption = None,
    engagement: Annotated[
        list[str] | None, typer.Option("--engagement", metavar="NAME", help="A count to add up, which a bound may ask.")
    ] = None,
    workers: WorkersOption = 1,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge documents by rules: kept.parquet, dropped.parquet with the rule that broke, attributes.parquet.

    Another --bound on the same DIR measures nothing again: it takes seconds.
    """
    from redone_data.standalone import DOMAIN

    assignments = [f"domains.{DOMAIN}.rules.bounds.{assignment}" for assignment in bound or []]
    chosen = files_of(files, text_field, id_field, format, carry, [*assignments, *(set_ or [])], workers, engagement)
    run_verb("rules", chosen, out, {"domains": {DOMAIN: {"rules": {"preset": preset}}}}, as_json=as_json)


def decontaminate(
    files: FilesArgument,
    out: OutOption,
    against: Annotated[
        list[str], typer.Option("--against", metavar="FILE", help="An evaluation set; quoted globs. Repeatable.")
    ],
    field: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="NAME", help="A field of its items to look for; default: every text in them."),
    ] = None,
    text_field: TextOption = "text",
    id_field: IdOption = None,
    format: FormatOption = None,
    carry: CarryOption = None,
    max_fraction: Annotated[
        float | None, typer.Option("--max-fraction", help="Share of an item's words from which a document is dropped.")
    ] = None,
    workers: WorkersOption = 1,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop documents that hold evaluation items: kept.parquet, contaminated.parquet with the item, hits.parquet."""
    contamination: dict[str, Any] = {"sets": {"eval": {"paths": against, "fields": field or []}}}
    if max_fraction is not None:
        contamination["max_fraction"] = max_fraction
    chosen = files_of(files, text_field, id_field, format, carry, set_, workers)
    run_verb("decontaminate", chosen, out, {"curate": {"contamination": contamination}}, as_json=as_json)


def files_of(
    paths: list[str],
    text_field: str,
    id_field: str | None,
    format: str | None,
    carry: list[str] | None,
    assignments: list[str] | None,
    workers: int,
    engagement: list[str] | None = None,
) -> Any:
    from redone_data.standalone import Files

    return Files(
        tuple(paths),
        text_field,
        id_field,
        format,
        tuple(carry or ()),
        tuple(engagement or ()),
        tuple(assignments or ()),
        workers,
    )


def run_verb(verb: Any, files: Any, out: Path, settings: dict[str, Any], *, as_json: bool) -> None:
    # Imported late: --help answers at once.
    from redone_data.report.terminal import Bars
    from redone_data.standalone import run

    with Bars(Console(stderr=as_json, soft_wrap=True)) as bars:
        result = run(verb, files, out, settings, bars)
    show_result(result, as_json=as_json, counted="occurrences" if verb == "redact" else "documents")


def show_result(result: Any, *, as_json: bool, counted: str = "documents") -> None:
    """What a verb found, as a table or as JSON."""
    from redone_data.report.human import count, share

    if as_json:
        tables = {name: str(path) for name, path in result.tables.items()}
        typer.echo(json.dumps({"documents": result.documents, "counts": result.counts, "tables": tables}, indent=1))
        return
    table = Table("", counted, "of all", box=None)
    for name, number in sorted(result.counts.items(), key=lambda item: -item[1]):
        table.add_row(name.replace("_", " "), count(number), share(result.fractions[name]))
    console = Console(soft_wrap=True)
    console.print(f"\n{count(result.documents)} documents", highlight=False)
    console.print(table)
    for path in result.tables.values():
        console.print(f"  {path}", highlight=False)
