"""Pairs from model outputs: of n sampled answers to a prompt, right against wrong by the task's own metric.

The answers come from a file that ``redone-train generate`` wrote, from that command, or from an OpenAI-compatible
endpoint (curate/asking.py: every answer is kept, none is paid for twice). A pair's chosen answer scores at least
`min_right`, its rejected one at least `margin` less. Prompts whose answers are all right, or all wrong, teach nothing
here and are counted; `gold: none_right` sets the gold answer against the wrong ones (SPIN, Chen et al. 2024,
arXiv:2401.01335), where a small model is hardly ever right. What else the pairs of a prompt have in common is decided
later (select.py).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from redone_data.curate.asking import AskConfig, Question, read_cache
from redone_data.curate.sources import InputFile
from redone_data.engine import Output
from redone_data.errors import RedoneError
from redone_data.instruct.answers import TextFormat
from redone_data.instruct.conversation import Answer
from redone_data.instruct.metrics import check_metric, score
from redone_data.instruct.pairs.candidates import PairSource, Rows
from redone_data.instruct.pairs.confusion import read_answers
from redone_data.instruct.pairs.conversations import conversation_rows
from redone_data.instruct.pairs.scoring import is_plain, metric_of
from redone_data.instruct.pairs.select import SelectConfig
from redone_data.instruct.pairs.structure import read_form, shared_of
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import hash128

NOT_ASKED, NO_METRIC, NO_ANSWER = "beyond_max_prompts", "no_metric", "no_answer"
NONE_RIGHT, ALL_RIGHT, NO_MARGIN = "none_right", "all_right", "margin_too_small"
_MOST_CANDIDATES = 64  # pairs of a prompt that are chosen from


@dataclass(frozen=True, kw_only=True)
class SampleConfig(AskConfig):
    """The model whose answers are sampled."""

    num_answers: int = field(default=8, metadata={"help": "to each prompt"})
    max_tokens: int = field(default=256, metadata={"help": "of an answer"})
    temperature: float = field(default=0.8, metadata={"help": "of sampling; above 0"})
    top_p: float = field(default=1.0, metadata={"help": "sample from the likeliest tokens of this share"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_answers < 2:
            raise RedoneError(f"num_answers: {self.num_answers}; at least 2, a right and a wrong one")
        if self.temperature <= 0 or not 0 < self.top_p <= 1:
            raise RedoneError("temperature must be above 0, and top_p lies above 0 and up to 1")

    def sampling(self) -> dict[str, float]:
        return {"temperature": self.temperature, "top_p": self.top_p}


@dataclass(frozen=True)
class OutputsConfig:
    """A model's own right and wrong answers to prompts whose gold is known."""

    conversations: tuple[str, ...] = field(metadata={"help": "files of redone-data sft, relative to the recipe"})
    tasks: tuple[str, ...] = field(default=(), metadata={"help": "only these; empty: all"})
    sample: SampleConfig | None = field(default=None, metadata={"help": "whom to ask"})
    answers: tuple[str, ...] = field(
        default=(), metadata={"help": "in its place: what redone-train generate answered to the prompts of --prompts"}
    )
    max_prompts: int | None = field(default=None, metadata={"help": "so many, by a hash of their ids"})
    metrics: dict[str, str] = field(
        default_factory=dict,
        metadata={"help": "task -> metric; default: the shipped task's, or what its answer format asks for"},
    )
    min_right: float = field(default=1.0, metadata={"help": "score from which an answer can be chosen"})
    margin: float = field(default=0.5, metadata={"help": "by how much the rejected answer scores less"})
    unreadable: Literal["wrong", "leave_out"] = field(
        default="wrong", metadata={"help": "what an answer is that its parser cannot read"}
    )
    chosen: Literal["plain", "readable"] = field(
        default="plain",
        metadata={"help": "plain: the answer alone, after 'Answer:' or as the last line; or any readable"},
    )
    gold: Literal["never", "none_right"] = field(
        default="never",
        metadata={"help": "none_right: where no answer is right, the gold answer is chosen against the wrong ones"},
    )
    select: SelectConfig = field(default_factory=SelectConfig)

    def __post_init__(self) -> None:
        if not self.conversations:
            raise RedoneError("conversations: at least one path is needed")
        if self.sample is not None and self.answers:
            raise RedoneError("sample, answers: give at most one of them")
        if not 0 < self.margin <= self.min_right <= 1:
            raise RedoneError(
                f"margin: {self.margin}, min_right: {self.min_right}; 0 < margin <= min_right <= 1 is needed"
            )
        for metric in self.metrics.values():
            check_metric(metric)


@dataclass(frozen=True)
class OutputsStep(PairSource):
    """The candidates of one set from model outputs."""

    name = "pairs-outputs"
    VERSION = 2

    conversations: Output
    outputs: OutputsConfig
    seed: int
    files: tuple[InputFile, ...]  # of answers; or
    cache: Path | None  # where those of `sample` lie
    digest: str  # of them

    def config(self) -> Any:
        names = ("max_prompts", "metrics", "min_right", "margin", "unreadable", "chosen", "gold")
        return {**{name: getattr(self.outputs, name) for name in names}, "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        files = {f"{i:06d}": file.sha256 for i, file in enumerate(self.files)}
        return {"conversations": self.conversations.fingerprint, "answers": self.digest, **files}

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        answers = self._answers()
        rows, judged = Rows(), _Judged()
        for row, asked in prompts_of(self.conversations, self.outputs, self.seed):
            if asked:
                self._add(rows, judged, row, answers.get(row["id"], []))
            else:
                rows.drop(row["id"], NOT_ASKED)
        if not judged.answers:
            raise RedoneError("no answer belongs to these conversations; the answers' ids must be those of the prompts")
        return {**rows.write(folder), **judged.statistics()}

    def _answers(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file in self.files:
            found |= read_answers(Path(file.path))
        if self.cache is not None:
            assert self.outputs.sample is not None
            known = read_cache(self.cache)
            for row, asked in prompts_of(self.conversations, self.outputs, self.seed):
                if asked:
                    questions = questions_of(row, self.outputs.sample)
                    found[row["id"]] = [known[self.outputs.sample.key_of(question)] for question in questions]
        return found

    def _add(self, rows: Rows, judged: "_Judged", row: Mapping[str, Any], answers: list[str]) -> None:
        scored = self._scored(row, list(dict.fromkeys(answer for answer in answers if answer.strip())), judged)
        if scored is None:
            return rows.drop(row["id"], NO_METRIC)
        right = [(text, value) for text, value in scored if value >= self.outputs.min_right]
        less = [(text, value) for text, value in scored if value < self.outputs.min_right]
        if not scored:
            return rows.drop(row["id"], NO_ANSWER)
        if not right and self.outputs.gold == "never":
            return rows.drop(row["id"], NONE_RIGHT)
        if not less:
            return rows.drop(row["id"], ALL_RIGHT)
        gold = [] if right else [(row["messages"][-1]["content"], 1.0)]
        pairs = [
            {"chosen": chosen, "rejected": rejected, "margin": round(high - low, 6)}
            for chosen, high in right + gold
            for rejected, low in less
            if high - low >= self.outputs.margin
        ]
        if not pairs:
            return rows.drop(row["id"], NO_MARGIN)
        judged.gold += len(gold)
        return rows.add(shared_of(row, "outputs"), pairs[:_MOST_CANDIDATES])

    def _scored(self, row: Mapping[str, Any], answers: list[str], judged: "_Judged") -> list[tuple[str, float]] | None:
        """Each answer's score; None where nothing says how to score this task."""
        form = None if row["format"] is None else read_form(row["format"])
        metric = metric_of(row["task"], form, self.outputs.metrics)
        if metric is None:
            return None
        gold: Answer = row["messages"][-1]["content"] if form is None else json.loads(row["answer"])
        reads = form or TextFormat()
        scored = []
        for text in answers:
            read = reads.parse(text)
            value = score(metric, read, gold)
            right = value >= self.outputs.min_right
            vague = right and form is not None and self.outputs.chosen == "plain" and not is_plain(form, text, read)
            judged.count(readable=read is not None, right=right, vague=vague)
            if not vague and (read is not None or self.outputs.unreadable == "wrong"):
                scored.append((text, value))
        return scored


@dataclass
class _Judged:
    """What the sampled answers were like, each different one of a prompt counted once."""

    answers: int = 0
    readable: int = 0
    right: int = 0
    vague: int = 0  # right, but not said plainly
    gold: int = 0  # prompts without a right one, whose gold answer is chosen

    def count(self, *, readable: bool, right: bool, vague: bool) -> None:
        self.answers += 1
        self.readable += readable
        self.right += right
        self.vague += vague

    def statistics(self) -> dict[str, int]:
        return {"answers" if name == "answers" else f"answers_{name}": number for name, number in vars(self).items()}


def prompts_of(conversations: Output, config: OutputsConfig, seed: int) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every conversation, and whether it is one of those that are asked."""
    bound = 1.0
    if config.max_prompts is not None:
        ids = [row["id"] for row in conversation_rows(conversations)]
        draws = np.sort(_draws(ids, seed))
        bound = draws[config.max_prompts] if config.max_prompts < len(draws) else 1.0
    for row in conversation_rows(conversations):
        yield row, bound == 1.0 or _draws([row["id"]], seed)[0] < bound


def _draws(ids: list[str], seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return keyed_uniform(seed, "prompts", hash128(pa.array(ids, pa.large_string()))[0])


def questions_of(row: Mapping[str, Any], config: SampleConfig) -> list[Question]:
    """What is asked about one conversation: its prompt, n times."""
    prompt = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"][:-1]]
    return [Question(prompt, sample) for sample in range(config.num_answers)]
