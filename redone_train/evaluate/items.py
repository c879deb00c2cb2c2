"""What a benchmark is: named tasks, items with prompts, and scores that keep all that an interval needs.

A score is computed from columns, one number an item, by a function of the columns alone. A bootstrap recomputes exactly
what was reported, micro-F1 and corpus BLEU included, and two models are compared over the same draws of items; 1,000
resamples of 800 items take a tenth of a second.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.errors import RedoneError
from redone_data.rng import stream

Columns = Mapping[str, npt.NDArray[np.float64]]
Combine = Callable[[Columns], dict[str, float]]
Row = Mapping[str, Any]  # an item as its file has it
Measure = Callable[[Row, str], dict[str, float]]


@dataclass(frozen=True)
class Item:
    """A prompt with its gold answer. `id` is unique in a benchmark and stays the same in every subset."""

    id: str
    task: str
    benchmark: str
    messages: tuple[dict[str, str], ...]
    gold: Any
    meta: Mapping[str, Any] = field(default_factory=dict)  # index: place in the file; group: items that go together


@dataclass(frozen=True)
class TaskScore:
    """What the answers to a task's items score, in 0-100 as the benchmark reports it, beside floor and ceiling."""

    task: str
    scorer: str
    columns: Columns  # by item; `parsed` is among them
    combine: Combine  # columns -> parts; `score` is among them, NaN when it cannot be said
    trivial: float | None = None  # the best score without a look at the input, on the same items
    trivial_rule: str = ""
    ceiling: float | None = None  # of the gold answers, through this scorer
    notes: tuple[str, ...] = ()

    @cached_property
    def parts(self) -> dict[str, float | None]:
        """All figures of the scorer by name, `score` not among them; None where one cannot be said."""
        return {name: _number(value) for name, value in self._values.items() if name != "score"}

    @cached_property
    def score(self) -> float | None:
        return _number(self._values["score"])

    @property
    def n(self) -> int:
        return len(self.columns["parsed"])

    @property
    def parse_rate(self) -> float:
        """The share of answers that could be read, right or wrong, in [0, 1]."""
        return float(np.mean(self.columns["parsed"]))

    @property
    def item_scores(self) -> list[float] | None:
        """What each item scores, where the score is their mean; else None: resample with :meth:`of`."""
        scores = self.columns.get("item_score")
        return None if scores is None else [float(score) for score in scores]

    @cached_property
    def _values(self) -> dict[str, float]:
        return self.combine(self.columns)

    def of(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> float | None:
        """The score over these items, each as often as it is named: what a bootstrap draws."""
        at = np.asarray(indices, dtype=np.int64)
        return _number(self.combine({name: column[at] for name, column in self.columns.items()})["score"])

    def interval(self, seed: int, *, resamples: int = 1000, level: float = 0.95) -> tuple[float, float] | None:
        """A percentile bootstrap over items; None when there is no score or a single item."""
        if self.score is None or self.n < 2:
            return None
        rng = stream(seed, "bootstrap", self.task)
        draws = [self.of(rng.integers(0, self.n, self.n)) for _ in range(resamples)]
        kept = [draw for draw in draws if draw is not None]
        tail = 50 * (1 - level)
        low, high = np.percentile(kept, [tail, 100 - tail])
        return float(low), float(high)

    def mapping(self, seed: int = 1) -> dict[str, Any]:
        """What `redone-train score` prints."""
        interval = self.interval(seed)
        return {
            "task": self.task,
            "scorer": self.scorer,
            "score": self.score,
            "parts": self.parts,
            "parse_rate": self.parse_rate,
            "n": self.n,
            "interval": None if interval is None else list(interval),
            "trivial": self.trivial,
            "trivial_rule": self.trivial_rule,
            "ceiling": self.ceiling,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Rule:
    """How a file is scored: numbers of one answer, and the parts (`score` among them) of many."""

    measure: Measure
    combine: Combine


class Benchmark(ABC):
    """Named tasks on disk. Items of a task come in the file's order; any part of them can be scored."""

    name: str
    tasks: tuple[str, ...]

    @abstractmethod
    def items(self, task: str) -> list[Item]:
        """The items of a task."""

    @abstractmethod
    def score(self, items: Sequence[Item], answers: Sequence[str]) -> TaskScore:
        """What answers to items of one task score; `answers` in the order of `items`."""

    def texts(self, item: Item) -> dict[str, str]:
        """What an item itself says, by field, to be looked for in training text (evaluate/trained_on.py).

        Not what all prompts say, nor options and labels, which many items share.
        """
        return {"prompt": item.messages[-1]["content"]}


def one_task(items: Sequence[Item], answers: Sequence[str]) -> str:
    """The task that all items are of; an error when there is none, more than one, or another number of answers."""
    if not items:
        raise RedoneError("score: there are no items")
    if len(items) != len(answers):
        raise RedoneError(f"score: {len(answers)} answers to {len(items)} items; each needs one")
    tasks = {item.task for item in items}
    if len(tasks) > 1:
        raise RedoneError(f"score: items of {', '.join(sorted(tasks))}; one task at a time")
    return items[0].task


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
