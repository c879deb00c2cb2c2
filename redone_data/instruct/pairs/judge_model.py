"""A model that judges pairs: what it is asked about two answers, in which orders, and what it said."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from redone_data.curate.asking import AskConfig, Question
from redone_data.errors import RedoneError
from redone_data.instruct.pairs.calibration import Calibration, Verdicts, calibrate

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
    return calibrate(verdicts_of(answers, judge), people, log_lengths(sample), prompts)


def log_lengths(pairs: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The log of the ratio of lengths, first to second."""
    first, second = (pairs[name].str.len_chars().clip(lower_bound=1).log().to_numpy() for name in ("first", "second"))
    difference: np.ndarray[Any, np.dtype[np.float64]] = first - second
    return difference
