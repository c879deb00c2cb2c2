"""Rules: one question each, a metric with bounds, and a reason that names the fault.

A preset is a set of bounds; a domain takes one and may change any. "Off" is a bound of None, never 0. Where a bound
comes from stands beside it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from redone_data.errors import RedoneError, did_you_mean
from redone_data.text.features import METRICS

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bound:
    """Both ends are allowed values; None is no bound."""

    min: float | None = None
    max: float | None = None

    def __post_init__(self) -> None:
        if any(end is not None and not math.isfinite(end) for end in (self.min, self.max)):
            raise RedoneError("min and max are finite numbers; leave one out for no bound")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise RedoneError(f"min {self.min:g} is above max {self.max:g}: no document could pass")


@dataclass(frozen=True)
class RulesConfig:
    """Which rules a domain's documents must pass."""

    preset: Literal["sns", "prose", "none"] = field(
        default="sns", metadata={"help": "sns: short posts; prose: articles, books, documentation; none"}
    )
    bounds: dict[str, Bound] = field(
        default_factory=dict, metadata={"help": "metric -> {min, max}, over the preset's; {} switches a rule off"}
    )

    def __post_init__(self) -> None:
        for metric in self.bounds:
            if metric not in METRICS:
                raise RedoneError(f"bounds.{metric}: unknown metric; {did_you_mean(metric, METRICS)}")

    def effective(self) -> dict[str, Bound]:
        """The preset's bounds with the domain's own over them, in the order in which they are asked."""
        return {**PRESETS[self.preset], **self.bounds}


# Looked at on Weibo comments, Reddit posts, tweets and Chinese reviews: each bound drops what a reader calls noise
# (bare tags, link drops, copy-paste walls) and keeps short but meant posts. docs/curation.md shows kept and dropped.
SNS: dict[str, Bound] = {
    "num_words": Bound(min=3),
    "alpha_fraction": Bound(min=0.3),
    "hashtag_fraction": Bound(max=0.5),
    "mention_fraction": Bound(max=0.5),
    "url_fraction": Bound(max=0.34),
    "emoji_fraction": Bound(max=0.5),
    "duplicate_line_fraction": Bound(max=0.5),
    "duplicate_ngram_fraction": Bound(max=0.6),
    "top_ngram_fraction": Bound(max=0.5),
}

# After Gopher (Rae et al. 2021, table A1) where its bounds carry over to Chinese, without its English stop words.
PROSE: dict[str, Bound] = {
    "num_words": Bound(min=10, max=100_000),
    "mean_word_length": Bound(max=14),
    "symbol_word_ratio": Bound(max=0.1),
    "alpha_fraction": Bound(min=0.4),
    "bullet_line_fraction": Bound(max=0.9),
    "ellipsis_line_fraction": Bound(max=0.3),
    "duplicate_line_fraction": Bound(max=0.3),
    "duplicate_ngram_fraction": Bound(max=0.4),
    "top_ngram_fraction": Bound(max=0.3),
}

PRESETS: dict[str, dict[str, Bound]] = {"sns": SNS, "prose": PROSE, "none": {}}


def reason(metric: str, end: Literal["min", "max"]) -> str:
    """The name of a fault, as the ledger gives it.

    >>> reason("hashtag_fraction", "max"), reason("num_words", "min")
    ('too_many_hashtags', 'too_few_words')
    """
    thing = {
        "alpha_fraction": "letters",
        "digit_fraction": "digits",
        "mean_word_length": "characters_per_word",
        "num_chars": "characters",
        "symbol_word_ratio": "symbols",
        "top_ngram_fraction": "top_ngram",
        "top_word_fraction": "top_word",
        "uppercase_fraction": "capitals",
    }.get(metric)
    if thing is None:
        thing = metric.removeprefix("num_").removesuffix("_fraction").removesuffix("_count")
        thing = thing if thing.endswith("s") or metric == "emoji_fraction" else thing + "s"
    return f"too_{'few' if end == 'min' else 'many'}_{thing}"


@dataclass(frozen=True)
class Verdict:
    """The first broken rule of each document. broken: index into `reasons`, -1 where all hold."""

    broken: npt.NDArray[np.int32]
    value: Float64
    bound: Float64
    reasons: tuple[str, ...]


def judge(metrics: Mapping[str, Float64], bounds: Mapping[str, Bound], num_rows: int) -> Verdict:
    """Ask the rules in their order; the first one broken gives the reason, with value and bound."""
    broken = np.full(num_rows, -1, dtype=np.int32)
    value, bound = np.full(num_rows, np.nan), np.full(num_rows, np.nan)
    reasons: list[str] = []
    for metric, limits in bounds.items():
        column = metrics[metric]
        for end, limit in (("min", limits.min), ("max", limits.max)):
            if limit is None:
                continue
            # float32 metrics against a float64 bound: .1f32 must not count as above .1.
            edge = np.float64(np.float32(limit))
            outside = column < edge if end == "min" else column > edge
            first = outside & (broken < 0)
            broken[first] = len(reasons)
            value[first], bound[first] = column[first], limit
            reasons.append(reason(metric, "min" if end == "min" else "max"))
    return Verdict(broken, value, bound, tuple(reasons))
