"""Our steps as blocks of a datatrove pipeline, between any of its readers and writers, on any of its executors.

    LocalPipelineExecutor([JsonlReader("posts"), NormalizeStep(), RedactStep(), RulesStep("sns"), JsonlWriter("out")])

Documents are gathered by the thousand and handed to the same kernels as in a recipe, as one Arrow array. The kernels'
speed is all but lost in the Python objects around them: measured with each step in docs/curation.md.
"""

import contextlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers.disk_base import DiskWriter
from datatrove.utils.typeshelper import StatHints

from redone_data.config import read_config
from redone_data.curate.language import LanguageConfig, LanguageModel
from redone_data.curate.policy import DomainPolicy
from redone_data.curate.read import ReadConfig
from redone_data.curate.rules import Bound, RulesConfig, judge
from redone_data.errors import RedoneError
from redone_data.text.features import METRICS, features
from redone_data.text.normalize import normalize
from redone_data.text.personal_data import ALL
from redone_data.text.promotion import PROMOTION_METRICS, promotion_metrics
from redone_data.text.redact import redact
from redone_data.text.web_metrics import WEB_METRICS, web_metrics

BATCH_DOCUMENTS = 1_000


class BatchStep(PipelineStep):  # type: ignore[misc]
    """A block that looks at many documents at once. A document it returns a reason for is dropped.

    exclusion_writer: a datatrove writer that takes the dropped documents, with the reason under ``filter_reason``.
    """

    def __init__(self, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__()
        self.exclusion_writer = exclusion_writer

    @abstractmethod
    def process(self, documents: list[Document], text: pa.Array) -> Iterable[str | None]:
        """Change the documents in place; the reason to drop each, None to keep it. text: their texts."""

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        incoming = iter(data)
        with self.exclusion_writer or contextlib.nullcontext() as writer:
            while batch := list(islice(incoming, BATCH_DOCUMENTS)):
                with self.track_time("batch"):
                    text = pa.array([document.text for document in batch], pa.large_string())
                    reasons = list(self.process(batch, text))
                for document, reason in zip(batch, reasons, strict=True):
                    self.stat_update(StatHints.total)
                    if reason is None:
                        self.stat_update(StatHints.forwarded)
                        self.update_doc_stats(document)
                        yield document
                        continue
                    self.stat_update(StatHints.dropped, f"dropped_{reason}")
                    if writer is not None:
                        document.metadata["filter_reason"] = reason
                        writer.write(document, rank)


class NormalizeStep(BatchStep):
    """NFC, line ends, no control characters, no invisible ones but those inside emoji."""

    type, name = "✂️ - FORMAT", "redone: normalize"

    def process(self, documents: list[Document], text: pa.Array) -> Iterable[None]:
        return _set_texts(documents, normalize(text))


class RedactStep(BatchStep):
    """Personal data under placeholders; how many of each kind is under ``redacted`` in the document's metadata."""

    type, name = "✂️ - FORMAT", "redone: redact"

    def __init__(self, kinds: Iterable[str] = ALL) -> None:
        super().__init__()
        self.kinds = ReadConfig(redact=tuple(kinds)).redact  # checks itself

    def process(self, documents: list[Document], text: pa.Array) -> Iterable[None]:
        masked, counts = redact(text, self.kinds)
        for kind, count in counts.items():
            for row in np.flatnonzero(count):
                documents[row].metadata.setdefault("redacted", {})[kind] = int(count[row])
        return _set_texts(documents, masked)


class LanguageStep(BatchStep):
    """Language and its confidence in the metadata; drops what is surely in none of `languages`, if any are given."""

    type, name = "🔻 - FILTER", "redone: language"

    def __init__(
        self,
        languages: Iterable[str] = (),
        min_confidence: float = LanguageConfig.min_confidence,
        model: str | None = None,
        exclusion_writer: DiskWriter | None = None,
    ) -> None:
        super().__init__(exclusion_writer)
        self.languages = DomainPolicy(languages=tuple(languages)).languages  # checks itself
        self.config = LanguageConfig(model, min_confidence)

    def process(self, documents: list[Document], text: pa.Array) -> Iterable[str | None]:
        languages, confidences = LanguageModel.load(self.config.model).identify(text)
        for document, language, confidence in zip(documents, languages, confidences.tolist(), strict=True):
            document.metadata |= {"language": language, "language_confidence": round(confidence, 4)}
            foreign = bool(self.languages) and not {language, language[:2]} & set(self.languages)
            yield "other_language" if foreign and confidence >= self.config.min_confidence else None


MEASURES = (METRICS, PROMOTION_METRICS, WEB_METRICS)


class RulesStep(BatchStep):
    """Drops what breaks a rule of a preset, or of `bounds` over it, with the name of the fault as its reason.

    bounds: metric -> {min, max}, as under ``rules.bounds`` in a recipe.
    """

    type, name = "🔻 - FILTER", "redone: rules"

    def __init__(
        self,
        preset: str = "sns",
        bounds: dict[str, dict[str, float]] | None = None,
        exclusion_writer: DiskWriter | None = None,
    ) -> None:
        super().__init__(exclusion_writer)
        values: dict[str, Any] = {"preset": preset, "bounds": bounds or {}}
        rules = read_config(RulesConfig, values, where="RulesStep")
        self.bounds = {name: bound for name, bound in rules.effective().items() if bound != Bound()}
        for name in self.bounds:
            if not any(name in metrics for metrics in MEASURES):
                raise RedoneError(f"RulesStep: bounds.{name}: it is no measure of a text by itself; use a recipe")

    def process(self, documents: list[Document], text: pa.Array) -> Iterable[str | None]:
        metrics = {
            name: frame[name].to_numpy().astype(np.float64)
            for names, measure in zip(MEASURES, (features, promotion_metrics, web_metrics), strict=True)
            if (asked := [name for name in self.bounds if name in names])
            for frame in (measure(text),)
            for name in asked
        }
        verdict = judge(metrics, self.bounds, len(documents))
        return [verdict.reasons[broken] if broken >= 0 else None for broken in verdict.broken]


def _set_texts(documents: list[Document], text: pa.Array) -> list[None]:
    for document, value in zip(documents, text.to_pylist(), strict=True):
        document.text = value
    return [None] * len(documents)
