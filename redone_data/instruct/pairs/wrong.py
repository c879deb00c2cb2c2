"""Wrong answers of the same form as the right one: another option, another grade, a set with one label exchanged.

Which one is the hard part: a negative that nobody would confuse teaches nothing. With confusions of a scored model
(confusion.py) a wrong answer is drawn as often as the model gives it; without, the nearest is taken: the next grade, a
path that leaves the right one late, a label of like spelling. A share is drawn at random, so that every wrong answer
is seen.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.instruct.answers import (
    AnswerFormat,
    ChoiceFormat,
    FieldsFormat,
    GradeFormat,
    LabelsFormat,
    PathFormat,
    YesNoFormat,
    read_format,
)

Confusions = Mapping[str, Mapping[str, int]]  # gold -> predicted -> count
NONE: Confusions = {}
SEPARATOR = " | "
_MOST_KNOWN = 1 << 14

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """What is known of one task: confusions of a scored model, and the golds of its rows, for open answers.

    hard_share: of wrong answers drawn by confusion or nearness, the others at random.
    """

    confusions: Confusions = field(default_factory=dict)
    golds: tuple[str, ...] = ()
    hard_share: float = 0.8
    _weights: dict[tuple[str, tuple[str, ...]], Floats] = field(default_factory=dict, repr=False, compare=False)

    def weights(self, gold: str, others: tuple[str, ...], nearness: Callable[[], Sequence[float]]) -> Floats:
        """How likely each of the others is drawn in place of the gold."""
        found = self._weights.get((gold, others))
        if found is None:
            counts = self.confusions.get(gold, {})
            hard = np.array([counts.get(other, 0) for other in others], np.float64)
            if not hard.sum():
                near = np.asarray(nearness(), np.float64)
                hard = (near == near.max()).astype(np.float64)
            found = self.hard_share * hard / hard.sum() + (1 - self.hard_share) / len(others)
            if len(self._weights) < _MOST_KNOWN:
                self._weights[gold, others] = found
        return found


@dataclass(frozen=True)
class Wrong:
    """A wrong answer; places among the options, where the prompt lists them."""

    answer: Any
    chosen_position: int | None = None
    rejected_position: int | None = None
    num_options: int | None = None


def key_of(answer: Any) -> str:
    """An answer as one text, as a table of confusions has it.

    >>> key_of(True), key_of(3), key_of(["Food", "Tea"])
    ('true', '3', 'Food | Tea')
    """
    if isinstance(answer, bool):
        return str(answer).lower()
    return SEPARATOR.join(map(str, answer)) if isinstance(answer, list | tuple) else str(answer)


def labels_of(kind: str, gold: Any) -> list[str]:
    """The labels of a gold answer that are wrong answers elsewhere."""
    if kind == LabelsFormat.kind:
        return [str(label) for label in gold]
    return [key_of(gold)] if kind == PathFormat.kind else []


def wrong_answers(form: AnswerFormat, gold: Any, known: Known, draws: Sequence[float]) -> list[Wrong]:
    """Different wrong answers, one a draw (a number in [0, 1)) as far as there are any; none for free text."""
    if isinstance(form, ChoiceFormat):
        others = tuple(option for option in form.options if option != gold)
        place = form.options.index(gold)
        return [
            Wrong(option, place, form.options.index(option), len(form.options))
            for option in _drawn(gold, others, known, draws, lambda: _spelling(gold, others))
        ]
    if isinstance(form, YesNoFormat):
        return [Wrong(not gold)] if draws else []
    if isinstance(form, GradeFormat):
        grades = {str(grade): grade for grade in form.grades if grade != gold}
        keys = _drawn(str(gold), tuple(grades), known, draws, lambda: [-abs(grade - gold) for grade in grades.values()])
        return [Wrong(grades[key]) for key in keys]
    if isinstance(form, PathFormat):
        return [Wrong(path) for path in _other_paths(form, gold, known, draws)]
    if isinstance(form, LabelsFormat):
        return [Wrong(answer) for answer in _other_sets(form, gold, known, draws)]
    if isinstance(form, FieldsFormat):
        return _other_field(form, gold, known, draws)
    return []


def _drawn(
    gold: str, others: tuple[str, ...], known: Known, draws: Sequence[float], near: Callable[[], Sequence[float]]
) -> list[str]:
    """Different ones of `others`, the gold never."""
    if not others:
        return []
    weights = known.weights(gold, others, near).copy()
    if gold in others:
        weights[others.index(gold)] = 0.0
    found: list[str] = []
    for draw in draws:
        total = np.cumsum(weights)
        if total[-1] <= 0:  # all are drawn, or all that hard_share: 1 allows
            break
        number = int(np.searchsorted(total, draw * total[-1], side="right"))
        found.append(others[number])
        weights[number] = 0.0
    return found


def _other_paths(form: PathFormat, gold: Sequence[str], known: Known, draws: Sequence[float]) -> list[list[str]]:
    """Paths of other rows; where each level has its options, the gold path with one level exchanged."""
    paths = known.golds
    if form.options is not None:
        paths = tuple(
            SEPARATOR.join([*gold[:level], option, *gold[level + 1 :]])
            for level, options in enumerate(form.options)
            for option in options
            if option != gold[level]
        )
    drawn = _drawn(key_of(gold), paths, known, draws, lambda: [_shared_levels(path, gold) for path in paths])
    return [path.split(SEPARATOR) for path in drawn]


def _other_sets(form: LabelsFormat, gold: Sequence[str], known: Known, draws: Sequence[float]) -> list[list[str]]:
    """The gold set with one label exchanged; where no other label is left, with one missing."""
    absent = tuple(label for label in form.options or known.golds if label not in gold)
    found: list[list[str]] = []
    for draw in draws:
        # One draw says which label goes and, by what is left of it, which one comes.
        at, rest = divmod(draw * max(len(gold), 1), 1)
        place = int(at)
        out = gold[place] if gold else form.none
        new = _drawn(out, absent, known, [rest], functools.partial(_spelling, out, absent))
        other = [*gold[:place], *new, *gold[place + 1 :]]
        if other not in found and set(other) != set(gold):
            found.append(other)
    return found


def _other_field(form: FieldsFormat, gold: Mapping[str, Any], known: Known, draws: Sequence[float]) -> list[Wrong]:
    """The gold answer with the first field that has wrong answers made wrong."""
    for name, mapping in form.fields.items():
        found = wrong_answers(read_format(mapping), gold[name], known, draws)
        if found:
            return [Wrong({**gold, name: one.answer}) for one in found]
    return []


def _shared_levels(path: str, gold: Sequence[str]) -> int:
    """How many levels lead the same way; the gold path itself is no wrong answer, however near."""
    levels = path.split(SEPARATOR)
    return next((i for i, (a, b) in enumerate(zip(levels, gold, strict=False)) if a != b), -1)


def _spelling(gold: str, others: Sequence[str]) -> list[float]:
    """How alike labels are in spelling: Dice's coefficient of their character pairs."""
    mine = _pairs(gold)
    return [2 * len(mine & _pairs(other)) / (len(mine) + len(_pairs(other))) for other in others]


@functools.lru_cache(maxsize=1 << 16)
def _pairs(text: str) -> frozenset[str]:
    padded = f" {text.lower()} "
    return frozenset(padded[i : i + 2] for i in range(len(padded) - 1))
