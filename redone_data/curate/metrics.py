"""Text metrics of every document, computed once and stored beside its part.

Rules read these columns, so a changed threshold costs a second and not a pass over the text.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.curate.language import LanguageConfig, LanguageModel
from redone_data.engine import Output, Step
from redone_data.manifest import atomic
from redone_data.text.features import features

HISTOGRAM_BINS = 40


@dataclass(frozen=True)
class MetricsStep(Step):
    """Metrics and language of the parts of one `read` step, row by row."""

    name = "metrics"
    VERSION = 1

    source: Output
    language: LanguageConfig
    model_sha256: str

    def config(self) -> Any:
        return {"language_model": self.model_sha256}

    def inputs(self) -> dict[str, str]:
        return {"read": self.source.fingerprint}

    def tasks(self) -> list[str]:
        return [part["file"] for task in self.source.tasks for part in task["parts"]]

    def run(self, task: str, index: int, folder: Path) -> dict[str, Any]:
        model = LanguageModel.load(self.language.model)
        frames = []
        with pq.ParquetFile(self.source.folder / task) as part:
            for batch in part.iter_batches(batch_size=50_000, columns=["text"]):
                text = batch.column(0)
                frame = features(text)
                language, confidence = model.identify(text, frame)
                frames.append(frame.with_columns(language=pl.Series(language), language_confidence=pl.Series(confidence)))
        frame = pl.concat(frames)
        with atomic(folder / task) as aside:
            pq.write_table(frame.to_arrow().cast(_narrow(frame)), aside, compression="zstd")
        return {"languages": dict(sorted(frame["language"].value_counts().iter_rows()))}


def _narrow(frame: pl.DataFrame) -> pa.Schema:
    """Shares need no more than 32 bits; languages repeat."""
    kinds = {pl.Float64: pa.float32(), pl.Float32: pa.float32(), pl.String: pa.string()}
    return pa.schema([(name, kinds.get(type(kind), pa.int64())) for name, kind in frame.schema.items()])


def histogram(values: np.ndarray[Any, Any]) -> tuple[list[int], list[float]]:
    """Counts over HISTOGRAM_BINS equal bins between the 0.5th and 99.5th percentile; the ends take the rest."""
    if not len(values):
        return [], []
    low, high = np.percentile(values, [0.5, 99.5])
    edges = np.linspace(low, high if high > low else low + 1, HISTOGRAM_BINS + 1)
    counts = np.bincount(np.clip(np.searchsorted(edges, values, side="right") - 1, 0, HISTOGRAM_BINS - 1), minlength=HISTOGRAM_BINS)
    return counts.tolist(), edges.tolist()
