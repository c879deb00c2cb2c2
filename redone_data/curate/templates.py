"""Templates that many documents fill in: "恭喜@ann 获得第12名", a thousand times.

A document's text with numbers, mentions, links and quotations masked is its template (text/templates.py).
``template_count`` is how many distinct texts share it: a bound on it drops them all, as spam deserves.
``template_rank`` orders the texts of a template by engagement, then by id: a bound of 3 keeps the best three. Near-
duplicates miss these where the filled-in part is long beside the rest.

Cost: one pass that splits words, 48 bytes of disk a document that has a template, a sort by range of hashes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa

from redone_data.corpus import Corpus
from redone_data.curate.attributes import AttributeStep, corpus_file, histograms, write_attributes
from redone_data.curate.groups import part_of
from redone_data.engine import Engine, Output, Step
from redone_data.errors import RedoneError
from redone_data.exchange import NUM_BUCKETS, bucket_of, bucket_ranges, read_slices, write_slices
from redone_data.text.hashing import to_hex
from redone_data.text.templates import NO_TEMPLATE, templates


@dataclass(frozen=True)
class TemplatesConfig:
    """When documents share a template."""

    min_words: int = field(
        default=6, metadata={"help": "with fewer distinct words left a text has no template; a Han character is a word"}
    )

    def __post_init__(self) -> None:
        if self.min_words < 1:
            raise RedoneError(f"min_words: {self.min_words}; at least 1")


@dataclass(frozen=True)
class TemplateHashStep(Step):
    """The template of every document that has one, sliced by its hash."""

    name = "template-hashes"
    VERSION = 1

    corpus: Corpus
    settings: TemplatesConfig

    def config(self) -> Any:
        return {"min_words": self.settings.min_words}

    def inputs(self) -> dict[str, str]:
        return self.corpus.inputs()

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        found = [templates(batch.column("text"), min_words=self.settings.min_words) for batch in part.batches(["text"])]
        hashes = np.concatenate([np.zeros(0, np.uint64), *found])
        rows = np.flatnonzero(hashes != NO_TEMPLATE)
        table = part.read(["text_hi", "key_hi", "key_lo", "engagement"]).take(pa.array(rows))
        columns = {name: table[name].combine_chunks() for name in ("text_hi", "key_hi", "key_lo")}
        engagement = table["engagement"].combine_chunks().fill_null(-np.inf)
        columns |= {"hash": hashes[rows], "row": rows + part.offset, "engagement": engagement}
        write_slices(folder / f"templates-{index:05d}.arrow", bucket_of(hashes[rows]), NUM_BUCKETS, columns)
        return {"rows": len(rows)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {"rows": sum(result["rows"] for result in results)}


@dataclass(frozen=True)
class SharedTemplatesStep(Step):
    """Templates of two or more distinct texts: how many, each document's rank, and the best document."""

    name = "templates-shared"
    VERSION = 1

    corpus: Corpus
    hashed: Output

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return {"hashes": self.hashed.fingerprint}

    def tasks(self) -> list[tuple[int, int]]:
        return bucket_ranges(self.hashed.statistics["rows"])

    def run(self, task: tuple[int, int], index: int, folder: Path) -> dict[str, Any]:
        frame = pl.from_arrow(read_slices(self.hashed.files(".arrow"), *task))
        assert isinstance(frame, pl.DataFrame)
        best_first = ["hash", "engagement", "key_hi", "key_lo", "row"]
        frame = frame.sort(best_first, descending=[False, True, False, False, False])
        # A text stands where its best document does; copies of it share its rank.
        texts = frame.unique(["hash", "text_hi"], keep="first", maintain_order=True).with_columns(
            rank=pl.int_range(1, pl.len() + 1).over("hash"), count=pl.len().over("hash")
        )
        texts = texts.filter(pl.col("count") > 1)
        best = texts.filter(pl.col("rank") == 1).select("hash", best_hi="key_hi", best_lo="key_lo")
        shared = frame.select("hash", "text_hi", "row").join(
            texts.select("hash", "text_hi", "rank", "count"), on=["hash", "text_hi"], maintain_order="left"
        )
        shared = shared.join(best, on="hash", maintain_order="left").sort("row")
        columns = {name: shared[name].to_numpy() for name in ("row", "rank", "count", "best_hi", "best_lo")}
        parts = part_of(self.corpus, columns["row"])
        write_slices(folder / f"shared-{index:05d}.arrow", parts, len(self.corpus.parts), columns)
        return {"templates": len(best), "documents": len(shared)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: sum(result[key] for result in results) for key in ("templates", "documents")}


@dataclass(frozen=True)
class TemplatesStep(AttributeStep):
    """How many texts share each document's template, and where it stands among them."""

    name = "templates"
    VERSION = 1
    matches: ClassVar[dict[str, str]] = {"template_count": "template_of", "template_rank": "template_of"}

    corpus: Corpus
    shared: Output

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return {**self.corpus.inputs(), "shared": self.shared.fingerprint}

    def columns(self) -> dict[str, str]:
        return {
            "template_count": "distinct texts that share the document's template",
            "template_rank": "place of the document's text among them: 1 has most engagement",
        }

    def tasks(self) -> list[int]:
        return list(range(len(self.corpus.parts)))

    def run(self, task: int, index: int, folder: Path) -> dict[str, Any]:
        part = self.corpus.parts[task]
        shared = read_slices(self.shared.files(".arrow"), task, task + 1)
        rows = shared["row"].to_numpy() - part.offset
        count, rank = np.ones(part.rows, np.int64), np.ones(part.rows, np.int64)
        count[rows], rank[rows] = shared["count"].to_numpy(), shared["rank"].to_numpy()
        place = np.full(part.rows, -1, np.int64)
        place[rows] = np.arange(len(rows))
        ids = to_hex(shared["best_hi"].to_numpy(), shared["best_lo"].to_numpy()).cast(pa.string())
        of = ids.take(pa.array(place, mask=place < 0))
        frame = pl.DataFrame({"template_count": count, "template_rank": rank, "template_of": pl.Series(of)})
        write_attributes(corpus_file(folder, part), frame)
        return {"domain": part.domain, "histograms": histograms(frame, self.columns())}


def shared_templates(engine: Engine, corpus: Corpus, settings: TemplatesConfig) -> Output:
    """The attributes of templates of a whole corpus."""
    hashed = engine.run(TemplateHashStep(corpus, settings))
    return engine.run(TemplatesStep(corpus, engine.run(SharedTemplatesStep(corpus, hashed))))
