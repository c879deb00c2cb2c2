"""Rows of a table asked in one wording, so that what a model says of one can be compared with what it says of another.

Training asks each row by one of several templates, its options in a drawn order, and cuts frequent labels down. Where
scores put rows in an order, words have to be the same (the template `plain`, or a language's first by name), and the
share of each label is that of the table.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from redone_data.errors import RedoneError
from redone_data.instruct.answers import AnswerFormat, ChoiceFormat, GradeFormat, YesNoFormat, read_format
from redone_data.instruct.build import build
from redone_data.instruct.conversation import Conversation, Message
from redone_data.instruct.tables import Table
from redone_data.instruct.task import NeedConfig, Task
from redone_data.manifest import digest

PLAIN = "plain"


def one_wording(task: Task, *, label: str | None = None) -> Task:
    """The task with one template a language. label: the column of the answer, for a yes_no task that has none."""
    templates = {
        lang: {name: given[name]}
        for lang, given in task.templates.items()
        for name in [PLAIN if PLAIN in given else min(given)]
    }
    options = replace(task.options, max_label_share=None, order="fixed", negatives=None, max_conversations=None)
    if label is None or task.answer.column is not None:
        return replace(task, templates=templates, options=options)
    columns = {**task.columns, label: NeedConfig(kind="label")}
    answer = replace(task.answer, column=label)
    return replace(task, templates=templates, options=options, columns=columns, answer=answer)


def conversations(table: Table, task: Task, *, seed: int, measured: float) -> list[Conversation]:
    """All rows, by a hash of their ids; those of so large a share of the documents are `held_out`."""
    found = []
    for row in build(table, task, seed=seed, held_out_share=measured).conversations.iter_rows(named=True):
        turns = tuple(Message(turn["role"], turn["content"]) for turn in row["messages"])
        read = {key: None if row[key] is None else json.loads(row[key]) for key in ("format", "answer")}
        found.append(Conversation(**{**row, **read, "messages": turns, "documents": tuple(row["documents"])}))
    return sorted(found, key=lambda row: digest([seed, row.id]))


def allowed(row: Conversation, where: str) -> tuple[list[Any], list[str]]:
    """The answers that a row may have: as values, and as they are written."""
    assert row.format is not None
    form: AnswerFormat = read_format(row.format)
    values: Sequence[Any]
    if isinstance(form, ChoiceFormat):
        values = form.options
    elif isinstance(form, YesNoFormat):
        values = (True, False)
    elif isinstance(form, GradeFormat):
        values = form.grades
    else:
        raise RedoneError(f"{where}: answers of kind {form.kind} are not one of a few; yes_no, choice and grade are")
    return list(values), [form.render(value) for value in values]


def asked(row: Conversation, examples: Sequence[Conversation]) -> tuple[dict[str, str], ...]:
    """The messages that ask a row, after solved examples."""
    turns = [turn for example in examples for turn in example.messages if turn.role != "system"]
    opening = [turn for turn in row.messages if turn.role == "system"]
    last = [turn for turn in row.messages[:-1] if turn.role != "system"]
    return tuple({"role": turn.role, "content": turn.content} for turn in (*opening, *turns, *last))


def examples_among(
    rows: Sequence[Conversation], kinds: Mapping[str, bool], shots: int
) -> dict[str, list[Conversation]]:
    """By language, so many rows from the front, alternately of each kind (id -> kind) while there are both."""
    found: dict[str, list[Conversation]] = {}
    for lang in sorted({row.lang for row in rows}):
        heaps = {kind: [row for row in rows if row.lang == lang and kinds[row.id] == kind] for kind in (True, False)}
        chosen: list[Conversation] = []
        while len(chosen) < shots and any(heaps.values()):
            wanted = len(chosen) % 2 == 0
            chosen.append((heaps[wanted] or heaps[not wanted]).pop(0))
        found[lang] = chosen
    return found
