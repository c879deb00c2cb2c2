"""Quality scores: named classifiers applied to every document, as attributes `quality_NAME` from 0 to 1.

Two kinds. `fasttext` reads the words (what is said): spaced units, fastText with pairs of words. `lightgbm` reads the
text metrics and, if trained so, engagement (how it is said and received). Both are trained by `redone-data quality
train` (curate/quality_train.py) and bounded by rules as any attribute: `bounds: {quality_ads: {min: 0.3}}`. Cost:
benchmarks/quality.py.

Models are data that others may have made: fastText files are read by our own bounds-checked reader, LightGBM's text
format by its C++ parser. Use models that you trust; nothing here is unpickled.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from redone_data.config import plain
from redone_data.curate.attributes import SourceAttributes
from redone_data.errors import RedoneError, did_you_mean
from redone_data.manifest import file_digest
from redone_data.text.fasttext import FastTextModel
from redone_data.text.features import features
from redone_data.text.spaced import spaced

GOOD, BAD = "good", "bad"
ENGAGEMENT = "log_engagement"
PREFIX = "quality_"
MODEL_FILES = {"fasttext": "model.bin", "lightgbm": "model.txt"}
Kind = Literal["fasttext", "lightgbm"]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClassifierConfig:
    """One named classifier under ``curate.quality``."""

    model: str = field(metadata={"help": "the folder that `quality train` wrote, or a model file"})
    kind: Kind = field(default="fasttext", metadata={"help": "fasttext (words) or lightgbm (text metrics)"})
    good: str = field(default=GOOD, metadata={"help": "fasttext: the label whose probability is the score"})


def check_classifier_name(name: str) -> None:
    """A classifier's name is part of a column's: raises RedoneError unless it can be."""
    if not (name.isidentifier() and name.isascii() and len(name) <= 40):
        raise RedoneError(f"curate.quality: the name {name!r} is not allowed; letters, digits and _ are")


def classifier_path(config: ClassifierConfig, base: Path) -> Path:
    """The model file that a configuration names, relative to the recipe's folder."""
    path = base / config.model
    path = path / MODEL_FILES[config.kind] if path.is_dir() else path
    if not path.is_file():
        raise RedoneError(
            f"curate.quality: {path} is not a file; give the folder that `redone-data quality train` wrote"
        )
    return path


class Classifier(ABC):
    """Scores documents from 0 (bad) to 1 (good)."""

    @abstractmethod
    def scores(self, documents: pa.RecordBatch) -> Float32:
        """One score a row. Columns: text, and engagement where the classifier was trained with it."""

    def needs(self) -> list[str]:
        return ["text"]


@dataclass(frozen=True)
class WordClassifier(Classifier):
    """fastText over words and pairs of words."""

    model: FastTextModel
    good: str = GOOD

    def scores(self, documents: pa.RecordBatch) -> Float32:
        return self.model.probability(spaced(documents.column("text")), self.good)


@dataclass(frozen=True)
class MetricClassifier(Classifier):
    """LightGBM over text metrics."""

    booster: Any

    def needs(self) -> list[str]:
        return ["text", "engagement"] if ENGAGEMENT in self.booster.feature_name() else ["text"]

    def scores(self, documents: pa.RecordBatch) -> Float32:
        values = metric_table(documents, self.booster.feature_name())
        scores: Float32 = self.booster.predict(values, num_threads=1).astype(np.float32)
        return scores


def metric_table(documents: pa.RecordBatch, names: list[str]) -> npt.NDArray[np.float64]:
    """One row a document, one column a name; a missing engagement is NaN.

    Raises RedoneError for a name that this version does not measure.
    """
    frame = features(documents.column("text"))
    if ENGAGEMENT in names:
        engagement = pl.Series(documents.column("engagement")).cast(pl.Float64)
        frame = frame.with_columns(engagement.clip(lower_bound=0).log1p().fill_null(float("nan")).alias(ENGAGEMENT))
    for name in names:
        if name not in frame.columns:
            raise RedoneError(
                f"the model asks the metric '{name}'; {did_you_mean(name, frame.columns)}; train it again"
            )
    return frame.select(names).to_numpy().astype(np.float64)


@functools.lru_cache(maxsize=16)
def load_classifier(path: Path, kind: Kind, good: str = GOOD) -> Classifier:
    """The classifier in a model file; kept for the life of the process. Raises RedoneError for any other file."""
    if kind == "fasttext":
        model = FastTextModel.load(path)
        if good not in model.labels:
            raise RedoneError(f"{path}: it has no label '{good}'; {did_you_mean(good, model.labels)}")
        return WordClassifier(model, good)
    import lightgbm

    if not path.read_bytes()[:4] == b"tree":
        raise RedoneError(
            f"{path} is not a LightGBM model in text format; `redone-data quality train` writes model.txt"
        )
    try:
        return MetricClassifier(lightgbm.Booster(model_file=str(path)))
    except lightgbm.basic.LightGBMError as error:
        raise RedoneError(f"{path} is not a LightGBM model: {error}") from None


@dataclass(frozen=True)
class QualityStep(SourceAttributes):
    """Scores of named classifiers for the parts of one `read` step."""

    name = "quality"
    VERSION = 1

    classifiers: Mapping[str, ClassifierConfig]
    paths: Mapping[str, Path]  # of their model files, see classifier_path

    def __post_init__(self) -> None:
        for name in self.classifiers:
            check_classifier_name(name)

    def config(self) -> Any:
        return {
            name: {"kind": config.kind, "good": plain(config.good), "model": _digest(self.paths[name])}
            for name, config in sorted(self.classifiers.items())
        }

    def columns(self) -> dict[str, str]:
        return {PREFIX + name: f"score of the classifier '{name}', 0 to 1" for name in sorted(self.classifiers)}

    def needs(self) -> list[str]:
        return sorted({column for name in self.classifiers for column in self._classifier(name).needs()})

    def measure(self, batch: pa.RecordBatch) -> pl.DataFrame:
        return pl.DataFrame(
            {PREFIX + name: self._classifier(name).scores(batch) for name in sorted(self.classifiers)},
            schema=dict.fromkeys(self.columns(), pl.Float32),
        )

    def _classifier(self, name: str) -> Classifier:
        config = self.classifiers[name]
        return load_classifier(self.paths[name], config.kind, config.good)


@functools.lru_cache(maxsize=16)
def _digest(path: Path) -> str:
    return file_digest(path)
