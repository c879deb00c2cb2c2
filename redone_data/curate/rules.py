"""Rules: one question each, a metric with bounds, and a reason that names the fault.

A preset is a set of bounds; a domain takes one and may change any. "Off" is a bound of None, never 0. Where a bound
comes from stands beside it.
"""

import datetime
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from redone_data.curate.records import timestamp
from redone_data.errors import RedoneError, did_you_mean
from redone_data.text.features import METRICS
from redone_data.text.promotion import PROMOTION_METRICS
from redone_data.text.web_metrics import WEB_METRICS

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


# Attributes of other steps that a bound may name; a quality scorer NAME makes quality_NAME.
OTHER_METRICS: dict[str, str] = {
    "engagement": "what the platform counted (likes, scores); a document without it passes",
    "language_confidence": "how sure the language is",
    "contamination_fraction": "n-grams that an evaluation set has too",
    "repeated_line_fraction": "lines that many documents have",
    "template_count": "documents of the same template",
    "repeated_line_count": "documents that have the most repeated line",
    "template_rank": "place among the documents of the same template, by engagement",
    "duplicate_substring_fraction": "bytes in long runs that another document has too",
    "duplicate_substring_count": "documents that have the most copied run",
    "contamination_words": "words of the longest run shared with an evaluation item",
    "datatrove_kept": "1 where all of datatrove's filters under the domain's datatrove keep it",
}
RULE_METRICS: dict[str, str] = {**METRICS, **PROMOTION_METRICS, **WEB_METRICS, **OTHER_METRICS}
QUALITY = "quality_"
ENGAGEMENT = "engagement"  # a column of the corpus, which rules may bound like an attribute


@dataclass(frozen=True)
class EngagementAgeConfig:
    """From what age on a document's engagement is held against it: a post of today had no time to be liked."""

    min_days: float = field(metadata={"help": "a younger document, or one without a date, passes the floor"})
    as_of: str = field(
        metadata={"help": "the moment the counts were taken: ISO date (its start, UTC) or date and time"}
    )

    def __post_init__(self) -> None:
        if self.min_days < 0:
            raise RedoneError(f"min_days: {self.min_days:g}; at least 0 is needed")
        if timestamp(self.as_of) is None:
            raise RedoneError(f"as_of: {self.as_of!r} is no moment; write 2025-03-01 or 2025-03-01T12:00:00Z")

    @property
    def newest(self) -> datetime.datetime:
        """The date of the newest documents that are old enough."""
        moment = timestamp(self.as_of)
        assert moment is not None
        try:
            return moment - datetime.timedelta(days=self.min_days)
        except OverflowError:
            return datetime.datetime.min.replace(tzinfo=datetime.UTC)


@dataclass(frozen=True)
class RulesConfig:
    """Which rules a domain's documents must pass."""

    preset: Literal["sns", "prose", "gopher", "c4", "fineweb", "none"] = field(
        default="sns",
        metadata={
            "help": "sns: short posts; prose: articles, books, documentation; gopher, c4, fineweb: as datatrove's "
            "filters decide; none"
        },
    )
    bounds: dict[str, Bound] = field(
        default_factory=dict, metadata={"help": "metric -> {min, max}, over the preset's; {} switches a rule off"}
    )
    engagement_age: EngagementAgeConfig | None = field(
        default=None, metadata={"help": "bounds.engagement.min holds only for documents of this age"}
    )

    def __post_init__(self) -> None:
        for metric in self.bounds:
            if metric not in RULE_METRICS and not (metric.startswith(QUALITY) and metric != QUALITY):
                hint = did_you_mean(metric, [*RULE_METRICS, f"{QUALITY}NAME"])
                raise RedoneError(f"bounds.{metric}: unknown metric; {hint}")
        if self.engagement_age is not None and self.bounds.get(ENGAGEMENT, Bound()).min is None:
            raise RedoneError("engagement_age: there is no bounds.engagement.min that it could hold back")

    def effective(self) -> dict[str, Bound]:
        """The preset's bounds with the domain's own over them, in the order in which they are asked."""
        return {**PRESETS[self.preset], **self.bounds}

    def asks(self, metrics: Iterable[str]) -> bool:
        """Whether a bound needs one of these metrics, so that the step that measures them must run."""
        return any(name in metrics and bound != Bound() for name, bound in self.effective().items())

    @property
    def needs_web_metrics(self) -> bool:
        return self.asks(WEB_METRICS)

    @property
    def needs_promotion_metrics(self) -> bool:
        return self.asks(PROMOTION_METRICS)


# Chosen on 537,000 real posts (Weibo comments, hot searches, Reddit, tweets, Chinese reviews), reading what each bound
# drops: near-empty posts, bare tags and mentions, link drops, walls of one emoji or laugh, advertisements. A pair of
# words may cover .7 of a post, since .5 drops short posts that repeat for emphasis; see docs/curation.md.
SNS: dict[str, Bound] = {
    "num_words": Bound(min=3),
    "alpha_fraction": Bound(min=0.3),
    "hashtag_fraction": Bound(max=0.5),
    "mention_fraction": Bound(max=0.5),
    "url_fraction": Bound(max=0.34),
    "emoji_fraction": Bound(max=0.5),
    "duplicate_line_fraction": Bound(max=0.5),
    "duplicate_ngram_fraction": Bound(max=0.6),
    "top_ngram_fraction": Bound(max=0.7),
    "solicitation_ratio": Bound(max=0.01),
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

# The defaults of datatrove 0.10.1, in the order in which its filters ask: GopherQualityFilter, then
# GopherRepetitionFilter; C4QualityFilter, which also cuts lines out where we keep or drop whole documents;
# FineWebQualityFilter. A document is dropped where the filter drops it.
GOPHER: dict[str, Bound] = {
    "gopher_num_words": Bound(min=50, max=100_000),
    "gopher_mean_word_length": Bound(min=3, max=10),
    "gopher_hash_word_ratio": Bound(max=0.1),
    "gopher_ellipsis_word_ratio": Bound(max=0.1),
    "gopher_bullet_line_fraction": Bound(max=0.9),
    "gopher_ellipsis_line_fraction": Bound(max=0.3),
    "gopher_alpha_word_fraction": Bound(min=0.8),
    "gopher_stop_word_count": Bound(min=2),
    "gopher_duplicate_paragraph_fraction": Bound(max=0.3),
    "gopher_duplicate_paragraph_char_fraction": Bound(max=0.2),
    "gopher_duplicate_line_fraction": Bound(max=0.3),
    "gopher_duplicate_line_char_fraction": Bound(max=0.2),
    "gopher_top_2gram_fraction": Bound(max=0.2),
    "gopher_top_3gram_fraction": Bound(max=0.18),
    "gopher_top_4gram_fraction": Bound(max=0.16),
    "gopher_duplicate_5gram_fraction": Bound(max=0.15),
    "gopher_duplicate_6gram_fraction": Bound(max=0.14),
    "gopher_duplicate_7gram_fraction": Bound(max=0.13),
    "gopher_duplicate_8gram_fraction": Bound(max=0.12),
    "gopher_duplicate_9gram_fraction": Bound(max=0.11),
    "gopher_duplicate_10gram_fraction": Bound(max=0.1),
}
C4: dict[str, Bound] = {
    "c4_lorem_ipsum_count": Bound(max=0),
    "c4_curly_bracket_count": Bound(max=0),
    "c4_num_sentences": Bound(min=5),
}
FINEWEB: dict[str, Bound] = {
    "fineweb_num_lines": Bound(min=1),
    "fineweb_line_end_punctuation_fraction": Bound(min=0.12),
    "fineweb_short_line_fraction": Bound(max=0.67),
    "fineweb_duplicate_line_char_fraction": Bound(max=0.01),
    "fineweb_newline_word_ratio": Bound(max=0.3),
}

PRESETS: dict[str, dict[str, Bound]] = {
    "sns": SNS,
    "prose": PROSE,
    "gopher": GOPHER,
    "c4": C4,
    "fineweb": FINEWEB,
    "none": {},
}

# What a document has too few or too many of, where the metric's name does not say it.
THINGS = {
    "alpha_fraction": "letters",
    "digit_fraction": "digits",
    "emoji_fraction": "emoji",
    "mean_word_length": "characters_per_word",
    "num_chars": "characters",
    "symbol_word_ratio": "symbols",
    "top_ngram_fraction": "top_ngram",
    "top_word_fraction": "top_word",
    "uppercase_fraction": "capitals",
    "solicitation_ratio": "solicitations",
    "duplicate_substring_fraction": "duplicate_substrings",
    "repeated_line_count": "documents_with_its_lines",
    "duplicate_substring_count": "documents_with_its_runs",
    "template_count": "copies_of_template",
    "template_rank": "better_copies_of_template",
    "gopher_alpha_word_fraction": "words_with_letters",
    "gopher_hash_word_ratio": "hashes",
    "gopher_ellipsis_word_ratio": "ellipses",
    "gopher_ellipsis_line_fraction": "end_ellipses",
    "gopher_mean_word_length": "characters_per_word",
    "c4_lorem_ipsum_count": "lorem_ipsum",
    "fineweb_line_end_punctuation_fraction": "line_end_punctuation",
    "fineweb_newline_word_ratio": "newlines",
}
# Metrics that are an amount, not a number of things.
AMOUNTS = {
    "engagement": ("too_little_engagement", "too_much_engagement"),
    "contamination_fraction": ("too_little_contamination", "too_much_contamination"),
    "language_confidence": ("too_low_language_confidence", "too_high_language_confidence"),
}


def reason(metric: str, end: Literal["min", "max"]) -> str:
    """The name of a fault, as the ledger gives it.

    >>> reason("hashtag_fraction", "max"), reason("num_words", "min")
    ('too_many_hashtags', 'too_few_words')
    >>> reason("gopher_num_words", "min"), reason("quality_ads", "min")
    ('gopher_too_few_words', 'too_low_quality_ads')
    """
    if metric in AMOUNTS:
        return AMOUNTS[metric][end == "max"]
    if metric.startswith(QUALITY):
        return f"too_{'low' if end == 'min' else 'high'}_{metric}"
    source = next((f"{name}_" for name in ("gopher", "c4", "fineweb") if metric.startswith(f"{name}_")), "")
    thing = THINGS.get(metric)
    if thing is None:
        thing = metric.removeprefix(source).removeprefix("num_").removesuffix("_fraction").removesuffix("_count")
        thing = thing if thing.endswith("s") or "_top_" in metric else thing + "s"
    return f"{source}too_{'few' if end == 'min' else 'many'}_{thing}"


@dataclass(frozen=True)
class Verdict:
    """The first broken rule of each document. broken: index into `reasons`, -1 where all hold."""

    broken: npt.NDArray[np.int32]
    value: Float64
    bound: Float64
    reasons: tuple[str, ...]


def judge(
    metrics: Mapping[str, Float64],
    bounds: Mapping[str, Bound],
    num_rows: int,
    spared: Mapping[str, npt.NDArray[np.bool_]] = MappingProxyType({}),
) -> Verdict:
    """Ask the rules in their order; the first one broken gives the reason, with value and bound.

    spared: metric -> bool[rows], the documents that its lower bound does not hold for.
    """
    broken = np.full(num_rows, -1, dtype=np.int32)
    value, bound = np.full(num_rows, np.nan), np.full(num_rows, np.nan)
    reasons: list[str] = []
    for metric, limits in bounds.items():
        column = metrics[metric]
        for end, limit in (("min", limits.min), ("max", limits.max)):
            if limit is None:
                continue
            # Shares are stored in 32 bits: .1f32 must not count as above .1. Counts and their bounds are exact.
            edge = float(limit) if float(limit).is_integer() else float(np.float32(limit))
            outside = column < edge if end == "min" else column > edge
            if end == "min" and metric in spared:
                outside &= ~spared[metric]
            first = outside & (broken < 0)
            broken[first] = len(reasons)
            value[first], bound[first] = column[first], limit
            reasons.append(reason(metric, "min" if end == "min" else "max"))
    return Verdict(broken, value, bound, tuple(reasons))
