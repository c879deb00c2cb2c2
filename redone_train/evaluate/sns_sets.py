"""Labelled sets as tasks, for what a model was never trained on: sentiment, offensive, irony, emotion, rumour, stance.

A set is a table and the task that asks about its rows (instruct/tasks), or conversations that `redone-data sft` held
out. Answers are read by the task's format and scored by its metric. Solved examples (shots) are rows of the set that
are then not asked about, the same for all items of a language. Keep a set out of training by leaving its tables out of
the recipe; `redone-data decontaminate` finds what got in otherwise.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from redone_data.errors import RedoneError
from redone_data.instruct.alike import text_columns
from redone_data.instruct.answers import AnswerFormat, ChoiceFormat, GradeFormat, YesNoFormat, read_format
from redone_data.instruct.build import build
from redone_data.instruct.conversation import Conversation, Message, read_conversations
from redone_data.instruct.metrics import aggregate, check_metric, score
from redone_data.instruct.tables import RESERVED, read_table
from redone_data.instruct.task import find_task, shipped_tasks
from redone_data.manifest import digest
from redone_train.evaluate.config import SetConfig
from redone_train.evaluate.items import Benchmark, Columns, Item, TaskScore, one_task

CLASSES = 40  # the most distinct golds of which each is tried as the trivial answer
ANSWER_TOKENS = {"text": 256, "fields": 128, "spans": 128, "labels": 64, "path": 48}
ONE_LINE = ("choice", "yes_no", "grade", "labels", "path")
FEW = 16  # tokens of an answer that is a word or a letter
# What a task is scored by that is not shipped.
BY_KIND = {"choice": "accuracy", "yes_no": "accuracy", "grade": "accuracy", "path": "exact_match"}


@final
@dataclass(frozen=True)
class SnsSets(Benchmark):
    """sets: by name, as the evaluation's file has them; paths relative to `base`.

    reserved: rows a language that are not asked about, if more than are shown.
    """

    sets: Mapping[str, SetConfig]
    base: Path
    seed: int = 1
    shots: int = 0
    reserved: int = 0

    name = "sets"

    @cached_property
    def tasks(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self._rows)

    def items(self, task: str) -> list[Item]:
        reserved = max(self.shots, self.reserved)
        rows = sorted(self._rows[task], key=lambda row: digest([self.seed, row.id]))
        examples: dict[str, list[Conversation]] = {}
        asked: list[Conversation] = []
        for row in rows:
            taken = examples.setdefault(row.lang, [])
            (taken if len(taken) < reserved else asked).append(row)
        if not asked:
            raise RedoneError(f"sets.{task}: {len(rows)} rows, and {reserved} shots a language take them all")
        return [
            _item(task, place, row, examples[row.lang][: self.shots], self.metric(task))
            for place, row in enumerate(sorted(asked, key=lambda row: row.id))
        ]

    def metric(self, task: str) -> str:
        """What a task's answers score by."""
        row = self._rows[task][0]
        given = self.sets[task].task if task in self.sets else None
        if given is not None:
            return find_task(given, self.base).metric
        if row.task in shipped_tasks():
            return shipped_tasks()[row.task].metric
        return BY_KIND.get(str(row.format["kind"]) if row.format else "text", "token_f1")

    def score(self, items: Sequence[Item], answers: Sequence[str]) -> TaskScore:
        task = one_task(items, answers)
        metric = items[0].meta["metric"]
        formats = [read_format(item.meta["format"]) for item in items]
        golds = [item.gold for item in items]
        parsed = [form.parse(text) for form, text in zip(formats, answers, strict=True)]
        columns, combine = _columns(metric, parsed, golds)
        trivial, rule = _trivial(metric, golds)
        written = [form.parse(form.render(gold)) for form, gold in zip(formats, golds, strict=True)]
        return TaskScore(
            task=task,
            scorer=f"sets {metric}",
            columns=columns,
            combine=combine,
            trivial=trivial,
            trivial_rule=rule,
            ceiling=_whole(metric, written, golds),
        )

    def texts(self, item: Item) -> dict[str, str]:
        """The longest text of each row of a table; of conversations all that is asked, whose template many share."""
        rows = self._row_texts.get(item.task, {})
        said = {f"row {row}": rows[row] for row in item.meta["documents"] if row in rows}
        return said or super().texts(item)

    @cached_property
    def _row_texts(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for name, config in self.sets.items():
            if config.table is not None:
                frame = read_table(name, {name: config.table}, self.base).frame
                texts = frame.select(text_columns(frame, [one for one in frame.columns if one not in RESERVED]))
                found[name] = {
                    row: max(said, key=len, default="")
                    for row, said in zip(frame["row"], texts.iter_rows(), strict=True)
                }
        return found

    @cached_property
    def _rows(self) -> dict[str, list[Conversation]]:
        found: dict[str, list[Conversation]] = {}
        for name, config in self.sets.items():
            if config.table is not None:
                found[name] = list(_built(name, config, self.base, self.seed))
                continue
            rows = [row for file in config.files for row in read_conversations(self.base / file)]
            kept = [row for row in rows if row.format is not None and config.split in ("all", row.split)]
            if not kept:
                raise RedoneError(
                    f"sets.{name}: no conversation of {', '.join(config.files)} is {config.split} and has an answer to "
                    "be scored; set split: all, or hold some out (held_out.share in the recipe)"
                )
            for row in kept:
                found.setdefault(f"{name}/{row.task}", []).append(row)
        return found


def _built(name: str, config: SetConfig, base: Path, seed: int) -> Sequence[Conversation]:
    assert config.table is not None
    assert config.task is not None
    task = find_task(config.task, base)
    table = read_table(name, {name: config.table}, base)
    found = []
    for row in build(table, task, seed=seed).conversations.iter_rows(named=True):
        turns = tuple(Message(turn["role"], turn["content"]) for turn in row["messages"])
        read = {key: None if row[key] is None else json.loads(row[key]) for key in ("format", "answer")}
        if read["format"] is not None:
            found.append(Conversation(**{**row, **read, "messages": turns, "documents": tuple(row["documents"])}))
    if not found:
        raise RedoneError(f"sets.{name}: task '{config.task}' has free answers, which no label scores; choose another")
    return found


def _item(task: str, place: int, row: Conversation, examples: Sequence[Conversation], metric: str) -> Item:
    assert row.format is not None
    turns = [turn for example in examples for turn in example.messages if turn.role != "system"]
    opening = [turn for turn in row.messages if turn.role == "system"]
    asked = [turn for turn in row.messages[:-1] if turn.role != "system"]
    form = read_format(row.format)
    meta: dict[str, Any] = {
        "index": place,
        "metric": metric,
        "format": dict(row.format),
        "documents": list(row.documents),
        "max_new_tokens": ANSWER_TOKENS.get(form.kind, FEW),
        "stop": ["\n"] if form.kind in ONE_LINE else [],
    }
    if (options := _options(form)) is not None:
        meta["options"] = options
    messages = tuple({"role": turn.role, "content": turn.content} for turn in (*opening, *turns, *asked))
    return Item(row.id, task, SnsSets.name, messages, row.answer, meta)


def _options(form: AnswerFormat) -> list[str] | None:
    """Every answer that the format allows, as it is written."""
    if isinstance(form, ChoiceFormat):
        return [form.render(option) for option in form.options]
    if isinstance(form, YesNoFormat):
        return [form.render(True), form.render(False)]
    if isinstance(form, GradeFormat):
        return [form.render(grade) for grade in form.grades]
    return None


def _columns(metric: str, parsed: Sequence[Any], golds: Sequence[Any]) -> tuple[Columns, Any]:
    """What a bootstrap recomputes the metric from. Macro-F1 is over the golds' classes, as in `aggregate`."""
    check_metric(metric)
    readable = np.array([answer is not None for answer in parsed], float)
    if metric == "macro_f1":
        classes = sorted({repr(gold) for gold in golds})
        places = {name: float(place) for place, name in enumerate(classes)}
        return {
            "parsed": readable,
            "gold": np.array([places[repr(gold)] for gold in golds]),
            "given": np.array([-1.0 if answer is None else places.get(repr(answer), -1.0) for answer in parsed]),
        }, _macro_f1
    if metric == "set_f1":
        overlaps = [_overlap(answer, gold) for answer, gold in zip(parsed, golds, strict=True)]
        columns = zip(("hits", "extra", "missed"), np.array(overlaps, float).T, strict=True)
        return {"parsed": readable, **dict(columns)}, _micro_f1
    each = [100 * score(metric, answer, gold) for answer, gold in zip(parsed, golds, strict=True)]
    return {"parsed": readable, "item_score": np.array(each)}, _mean


def _mean(columns: Columns) -> dict[str, float]:
    return {"score": float(np.mean(columns["item_score"]))}


def _macro_f1(columns: Columns) -> dict[str, float]:
    gold, given = columns["gold"], columns["given"]
    found = []
    for place in np.unique(gold):
        hits = np.sum((gold == place) & (given == place))
        found.append(200 * hits / (np.sum(gold == place) + np.sum(given == place)))
    return {"score": float(np.mean(found)), "accuracy": float(100 * np.mean(gold == given))}


def _micro_f1(columns: Columns) -> dict[str, float]:
    hits, extra, missed = (float(columns[name].sum()) for name in ("hits", "extra", "missed"))
    total = 2 * hits + extra + missed
    return {"score": 200 * hits / total if total else 100.0}


def _overlap(answer: Any, gold: Any) -> tuple[int, int, int]:
    ours, theirs = set(answer or ()), set(gold)
    return len(ours & theirs), len(ours - theirs), len(theirs - ours)


def _whole(metric: str, parsed: Sequence[Any], golds: Sequence[Any]) -> float:
    """The metric in 0-100; of bleu and chrf the mean over items, as the columns have it."""
    if metric.rpartition(":")[2] in ("bleu", "chrf"):
        return 100 * statistics.fmean(score(metric, *pair) for pair in zip(parsed, golds, strict=True))
    return 100 * aggregate(metric, parsed, golds)


def _trivial(metric: str, golds: Sequence[Any]) -> tuple[float | None, str]:
    """The best of answers that are always the same."""
    kinds = {repr(gold): gold for gold in golds}
    if len(kinds) > CLASSES:
        return None, ""
    constant = {name: _whole(metric, [gold] * len(golds), golds) for name, gold in sorted(kinds.items())}
    best = max(constant, key=lambda name: constant[name])
    return constant[best], f"always {best}"
