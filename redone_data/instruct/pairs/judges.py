"""Pairs from judges: what people ranked, and what a judge model adds once it is known to agree with them.

People's pairs are used as they stand. A judge model is asked about a sample of them first, in both orders
(calibration.py); only where the lower end of its agreement is above `min_agreement` is it asked about pairs that nobody
judged, and of those the ones stay on which both orders agree and whose calibrated probability is high enough.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from redone_data.config import plain
from redone_data.curate.asking import AskConfig, Question
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.conversation import CAPABILITIES, MESSAGES
from redone_data.instruct.pairs.calibration import Calibration, Verdicts, calibrate
from redone_data.instruct.pairs.candidates import DROP, PairSource, unplaced, write_candidates
from redone_data.instruct.pairs.rankings import (
    MAX_RANKED,
    MISSING,
    ONE,
    TIE,
    RankedColumns,
    agreement_of,
    as_messages,
    check_columns,
    gathered,
    votes_of,
)
from redone_data.instruct.pairs.select import SelectConfig
from redone_data.instruct.pairs.tables import Tables
from redone_data.instruct.tables import split_of
from redone_data.manifest import atomic, digest
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import from_hex

PAIRS = "judged.parquet"
NOT_ASKED, BY_PEOPLE, BEYOND = "judge_not_used", "judged_by_people", "beyond_pairs_asked"
UNREADABLE, DISAGREE, UNSURE = "unreadable_verdict", "orders_disagree", "low_probability"
PROMPT = """\
Which of two answers would readers prefer? Reply with the letter A or B and nothing else.

What was asked:
{prompt}

Answer A:
{a}

Answer B:
{b}"""
_PLACES = re.compile(r"\{(prompt|a|b)\}")


@dataclass(frozen=True, kw_only=True)
class PairJudgeConfig(AskConfig):
    """The judge model, and what it is asked about two answers."""

    prompt: str | None = field(
        default=None, metadata={"help": "what is asked, with {prompt}, {a} and {b}; default: which do readers prefer"}
    )
    a: str = field(default="A", metadata={"help": "the answer that prefers what stands first"})
    b: str = field(default="B", metadata={"help": "the answer that prefers what stands second"})
    max_characters: int = field(
        default=4000, metadata={"help": "of the prompt and of each answer; the rest is not sent"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        missing = [place for place in ("prompt", "a", "b") if f"{{{place}}}" not in (self.prompt or PROMPT)]
        if missing:
            raise RedoneError(f"prompt: {{{missing[0]}}} is missing; put it where that text shall stand")
        if _folded(self.a) == _folded(self.b):
            raise RedoneError("a and b: two different answers are needed")
        if self.max_characters < 1:
            raise RedoneError("max_characters must be above 0")

    def sampling(self) -> dict[str, float]:
        return {"temperature": 0}

    def question(self, prompt: str, first: str, second: str) -> Question:
        """What is asked about two answers in this order; texts are filled in at once, whatever braces they hold."""
        texts = {"prompt": prompt, "a": first, "b": second}
        content = _PLACES.sub(lambda place: texts[place[1]][: self.max_characters], self.prompt or PROMPT)
        return Question([{"role": "user", "content": content}])

    def verdict(self, answer: str) -> int:
        """+1 for what stood first, -1 for what stood second, 0 for an answer that is neither word."""
        return {_folded(self.a): 1, _folded(self.b): -1}.get(_folded(answer), 0)


def _folded(answer: str) -> str:
    return answer.strip().rstrip(".").casefold()


@dataclass(frozen=True)
class UnjudgedColumns:
    """Answers that nobody ranked, of which the judge is asked."""

    table: str = field(metadata={"help": "of the recipe's tables"})
    prompt: str = field(default="prompt", metadata={"help": "column: text, or chat messages"})
    answers: str | None = field(default=None, metadata={"help": "column: a list of answers"})
    answer: str | None = field(default=None, metadata={"help": "column: one answer; rows of one prompt are compared"})
    pairs_asked: int = field(default=2, metadata={"help": "pairs of one prompt that are asked about, at most"})

    def __post_init__(self) -> None:
        if (self.answers is None) == (self.answer is None):
            raise RedoneError("give answers (a list in each row) or answer (one in each row)")
        if self.pairs_asked < 1:
            raise RedoneError(f"pairs_asked: {self.pairs_asked}; at least 1")


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


@dataclass(frozen=True)
class VotesStep(Step):
    """What people said about pairs of answers: judged.parquet and drops.parquet."""

    name = "pairs-votes"
    VERSION = 1

    tables: Tables
    rankings: RankedColumns

    def config(self) -> Any:
        return {"tables": self.tables.config(), "rankings": plain(self.rankings)}

    def inputs(self) -> dict[str, str]:
        return self.tables.inputs()

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        table = self.tables.read(self.rankings.table)
        votes, dropped = votes_of(table.frame, self.rankings, f"tables.{self.rankings.table}")
        decided = votes.filter(pl.col("votes_first") != pl.col("votes_second"))
        used = set(decided["rows"].explode().to_list())
        tied = set(range(len(table.frame))) - used - {row for row, _, _ in dropped}
        names = table.frame["row"].to_list()
        lines = [(names[row], reason, detail) for row, reason, detail in dropped]
        lines += [(names[row], TIE, None) for row in sorted(tied)]
        lines += table.dropped.select("row", "rule", "detail").rows()
        _write(folder, decided, lines)
        return {"rows": len(names) + len(table.dropped), "pairs": len(decided), "raters": agreement_of(votes).record()}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]


@dataclass(frozen=True)
class UnjudgedStep(Step):
    """The pairs that the judge may be asked about: judged.parquet, and rows that give none in drops.parquet."""

    name = "pairs-unjudged"
    VERSION = 1

    tables: Tables
    unjudged: UnjudgedColumns
    votes: Output
    seed: int

    def config(self) -> Any:
        return {"tables": self.tables.config(), "unjudged": plain(self.unjudged), "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {"votes": self.votes.fingerprint, **self.tables.inputs()}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        columns, where = self.unjudged, f"tables.{self.unjudged.table}"
        table = self.tables.read(columns.table)
        answer = columns.answers or columns.answer
        assert answer is not None
        check_columns(table.frame, [columns.prompt, answer], where)
        frame = as_messages(table.frame, columns.prompt, where).with_row_index("_row")
        if columns.answers is not None and frame.schema[answer] != pl.List(pl.String):
            raise RedoneError(
                f"{where}: column '{answer}': a list of texts is expected; one text a row goes under answer"
            )
        every = frame.drop_nulls(["_prompt", answer])
        if columns.answers is not None:
            every = every.explode(answer)
        every = every.filter(pl.col(answer).str.strip_chars() != "")
        made = self._pairs(every, answer)
        new = made.join(pl.read_parquet(self.votes.folder / PAIRS), on="id", how="anti", maintain_order="left")
        taken = self._drawn(new)
        used, fresh, paired = (set(some["rows"].explode().to_list()) for some in (taken, new, made))
        # Why a row is in no pair that is asked: the first of these that it is in.
        several = every.filter(pl.col(answer).n_unique().over("_prompt") > 1)
        reasons = ((fresh, BEYOND), (paired, BY_PEOPLE), (set(several["_row"]), BEYOND), (set(every["_row"]), ONE))
        names = table.frame["row"].to_list()
        lines: list[tuple[str | None, str, str | None]] = []
        for row, name in enumerate(names):
            if row not in used:
                lines.append((name, next((reason for rows, reason in reasons if row in rows), MISSING), None))
        lines += table.dropped.select("row", "rule", "detail").rows()
        taken = taken.with_columns(
            row_names=pl.col("rows").map_elements(lambda rows: [names[row] for row in rows], pl.List(pl.String))
        )
        _write(folder, taken, lines)
        return {"rows": len(names) + len(table.dropped), "pairs": len(taken)}

    def _pairs(self, every: pl.DataFrame, answer: str) -> pl.DataFrame:
        """All pairs of different answers to one prompt, by the ids that people's pairs have."""
        said = every["_prompt"].list.eval(pl.element().struct.json_encode()).list.join("\x1e")
        every = every.select(
            pl.lit(said).alias("said"),
            pl.col("_prompt").alias("prompt"),
            pl.col(answer).alias("text"),
            "lang",
            "document",
            "documents",
            "_row",
        )
        # Of the answers to a prompt that has very many, the first in code points: pairs grow with their square.
        every = every.filter(pl.col("text").rank("dense").over("said") <= MAX_RANKED)
        both = every.join(every.select("said", "text", "documents", "_row"), on="said", suffix="_other")
        both = both.filter(pl.col("text") < pl.col("text_other"))
        return gathered(
            both.select(
                "prompt",
                "lang",
                "document",
                pl.concat_list("documents", "documents_other").list.unique(maintain_order=True).alias("documents"),
                pl.concat_list("_row", "_row_other").cast(pl.List(pl.Int64)).alias("rows"),
                pl.col("text").alias("first"),
                pl.col("text_other").alias("second"),
                pl.lit(0, pl.Int64).alias("votes_first"),
                pl.lit(0, pl.Int64).alias("votes_second"),
            )
        )

    def _drawn(self, pairs: pl.DataFrame) -> pl.DataFrame:
        if not len(pairs):
            return pairs
        draw = keyed_uniform(self.seed, "asked", from_hex(pairs["id"].to_arrow())[0])
        said = pairs["prompt"].list.eval(pl.element().struct.json_encode()).list.join("\x1e")
        ranked = pairs.with_columns(pl.Series("draw", draw), pl.lit(said).alias("said")).sort("said", "draw", "id")
        return (
            ranked.filter(pl.int_range(pl.len()).over("said") < self.unjudged.pairs_asked)
            .drop("draw", "said")
            .sort("id")
        )

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]


def _write(folder: Path, pairs: pl.DataFrame, dropped: Sequence[tuple[str | None, str, str | None]]) -> None:
    for name, frame in ((PAIRS, pairs), ("drops.parquet", pl.DataFrame(dropped, schema=DROP, orient="row"))):
        with atomic(folder / name) as aside:
            frame.write_parquet(aside, compression="zstd")


def calibration_sample(votes: Output, config: JudgesConfig, seed: int) -> pl.DataFrame:
    """The pairs of people's that the judge is asked about first."""
    pairs = pl.read_parquet(votes.folder / PAIRS)
    draw = keyed_uniform(seed, "calibration", from_hex(pairs["id"].to_arrow())[0]) if len(pairs) else np.zeros(0)
    return pairs.with_columns(pl.Series("draw", draw)).sort("draw", "id").head(config.calibration_pairs).drop("draw")


def unjudged_pairs(output: Output) -> pl.DataFrame:
    """The pairs that nobody judged."""
    return pl.read_parquet(output.folder / PAIRS)


def questions_about(pairs: pl.DataFrame, judge: PairJudgeConfig) -> list[Question]:
    """Two questions a pair: as it stands, and turned round."""
    said = pairs["prompt"].list.eval(pl.element().struct.field("content")).list.join("\n\n")
    questions = []
    for prompt, first, second in zip(said, pairs["first"], pairs["second"], strict=True):
        questions += [judge.question(prompt, first, second), judge.question(prompt, second, first)]
    return questions


def verdicts_of(answers: Sequence[str], judge: PairJudgeConfig) -> Verdicts:
    """The verdicts in the answers to :func:`questions_about`, for `first` of each pair."""
    said = np.array([judge.verdict(answer) for answer in answers], np.int64)
    return Verdicts(said[0::2], -said[1::2])


def calibrated(sample: pl.DataFrame, answers: Sequence[str], judge: PairJudgeConfig) -> Calibration:
    """The judge, measured on people's pairs."""
    people = np.where(sample["votes_first"].to_numpy() > sample["votes_second"].to_numpy(), 1, -1)
    said = sample["prompt"].list.eval(pl.element().struct.json_encode()).list.join("\x1e")
    prompts = said.rank("dense").cast(pl.Int64).to_numpy()
    return calibrate(verdicts_of(answers, judge), people, _log_lengths(sample), prompts)


def _log_lengths(pairs: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    first, second = (pairs[name].str.len_chars().clip(lower_bound=1).log().to_numpy() for name in ("first", "second"))
    difference: np.ndarray[Any, np.dtype[np.float64]] = first - second
    return difference


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
        people = pl.read_parquet(self.votes.folder / PAIRS)
        total = pl.col("votes_first") + pl.col("votes_second")
        people = people.with_columns(
            wins=pl.col("votes_first") > pl.col("votes_second"),
            margin=(pl.col("votes_first") - pl.col("votes_second")).abs() / total,
        )
        frames = [people]
        drops = pl.read_parquet(self.votes.folder / "drops.parquet")
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
        pairs = pl.read_parquet(self.unjudged.folder / PAIRS)
        drops = pl.read_parquet(self.unjudged.folder / "drops.parquet")
        if judge is None:
            fault = np.full(len(pairs), NOT_ASKED, object)
            margin, wins = np.zeros(len(pairs)), np.zeros(len(pairs), np.bool_)
        else:
            said = verdicts_of(self.answers, self.judges.judge)
            probability = judge.probability(said.mean, _log_lengths(pairs))
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
