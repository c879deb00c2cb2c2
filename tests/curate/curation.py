"""Small corpora, and a whole curation of them as a user would run it: files, a recipe, kept parts and ledger."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redone_data.curate.formats import read_file
from redone_data.curate.records import Records
from redone_data.curate.sources import DigestCache, FieldsConfig, InputFile, SourceConfig, resolve_inputs
from redone_data.pipeline import Run
from redone_data.recipe import load_recipe

Post = Mapping[str, Any]
FIELDS = {"id": "id", "engagement": ["likes"], "meta": ["bio"]}
WORDS = """
    river garden window copper market summer letter bridge silver forest planet coffee winter shadow engine basket
    mirror island thunder pepper velvet canyon harvest lantern marble orchid pebble rocket saddle temple umbrella
    violin walnut yellow zebra anchor bottle candle dragon falcon guitar hammer insect jacket kettle ladder magnet
    needle oyster pencil quartz ribbon spider tunnel urchin valley wizard almond butter cactus desert
""".split()  # noqa: SIM905
NO_RULES = {"preset": "none"}


def sentence(seed: int, num_words: int = 20) -> str:
    """Words drawn by the seed alone: two seeds give two texts that share next to no run of three words."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, num_words))


def posts(count: int, *, seed: int = 0, prefix: str = "p") -> list[dict[str, Any]]:
    """Unrelated posts with ids and likes."""
    return [{"id": f"{prefix}{i}", "text": sentence(1_000_000 * seed + i), "likes": i % 7} for i in range(count)]


def write_jsonl(path: Path, records: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def domain(*paths: str, fields: Mapping[str, Any] = FIELDS, **settings: Any) -> dict[str, Any]:
    """A domain of a recipe with one source; no rules unless they are given."""
    return {"sources": [{"paths": list(paths), "fields": dict(fields)}], "rules": NO_RULES, **settings}


@dataclass
class Curated:
    """A run up to the keep step, and its recipe."""

    run: Run
    recipe: dict[str, Any]

    @property
    def root(self) -> Path:
        return self.run.root

    def table(self, kind: str) -> pl.DataFrame:
        files = sorted(self.folder(kind).rglob("*.parquet"))
        return pl.concat([pl.read_parquet(file).with_columns(pl.col(pl.Categorical).cast(pl.String)) for file in files])

    def folder(self, kind: str) -> Path:
        output = {"corpus": self.run.kept, "ledger": self.run.curation.ledger}[kind]
        assert output is not None
        return output.folder

    @cached_property
    def kept(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.table("corpus").iter_rows(named=True)}

    @cached_property
    def dropped(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.table("ledger").iter_rows(named=True)}

    @property
    def texts(self) -> list[str]:
        return sorted(row["text"] for row in self.kept.values())

    def rules(self) -> dict[str, int]:
        """How many each rule dropped."""
        found: dict[str, int] = {}
        for row in self.dropped.values():
            found[row["rule"]] = found.get(row["rule"], 0) + 1
        return found

    def files(self, kind: str) -> dict[str, bytes]:
        """The bytes of every file of the keep step, or of the ledger's."""
        folder = self.folder(kind)
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def run_recipe(folder: Path, recipe: Mapping[str, Any], *, out: str = "run", until: Any = "curate") -> Curated:
    """Write `recipe` beside its inputs in `folder` and run it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    weights = dict.fromkeys(recipe["domains"], 1 / len(recipe["domains"]))
    values = {"output": out, "mix": {"weights": weights}, **recipe}
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")  # JSON is YAML
    loaded = load_recipe(path)
    run = Run(loaded, loaded.output(None))
    run.execute(until)
    return Curated(run, values)


def curate(folder: Path, corpora: Mapping[str, Sequence[Post]], *, out: str = "run", **recipe: Any) -> Curated:
    """Curate posts by domain. `recipe` takes top-level keys; ``domains`` is merged over the plain ones."""
    changed = recipe.pop("domains", {})
    domains = {}
    for number, (name, records) in enumerate(corpora.items()):
        write_jsonl(folder / f"{out}-{number}.jsonl", records)
        domains[name] = {**domain(f"{out}-{number}.jsonl"), **changed.get(name, {})}
    return run_recipe(folder, {"domains": domains, **recipe}, out=out)


def read(path: Path, *, max_record_bytes: int = 1 << 24, **source: Any) -> tuple[list[dict[str, Any]], list[Any]]:
    """All records of a file as its reader gives them, and the unreadable ones as (place, reason)."""
    fields = FieldsConfig(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in source.pop("fields", {}).items()}
    )
    config = SourceConfig((path.name,), fields=fields, **source)
    rows, bad = [], []
    for records in batches(config, path.parent, max_record_bytes):
        rows += records.table.to_pylist()
        bad += records.bad
    return rows, bad


def batches(config: SourceConfig, base: Path, max_record_bytes: int = 1 << 24) -> Iterable[Records]:
    for file in inputs(config, base):
        yield from read_file(file, config, max_record_bytes)


def inputs(config: SourceConfig, base: Path) -> list[InputFile]:
    return resolve_inputs(config, base, "recipe.yaml: domains.d.sources[0].paths", DigestCache())
