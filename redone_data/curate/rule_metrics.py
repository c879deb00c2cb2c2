"""Attributes for the rules of some presets only: what datatrove's filters measure, and promotion.

Each step is run for a source whose domain's bounds ask for it (RulesConfig.needs_web_metrics,
needs_promotion_metrics): the first costs about as much as all the other metrics together, the second a third of them.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from redone_data.curate.attributes import SourceAttributes
from redone_data.text.promotion import PROMOTION_METRICS, promotion_metrics
from redone_data.text.web_metrics import WEB_METRICS, web_metrics


@dataclass(frozen=True)
class WebMetricsStep(SourceAttributes):
    """Metrics of the presets gopher, c4 and fineweb."""

    name = "web-metrics"
    VERSION = 1

    def config(self) -> Any:
        return {}

    def columns(self) -> dict[str, str]:
        return WEB_METRICS

    def measure(self, batch: pa.RecordBatch) -> pl.DataFrame:
        return web_metrics(batch.column("text"))


@dataclass(frozen=True)
class PromotionMetricsStep(SourceAttributes):
    """Metrics of advertisements, for the preset sns."""

    name = "promotion-metrics"
    VERSION = 1

    def config(self) -> Any:
        return {}

    def columns(self) -> dict[str, str]:
        return PROMOTION_METRICS

    def measure(self, batch: pa.RecordBatch) -> pl.DataFrame:
        return promotion_metrics(batch.column("text"))
