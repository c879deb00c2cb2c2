"""Pairs from judges: what people ranked, and what a judge model adds once it is known to agree with them.

People's pairs are used as they stand. A judge model is asked about a sample of them first, in both orders
(calibration.py); only where the lower end of its agreement is above `min_agreement` is it asked about pairs that nobody
judged, and of those the ones stay on which both orders agree and whose calibrated probability is high enough.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redone_data.engine import Output
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.conversation import CAPABILITIES, MESSAGES
from redone_data.instruct.pairs.calibration import Calibration
from redone_data.instruct.pairs.candidates import DROPS, PairSource, unplaced, write_candidates
from redone_data.instruct.pairs.judge_model import PairJudgeConfig, calibrated, log_lengths, verdicts_of
from redone_data.instruct.pairs.rankings import RankedColumns
from redone_data.instruct.pairs.select import SelectConfig
from redone_data.instruct.pairs.votes import UnjudgedColumns, pairs_of
from redone_data.instruct.tables import split_of
from redone_data.manifest import digest
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import from_hex

NOT_ASKED = "judge_not_used"
UNREADABLE, DISAGREE, UNSURE = "unreadable_verdict", "orders_disagree", "low_probability"


@dataclass(frozen=True)
class JudgesConfig:
    """People's rankings, and a judge that is calibrated on them."""

    rankings: RankedColumns
    judge: PairJudgeConfig | None = field(default=None, metadata={"help": "a model that judges as people did"})
    expand: UnjudgedColumns | None = field(default=None, metadata={"help": "what the judge is asked about then"})
    calibration_pairs: int = field(default=400, metadata={"help": "of people's pairs that the judge is asked about"})
    min_agreement: float = field(
        default=0.5, metadata={"help": "the judge is used where its agreement with people is above, interval and all"}
    )
    min_probability: float = field(default=0.6, metadata={"help": "calibrated, of a pair of the judge's"})
    capability: str = field(default="dialogue", metadata={"help": "of the pairs"})
    task: str = field(default="preference", metadata={"help": "the task's name in the pairs"})
    select: SelectConfig = field(default_factory=SelectConfig)

    def __post_init__(self) -> None:
        if self.expand is not None and self.judge is None:
            raise RedoneError("expand needs a judge: name a model under judge")
        if not 0.5 <= self.min_agreement < 1 or not 0.5 <= self.min_probability < 1:
            raise RedoneError("min_agreement and min_probability lie between 0.5 and 1")
        if self.calibration_pairs < 20:
            raise RedoneError(f"calibration_pairs: {self.calibration_pairs}; fewer than 20 say nothing")
        if self.capability not in CAPABILITIES:
            raise RedoneError(f"capability: {self.capability!r}; {did_you_mean(self.capability, CAPABILITIES)}")


def calibration_sample(votes: Output, config: JudgesConfig, seed: int) -> pl.DataFrame:
    """The pairs of people's that the judge is asked about first."""
    pairs = pairs_of(votes)
    draw = keyed_uniform(seed, "calibration", from_hex(pairs["id"].to_arrow())[0]) if len(pairs) else np.zeros(0)
    return pairs.with_columns(pl.Series("draw", draw)).sort("draw", "id").head(config.calibration_pairs).drop("draw")


@dataclass(frozen=True)
class JudgesStep(PairSource):
    """The candidates of one set from judges: people's pairs, and the judge's where it may judge."""

    name = "pairs-judges"
    VERSION = 1

    judges: JudgesConfig
    votes: Output
    unjudged: Output | None
    calibration_answers: tuple[str, ...]
    answers: tuple[str, ...]  # on the unjudged pairs; empty where the judge may not judge
    seed: int
    held_out_share: float

    def config(self) -> Any:
        names = ("calibration_pairs", "min_agreement", "min_probability", "capability", "task")
        judge = None if self.judges.judge is None else [self.judges.judge.a, self.judges.judge.b]
        settings = {name: getattr(self.judges, name) for name in names}
        said = digest([list(self.calibration_answers), list(self.answers)])
        return {**settings, "judge": judge, "answers": said, "seed": self.seed, "held_out": self.held_out_share}

    def inputs(self) -> dict[str, str]:
        unjudged = {} if self.unjudged is None else {"unjudged": self.unjudged.fingerprint}
        return {"votes": self.votes.fingerprint, **unjudged}

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        people = pairs_of(self.votes)
        total = pl.col("votes_first") + pl.col("votes_second")
        people = people.with_columns(
            wins=pl.col("votes_first") > pl.col("votes_second"),
            margin=(pl.col("votes_first") - pl.col("votes_second")).abs() / total,
        )
        frames = [people]
        drops = pl.read_parquet(self.votes.folder / DROPS)
        seen = self.votes.statistics["rows"]
        statistics: dict[str, Any] = {"raters": self.votes.statistics["raters"], "people_pairs": len(people)}
        if self.judges.judge is not None:
            sample = calibration_sample(self.votes, self.judges, self.seed)
            judge = calibrated(sample, self.calibration_answers, self.judges.judge)
            allowed = judge.agreement_low > self.judges.min_agreement
            statistics["judge"] = {**judge.report, "used": allowed}
            if self.unjudged is not None:
                judged, lost, verdicts = self._judged(judge if allowed else None)
                frames.append(judged)
                drops = pl.concat([drops, lost])
                seen += self.unjudged.statistics["rows"]
                statistics |= {"judge_pairs": len(judged), "verdicts": verdicts}
        frame = pl.concat(frames, how="diagonal")
        counts = write_candidates(folder, self._candidates(frame), drops.rows(), seen, seen - len(drops))
        return {**counts, **statistics}

    def _judged(self, judge: Calibration | None) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
        """The judge's own pairs, the rows of its table that gave none, and what became of the pairs it was asked."""
        assert self.unjudged is not None
        assert self.judges.judge is not None
        pairs = pairs_of(self.unjudged)
        drops = pl.read_parquet(self.unjudged.folder / DROPS)
        if judge is None:
            fault = np.full(len(pairs), NOT_ASKED, object)
            margin, wins = np.zeros(len(pairs)), np.zeros(len(pairs), np.bool_)
        else:
            said = verdicts_of(self.answers, self.judges.judge)
            probability = judge.probability(said.mean, log_lengths(pairs))
            wins = said.x_first > 0
            sure = np.where(wins, probability, 1 - probability)
            fault = np.full(len(pairs), None, object)
            fault[sure < self.judges.min_probability] = UNSURE
            fault[said.x_first != said.y_first] = DISAGREE
            fault[(said.x_first == 0) | (said.y_first == 0)] = UNREADABLE
            margin = (2 * sure - 1).round(6)
        pairs = pairs.with_columns(
            wins=pl.Series(wins), margin=pl.Series(margin), fault=pl.Series(fault.tolist(), dtype=pl.String)
        )
        stays = pairs.filter(pl.col("fault").is_null())
        used = stays["rows"].explode().unique()
        lost = (
            pairs.filter(pl.col("fault").is_not_null())
            .explode("rows", "row_names")
            .filter(~pl.col("rows").is_in(used.implode()))
            .group_by("rows")
            .agg(pl.col("row_names").first().alias("row"), pl.col("fault").min().alias("reason"))
            .sort("rows")
            .select("row", "reason", pl.lit(None, pl.String).alias("detail"))
        )
        verdicts = dict(sorted(pairs["fault"].fill_null("used").value_counts().iter_rows()))
        return stays.drop("fault", "row_names"), pl.concat([drops, lost]), verdicts

    def _candidates(self, frame: pl.DataFrame) -> pl.DataFrame:
        said = frame["prompt"].list.eval(pl.element().struct.json_encode()).list.join("\x1e")
        frame = frame.with_columns(pl.lit(said).alias("group")).with_columns(
            # All pairs of a prompt are in one split.
            pl.col("document").min().over("group")
        )
        split = split_of(frame["document"], self.seed, self.held_out_share)
        return frame.select(
            pl.col("prompt").cast(MESSAGES),
            pl.when("wins").then("first").otherwise("second").alias("chosen"),
            pl.when("wins").then("second").otherwise("first").alias("rejected"),
            pl.lit(self.judges.capability).alias("capability"),
            pl.lit(self.judges.task).alias("task"),
            "lang",
            pl.lit("judge").alias("kind"),
            pl.lit(value=False).alias("weak"),
            "margin",
            "documents",
            pl.lit(split).alias("split"),
            "group",
            *unplaced(),
        )
