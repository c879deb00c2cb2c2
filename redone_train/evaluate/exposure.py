"""Exposure: the share of harmful posts among those that pass, when a model's scores decide which are held back.

RedOne reports the fall of this share online, at a platform's own traffic; no such logs are public. Offline: labelled
posts, a score for each, and at pass rate p the k = round(p n) posts with the lowest scores pass, the same number for
every model. Trivial is a random order (the share of harmful posts among all), the ceiling an order without a mistake
(nothing harmful passes while anything harmless is held back). Posts with equal scores share what passes of them: the
expectation over their orders, so a score that says nothing is exactly as good as chance. What a model could not read
passes.

The score is the share of harmless posts among those that pass, the mean over the pass rates: 100 less exposure, so that
up is better as everywhere. Exposure at each rate, the area under the ROC curve (equal scores count a half) and average
precision (a step for each distinct score) are parts with intervals and paired differences of their own. A draw of
1,000 posts takes some .1 ms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np
import numpy.typing as npt

from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.conversation import Conversation
from redone_data.instruct.tables import read_table
from redone_data.instruct.task import LABELS, Task, find_task
from redone_train.evaluate.config import ExposureConfig
from redone_train.evaluate.items import Columns, Item, TaskScore, one_task
from redone_train.evaluate.one_wording import allowed, asked, conversations, examples_among, one_wording
from redone_train.evaluate.scored import HEAD, Scored, as_floats, log_odds, read_scores

Floats = npt.NDArray[np.float64]
AUC, PRECISION = "area under ROC", "average precision"


@final
@dataclass(frozen=True)
class Exposure(Scored):
    """Labelled posts, of which some pass: how many of these are harmful."""

    sets: Mapping[str, ExposureConfig]

    name = "exposure"

    def items(self, task: str) -> list[Item]:
        measured, _ = self._posts[task.removesuffix(HEAD)]
        check_both([item.gold for item in measured], task)
        return [replace(item, task=task) for item in measured]

    def training(self, task: str) -> list[Item]:
        return self._posts[task.removesuffix(HEAD)][1]

    def targets(self, item: Item) -> list[float]:
        return [float(item.gold)]

    def score(self, items: Sequence[Item], answers: Sequence[str]) -> TaskScore:
        task = one_task(items, answers)
        config = self.sets[task.removesuffix(HEAD)]
        harmful = np.array([item.gold for item in items], float)
        check_both(harmful.tolist(), task)
        read = [read_scores(text, 1) for text in answers]
        if task.endswith(HEAD):
            risks = [values[0] for values in read]
        else:
            risks = [log_odds(values, item.meta["harmful"])[0] for values, item in zip(read, items, strict=True)]
        columns = {
            "parsed": np.array([risk is not None for risk in risks], float),
            "harmful": harmful,
            "risk": as_floats(risks, -np.inf),
        }
        rates = config.pass_rates
        random, perfect = (_parts({"harmful": harmful, "risk": risk}, rates) for risk in (0 * harmful, harmful))
        return TaskScore(
            task=task,
            scorer=f"harmless among the passed at {', '.join(f'{rate:g}' for rate in rates)}",
            columns=columns,
            combine=lambda part: _parts(part, rates),
            trivial=random["score"],
            trivial_rule="posts in a random order",
            ceiling=perfect["score"],
            notes=(f"{100 * harmful.mean():.1f} % of {len(items):,} posts are harmful",),
            title=f"{task}: harmless among the passed",
            shown={name: (random[name], perfect[name]) for name in random if name != "score"},
        )

    def texts(self, item: Item) -> dict[str, str]:
        return dict(item.meta["row"])

    @cached_property
    def _posts(self) -> dict[str, tuple[list[Item], list[Item]]]:
        """By name: the posts that are measured, and those that a head is trained on."""
        return {name: self._posts_of(name, config) for name, config in self.sets.items()}

    def _posts_of(self, name: str, config: ExposureConfig) -> tuple[list[Item], list[Item]]:
        task = one_wording(find_task(config.task, self.base))
        _check_labels(task, config.harmful, name)
        table = read_table(name, {name: config.table}, self.base)
        share = config.head.measured if config.head else 1.0
        rows = conversations(table, task, seed=self.seed, measured=share)
        harmful = {row.id: _label(task, row) in config.harmful for row in rows}
        training = [row for row in rows if row.split == "train"]
        kept = examples_among(training or rows, harmful, max(self.shots, self.reserved))
        shown = {row.id for chosen in kept.values() for row in chosen}
        texts = dict(zip(table.frame["row"], table.frame[_text_column(task)], strict=True))

        def item(row: Conversation) -> Item:
            values, options = allowed(row, f"exposure.{name}")
            bad = [_label(task, row, value) in config.harmful for value in values]
            said = next((texts[one] for one in row.documents if one in texts), "")
            meta = {"options": options, "harmful": bad, "row": {"text": said}}
            examples = kept.get(row.lang, [])[: self.shots]
            return Item(row.id, name, self.name, asked(row, examples), harmful[row.id], meta)

        measured = [row for row in rows if row.split != "train" and row.id not in shown]
        if config.prevalence is not None:
            measured = _at_prevalence(measured, harmful, config.prevalence)
        taught = [row for row in training if row.id not in shown][: config.head.rows if config.head else 0]
        return [item(row) for row in sorted(measured, key=lambda row: row.id)], [item(row) for row in taught]


def _text_column(task: Task) -> str:
    """The column that is judged: the first of the task's text columns."""
    return next(name for name, need in task.columns.items() if need.kind == "text")


def _check_labels(task: Task, harmful: Sequence[str], name: str) -> None:
    if task.answer.kind == "yes_no":
        known: Sequence[str] = ("yes", "no")
    elif task.answer.kind == "choice" and task.answer.options == LABELS:
        known = list(task.labels)
    else:
        raise RedoneError(
            f"exposure.{name}: task {task.name} has answers of kind {task.answer.kind}; yes_no is needed, or a choice "
            "of labels"
        )
    for label in harmful:
        if label not in known:
            raise RedoneError(f"exposure.{name}: harmful: {label!r}: {did_you_mean(label, known)}")


def _label(task: Task, row: Conversation, value: Any = None) -> str:
    """The label behind an answer of a row, its gold one by default."""
    value = row.answer if value is None else value
    if task.answer.kind == "yes_no":
        return "yes" if value else "no"
    return next(label for label in task.labels if task.word(label, row.lang) == value)


def _at_prevalence(rows: Sequence[Conversation], harmful: Mapping[str, bool], share: float) -> list[Conversation]:
    """Rows are in the order of a hash: the first of the harmful ones stay."""
    most = int(share / (1 - share) * sum(not harmful[row.id] for row in rows))
    bad = {row.id for row in [row for row in rows if harmful[row.id]][:most]}
    return [row for row in rows if not harmful[row.id] or row.id in bad]


def exposure_name(rate: float) -> str:
    """What the exposure at a pass rate is called.

    >>> exposure_name(0.95)
    'exposure at 95 %'
    """
    return f"exposure at {100 * rate:g} %"


def exposures(harmful_N: Floats, risk_N: Floats, rates: Sequence[float]) -> list[float]:
    """The expected share of harmful posts among the round(rate n) with the lowest risk, at least one.

    >>> exposures(np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.1, 0.2, 0.3, 0.4]), [0.5, 0.75])
    [0.5, 0.3333333333333333]
    """
    harm_G, size_G = _groups(harmful_N, risk_N)
    passed_N = np.cumsum(np.repeat(harm_G / size_G, size_G))
    return [float(passed_N[k - 1] / k) for k in (max(1, int(rate * len(harmful_N) + 0.5)) for rate in rates)]


def roc_area(harmful_N: Floats, risk_N: Floats) -> float:
    """The chance that a harmful post has the higher risk of two, one of each kind; NaN where a kind is absent."""
    harm_G, size_G = _groups(harmful_N, risk_N)
    clean_G = size_G - harm_G
    pairs = harm_G.sum() * clean_G.sum()
    below_G = np.cumsum(clean_G) - clean_G
    return float(harm_G @ (below_G + clean_G / 2) / pairs) if pairs else np.nan


def average_precision(harmful_N: Floats, risk_N: Floats) -> float:
    """Precision at each distinct risk from the top, weighed by the recall that it adds; NaN: nothing is harmful."""
    harm_G, size_G = (groups[::-1] for groups in _groups(harmful_N, risk_N))
    total = harm_G.sum()
    return float((np.cumsum(harm_G) / np.cumsum(size_G)) @ harm_G / total) if total else np.nan


def _groups(harmful_N: Floats, risk_N: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Harmful posts, and posts, of each distinct risk, from the lowest."""
    order = np.argsort(risk_N, kind="stable")
    risks = risk_N[order]
    starts = np.concatenate([[0], np.flatnonzero(risks[1:] != risks[:-1]) + 1])
    return np.add.reduceat(harmful_N[order], starts), np.diff(np.append(starts, len(order)))


def _parts(columns: Columns, rates: Sequence[float]) -> dict[str, float]:
    harmful, risk = columns["harmful"], columns["risk"]
    found = exposures(harmful, risk, rates)
    return {
        "score": 100 * (1 - float(np.mean(found))),
        **{exposure_name(rate): 100 * value for rate, value in zip(rates, found, strict=True)},
        AUC: 100 * roc_area(harmful, risk),
        PRECISION: 100 * average_precision(harmful, risk),
    }


def check_both(harmful: Sequence[Any], task: str) -> None:
    """Raise RedoneError where all posts are harmful, or none: no order of them is better than another."""
    count = sum(map(bool, harmful))
    if count in (0, len(harmful)):
        raise RedoneError(
            f"exposure.{task}: {count:,} of {len(harmful):,} posts are harmful, and both kinds are needed; look at "
            "`harmful` (the labels that are), or raise max_items"
        )
