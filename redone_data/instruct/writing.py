"""One row's conversation: its prompt by a template, its answer by the answer format, and the answer read back.

The one loop of Python over rows: some 40 us a conversation.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.instruct.answers import (
    LETTERS,
    AnswerFormat,
    ChoiceFormat,
    FieldsFormat,
    GradeFormat,
    LabelsFormat,
    PathFormat,
    SpansFormat,
    TextFormat,
    YesNoFormat,
)
from redone_data.instruct.conversation import MESSAGES, Message, check_turns
from redone_data.instruct.task import LABELS, AnswerConfig, Prompt, Task
from redone_data.instruct.template import Template, TooLongError

YES = {"yes": True, "no": False}
Order = npt.NDArray[np.float64] | None


class DropError(Exception):
    """A row that becomes no conversation: the rule it breaks, and what it has."""

    def __init__(self, rule: str, detail: str | None = None) -> None:
        super().__init__(rule)
        self.rule, self.detail = rule, detail


class _Written(NamedTuple):
    """An answer of a row: its format, the gold, and the options in the order in which they are shown."""

    format: AnswerFormat
    gold: Any
    options: Sequence[Any]  # of a path: a list a level


class Writer:
    """Writes row after row, and remembers what could not be."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._count = 0
        self._roles: list[str] = []
        self._contents: list[str] = []
        self._ends: list[int] = [0]
        self._formats: list[str | None] = []
        self._answers: list[str | None] = []
        self._lost: list[tuple[int, str, str | None]] = []
        self._known_formats: dict[AnswerFormat, str] = {}

    def write(self, row: Mapping[str, Any], prompt: Prompt, order: Order) -> None:
        """Write one row's conversation by the prompt; `order` has a draw an option, which shuffles them."""
        try:
            messages, written = self._conversation(row, prompt, order)
        except DropError as drop:
            self._lost.append((self._count, drop.rule, drop.detail))
        else:
            for role, content in messages:
                self._roles.append(role)
                self._contents.append(content)
            self._ends.append(len(self._roles))
            is_free = written is None or isinstance(written.format, TextFormat)
            self._formats.append(None if is_free or written is None else self._format_text(written.format))
            self._answers.append(None if is_free or written is None else orjson.dumps(written.gold).decode())
        self._count += 1

    def columns(self) -> tuple[dict[str, pl.Series], list[tuple[int, str, str | None]]]:
        """What was written, and (place, rule, detail) of each row that was not."""
        turns = pa.StructArray.from_arrays(
            [pa.array(self._roles, pa.large_string()), pa.array(self._contents, pa.large_string())], ["role", "content"]
        )
        # From Arrow: polars takes five times as long to look at every dictionary of every row.
        messages = pl.Series(pa.LargeListArray.from_arrays(pa.array(self._ends, pa.int64()), turns), dtype=MESSAGES)
        texts = {"format": self._formats, "answer": self._answers}
        return {"messages": messages, **{k: pl.Series(v, dtype=pl.String) for k, v in texts.items()}}, self._lost

    def _format_text(self, form: AnswerFormat) -> str:
        if isinstance(form, FieldsFormat):  # it holds mappings, which have no hash
            return orjson.dumps(form.mapping()).decode()
        if form not in self._known_formats:
            if len(self._known_formats) > 10_000:
                self._known_formats.clear()
            self._known_formats[form] = orjson.dumps(form.mapping()).decode()
        return self._known_formats[form]

    def _conversation(
        self, row: Mapping[str, Any], prompt: Prompt, order: Order
    ) -> tuple[list[tuple[str, str]], _Written | None]:
        limits = self._task.options
        messages: list[tuple[str, str]] = []
        if self._task.messages is not None:
            given = row[self._task.messages]
            try:
                turns = [Message(turn["role"], turn["content"].strip()) for turn in given]
                check_turns(turns, last="assistant")
            except (RedoneError, AttributeError) as error:
                raise DropError("bad_turns", str(error)) from None
            if prompt.system is not None and turns[0].role != "system":
                messages.append(("system", self._rendered(prompt, prompt.system, row)))
            messages += [(turn.role, turn.content) for turn in turns]
            if sum(len(content) for _, content in messages[:-1]) > limits.prompt_characters:
                raise DropError("prompt_too_long")
            if len(messages[-1][1]) > limits.answer_characters:
                raise DropError("answer_too_long")
            return messages, None
        lang, by = row["lang"], prompt.by
        try:
            written = self._answer(self._task.answer, row, lang, by, order)
            text = written.format.render(written.gold)
        except RedoneError as error:
            raise DropError("unreadable_answer", str(error)[:200]) from None
        if written.format.parse(text) != written.gold:
            raise DropError("unreadable_answer", f"{text[:100]!r} is read otherwise")
        if len(text) > limits.answer_characters:
            raise DropError("answer_too_long")
        lettered = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, written.options, strict=False))
        values = {**row, **self._in_words(row, lang), "options": written.options, "lettered": lettered}
        if prompt.system is not None:
            messages.append(("system", self._rendered(prompt, prompt.system, values)))
        assert prompt.user is not None
        earlier = zip(itertools.cycle(("user", "assistant")), prompt.before, strict=False)
        messages += [(role, self._rendered(prompt, template, values)) for role, template in earlier]
        messages.append(("user", self._rendered(prompt, prompt.user, values)))
        messages.append(("assistant", text))
        return messages, written

    def _in_words(self, row: Mapping[str, Any], lang: str) -> dict[str, str]:
        """Columns of labels in the words of the language."""
        task = self._task
        named = {name: row[name] for name, need in task.columns.items() if need.kind == "label"}
        return {name: task.word(label, lang) for name, label in named.items() if label in task.labels}

    def _rendered(self, prompt: Prompt, template: Template, values: Mapping[str, Any]) -> str:
        try:
            text: str = template.render(values, self._task.options.prompt_characters)
        except TooLongError:
            raise DropError("prompt_too_long") from None
        except RedoneError as error:
            raise RedoneError(f"task {self._task.name}: template {prompt.name}: row {values['row']}: {error}") from None
        if not text:
            raise DropError("empty_prompt")
        return text

    def _answer(self, answer: AnswerConfig, row: Mapping[str, Any], lang: str, by: Any, order: Order) -> _Written:
        words = self._task.words_of(lang)
        gold: Any = None if answer.column is None else row[answer.column]
        options: list[str] = []
        if answer.kind in ("choice", "labels"):
            options = self._options(answer, row, lang)
            if answer.options == LABELS and gold is not None:
                gold = (
                    [self._task.word(g, lang) for g in gold] if isinstance(gold, list) else self._task.word(gold, lang)
                )
            golds = gold if isinstance(gold, list) else [gold]
            if options and not set(golds) <= set(options):
                raise DropError("answer_not_in_options", ", ".join(map(str, golds))[:200])
            options = _shuffled(options, order)
        if answer.kind == "choice":
            return _Written(ChoiceFormat(tuple(options), by), gold, options)
        if answer.kind == "labels":
            shown = tuple(options) or None
            if shown is not None:
                gold = [option for option in options if option in set(gold)]
            return _Written(LabelsFormat(shown, words["separator"], words["none"]), gold, options)
        if answer.kind == "yes_no":
            gold = row["is_true"] if answer.column is None else YES[str(gold)]
            return _Written(YesNoFormat(words["yes"], words["no"]), gold, [words["yes"], words["no"]])
        if answer.kind == "grade":
            return _Written(GradeFormat(answer.grades), _whole(gold), [str(grade) for grade in answer.grades])
        if answer.kind == "spans":
            return _Written(SpansFormat("lines" if answer.style == "lines" else "json", words["none"]), gold, [])
        if answer.kind == "path":
            return self._path(answer, row, gold, order)
        if answer.kind == "fields":
            inner = {name: self._answer(part, row, lang, "text", order) for name, part in answer.fields.items()}
            style: Literal["tags", "json"] = "json" if answer.style == "json" else "tags"
            formats = {name: part.format.mapping() for name, part in inner.items()}
            return _Written(FieldsFormat(formats, style), {name: part.gold for name, part in inner.items()}, [])
        return _Written(TextFormat(), gold, [])

    def _options(self, answer: AnswerConfig, row: Mapping[str, Any], lang: str) -> list[str]:
        if answer.options == LABELS:
            return [self._task.word(label, lang) for label in row["options"]]
        if answer.options is None:
            return list(row.get("options") or ())
        return list(dict.fromkeys(option.strip() for option in row[str(answer.options)] if option.strip()))

    def _path(self, answer: AnswerConfig, row: Mapping[str, Any], gold: Sequence[str], order: Order) -> _Written:
        levels = answer.levels or 0
        if not isinstance(answer.options, tuple):
            return _Written(PathFormat(levels), gold, [])
        lists = [list(dict.fromkeys(row[column])) for column in answer.options]
        if len(gold) != levels or any(name not in names for name, names in zip(gold, lists, strict=False)):
            raise DropError("answer_not_in_options", " | ".join(gold)[:200])
        shown = [_shuffled(names, order) for names in lists]
        return _Written(PathFormat(levels, tuple(map(tuple, shown))), gold, shown)


def _shuffled(options: list[str], order: Order) -> list[str]:
    if order is None or len(options) < 2:
        return options
    return [options[place] for place in np.argsort(order[: len(options)], kind="stable")]


def _whole(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise RedoneError(f"grade {value!r}: a whole number is needed") from None
