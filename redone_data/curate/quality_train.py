"""Trains a quality classifier from good and bad examples, and says on held-out ones how well it tells them apart.

Examples are ordered and split by the hash of their text: a tenth chooses the threshold, another tenth is only reported
on, and a text that occurs twice is on one side. One thread and a seed: the same examples give the same model, byte for
byte, whatever their order. Cost and held-out figures: benchmarks/quality.py.

Written to the folder: the model (`model.bin` or `model.txt`), `report.json`, and `report.html` with examples.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from redone_data.config import plain
from redone_data.curate.formats import read_file
from redone_data.curate.language import LanguageModel
from redone_data.curate.quality import (
    BAD,
    ENGAGEMENT,
    GOOD,
    MODEL_FILES,
    Classifier,
    Kind,
    load_classifier,
    metric_table,
)
from redone_data.curate.sources import DigestCache, SourceConfig, resolve_inputs
from redone_data.errors import RedoneError
from redone_data.manifest import atomic, write_json
from redone_data.report.quality import ScoredText, write_quality_page
from redone_data.text.features import METRICS
from redone_data.text.hashing import hash128
from redone_data.text.normalize import normalize
from redone_data.text.redact import redact
from redone_data.text.spaced import spaced

REPORT, PAGE = "report.json", "report.html"
# Of ten: eight to train on, one to choose the threshold with, one to report on.
TENTHS, CHOOSING, REPORTED = 10, 8, 9
KEEP_RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MIN_EXAMPLES = 50
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ExamplesConfig:
    """Labelled examples: a whole source of one label, or a field that holds the label."""

    source: SourceConfig
    label: str | None = field(default=None, metadata={"help": "good or bad, for all of the source"})
    label_field: str | None = field(default=None, metadata={"help": "the field that holds each example's label"})
    good_values: tuple[str, ...] = field(default=(), metadata={"help": "values of label_field that are good"})

    def __post_init__(self) -> None:
        if (self.label is None) == (self.label_field is None):
            raise RedoneError("examples: give either label (good or bad) or label_field with good_values")
        if self.label not in (None, GOOD, BAD):
            raise RedoneError(f"examples: label {self.label!r}; good and bad are allowed")
        if self.label_field is not None and not self.good_values:
            raise RedoneError("examples: good_values: name the values of label_field that are good")


@dataclass(frozen=True)
class TrainConfig:
    """How a classifier is trained."""

    kind: Kind = field(default="fasttext", metadata={"help": "fasttext (words) or lightgbm (text metrics)"})
    keep: float = field(default=0.5, metadata={"help": "the share of documents that the threshold shall keep"})
    use_engagement: bool = field(default=False, metadata={"help": "lightgbm: engagement too; not if labels rest on it"})
    dim: int = field(default=16, metadata={"help": "fasttext: size of a word's vector"})
    epochs: int = field(default=5, metadata={"help": "fasttext: passes over the examples"})
    learning_rate: float = field(default=0.5, metadata={"help": "fasttext"})
    buckets: int = field(default=1 << 18, metadata={"help": "fasttext: rows for pairs of words"})
    rounds: int = field(default=400, metadata={"help": "lightgbm: trees at most"})
    seed: int = field(default=1, metadata={"help": "of every random choice"})

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise RedoneError(f"keep: {self.keep}; a share between 0 and 1")
        if min(self.dim, self.epochs, self.buckets, self.rounds) < 1 or self.learning_rate <= 0:
            raise RedoneError("dim, epochs, buckets, rounds and learning_rate must be above 0")


@dataclass(frozen=True)
class Examples:
    """Labelled texts, by the hash of the text, each text once."""

    documents: pa.RecordBatch  # text, engagement
    good: Bools
    tenth: npt.NDArray[np.int64]

    @classmethod
    def of(cls, documents: pa.Table, good: Bools) -> "Examples":
        """Normalised, ordered and without repeats. A text with both labels is left out."""
        text = normalize(documents["text"])
        hi, lo = hash128(text)
        order = np.lexsort((~good, lo, hi))
        first = np.ones(len(order), bool)
        first[1:] = (hi[order][1:] != hi[order][:-1]) | (lo[order][1:] != lo[order][:-1])
        group = np.cumsum(first) - 1
        goods = np.bincount(group, good[order], minlength=first.sum())
        agreed = (goods == 0) | (goods == np.bincount(group))
        kept = order[first][agreed]
        engagement = documents["engagement"].combine_chunks().cast(pa.float64())
        batch = pa.RecordBatch.from_arrays(
            [text.take(pa.array(kept)), engagement.take(pa.array(kept))], ["text", "engagement"]
        )
        return cls(batch, good[kept], (hi[kept] % np.uint64(TENTHS)).astype(np.int64))

    def where(self, chosen: Bools) -> "Examples":
        rows = np.flatnonzero(chosen)
        return Examples(self.documents.take(pa.array(rows)), self.good[rows], self.tenth[rows])


@dataclass(frozen=True)
class Measured:
    """How well scores tell good from bad at a threshold."""

    documents: int
    good: int
    auc: float | None  # None when all have one label
    threshold: float
    kept: float
    precision: float | None  # of the kept, good; None when nothing is kept
    recall: float | None


def read_examples(sets: Sequence[ExamplesConfig], base: Path, max_record_bytes: int = 1 << 20) -> Examples:
    """All examples of some sources. Raises RedoneError when there are too few of a label to learn from."""
    tables, goods = [], []
    cache = DigestCache()
    for number, examples in enumerate(sets):
        source = examples.source
        if examples.label_field is not None:
            source = replace(source, fields=replace(source.fields, meta=(examples.label_field,)))
        for file in resolve_inputs(source, base, f"examples[{number}]", cache):
            for records in read_file(file, source, max_record_bytes):
                table = records.table.select(["text", "engagement"])
                if examples.label_field is None:
                    good = np.full(table.num_rows, examples.label == GOOD)
                else:
                    values = [_label(meta, examples.label_field) for meta in records.table["meta"].to_pylist()]
                    table = table.filter(pa.array([value is not None for value in values], pa.bool_()))
                    good = np.array([value in examples.good_values for value in values if value is not None], bool)
                tables.append(table)
                goods.append(good)
    found = Examples.of(pa.concat_tables(tables), np.concatenate(goods))
    num_good = int(found.good.sum())
    if min(num_good, len(found.good) - num_good) < MIN_EXAMPLES:
        raise RedoneError(
            f"{num_good} good and {len(found.good) - num_good} bad examples; at least {MIN_EXAMPLES} of each are needed"
        )
    return found


def _label(meta: str | None, name: str) -> str | None:
    value = json.loads(meta).get(name) if meta else None
    return None if value is None else str(value)


def train(examples: Examples, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train a classifier into `folder`; the report, as also written to report.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILES[config.kind]
    training = examples.where(examples.tenth < CHOOSING)
    choosing, reported = examples.where(examples.tenth == CHOOSING), examples.where(examples.tenth == REPORTED)
    with atomic(path) as aside:
        if config.kind == "fasttext":
            _train_words(training, config, aside)
        else:
            _train_metrics(training, choosing, config, aside)
    load_classifier.cache_clear()
    classifier = load_classifier(path, config.kind)
    report = {
        "config": plain(config),
        "training_documents": len(training.good),
        **evaluate(classifier, choosing, reported, config.keep),
    }
    write_json(folder / REPORT, report)
    # Personal data masked: the page may travel with the model.
    texts, _ = redact(reported.documents.column("text"))
    scored = zip(texts.to_pylist(), reported.good.tolist(), classifier.scores(reported.documents).tolist(), strict=True)
    write_quality_page(report, [ScoredText(*one) for one in scored], folder.name, folder / PAGE)
    return report


def evaluate(classifier: Classifier, choosing: Examples, reported: Examples, keep: float) -> dict[str, Any]:
    """Held-out metrics: at the threshold that keeps `keep`, by language, and at every keep rate."""
    chosen = classifier.scores(choosing.documents).astype(np.float64)
    scores = classifier.scores(reported.documents).astype(np.float64)
    threshold = threshold_keeping(chosen, keep)
    languages, _ = LanguageModel.load(None).identify(reported.documents.column("text"))
    base = languages.str.split("-").list.first().to_numpy()
    by_language = {
        str(name): plain(measure(scores[base == name], reported.good[base == name], threshold))
        for name in sorted(set(base.tolist()))
        if (base == name).sum() >= MIN_EXAMPLES
    }
    rates = {str(rate): plain(measure(scores, reported.good, threshold_keeping(chosen, rate))) for rate in KEEP_RATES}
    return {
        "threshold": threshold,
        "held_out": plain(measure(scores, reported.good, threshold)),
        "by_language": by_language,
        "by_keep_rate": rates,
    }


def threshold_keeping(scores: Floats, keep: float) -> float:
    """The least score that is kept when a share `keep` of the documents stays."""
    return float(np.quantile(scores, 1 - keep)) if len(scores) else 0.5


def measure(scores: Floats, good: Bools, threshold: float) -> Measured:
    """Precision, recall and AUC of scores against labels."""
    kept = scores >= threshold
    right = int((kept & good).sum())
    return Measured(
        documents=len(good),
        good=int(good.sum()),
        auc=auc(scores, good),
        threshold=threshold,
        kept=float(kept.mean()) if len(kept) else 0.0,
        precision=right / int(kept.sum()) if kept.any() else None,
        recall=right / int(good.sum()) if good.any() else None,
    )


def auc(scores: Floats, good: Bools) -> float | None:
    """The chance that a good example scores above a bad one, ties counted half; None when all have one label.

    >>> auc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    num_good = int(good.sum())
    num_bad = len(good) - num_good
    if not num_good or not num_bad:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[good].sum() - num_good * (num_good + 1) / 2) / (num_good * num_bad))


def _train_words(examples: Examples, config: TrainConfig, path: Path) -> None:
    import fasttext

    labels = np.where(examples.good, f"__label__{GOOD} ", f"__label__{BAD} ")
    texts = spaced(examples.documents.column("text"))
    lines = pc.binary_join_element_wise(pa.array(labels, texts.type), texts, pa.scalar("", texts.type))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "examples.txt"
        file.write_text("\n".join(lines.to_pylist()) + "\n", encoding="utf-8")
        # One thread: with more, threads race and two trainings differ.
        model = fasttext.train_supervised(
            str(file),
            dim=config.dim,
            epoch=config.epochs,
            lr=config.learning_rate,
            wordNgrams=2,
            minCount=2,
            bucket=config.buckets,
            loss="softmax",
            thread=1,
            seed=config.seed,
            verbose=0,
        )
    model.save_model(str(path))


def _train_metrics(examples: Examples, choosing: Examples, config: TrainConfig, path: Path) -> None:
    import lightgbm

    names = [*METRICS, *([ENGAGEMENT] if config.use_engagement else [])]
    training = lightgbm.Dataset(metric_table(examples.documents, names), examples.good, feature_name=names)
    stopping = lightgbm.Dataset(metric_table(choosing.documents, names), choosing.good, reference=training)
    settings = {
        "objective": "binary",
        "learning_rate": 0.05,
        "num_leaves": 31,
        "min_data_in_leaf": 20,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": config.seed,
        "verbosity": -1,
    }
    stop = lightgbm.early_stopping(30, verbose=False)
    booster = lightgbm.train(settings, training, config.rounds, valid_sets=[stopping], callbacks=[stop])
    path.write_text(booster.model_to_string(num_iteration=booster.best_iteration), encoding="utf-8")
