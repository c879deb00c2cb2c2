"""Which items a model was trained on: its training files, looked through for what is measured.

Of an item only its own texts are looked for (the post, the reference answer), never what a prompt adds: system text,
shots, options. A task is indexed whole, so that wording in many of its items is known as such where few are asked.
Training text streams through the index of the items once (redone_data/curate/leaks.py, the n-grams of `redone-data
decontaminate`): JSON lines at 60 MB/s a core, memory does not grow with them.
"""

import glob
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.curate.leaks import LeakSearch
from redone_data.errors import RedoneError
from redone_data.manifest import digest, read_json, write_json
from redone_train.data.conversations import json_lines

VERSION = 1  # of what is kept: raised when it would be another
HELD_OUT = ("held_out", "validation")  # values of `split` that are not trained on
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
BATCH_CHARACTERS, BATCH_ROWS = 4_000_000, 10_000
READ_ROWS = 500  # of a Parquet file at a time: documents may be books
NAMED = 4  # files that a sentence names
NOT_CHECKED = "Not checked: no trained_on given, so nothing says which items the models were trained on."
TEXTS = ("messages", "prompt", "chosen", "rejected", "text")

Texts = Mapping[str, Mapping[str, Mapping[str, str]]]  # task -> item -> field -> text
Batch = tuple[list[str], list[str]]  # ids, texts


def find_trained_on(
    texts: Texts, asked: Mapping[str, Collection[str]], trained_on: Mapping[str, Sequence[str]], base: Path, cache: Path
) -> dict[str, Any]:
    """What results.json says under `trained_on`; what was looked through before is kept in the folder `cache`.

    asked: task -> the items of `texts` that are measured; the others show what is wording. trained_on: model -> files,
    globs or folders. RedoneError: a path is absent, or a file holds no training text.
    """
    named = {model: training_files(paths, base, f"trained_on.{model}") for model, paths in trained_on.items()}
    every = {path: label for labels in named.values() for path, label in sorted(labels.items())}
    files = {model: [every[path] for path in labels] for model, labels in named.items()}
    stamps = [[label, path.stat().st_size, path.stat().st_mtime_ns] for path, label in every.items()]
    kept = cache / f"{digest([VERSION, stamps, texts])[:32]}.json"
    if not kept.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        write_json(kept, _looked_through(texts, every))
    found = read_json(kept)
    models = {
        model: {"files": [{"file": label, "documents": found["documents"][label]} for label in labels]}
        for model, labels in files.items()
    }
    tasks = {task: _measured(found["tasks"][task], items, files) for task, items in asked.items()}
    return {"rule": found["rule"], "models": models, "tasks": tasks}


def _looked_through(texts: Texts, files: Mapping[Path, str]) -> dict[str, Any]:
    names = {f"{task}\0{item}": (task, item) for task, items in texts.items() for item in items}
    search = LeakSearch({name: texts[task][item] for name, (task, item) in names.items()})
    documents: dict[str, int] = {}
    for path, label in files.items():
        documents[label] = 0
        for ids, said in read_documents(path):
            documents[label] += len(ids)
            search.look(label, ids, said)
    tasks: dict[str, Any] = {task: {"short": [], "found": {}} for task in texts}
    for name, (task, item) in names.items():
        if name not in search.looked_for:
            tasks[task]["short"].append(item)
        if (leaks := search.found.get(name)) is not None:
            most = [asdict(leak) for leak in leaks.most]
            tasks[task]["found"][item] = {"files": leaks.files, "documents": most}
    return {"rule": search.rule, "documents": documents, "tasks": tasks}


def _measured(task: Mapping[str, Any], asked: Collection[str], files: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Of the items that are measured: those too short to be looked for, and which models were trained on others."""
    found = {
        item: {"models": [model for model, labels in files.items() if {*labels} & {*one["files"]}], **one}
        for item, one in task["found"].items()
        if item in asked
    }
    return {"n": len(asked), "short": [item for item in task["short"] if item in asked], "found": found}


def items_found(trained_on: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """task -> its items that a model was trained on."""
    tasks = {} if trained_on is None else trained_on["tasks"]
    return {task: list(one["found"]) for task, one in tasks.items() if one["found"]}


def statement(trained_on: Mapping[str, Any] | None, models: Sequence[str]) -> list[str]:
    """What was checked and what came of it, a sentence each; the same whether anything was given or not."""
    if trained_on is None:
        return [NOT_CHECKED]
    tasks = trained_on["tasks"].values()
    total, short = sum(task["n"] for task in tasks), sum(len(task["short"]) for task in tasks)
    said = []
    for model in models:
        if model not in trained_on["models"]:
            said.append(f"{model}: not checked, for trained_on does not name it.")
            continue
        files = trained_on["models"][model]["files"]
        documents = sum(file["documents"] for file in files)
        held = sum(model in one["models"] for task in tasks for one in task["found"].values())
        said.append(
            f"{model}: {held:,} of {total:,} items stand in what it was trained on: {documents:,} documents, "
            + ", ".join(file["file"] for file in files[:NAMED])
            + (f" and {len(files) - NAMED:,} more files." if len(files) > NAMED else ".")
        )
    rule = f"An item stands in {trained_on['rule']}."
    if left_out := trained_on.get("left_out"):
        total = sum(left_out.values())
        said.append(f"Not measured, because they stand in it: {total:,} items, of {len(left_out)} tasks.")
    return [*said, *([f"{short:,} items are too short to be looked for."] if short else []), rule]


def training_files(paths: Sequence[str], base: Path, where: str) -> dict[Path, str]:
    """The files that paths name, each as a person would: a file, a glob, or a folder (of a `mix` run, its corpus)."""
    found: dict[Path, str] = {}
    for given in paths:
        path = (base / Path(given).expanduser()).resolve()
        if path.is_dir():
            folder = path / "corpus" if (path / "corpus").is_dir() else path
            matches = [one for one in sorted(folder.rglob("*")) if one.name.endswith(SUFFIXES)]
        else:
            names = sorted(glob.glob(str(Path(given).expanduser()), root_dir=base, recursive=True))
            matches = [(base / name).resolve() for name in names]
        if not matches:
            raise RedoneError(f"{where}: {given}: no such file, and no folder with {', '.join(SUFFIXES)}")
        for file in matches:
            if not file.name.endswith(SUFFIXES):
                raise RedoneError(f"{where}: {file}: conversations, pairs or documents as {', '.join(SUFFIXES)} needed")
            found[file] = str(file) if Path(given).expanduser().is_absolute() else os.path.relpath(file, base)
    return found


def read_documents(file: Path) -> Iterator[Batch]:
    """What is trained on of a file, some at a time: every turn of a conversation, both answers of a pair, a text."""
    ids: list[str] = []
    texts: list[str] = []
    characters = 0
    for name, text in _parquet_texts(file) if file.suffix == ".parquet" else _line_texts(file):
        ids.append(name)
        texts.append(text)
        characters += len(text)
        if characters > BATCH_CHARACTERS or len(ids) == BATCH_ROWS:
            yield ids, texts
            ids, texts, characters = [], [], 0
    if ids:
        yield ids, texts


def _line_texts(file: Path) -> Iterator[tuple[str, str]]:
    for number, row in json_lines(file):
        texts = [text for name in TEXTS for text in _said(row.get(name))]
        if not texts:
            raise RedoneError(f"{file} line {number}: no text under {', '.join(TEXTS)}")
        if row.get("split") not in HELD_OUT:
            yield str(row.get("id", f"line {number}")), "\n".join(texts)


def _said(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (
            turn["content"] for turn in value if isinstance(turn, dict) and isinstance(turn.get("content"), str)
        )


def _parquet_texts(file: Path) -> Iterator[tuple[str, str]]:
    try:
        with pq.ParquetFile(file) as part:
            names = part.schema_arrow.names
            if "text" not in names:
                raise RedoneError(f"{file}: no column 'text'; give a corpus, RUN/corpus of `redone-data mix`")
            columns = [name for name in ("id", "text", "split") if name in names]
            row = 0
            for batch in part.iter_batches(batch_size=READ_ROWS, columns=columns):
                for values in batch.to_pylist():
                    row += 1
                    if values.get("split") not in HELD_OUT and values["text"]:
                        yield str(values.get("id", f"row {row}")), values["text"]
    except (OSError, pa.ArrowInvalid) as error:
        raise RedoneError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from None
