"""``redone-data inspect``: look at anything this project writes."""

import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from redone_data.curate.lookup import texts_at
from redone_data.errors import RedoneError
from redone_data.manifest import MANIFEST, read_json
from redone_data.tokens.dataset import TokenDataset

CUT = 200


def show(path: Path, console: Console, *, examples: int, dropped: str | None, document: str | None) -> None:
    """Print what lies at `path`. Raises RedoneError when it is nothing that can be shown."""
    if not path.exists():
        raise RedoneError(f"{path}: there is nothing here")
    try:
        _show(path, console, examples=examples, dropped=dropped, document=document)
    except (OSError, pa.ArrowInvalid, pl.exceptions.ComputeError) as error:
        raise RedoneError(f"{path}: cannot be read: {str(error).strip().splitlines()[0]}") from None


def _show(path: Path, console: Console, *, examples: int, dropped: str | None, document: str | None) -> None:
    if dropped is not None:
        _show_dropped(path, console, dropped, examples)
    elif document is not None:
        _show_document(path, console, document)
    elif path.is_file() and path.suffix == ".json":
        console.print_json(path.read_text(encoding="utf-8"))
    elif path.suffix in (".ds", ".index"):
        raise RedoneError(f"{path}: a shard is shown with its dataset: redone-data inspect {path.parent}")
    elif _is_run(path):
        _show_run(path, console, examples)
    elif _is_dataset(path):
        _show_dataset(TokenDataset.open(path), console, examples)
    else:
        _show_parquet(path, console, examples)


def _tables(path: Path) -> dict[str, Path]:
    """Where the curated documents and the ledger lie: published, or the latest of a run that has not come further."""
    published = {name: path / name for name in ("corpus", "ledger") if (path / name).is_dir()}
    if published or not (path / "steps").is_dir():
        return published
    found = {}
    for name, step in (("corpus", "keep"), ("ledger", "ledger")):
        finished = [folder for folder in (path / "steps").glob(f"{step}-*") if (folder / MANIFEST).is_file()]
        if finished:
            found[name] = max(finished, key=lambda folder: (folder / MANIFEST).stat().st_mtime_ns)
    if not found:
        raise RedoneError(f"{path}: this run is not curated yet; its finished steps are in {path}/steps")
    return found


def _is_run(path: Path) -> bool:
    return (path / "proposal.json").is_file()


def _is_dataset(path: Path) -> bool:
    return (path / MANIFEST).is_file() and any(path.glob("*.ds"))


def _show_run(path: Path, console: Console, examples: int) -> None:
    manifest, proposal = read_json(path / MANIFEST), read_json(path / "proposal.json")
    console.print(f"A run of seed {manifest['recipe']['seed']}, {len(manifest['inputs'])} input files", highlight=False)
    table = Table("domain", "weight", "prior", "epochs", box=None)
    for name in proposal["domains"]:
        values = (proposal[key][name] for key in ("weights", "prior", "epochs"))
        table.add_row(escape(name), *(f"{value:.4f}" for value in values))
    console.print(table)
    console.print(proposal["decision"], highlight=False, markup=False)
    for name in ("corpus", "ledger", "quarantine", "text"):
        if (path / name).is_dir():
            console.rule(name, align="left")
            _show_parquet(path / name, console, examples)
    if (path / "tokens").is_dir():
        console.rule("tokens", align="left")
        _show_dataset(TokenDataset.open(path / "tokens"), console, examples)


def _parquet_files(path: Path) -> list[Path]:
    return [path] if path.suffix == ".parquet" else sorted(path.rglob("*.parquet"))


def _show_parquet(path: Path, console: Console, examples: int) -> None:
    tables = _tables(path)
    for name, folder in tables.items():
        console.rule(name, align="left")
        _show_parquet(folder, console, examples)
    if tables:
        return
    files = _parquet_files(path)
    if not files:
        raise RedoneError(f"{path}: nothing that redone-data writes: no Parquet files, proposal.json or token shards")
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    size = sum(file.stat().st_size for file in files)
    console.print(f"{rows} rows in {len(files)} Parquet files, {size / 1e6:.2f} MB", highlight=False)
    schema = pq.read_schema(files[0])
    console.print(
        "columns: " + ", ".join(f"{field.name} ({field.type})" for field in schema), highlight=False, markup=False
    )
    if "domain" in schema.names:
        scan = pl.scan_parquet(files)
        by = ["domain", "step", "rule"] if "rule" in schema.names else ["domain"]
        counts = scan.with_columns(pl.col(by).cast(pl.String)).group_by(by).len().sort(by).collect()
        table = Table(*by, "rows", box=None)
        for row in counts.rows():
            table.add_row(*(escape(str(value)) for value in row))
        console.print(table)
    for record in pl.scan_parquet(files).head(examples).collect().to_dicts():
        console.print(json.dumps(_cut(record), ensure_ascii=False, default=str), markup=False, emoji=False)


def _cut(record: dict[str, object]) -> dict[str, object]:
    return {
        key: value[:CUT] + "…" if isinstance(value, str) and len(value) > CUT else value
        for key, value in record.items()
        if value is not None
    }


def _show_dataset(dataset: TokenDataset, console: Console, examples: int) -> None:
    manifest = dataset.manifest
    console.print(
        f"{dataset.num_tokens} tokens in {dataset.num_documents} documents, vocabulary {dataset.vocab_size}, "
        f"seed {manifest['seed']}",
        highlight=False,
    )
    table = Table("domain", "weight", "epochs", "tokens", "documents", "bytes/token", box=None)
    for name, counts in sorted(manifest["domains"].items()):
        rate = counts["bytes"] / counts["tokens"] if counts["tokens"] else 0.0
        weight, epochs = manifest["weights"].get(name, 0.0), manifest["epochs"].get(name, 0.0)
        cells = f"{weight:.4f}", f"{epochs:.3f}", str(counts["tokens"]), str(counts["documents"]), f"{rate:.2f}"
        table.add_row(escape(name), *cells)
    console.print(table)
    for row in dataset.spans().head(examples).collect().to_dicts():
        tokens = dataset.tokens(row["start"], row["start"] + row["num_tokens"])
        console.print(f"[{row['domain']}] {row['id']}: {row['num_tokens']} tokens", markup=False, highlight=False)
        console.print(f"  {dataset.decode(tokens)[:CUT]!r}", markup=False, highlight=False, emoji=False)


def _show_dropped(path: Path, console: Console, rule: str, examples: int) -> None:
    """Ledger lines of one rule; in a run's folder, each dropped text beside the one it duplicates."""
    tables = _tables(path)
    ledger = tables.get("ledger", path)
    files = _parquet_files(ledger)
    if not files or "rule" not in pq.read_schema(files[0]).names:
        raise RedoneError(f"{path}: there is no ledger here; --dropped needs a run's folder, or its ledger")
    scan = pl.scan_parquet(files).with_columns(pl.col("step", "rule").cast(pl.String))
    rules = scan.group_by("rule").len().sort("rule").collect()
    if rule not in rules["rule"]:
        raise RedoneError(f"{path}: no document was dropped by '{rule}'; the rules are: {', '.join(rules['rule'])}")
    rows = scan.filter(pl.col("rule") == rule).head(examples).collect().to_dicts()
    console.print(f"{rules.filter(pl.col('rule') == rule)['len'][0]} documents were dropped by {rule}", highlight=False)
    dropped = texts_at(path / "steps", [(row["part"], row["row"]) for row in rows])
    kept = _texts_by_id(tables, [row["duplicate_of"] for row in rows if row["duplicate_of"]])
    matched = "kept" if kept else "matched"
    table = Table("domain", "value", "bound", "dropped", matched, box=None, show_lines=True, padding=(0, 2, 1, 0))
    for row in rows:
        text = dropped.get((row["part"], row["row"]), "")
        other = row["duplicate_of"] or ""
        original = f"{other}\n{kept.get(other, '')[:CUT]!r}" if other in kept else other or row["detail"] or ""
        numbers = ("" if row[name] is None else f"{row[name]:.4g}" for name in ("value", "bound"))
        table.add_row(escape(row["domain"]), *numbers, Text(f"{row['id']}\n{text[:CUT]!r}"), Text(original))
    console.print(table)


def _texts_by_id(tables: dict[str, Path], ids: list[str]) -> dict[str, str]:
    if not ids or "corpus" not in tables:
        return {}
    scan = pl.scan_parquet(_parquet_files(tables["corpus"])).filter(pl.col("id").is_in(ids)).select("id", "text")
    return dict(scan.collect().iter_rows())


def _show_document(path: Path, console: Console, identity: str) -> None:
    """One document by id, wherever it is in a run's folder, a corpus or a dataset."""
    found = False
    for folder in _tables(path).values() or [path]:
        for file in _parquet_files(folder):
            if "id" in pq.read_schema(file).names:
                for row in pl.scan_parquet(file).filter(pl.col("id") == identity).collect().to_dicts():
                    found = True
                    console.print_json(json.dumps(row, ensure_ascii=False, default=str))
    dataset = path / "tokens" if (path / "tokens").is_dir() else path
    if _is_dataset(dataset):
        tokens = TokenDataset.open(dataset)
        for row in tokens.find(identity).to_dicts():
            found = True
            text = tokens.decode(tokens.tokens(row["start"], row["start"] + row["num_tokens"]))
            console.print(f"tokens {row['start']} to {row['start'] + row['num_tokens']}: {text[:CUT]!r}", markup=False)
    if not found:
        raise RedoneError(f"{path}: no document with id {identity}")
