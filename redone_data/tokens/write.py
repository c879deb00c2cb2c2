"""Shows a finished sample as a token dataset: hard links to its shards, the tokenizer, and a manifest."""

from pathlib import Path
from typing import Any

from redone_data.engine import Output
from redone_data.errors import RedoneError
from redone_data.manifest import MANIFEST, link
from redone_data.tokens.dataset import TokenDataset, write_manifest
from redone_data.tokens.sample import Sample
from redone_data.tokens.tokenizer import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE


def write_dataset(folder: Path, sample: Sample, tokenizer: Output) -> TokenDataset:
    """Make `folder` the token dataset of a sample (of tokens); it replaces a dataset that lay there before.

    Costs no copy on one file system. Files that are not a dataset's stay as they are.
    """
    config, pool_meta = sample.plan.manifest["config"], tokenizer.statistics
    described = sample.shards.manifest["files"]
    shards = []
    for task in sample.shards.tasks:
        if "index" not in task:
            raise RedoneError("a sample of text is no token dataset; sample with emit='tokens'")
        files = {"tokens_file": task["file"], "index_file": task["index"], "spans_file": task["spans"]}
        counts = {name: task[name] for name in ("documents", "tokens", "bytes")}
        shards.append({**counts, **{key: {"name": name, **described[name]} for key, name in files.items()}})
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)
    for shard in shards:
        for key in ("tokens_file", "index_file", "spans_file"):
            _show(sample.shards.folder / shard[key]["name"], folder / shard[key]["name"])
    for name in (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE):
        _show(tokenizer.folder / name, folder / name)
    meta: dict[str, Any] = {name: pool_meta[name] for name in ("sha256", "vocab_size", "eos_token", "eos_token_id")}
    write_manifest(
        folder,
        tokenizer={"file": TOKENIZER_FILE, **meta},
        token_bytes=sample.shards.statistics["token_bytes"],
        seed=config["seed"],
        budget=config["budget"],
        weights=config["weights"],
        epochs=sample.plan.statistics["epochs"],
        domains=sample.shards.statistics["domains"],
        langs=sample.shards.statistics["langs"],
        shards=shards,
    )
    return TokenDataset.open(folder)


def _clear(folder: Path) -> None:
    """Take away the manifest first, so that no reader meets half of each, then shards of an earlier dataset."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for pattern in ("[0-9]*.ds", "[0-9]*.ds.index", "[0-9]*.spans.parquet"):
        for path in folder.glob(pattern):
            path.unlink()


def _show(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    link(source, target)
