"""Pairs from engagement: of two posts to one audience at one time, the one that readers answered to. Marked weak.

Counts of likes say first how many people saw a post, and when. So posts are compared only within one context (a
subreddit, a parent, a query) and some days of each other, by rates over what they were shown where that is known,
shrunk to the context's pooled rate (the posterior mean of a Gamma-Poisson model), and a pair needs both a ratio and a
gap. What is left is still popularity, not quality: the pairs are weak. 110,000 titles in 2 s.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from redone_data.curate.records import timestamp
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.conversation import CAPABILITIES
from redone_data.instruct.pairs.lengths import STRATA, LengthConfig, length_statistics
from redone_data.instruct.pairs.select import SelectConfig
from redone_data.instruct.template import Template
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import hash128
from redone_data.text.kernel import kernel

MISSING, YOUNG, ALONE, NO_CONTRAST, NOT_DRAWN = (
    "missing_value",
    "too_young",
    "no_partner_in_time",
    "no_contrast",
    "partner_taken",
)
DAY = 86_400.0

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EngagementConfig:
    """Posts with counts, and what makes two of them comparable."""

    table: str = field(metadata={"help": "of the recipe's tables"})
    context: tuple[str, ...] = field(metadata={"help": "columns that name what both answer: parent, subreddit, query"})
    engagement: tuple[str, ...] = field(metadata={"help": "columns of counts that are added up"})
    created_at: str = field(metadata={"help": "column: ISO date and time, or seconds since 1970"})
    prompts: dict[str, tuple[str, ...]] = field(
        metadata={"help": "language -> templates of what is asked; they see the context columns"}
    )
    text: str = field(default="text", metadata={"help": "the column of the post itself"})
    exposure: str | None = field(default=None, metadata={"help": "column: how often it was shown, or to how many"})
    max_exposure_ratio: float = field(default=4.0, metadata={"help": "between the exposures of a pair"})
    max_days: float = field(default=3.0, metadata={"help": "between the two posts"})
    min_age_days: float = field(
        default=2.0, metadata={"help": "when counts were taken; younger posts are not compared"}
    )
    as_of: str | None = field(default=None, metadata={"help": "when counts were taken; default: the newest post"})
    smoothing: float = field(default=0.1, metadata={"help": "weight of the context's rate, in median exposures"})
    min_ratio: float = field(default=2.0, metadata={"help": "of the smoothed rates"})
    min_gap: float = field(default=20.0, metadata={"help": "of counts at equal exposure"})
    neighbours: int = field(default=32, metadata={"help": "posts after each, in time, that it is compared with"})
    uses: int = field(default=1, metadata={"help": "pairs that a post may be in"})
    max_per_context: int | None = field(default=None, metadata={"help": "pairs of one context; null: any number"})
    capability: str = field(default="user_behaviour", metadata={"help": "of the pairs"})
    task: str = field(default="engagement", metadata={"help": "the task's name in the pairs"})
    select: SelectConfig = field(default_factory=SelectConfig)

    def __post_init__(self) -> None:
        if not self.context or not self.engagement:
            raise RedoneError("context, engagement: at least one column each is needed")
        if not self.prompts or not all(self.prompts.values()):
            raise RedoneError("prompts: at least one template of each language is needed")
        for lang, templates in self.prompts.items():
            for number, source in enumerate(templates):
                try:
                    Template(source, self.context)
                except RedoneError as error:
                    raise RedoneError(f"prompts.{lang}[{number}]: {error}") from None
        if self.capability not in CAPABILITIES:
            raise RedoneError(f"capability: {self.capability!r}; {did_you_mean(self.capability, CAPABILITIES)}")
        if min(self.max_days, self.min_gap, self.min_age_days, self.smoothing) < 0:
            raise RedoneError("max_days, min_gap, min_age_days and smoothing must not be below 0")
        if self.min_ratio < 1 or self.max_exposure_ratio < 1:
            raise RedoneError("min_ratio and max_exposure_ratio must be at least 1")
        if min(self.neighbours, self.uses, self.max_per_context or 1) < 1:
            raise RedoneError("neighbours, uses and max_per_context must be at least 1")


def measured_posts(frame: pl.DataFrame, config: EngagementConfig, where: str) -> pl.DataFrame:
    """Posts with context number ``of``, time ``at``, ``exposure``, smoothed ``rate``, ``chars`` and ``fault``."""
    numbers = (*config.engagement, *([config.exposure] if config.exposure else []))
    for name in (config.text, config.created_at, *config.context, *numbers):
        if name not in frame.columns:
            raise RedoneError(f"{where}: there is no column '{name}'; {did_you_mean(name, frame.columns)}")
    try:
        frame = frame.with_columns(pl.col(name).cast(pl.Float64) for name in numbers)
    except pl.exceptions.PolarsError as error:
        raise RedoneError(f"{where}: {', '.join(numbers)} must be numbers: {str(error).splitlines()[0]}") from None
    moments = [timestamp(value) for value in frame[config.created_at].to_list()]
    if frame[config.created_at].null_count() < len(frame) and not any(moments):
        example = frame[config.created_at].drop_nulls()[0]
        raise RedoneError(
            f"{where}: column '{config.created_at}': {example!r} is no moment; ISO text or seconds since 1970"
        )
    at = pl.Series("at", [None if moment is None else moment.timestamp() for moment in moments], dtype=pl.Float64)
    count = pl.sum_horizontal(*(pl.col(name) for name in config.engagement), ignore_nulls=False)
    exposure = pl.col(config.exposure) if config.exposure else pl.lit(1.0)
    frame = frame.with_columns(
        at,
        count=count,
        exposure=exposure,
        chars=pl.col(config.text).str.len_chars().cast(pl.Int64),
        of=pl.struct(config.context).rank("dense").cast(pl.Int64),
    )
    needed = [config.text, *config.context, "at", "count", "exposure"]
    # A downvoted post may have a count below zero: as good as none.
    frame = frame.with_columns(pl.col("count").clip(lower_bound=0.0))
    lacks = pl.any_horizontal(pl.col(name).is_null() for name in needed) | (pl.col("exposure") <= 0)
    lacks |= pl.col(config.text).str.strip_chars() == ""
    now = _moment(config, where) or frame["at"].max()
    young = pl.col("at") > pl.lit(now) - config.min_age_days * DAY
    frame = frame.with_columns(
        fault=pl.when(lacks).then(pl.lit(MISSING)).when(young).then(pl.lit(YOUNG)).otherwise(pl.lit(None, pl.String))
    )
    sound = pl.col("fault").is_null()
    pooled = pl.col("count").filter(sound).sum() / pl.col("exposure").filter(sound).sum()
    weight = config.smoothing * pl.col("exposure").filter(sound).median()
    rate = (pl.col("count") + (weight * pooled).over("of")) / (pl.col("exposure") + weight.over("of"))
    return frame.with_columns(rate=rate)


def _moment(config: EngagementConfig, where: str) -> float | None:
    if config.as_of is None:
        return None
    moment = timestamp(config.as_of)
    if moment is None:
        raise RedoneError(f"{where}: as_of: {config.as_of!r} is no moment; write 2024-05-31 or 2024-05-31T12:00:00")
    return moment.timestamp()


class Compared:
    """Which posts were compared with which: rows sorted by context and time."""

    def __init__(self, posts: pl.DataFrame, config: EngagementConfig, seed: int) -> None:
        self.posts = posts
        context = posts["of"].to_numpy()
        self.met, self.contrasted = np.zeros(len(posts), np.bool_), np.zeros(len(posts), np.bool_)
        winners, losers = self._contrasts(context, config)
        chars = posts["chars"].to_numpy()
        self.lengths = length_statistics(chars[winners], chars[losers])
        ids = hash128(posts["row"].to_arrow().cast(pa.large_string()))[0]
        draws = keyed_uniform(seed, "engagement", ids[winners] * np.uint64(3) + ids[losers])
        order = np.lexsort((draws, _strata(chars[winners], chars[losers], config.select.length)))
        most = config.max_per_context if config.max_per_context is not None else len(order)
        taken = order[_take(winners[order], losers[order], context, config.uses, most)]
        self.winners, self.losers = winners[taken], losers[taken]

    def _contrasts(self, context: Int64, config: EngagementConfig) -> tuple[Int64, Int64]:
        """All pairs near in time and exposure that differ enough, winner and loser."""
        at, rate, exposure = (self.posts[name].to_numpy() for name in ("at", "rate", "exposure"))
        winners, losers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for step in range(1, min(config.neighbours, len(at) - 1) + 1):
            first = np.arange(len(at) - step)
            second = first + step
            near = (context[first] == context[second]) & (at[second] - at[first] <= config.max_days * DAY)
            shown = np.maximum(exposure[first], exposure[second]) / np.minimum(exposure[first], exposure[second])
            near &= shown <= config.max_exposure_ratio
            first, second = first[near], second[near]
            self.met[first] = self.met[second] = True
            high, low = np.maximum(rate[first], rate[second]), np.minimum(rate[first], rate[second])
            gap = (high - low) * (exposure[first] + exposure[second]) / 2
            differ = (high >= config.min_ratio * low) & (gap >= config.min_gap) & (low > 0)
            first, second = first[differ], second[differ]
            self.contrasted[first] = self.contrasted[second] = True
            wins = rate[first] > rate[second]
            winners.append(np.where(wins, first, second))
            losers.append(np.where(wins, second, first))
        return np.concatenate(winners), np.concatenate(losers)

    def reasons(self) -> list[str | None]:
        """Why a post is in no pair; None for those that are in one."""
        used = np.zeros(len(self.posts), np.bool_)
        used[self.winners] = used[self.losers] = True
        return [
            None if in_pair else NOT_DRAWN if contrasted else NO_CONTRAST if met else ALONE
            for in_pair, contrasted, met in zip(used.tolist(), self.contrasted.tolist(), self.met.tolist(), strict=True)
        ]


def _strata(winners: Int64, losers: Int64, config: LengthConfig) -> Int64:
    """Pairs of like length are taken first, so that fewer must be dropped when lengths are matched."""
    if config.control == "off":
        return np.zeros(len(winners), np.int64)
    ratio = np.abs(np.log(np.maximum(winners, 1)) - np.log(np.maximum(losers, 1)))
    strata: Int64 = np.searchsorted(STRATA, ratio, side="right").astype(np.int64)
    return strata


@kernel
def _take(winners: Int64, losers: Int64, context: Int64, uses: int, most: int) -> Flags:
    """In the order given, every pair whose posts are in fewer than `uses` pairs, and at most so many of a context."""
    used = np.zeros(len(context), np.int64)
    in_context = np.zeros(max(1, np.max(context) + 1 if len(context) else 1), np.int64)
    taken = np.zeros(len(winners), np.bool_)
    for row in range(len(winners)):
        a, b = winners[row], losers[row]
        if used[a] < uses and used[b] < uses and in_context[context[a]] < most:
            taken[row] = True
            used[a] += 1
            used[b] += 1
            in_context[context[a]] += 1
    return taken
