"""An LLM as judge: labels for a sample, from an OpenAI-compatible endpoint or a local model, to train a classifier on.

An LLM judges some posts a second; a classifier distilled from a few thousand answers judges a hundred thousand
(curate/quality_train.py: train, then `agreement` on held-out answers). How it is asked, what that costs and how answers
are kept is curate/asking.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from redone_data.curate.asking import AskConfig, Cost, Progress, Question, ask, cost_of_asking
from redone_data.curate.formats import read_file
from redone_data.curate.sources import DigestCache, SourceConfig, resolve_inputs
from redone_data.errors import RedoneError
from redone_data.text.hashing import hash128
from redone_data.text.normalize import normalize
from redone_data.text.redact import redact

PLACE = "{text}"


@dataclass(frozen=True, kw_only=True)
class JudgeConfig(AskConfig):
    """Whom to ask, and what."""

    prompt: str = field(metadata={"help": "what is asked, with {text} where the post goes"})
    answers: dict[str, str] = field(metadata={"help": "each answer that is allowed -> good or bad"})
    max_characters: int = field(default=2000, metadata={"help": "of a post; the rest is not sent"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if PLACE not in self.prompt:
            raise RedoneError("prompt: {text} is missing; put it where the post shall stand")
        wrong = [label for label in self.answers.values() if label not in ("good", "bad")]
        if len(set(self.answers.values())) < 2 or wrong:
            raise RedoneError("answers: name at least one answer that means good and one that means bad")
        if len({_folded(answer) for answer in self.answers}) < len(self.answers):
            raise RedoneError("answers: two answers differ in case or white space only")
        if self.max_characters < 1:
            raise RedoneError("max_characters must be above 0")

    def sampling(self) -> dict[str, float]:
        return {"temperature": 0}

    def question(self, text: str) -> Question:
        """What is asked about one post."""
        content = self.prompt.replace(PLACE, text[: self.max_characters])
        return Question([{"role": "user", "content": content}])

    def label(self, answer: str) -> str | None:
        """good or bad; None for an answer that is not one of those allowed."""
        return {_folded(name): label for name, label in self.answers.items()}.get(_folded(answer))


def _folded(answer: str) -> str:
    return answer.strip().rstrip(".").casefold()


@dataclass(frozen=True)
class Judged:
    """A label for each text, None where the answer could not be read."""

    labels: tuple[str | None, ...]

    @property
    def unreadable(self) -> int:
        return sum(label is None for label in self.labels)


def sample_posts(source: SourceConfig, base: Path, wanted: int, max_record_bytes: int = 1 << 20) -> list[str]:
    """The `wanted` posts of a source whose text hashes are least, in that order, each text once.

    Normalised, and personal data masked: they leave the house.
    """
    best = pa.table({"hash": pa.array([], pa.uint64()), "text": pa.array([], pa.large_string())})
    for file in resolve_inputs(source, base, "files", DigestCache()):
        for records in read_file(file, source, max_record_bytes):
            text, _ = redact(normalize(records.table["text"]))
            more = pa.table({"hash": hash128(text)[0], "text": text})
            best = pa.concat_tables([best, more]).group_by("hash").aggregate([("text", "min")])
            best = best.rename_columns(["hash", "text"]).sort_by("hash").slice(0, wanted)
    texts: list[str] = best["text"].to_pylist()
    return texts


def estimate(texts: Sequence[str], config: JudgeConfig, cache: Path) -> Cost:
    """What :func:`judge` would take now."""
    return cost_of_asking(map(config.question, texts), config, cache)


def judge(
    texts: Sequence[str], config: JudgeConfig, cache: Path, *, confirmed: bool, progress: Progress = lambda *_: None
) -> Judged:
    """A label for each text, as :func:`ask` asks for it."""
    answers = ask([config.question(text) for text in texts], config, cache, confirmed=confirmed, progress=progress)
    return Judged(tuple(map(config.label, answers)))


def agreement(labels: Sequence[str | None], scores: Sequence[float], threshold: float) -> float:
    """The share of judged texts on which a classifier's verdict is the judge's."""
    pairs = [(label == "good") == (score >= threshold) for label, score in zip(labels, scores, strict=True) if label]
    if not pairs:
        raise RedoneError("none of these texts has a label of the judge")
    return sum(pairs) / len(pairs)
