"""A task as data: YAML that says which columns it needs, how it asks and how its answer is written.

Nothing here is Python of the user's: a new task is a file beside the shipped ones (instruct/tasks/*.yaml), named in a
recipe by its path. Everything is checked when the file is read; an error names file, key and what is allowed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from redone_data.config import load_yaml, plain, read_config
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.answers import FORMATS
from redone_data.instruct.conversation import CAPABILITIES
from redone_data.instruct.metrics import check_metric
from redone_data.instruct.tables import RESERVED
from redone_data.instruct.template import Template

Kind = Literal["text", "label", "number", "list", "messages"]
How = Literal["random", "same_group", "similar"]
AnswerKind = Literal["text", "choice", "labels", "yes_no", "grade", "spans", "path", "fields"]
# Words of answers, where a task names none: of the language, or else English.
WORDS = {
    "zh": {"yes": "是", "no": "否", "none": "无", "separator": "、"},
    "en": {"yes": "Yes", "no": "No", "none": "none", "separator": ", "},
}
LABELS = "labels"
# What a template sees beside its columns: the options as a list, and as lines "A. joy".
VARIABLES = ("options", "lettered")
SHIPPED = Path(__file__).parent / "tasks"


@dataclass(frozen=True)
class NeedConfig:
    """A column that a table must have."""

    kind: Kind = "text"
    optional: bool = False
    min_items: int = field(default=0, metadata={"help": "of a list; rows with fewer are dropped"})
    help: str = ""


@dataclass(frozen=True)
class GoldConfig:
    """Where right answers come from: people, or the rows themselves."""

    kind: Literal["real", "derived"] = field(metadata={"help": "real: people gave them; derived: taken from the row"})
    note: str = field(metadata={"help": "who labelled, or what is taken from where"})


@dataclass(frozen=True)
class AnswerConfig:
    """The answer format, and the column with the gold answer."""

    kind: AnswerKind
    column: str | None = field(default=None, metadata={"help": "the gold; yes_no without one: yes (see negatives)"})
    options: str | tuple[str, ...] | None = field(
        default=None,
        metadata={"help": "'labels', or the column with a list of them (path: one a level); default: distractors"},
    )
    by: Literal["text", "letter"] = "text"
    style: Literal["json", "lines", "tags"] | None = None
    levels: int | None = None
    grades: tuple[int, ...] = ()
    fields: dict[str, "AnswerConfig"] = field(default_factory=dict)


@dataclass(frozen=True)
class DistractorsConfig:
    """Wrong options beside the right one, out of the right ones of other rows."""

    number: int = 3
    how: How = field(default="random", metadata={"help": "similar: those that share most letters with the right one"})
    group: str | None = field(default=None, metadata={"help": "same_group: the column that rows share (their post)"})
    below: str | None = field(default=None, metadata={"help": "a number column; a wrong option's is smaller (clicks)"})
    at_least: int = field(default=1, metadata={"help": "of `below`, for a row to be asked about"})
    exclude: str | None = field(default=None, metadata={"help": "a list column: never wrong options of this row"})

    def __post_init__(self) -> None:
        if self.number < 1:
            raise RedoneError(f"number: {self.number}; at least 1")
        _check_group(self.how, self.group)


@dataclass(frozen=True)
class NegativesConfig:
    """For yes_no tasks whose rows all belong together: a share gets a column of another row, and the answer no."""

    column: str
    share: float = 0.5
    how: How = "random"
    group: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise RedoneError(f"share: {self.share}; between 0 and 1")
        _check_group(self.how, self.group)


@dataclass(frozen=True)
class TaskOptions:
    """What a recipe may set otherwise."""

    max_label_share: float | None = field(
        default=0.6, metadata={"help": "rows of the most frequent label are dropped down to this share; null: none"}
    )
    order: Literal["shuffled", "fixed"] = field(
        default="shuffled", metadata={"help": "of options; shuffled: no position is right more often"}
    )
    distractors: DistractorsConfig | None = None
    negatives: NegativesConfig | None = None
    min_characters: int = field(default=2, metadata={"help": "of each text column; shorter rows are dropped"})
    prompt_characters: int = field(default=6000, metadata={"help": "longer prompts are dropped"})
    answer_characters: int = field(default=3000, metadata={"help": "longer answers are dropped"})
    max_conversations: int | None = field(default=None, metadata={"help": "of a table; more are dropped, by a hash"})
    max_unreadable: float = field(
        default=0.05, metadata={"help": "share of rows whose answer cannot be written and read; above it: an error"}
    )

    def __post_init__(self) -> None:
        if self.max_label_share is not None and not 0 < self.max_label_share <= 1:
            raise RedoneError(f"max_label_share: {self.max_label_share}; above 0 and at most 1, or null")
        for name in ("prompt_characters", "answer_characters", "max_conversations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RedoneError(f"{name}: {value}; at least 1")
        if not 0 <= self.max_unreadable <= 1:
            raise RedoneError(f"max_unreadable: {self.max_unreadable}; between 0 and 1")


@dataclass(frozen=True)
class TemplateConfig:
    """One way to ask. Raise `version` when its words change: conversations name it."""

    version: int
    user: str | None = field(default=None, metadata={"help": "Jinja; not for tasks whose rows are messages"})
    before: tuple[str, ...] = field(
        default=(), metadata={"help": "earlier turns, the user's and the assistant's one after another (Jinja)"}
    )
    system: str | None = field(default=None, metadata={"help": "default: the task's system prompt of the language"})
    by: Literal["text", "letter"] | None = field(default=None, metadata={"help": "choice: default: the answer's"})


@dataclass(frozen=True)
class Prompt:
    """A template that was checked, ready to render."""

    name: str  # sentiment.zh.plain.v1
    user: Template | None
    before: tuple[Template, ...]
    system: Template | None
    by: Literal["text", "letter"]


@dataclass(frozen=True)
class Task:
    """One task of a capability."""

    name: str
    capability: str
    about: str
    metric: str = field(metadata={"help": "what an answer scores by (metrics.py); FIELD:METRIC for one of several"})
    gold: GoldConfig
    columns: dict[str, NeedConfig]
    answer: AnswerConfig
    templates: dict[str, dict[str, TemplateConfig]] = field(metadata={"help": "language -> name -> template"})
    labels: dict[str, dict[str, str]] = field(
        default_factory=dict, metadata={"help": "label -> language -> its word in prompts and answers"}
    )
    words: dict[str, dict[str, str]] = field(
        default_factory=dict, metadata={"help": "language -> 'yes', 'no', none, separator of its answers"}
    )
    system: dict[str, str] = field(default_factory=dict, metadata={"help": "language -> system prompt (Jinja)"})
    messages: str | None = field(default=None, metadata={"help": "the column whose messages are the conversation"})
    options: TaskOptions = field(default_factory=TaskOptions)

    def __post_init__(self) -> None:
        if self.capability not in CAPABILITIES:
            raise RedoneError(f"capability: {self.capability!r}; {did_you_mean(self.capability, CAPABILITIES)}")
        if not self.templates:
            raise RedoneError("templates: at least one language is needed")
        for name in self.columns:
            if name in (*RESERVED, *VARIABLES):
                raise RedoneError(f"columns.{name}: the name is taken; choose another")
        check_metric(self.metric)
        _check_answer(self, self.answer, "answer")
        _check_labels(self)
        _check_options(self)
        _ = self.prompts  # bad templates are found now

    def __getstate__(self) -> dict[str, Any]:
        """Without the compiled templates, which no process can be sent."""
        return {name: value for name, value in self.__dict__.items() if name != "prompts"}

    @cached_property
    def prompts(self) -> dict[str, list[Prompt]]:
        """Language -> its templates, checked."""
        known = (*self.columns, *VARIABLES)
        made: dict[str, list[Prompt]] = {}
        for lang, templates in self.templates.items():
            if not templates:
                raise RedoneError(f"templates.{lang}: at least one template is needed")
            for name, given in sorted(templates.items()):
                where = f"templates.{lang}.{name}"
                if (given.user is None) != (self.messages is not None):
                    raise RedoneError(f"{where}.user: needed, but for tasks with `messages`")
                if len(given.before) % 2 or (given.before and given.user is None):
                    raise RedoneError(f"{where}.before: pairs of turns, user and assistant, that come before `user`")
                system = given.system if given.system is not None else self.system.get(lang)
                made.setdefault(lang, []).append(
                    Prompt(
                        f"{self.name}.{lang}.{name}.v{given.version}",
                        _template(given.user, known, f"{where}.user"),
                        tuple(_checked(text, known, f"{where}.before") for text in given.before),
                        _template(system, known, f"{where}.system" if given.system is not None else f"system.{lang}"),
                        given.by or self.answer.by,
                    )
                )
        return made

    def words_of(self, lang: str) -> Mapping[str, str]:
        return {**WORDS.get(lang, WORDS["en"]), **self.words.get(lang, {})}

    def word(self, label: str, lang: str) -> str:
        """A label as it is written in a language; the label itself where the task has no word."""
        return self.labels[label].get(lang, label)

    def with_options(self, given: Mapping[str, Any], *, where: str) -> "Task":
        """The same task with options of a recipe in place of its own."""
        merged = {**plain(self.options), **given}
        return replace(self, options=read_config(TaskOptions, merged, where=where, path="options"))


def read_task(path: Path) -> Task:
    """A task from its file."""
    return read_config(Task, load_yaml(path), where=str(path))


@cache
def shipped_tasks() -> Mapping[str, Task]:
    """The tasks that come with the package, by name."""
    tasks = [read_task(path) for path in sorted(SHIPPED.glob("*.yaml"))]
    return {task.name: task for task in tasks}


def find_task(name: str, base: Path) -> Task:
    """A shipped task by its name, or one's own by the path of its file, relative to the recipe."""
    if name.endswith((".yaml", ".yml")):
        return read_task(base / name)
    if name not in shipped_tasks():
        raise RedoneError(f"task {name!r}: {did_you_mean(name, shipped_tasks())}; for your own give its .yaml file")
    return shipped_tasks()[name]


def gold_columns(answer: AnswerConfig) -> Iterator[str]:
    """The columns that gold answers come from."""
    if answer.column is not None:
        yield answer.column
    for inner in answer.fields.values():
        yield from gold_columns(inner)


def option_columns(answer: AnswerConfig) -> Iterator[str]:
    """The columns with candidates."""
    if isinstance(answer.options, tuple):
        yield from answer.options
    elif answer.options is not None and answer.options != LABELS:
        yield answer.options


def _template(source: str | None, known: tuple[str, ...], where: str) -> Template | None:
    return None if source is None else _checked(source, known, where)


def _checked(source: str, known: tuple[str, ...], where: str) -> Template:
    try:
        return Template(source, known)
    except RedoneError as error:
        raise RedoneError(f"{where}: {error}") from None


def _check_answer(task: Task, answer: AnswerConfig, where: str) -> None:
    assert answer.kind in FORMATS
    for column in (*gold_columns(answer), *option_columns(answer)):
        if column not in task.columns:
            raise RedoneError(f"{where}: column {column!r}: {did_you_mean(column, task.columns)}")
    if answer.options == LABELS and not task.labels:
        raise RedoneError(f"{where}.options: labels: the task has none; give them under `labels`")
    if answer.kind in ("choice",) and answer.options is None and task.options.distractors is None:
        raise RedoneError(f"{where}: choice needs options ('labels' or a column), or options.distractors")
    if answer.kind == "yes_no" and answer.column is None and task.options.negatives is None:
        raise RedoneError(f"{where}: yes_no needs a column, or options.negatives")
    if answer.kind == "grade" and not answer.grades:
        raise RedoneError(f"{where}.grades: the whole numbers of the scale are needed")
    if answer.kind == "path" and not answer.levels:
        raise RedoneError(f"{where}.levels: how many levels a path has is needed")
    if (answer.kind == "fields") != bool(answer.fields):
        raise RedoneError(f"{where}.fields: needed for kind: fields, and for no other")
    if answer.column is None and answer.kind not in ("yes_no", "fields") and task.messages is None:
        raise RedoneError(f"{where}.column: the column with the gold answer is needed")
    for name, inner in answer.fields.items():
        _check_answer(task, inner, f"{where}.fields.{name}")


def _check_labels(task: Task) -> None:
    for lang in task.templates:
        words = [task.word(label, lang) for label in task.labels]
        if len(set(words)) != len(words):
            raise RedoneError(f"labels: two have the same word in {lang}: {', '.join(words)}")
    known = {name for words in WORDS.values() for name in words}
    for lang, words_given in task.words.items():
        for name in words_given:
            if name not in known:
                raise RedoneError(f"words.{lang}.{name}: unknown; {did_you_mean(name, known)}")


def _check_options(task: Task) -> None:
    options = task.options
    named = [
        *((key, getattr(options.distractors, key)) for key in ("group", "below", "exclude") if options.distractors),
        *((key, getattr(options.negatives, key)) for key in ("column", "group") if options.negatives),
        ("messages", task.messages),
    ]
    for key, column in named:
        if column is not None and column not in task.columns:
            raise RedoneError(f"options: {key}: {column!r}: {did_you_mean(column, task.columns)}")
    if options.negatives is not None and (task.answer.kind != "yes_no" or task.answer.column is not None):
        raise RedoneError("options.negatives: only for yes_no tasks whose answer has no column")


def _check_group(how: How, group: str | None) -> None:
    if (how == "same_group") != (group is not None):
        raise RedoneError("group: the column that rows share is needed for how: same_group, and for no other")
