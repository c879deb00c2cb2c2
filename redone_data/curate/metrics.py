"""Text metrics and language of every document: the attributes that most rules ask."""

from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from redone_data.curate.attributes import SourceAttributes
from redone_data.curate.language import LanguageConfig, LanguageModel
from redone_data.text.features import METRICS, features


@dataclass(frozen=True)
class MetricsStep(SourceAttributes):
    """Metrics and language of the parts of one `read` step."""

    name = "metrics"
    VERSION = 4

    language: LanguageConfig
    model_sha256: str

    def config(self) -> Any:
        return {"language_model": self.model_sha256}

    def columns(self) -> dict[str, str]:
        return {**METRICS, "language_confidence": "how sure the language is, 0 to 1"}

    def measure(self, batch: pa.RecordBatch) -> pl.DataFrame:
        text = batch.column("text")
        language, confidence = LanguageModel.load(self.language.model).identify(text)
        return features(text).with_columns(language=language, language_confidence=pl.Series(confidence))

    def summary(self, frame: pl.DataFrame) -> dict[str, Any]:
        languages = dict(sorted(frame["language"].value_counts().iter_rows()))
        return {**super().summary(frame), "languages": languages}
