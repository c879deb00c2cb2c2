"""Text metrics of every document, computed once and stored beside its part.

Rules read these columns, so a changed threshold costs a second and not a pass over the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from redone_data.curate.language import LanguageConfig, LanguageModel
from redone_data.engine import Output, Step
from redone_data.manifest import atomic
from redone_data.text.features import METRICS, features

HISTOGRAM_BINS = 40

Float64 = npt.NDArray[np.float64]


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
                frames.append(
                    frame.with_columns(language=pl.Series(language), language_confidence=pl.Series(confidence))
                )
        frame = pl.concat(frames)
        with atomic(folder / task) as aside:
            pq.write_table(frame.to_arrow().cast(_narrow(frame)), aside, compression="zstd")
        histograms = {name: _histogram(frame[name].to_numpy().astype(np.float64), name) for name in METRICS}
        return {"languages": dict(sorted(frame["language"].value_counts().iter_rows())), "histograms": histograms}


def _narrow(frame: pl.DataFrame) -> pa.Schema:
    """Shares need no more than 32 bits; languages repeat."""
    kinds = {pl.Float64: pa.float32(), pl.Float32: pa.float32(), pl.String: pa.string()}
    return pa.schema([(name, kinds.get(type(kind), pa.int64())) for name, kind in frame.schema.items()])


def edges_of(metric: str) -> Float64:
    """The fixed bins of a metric: equal ones from 0 to 1 for shares, doubling in size for counts."""
    if metric.endswith(("_fraction", "_ratio")):
        return np.linspace(0, 1, HISTOGRAM_BINS + 1)
    return np.concatenate([[0.0], np.logspace(0, 20, HISTOGRAM_BINS, base=2)])


def histograms_of(outputs: Sequence[Output], metric: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """(edges, counts) of one metric over all documents of some metrics steps, from what the steps counted."""
    counts = np.zeros(HISTOGRAM_BINS, dtype=np.int64)
    for output in outputs:
        for task in output.tasks:
            counts += np.array(task["histograms"][metric], dtype=np.int64)
    return tuple(edges_of(metric).tolist()), tuple(counts.tolist())


def _histogram(values: Float64, metric: str) -> list[int]:
    edges = edges_of(metric)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, HISTOGRAM_BINS - 1)
    counts: list[int] = np.bincount(bins, minlength=HISTOGRAM_BINS).tolist()
    return counts
