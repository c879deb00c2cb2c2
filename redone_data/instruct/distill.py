"""General answers in the model's own words: of n samples the best takes the place of the answer that the data has.

What a model already says it need not unlearn: RedOne 2.0 (arXiv:2511.07070) has about 5 % general data whose answers
are the best of 8 of its own samples. The samples come from outside: DIR/prompts/NAME.jsonl is written first, sampled
with `redone-train generate` (or any endpoint that keeps the ids), and named in the recipe. The best is told by a metric
against the reference answer, by a reward (a file of scores), or by a judge (curate/judge.py); of equals the first.
Where no sample is good enough the reference stays, or the conversation goes, as the recipe says.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from redone_data.config import plain
from redone_data.curate.judge import JudgeConfig, judge
from redone_data.engine import Output, Step
from redone_data.errors import RedoneError
from redone_data.instruct.conversation import MESSAGES
from redone_data.instruct.ledger import CONVERSATIONS, DROPPED, ledger_frame
from redone_data.instruct.metrics import check_metric, score
from redone_data.manifest import atomic, file_digest

PROMPTS = "prompts"
NO_GOOD_SAMPLE = "no_good_sample"


@dataclass(frozen=True)
class DistilledConfig:
    """Where samples are and how the best is told: by a metric, a file of scores, or a judge."""

    answers: str = field(metadata={"help": "JSON lines of id and answers, as redone-train generate writes them"})
    metric: str | None = field(default=None, metadata={"help": "against the reference: rouge_l, token_f1, exact_match"})
    extract: str | None = field(
        default=None, metadata={"help": "regular expression: the metric compares its first group, or what it matches"}
    )
    scores: str | None = field(default=None, metadata={"help": "JSON lines of id and scores, one a sample: a reward"})
    judge: JudgeConfig | None = field(default=None, metadata={"help": "its {text} is the conversation; good is 1"})
    least: float = field(default=0.5, metadata={"help": "what the best sample must reach"})
    otherwise: Literal["reference", "drop"] = field(
        default="reference", metadata={"help": "where none does: the reference answer stays, or the conversation goes"}
    )

    def __post_init__(self) -> None:
        if sum(way is not None for way in (self.metric, self.scores, self.judge)) != 1:
            raise RedoneError("give one of metric, scores and judge: how the best sample is told")
        if self.metric is not None:
            check_metric(self.metric)
        try:
            re.compile(self.extract or "")
        except re.error as error:
            raise RedoneError(f"extract: {self.extract!r} is not a regular expression: {error}") from None


def write_prompts(source: Output, path: Path) -> None:
    """What is to be sampled: id and messages before the last answer, a line a conversation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as aside, aside.open("w", encoding="utf-8") as file:
        for frame in _frames(source):
            for name, messages in frame.select("id", "messages").iter_rows():
                file.write(json.dumps({"id": name, "prompt": messages[:-1]}, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class DistillStep(Step):
    """The conversations of a general source with their best samples as answers."""

    name = "sft-distill"
    VERSION = 1

    source: Output
    distilled: DistilledConfig
    answers: Path
    scores: Path | None

    def config(self) -> Any:
        settings = plain(self.distilled)
        del settings["answers"], settings["scores"]
        return settings

    def inputs(self) -> dict[str, str]:
        files = {"answers": self.answers, "scores": self.scores}
        digests = {label: file_digest(path) for label, path in files.items() if path is not None}
        return {"source": self.source.fingerprint, **digests}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        samples = {name: _texts(value, self.answers) for name, value in _lines(self.answers, "answers")}
        frame = pl.concat(_frames(self.source))
        scores_of = self._scores(frame, samples, folder)
        taken, stays = [], []
        own = 0
        for name, messages in frame.select("id", "messages").iter_rows():
            given = samples.get(name, [])
            scores = scores_of.get(name, []) if given else []
            if len(scores) != len(given):
                raise RedoneError(f"{self.scores}: id {name}: {len(given)} scores are needed, one a sample")
            best = max(range(len(given)), key=lambda place: (scores[place], -place), default=None)
            good = best is not None and scores[best] >= self.distilled.least and bool(given[best].strip())
            if good and best is not None:
                messages = [*messages[:-1], {"role": "assistant", "content": given[best].strip()}]
                own += 1
            taken.append(messages)
            stays.append(good or self.distilled.otherwise == "reference")
        made = frame.with_columns(pl.Series("messages", taken, MESSAGES))
        kept, gone = made.filter(pl.Series(stays)), made.filter(~pl.Series(stays))
        before = pl.read_parquet(self.source.folder / DROPPED)
        lost = ledger_frame(gone.with_columns(rule=pl.lit(NO_GOOD_SAMPLE)), stage="build")
        lines = pl.concat([before, lost.select(before.columns)])
        for file, table in ((CONVERSATIONS, kept), (DROPPED, lines)):
            with atomic(folder / file) as aside:
                table.write_parquet(aside, row_group_size=20_000)
        counts = {"conversations": kept.height, "dropped": lines.height, "distilled": own}
        return {**self.source.statistics, **counts}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]

    def _scores(self, frame: pl.DataFrame, samples: Mapping[str, list[str]], folder: Path) -> dict[str, list[float]]:
        """Of each conversation one number a sample."""
        config = self.distilled
        if self.scores is not None:
            return {name: _numbers(value, self.scores) for name, value in _lines(self.scores, "scores")}
        rows = [
            (name, messages, samples.get(name, [])) for name, messages in frame.select("id", "messages").iter_rows()
        ]
        if config.metric is not None:
            pattern = re.compile(config.extract) if config.extract else None
            return {
                name: _by_metric(config.metric, pattern, turns[-1]["content"], given) for name, turns, given in rows
            }
        assert config.judge is not None
        texts = [
            "\n\n".join([*(turn["content"] for turn in turns[:-1]), answer])
            for _, turns, given in rows
            for answer in given
        ]
        # Answers that were paid for outlive a step that is cut short: they lie beside it.
        labels = iter(judge(texts, config.judge, folder.with_name(f"{folder.name}.judged"), confirmed=True).labels)
        return {name: [float(next(labels) == "good") for _ in given] for name, _, given in rows}


def _by_metric(metric: str, pattern: "re.Pattern[str] | None", reference: str, given: Sequence[str]) -> list[float]:
    expected = _extracted(pattern, reference)
    if expected is None:
        return [0.0] * len(given)
    found = (_extracted(pattern, answer) for answer in given)
    return [0.0 if answer is None else score(metric, answer, expected) for answer in found]


def _extracted(pattern: "re.Pattern[str] | None", text: str) -> str | None:
    if pattern is None:
        return text.strip()
    match = pattern.search(text)
    return None if match is None else (match[1] if pattern.groups else match[0]).strip()


def _frames(source: Output) -> Iterator[pl.DataFrame]:
    return (pl.read_parquet(path) for path in source.files(CONVERSATIONS))


def _texts(value: Any, path: Path) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise RedoneError(f"{path}: answers: a list of texts is expected")
    return value


def _numbers(value: Any, path: Path) -> list[float]:
    if not isinstance(value, list) or not all(isinstance(number, int | float) for number in value):
        raise RedoneError(f"{path}: scores: a list of numbers is expected")
    return value


def _lines(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RedoneError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            record = json.loads(line)
            yield str(record["id"]), record[key]
        except (ValueError, KeyError, TypeError):
            raise RedoneError(f"{path} line {number}: an object with id and {key} is expected") from None
