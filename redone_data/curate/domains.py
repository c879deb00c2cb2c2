"""Where a domain comes from: one pool split by a field, a label, a score, or the clusters of its text or vectors.

A platform's pool becomes sub-domains ``pool/value``, each as good a domain as any: mixed, measured and reported by
itself, under the rules of its pool. Splitting is a step after reading and before everything else; each sub-domain looks
like what `read` wrote. Each text is written once more, in parts of its sub-domain alone; labels are one small column.
A score must be measured before it can split, so that attribute is measured once on the pool and again on what came of
it.
"""

import functools
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from redone_data.corpus import CORPUS_SCHEMA, check_domain_name
from redone_data.curate.clusters import CENTERS, ClusterModel, ClusterStep, EmbeddingClusterStep
from redone_data.curate.embeddings import read_vectors
from redone_data.curate.parts import KEYS, TEXTS, write_parts
from redone_data.engine import Engine, Output, Step
from redone_data.errors import RedoneError
from redone_data.manifest import atomic, file_digest, link
from redone_data.rng import keyed_uniform
from redone_data.text.topics import nearest

Float64 = npt.NDArray[np.float64]

OTHER = "other"
# Text that a task of splitting holds: enough that parts of many sub-domains are not crumbs.
TASK_BYTES = 256 << 20
# A field with so many values in one part names documents, not domains.
MAX_VALUES = 10_000
MAX_NAME = 40
SAMPLED_VALUES = 200_000
BATCH_ROWS = 50_000
VECTORS_AT_A_TIME = 4_096


@dataclass(frozen=True)
class SplitConfig:
    """How one pool becomes several domains."""

    by: Literal["field", "label", "quality", "clusters", "embeddings"] = field(
        metadata={
            "help": "a field of the record, a classifier's label, a score, clusters of the text itself, or clusters of "
            "the vectors under the sources' fields.embedding"
        }
    )
    name: str | None = field(default=None, metadata={"help": "field: its name, one of the sources' fields.meta"})
    model: str | None = field(default=None, metadata={"help": "label: path of a fastText model with labels"})
    min_confidence: float = field(default=0.0, metadata={"help": "label: a less certain one counts as other"})
    attribute: str | None = field(default=None, metadata={"help": "quality: a column that rules may ask"})
    bounds: tuple[float, ...] = field(default=(), metadata={"help": "quality: where a bucket ends and the next begins"})
    quantiles: int = field(default=4, metadata={"help": "quality: so many buckets of equal size, without bounds"})
    clusters: int = field(default=16, metadata={"help": "clusters, embeddings: how many"})
    sample: int = field(default=30_000, metadata={"help": "clusters, embeddings: documents they are formed on"})
    rename: dict[str, str] = field(
        default_factory=dict, metadata={"help": "field, label: value -> sub-domain; all others become other"}
    )
    max_domains: int = field(default=32, metadata={"help": "the largest sub-domains; the rest become other"})
    min_documents: int = field(default=1, metadata={"help": "a smaller sub-domain becomes other"})

    def __post_init__(self) -> None:
        needed = {"field": "name", "label": "model", "quality": "attribute"}.get(self.by)
        if needed is not None and getattr(self, needed) is None:
            raise RedoneError(f"by: {self.by} needs {needed}")
        if self.rename and self.by not in ("field", "label"):
            raise RedoneError(f"rename: buckets of by: {self.by} have no names to change")
        if list(self.bounds) != sorted(set(self.bounds)):
            raise RedoneError("bounds: they must increase")
        for name, least in (("max_domains", 1), ("min_documents", 1), ("quantiles", 2), ("clusters", 2), ("sample", 1)):
            if getattr(self, name) < least:
                raise RedoneError(f"{name}: {getattr(self, name)}; at least {least} is needed")
        if not 0 <= self.min_confidence <= 1:
            raise RedoneError(f"min_confidence: {self.min_confidence}; a share between 0 and 1")


def split_domain(
    engine: Engine,
    domain: str,
    reads: Sequence[Output],
    config: SplitConfig,
    *,
    seed: int,
    part_bytes: int,
    attributes: Sequence[Output] = (),
) -> list[Output]:
    """Split the finished reads of one domain: an output for each of its sub-domains and reads.

    attributes: for by: quality, the finished step that measures the attribute, for each read.
    """
    labels = engine.run_all(_label_steps(engine, reads, config, seed, attributes))
    names = choose_names(domain, [task["counts"] for label in labels for task in label.tasks], config)
    splits = engine.run_all(
        [SplitStep(read, label, names, part_bytes) for read, label in zip(reads, labels, strict=True)]
    )
    return engine.run_all(
        [
            SubdomainStep(split, name)
            for split in splits
            for name in sorted(set(names.values()))
            if any(part["domain"] == name for task in split.tasks for part in task["split"])
        ]
    )


def _label_steps(
    engine: Engine, reads: Sequence[Output], config: SplitConfig, seed: int, attributes: Sequence[Output]
) -> "list[LabelStep]":
    if config.by == "field":
        return [FieldStep(read, str(config.name)) for read in reads]
    if config.by == "label":
        path = Path(str(config.model))
        if not path.is_file():
            raise RedoneError(f"split.model: {path} is not a file; give the path of a fastText model")
        return [ModelLabelStep(read, str(path), file_digest(path), config.min_confidence) for read in reads]
    if config.by == "clusters":
        model = engine.run(ClusterStep(tuple(reads), config.clusters, config.sample, seed))
        return [ClusterLabelStep(read, model) for read in reads]
    if config.by == "embeddings":
        model = engine.run(EmbeddingClusterStep(tuple(reads), config.clusters, config.sample, seed))
        return [EmbeddingLabelStep(read, model) for read in reads]
    beside = {output.manifest["inputs"]["read"]: output for output in attributes}
    pairs = [(read, beside[read.fingerprint]) for read in reads]
    bounds = config.bounds or quantile_bounds(pairs, str(config.attribute), config.quantiles, seed)
    return [BucketStep(read, measured, str(config.attribute), bounds) for read, measured in pairs]


@dataclass(frozen=True)
class LabelStep(Step):
    """A label for each document of one `read` step, null where it has none. Subclasses say which."""

    VERSION = 1

    read: Output

    def columns(self) -> list[str]:
        """The columns of a part that :meth:`label` looks at."""
        return ["text"]

    @abstractmethod
    def label(self, batch: pa.RecordBatch, rows: slice, part: str) -> pa.Array:
        """Strings, one for each row of `batch`, which is these rows of the part."""

    def inputs(self) -> dict[str, str]:
        return {"read": self.read.fingerprint}

    def tasks(self) -> list[str]:
        return [part["file"] for task in self.read.tasks for part in task["parts"]]

    def run(self, task: str, index: int, folder: Path) -> dict[str, Any]:
        found: list[pa.Array] = []
        start = 0
        with pq.ParquetFile(self.read.folder / task) as part:
            for batch in part.iter_batches(batch_size=BATCH_ROWS, columns=self.columns()):
                found.append(self.label(batch, slice(start, start + batch.num_rows), task).cast(pa.string()))
                start += batch.num_rows
        labels = pa.chunked_array(found, pa.string()).combine_chunks()
        counts = {row["values"]: row["counts"] for row in pc.value_counts(labels.drop_null()).to_pylist()}
        if len(counts) > MAX_VALUES:
            raise RedoneError(f"{self.name}: over {MAX_VALUES} values in one part; split by what names few domains")
        with atomic(folder / task) as aside:
            pq.write_table(pa.table({"label": labels.dictionary_encode()}), aside, compression="zstd")
        return {"counts": counts}


@dataclass(frozen=True)
class FieldStep(LabelStep):
    """The value of a field that was carried along in meta."""

    name = "split-field"

    key: str

    def config(self) -> Any:
        return {"field": self.key}

    def columns(self) -> list[str]:
        return ["meta"]

    def label(self, batch: pa.RecordBatch, rows: slice, part: str) -> pa.Array:
        metas = (None if meta is None else json.loads(meta) for meta in batch.column("meta").to_pylist())
        values = [None if meta is None else meta.get(self.key) for meta in metas]
        return pa.array([None if value is None or value == "" else str(value) for value in values], pa.string())


@dataclass(frozen=True)
class ModelLabelStep(LabelStep):
    """The most likely label of a fastText classifier."""

    name = "split-label"

    model: str
    model_sha256: str
    min_confidence: float

    def config(self) -> Any:
        return {"model": self.model_sha256, "min_confidence": self.min_confidence}

    def label(self, batch: pa.RecordBatch, rows: slice, part: str) -> pa.Array:
        lines = pc.replace_substring(batch.column("text"), "\n", " ").to_pylist()
        labels, scores = _classifier(self.model).predict(lines)
        return pa.array(
            [
                found[0].removeprefix("__label__") if found and score[0] >= self.min_confidence else None
                for found, score in zip(labels, scores, strict=True)
            ],
            pa.string(),
        )


@functools.lru_cache(maxsize=2)
def _classifier(path: str) -> Any:
    import fasttext

    try:
        return fasttext.load_model(path)
    except ValueError as error:
        raise RedoneError(f"split.model: {path} is not a fastText model: {error}") from None


@dataclass(frozen=True)
class BucketStep(LabelStep):
    """The bucket of an attribute: q1 is the lowest; a value on a bound belongs to the bucket above it."""

    name = "split-quality"

    measured: Output
    attribute: str
    bounds: tuple[float, ...]

    def config(self) -> Any:
        return {"attribute": self.attribute, "bounds": list(self.bounds)}

    def inputs(self) -> dict[str, str]:
        return {**super().inputs(), "attributes": self.measured.fingerprint}

    def label(self, batch: pa.RecordBatch, rows: slice, part: str) -> pa.Array:
        values = _attribute(self.measured, part, self.attribute)[rows]
        bucket = np.searchsorted(np.array(self.bounds), values, side="right")
        return pa.array([f"q{number + 1}" for number in bucket], pa.string())


@dataclass(frozen=True)
class ClusterLabelStep(LabelStep):
    """The nearest cluster; none for a text without words."""

    name = "split-clusters"

    model: Output

    def config(self) -> Any:
        return {}

    def inputs(self) -> dict[str, str]:
        return {**super().inputs(), "clusters": self.model.fingerprint}

    def label(self, batch: pa.RecordBatch, rows: slice, part: str) -> pa.Array:
        return cluster_names(ClusterModel.load(self.model.folder).assign(batch.column("text")))


@dataclass(frozen=True)
class EmbeddingLabelStep(ClusterLabelStep):
    """The cluster nearest to a document's vector; none for a document without one."""

    name = "split-embeddings"

    def columns(self) -> list[str]:
        return ["num_bytes"]  # only to count rows by

    def label(self, batch: pa.RecordBatch, rows: slice, part: str) -> pa.Array:
        centers = np.load(self.model.folder / CENTERS)
        vectors = read_vectors(self.read.folder / part)
        starts = range(rows.start, rows.stop, VECTORS_AT_A_TIME)
        slices = (vectors[start : min(start + VECTORS_AT_A_TIME, rows.stop)] for start in starts)
        return cluster_names(np.concatenate([nearest(some.astype(np.float32), centers) for some in slices]))


def cluster_names(found: npt.NDArray[np.int32]) -> pa.Array:
    """Clusters by name: ``c07``; null for -1."""
    return pa.array([None if number < 0 else f"c{number:02d}" for number in found], pa.string())


def _attribute(measured: Output, part: str, name: str) -> Float64:
    names = pq.read_schema(measured.folder / part).names
    if name not in names:
        raise RedoneError(f"split.attribute: '{name}' is not measured; it may be: {', '.join(names)}")
    values: Float64 = pq.read_table(measured.folder / part, columns=[name])[name].to_numpy().astype(np.float64)
    return values


def quantile_bounds(
    pairs: Sequence[tuple[Output, Output]], attribute: str, quantiles: int, seed: int
) -> tuple[float, ...]:
    """Bounds that cut the documents into buckets of equal size, from a sample drawn by id."""
    rows = sum(part["rows"] for read, _ in pairs for task in read.tasks for part in task["parts"])
    found = []
    for read, measured in pairs:
        for part in (part["file"] for task in read.tasks for part in task["parts"]):
            keys = pq.read_table(read.folder / part, columns=["key_lo"])["key_lo"].to_numpy()
            drawn = keyed_uniform(seed, "quantiles", keys) < SAMPLED_VALUES / max(rows, 1)
            found.append(_attribute(measured, part, attribute)[drawn])
    values = np.concatenate(found)
    bounds = np.quantile(values, np.arange(1, quantiles) / quantiles, method="lower") if len(values) else []
    return tuple(sorted({float(bound) for bound in bounds}))


def choose_names(domain: str, counts: Sequence[Mapping[str, int]], config: SplitConfig) -> dict[str, str]:
    """Label -> sub-domain of the largest; all others, and documents without a label (""), are ``other``.

    >>> config = SplitConfig("field", "topic", max_domains=2)
    >>> choose_names("posts", [{"food": 5, "travel": 3}, {"food": 1, "cars": 1}], config)
    {'': 'posts/other', 'food': 'posts/food', 'travel': 'posts/travel'}
    """
    totals: dict[str, int] = {}
    named: dict[str, str] = {}
    for part in counts:
        for label, count in part.items():
            named[label] = config.rename.get(label, OTHER) if config.rename else _clean(label)
            totals[named[label]] = totals.get(named[label], 0) + count
    largest = sorted((name for name in totals if name != OTHER), key=lambda name: (-totals[name], name))
    own = {name for name in largest[: config.max_domains] if totals[name] >= config.min_documents}
    names = {"": f"{domain}/{OTHER}"}
    names |= {label: f"{domain}/{name}" for label, name in sorted(named.items()) if name in own}
    for name in names.values():
        check_domain_name(name)
    return names


def _clean(label: str) -> str:
    """A label as part of a domain's name."""
    kept = "".join("_" if sign in ',"' or not sign.isprintable() else sign for sign in label.strip())
    return kept[:MAX_NAME] or OTHER


@dataclass(frozen=True)
class SplitStep(Step):
    """Write the documents of one `read` step again, in parts of one sub-domain each."""

    name = "split"
    VERSION = 2

    read: Output
    labels: Output
    names: dict[str, str]
    part_bytes: int

    def config(self) -> Any:
        read = self.read.manifest["config"]
        origin = {"pool": read["domain"], "source_name": read["source_name"]}
        return {**origin, "names": self.names, "part_bytes": self.part_bytes}

    def inputs(self) -> dict[str, str]:
        return {"read": self.read.fingerprint, "labels": self.labels.fingerprint}

    def tasks(self) -> list[list[dict[str, Any]]]:
        groups: list[list[dict[str, Any]]] = [[]]
        size = 0
        for part in (part for task in self.read.tasks for part in task["parts"]):
            if groups[-1] and size + part["text_bytes"] > TASK_BYTES:
                groups.append([])
                size = 0
            groups[-1].append(part)
            size += part["text_bytes"]
        return groups

    def run(self, task: list[dict[str, Any]], index: int, folder: Path) -> dict[str, Any]:
        domains = sorted(set(self.names.values()))
        held: dict[str, list[pa.Table]] = {name: [] for name in domains}
        for part in task:
            table = pq.read_table(self.read.folder / part["file"], columns=CORPUS_SCHEMA.names)
            labels = pl.Series(pq.read_table(self.labels.folder / part["file"])["label"].cast(pa.string())).fill_null(
                ""
            )
            name = labels.replace_strict(self.names, default=self.names[""], return_dtype=pl.String).to_arrow()
            for domain in domains:
                inside = table.filter(pc.equal(name, domain))
                if inside.num_rows:
                    held[domain].append(inside)
        named = all(part["named"] for part in task)
        written = []
        for number, (domain, tables) in enumerate(held.items()):
            if tables:
                table = pa.concat_tables(tables).combine_chunks()
                column = pa.array([domain] * table.num_rows, pa.string())
                table = table.set_column(table.column_names.index("domain"), "domain", column)
                stem = f"part-{number:03d}-{index:05d}"
                parts = write_parts(folder, stem, table, self.part_bytes, named=named)
                written += [{**part, "domain": domain} for part in parts]
        return {"split": written, "rows": sum(part["rows"] for part in written)}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        sizes: dict[str, int] = {}
        for part in (part for result in results for part in result["split"]):
            sizes[part["domain"]] = sizes.get(part["domain"], 0) + part["rows"]
        assert sum(sizes.values()) == sum(part["rows"] for task in self.read.tasks for part in task["parts"])
        return {"documents": sizes}


@dataclass(frozen=True)
class SubdomainStep(Step):
    """One sub-domain of a split as a folder of its own, by links: what `read` would have written for it."""

    name = "domain"
    VERSION = 1

    split: Output
    domain: str

    def config(self) -> Any:
        split = self.split.manifest["config"]
        return {"domain": self.domain, "source_name": split["source_name"], "pool": split["pool"]}

    def inputs(self) -> dict[str, str]:
        return {"split": self.split.fingerprint}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        parts = [part for task in self.split.tasks for part in task["split"] if part["domain"] == self.domain]
        for part in parts:
            stem = part["file"].removesuffix(".parquet")
            for name in (part["file"], f"{stem}{KEYS}", f"{stem}{TEXTS}"):
                (folder / name).unlink(missing_ok=True)  # of a task that was killed
                link(self.split.folder / name, folder / name)
        return {
            "parts": [{key: value for key, value in part.items() if key != "domain"} for part in parts],
            "rows": sum(part["rows"] for part in parts),
            "text_bytes": sum(part["text_bytes"] for part in parts),
        }
