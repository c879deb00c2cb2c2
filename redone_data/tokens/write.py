"""Shows a finished sample as a token dataset: hard links to its shards, the tokenizer, and a manifest."""

from pathlib import Path

from redone_data.engine import Output
from redone_data.errors import RedoneError
from redone_data.manifest import MANIFEST, link, read_json
from redone_data.tokens.dataset import SHARD_FILES, TokenDataset, write_manifest
from redone_data.tokens.sample import Sample
from redone_data.tokens.tokenizer import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE


def write_dataset(folder: Path, sample: Sample, tokenizer: Output) -> TokenDataset:
    """Make `folder` the token dataset of a sample (of tokens); it replaces a dataset that lay there before.

    Costs no copy on one file system. Files that are not a dataset's stay as they are.
    """
    config, meta = sample.plan.manifest["config"], tokenizer.statistics
    described = sample.shards.manifest["files"]
    shards = []
    for task in sample.shards.tasks:
        if "index" not in task:
            raise RedoneError("a sample of text is no token dataset; sample with emit='tokens'")
        files = {"tokens_file": task["file"], "index_file": task["index"], "spans_file": task["spans"]}
        counts = {name: task[name] for name in ("documents", "tokens", "bytes")}
        shards.append({**counts, **{key: {"name": name, **described[name]} for key, name in files.items()}})
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder, {shard["tokens_file"]["name"] for shard in shards})
    for shard in shards:
        for key in SHARD_FILES:
            _show(sample.shards.folder / shard[key]["name"], folder / shard[key]["name"])
    for name in (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE):
        _show(tokenizer.folder / name, folder / name)
    write_manifest(
        folder,
        tokenizer={
            "file": TOKENIZER_FILE,
            **{name: meta[name] for name in ("sha256", "vocab_size", "eos_token", "eos_token_id")},
        },
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


def _clear(folder: Path, names: set[str]) -> None:
    """Take away an earlier dataset, as its own manifest lists it, and nothing else."""
    if (folder / MANIFEST).exists():
        earlier = read_json(folder / MANIFEST)
        if not isinstance(earlier, dict) or "schema_version" not in earlier:
            raise RedoneError(f"{folder}: holds a {MANIFEST} that is not a token dataset's; choose another folder")
        for shard in earlier["shards"]:
            for key in SHARD_FILES:
                (folder / shard[key]["name"]).unlink(missing_ok=True)
        (folder / MANIFEST).unlink()
    strangers = sorted(path.name for path in folder.glob("*.ds") if path.name not in names)
    if strangers:
        raise RedoneError(f"{folder / strangers[0]}: of no dataset known here; remove it, or choose another folder")


def _show(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    link(source, target)
