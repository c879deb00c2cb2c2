"""Answer formats: how a gold answer is written, and how an answer that a model wrote is read.

A format renders a gold answer as text and parses text back; `parse(render(gold)) == gold` holds for every format
(a property test), so what a model is taught is what its parser reads. The same parsers read model outputs for
preference pairs and for evaluation. Model output is never executed: lists are read by a small parser of quoted text
of our own, not by `eval`, over-long text is unreadable, and nothing that a model writes raises an exception.
"""

import functools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from redone_data.config import read_config
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.conversation import Answer
from redone_data.instruct.wording import EDGES, WORD_AFTER, WORD_BEFORE, fold, named, only_mentioned, pieces, read_list

MAX_CHARACTERS = 100_000
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_INTEGER = re.compile(r"(?<![\d.])[-+−]?\d{1,9}(?![\d]|\.\d)")


class AnswerFormat(ABC):
    """How one kind of answer is written. Final subclasses are frozen dataclasses; `kind` names them in files."""

    kind: ClassVar[str]

    @abstractmethod
    def parse(self, text: str) -> Answer | None:
        """The answer in a text; None when it cannot be read."""

    @abstractmethod
    def render(self, gold: Any) -> str:
        """The text of a gold answer; :class:`RedoneError` when the format cannot hold it."""

    def mapping(self) -> dict[str, Any]:
        """What :func:`read_format` reads."""
        return {"kind": self.kind, **{name: _listed(value) for name, value in vars(self).items() if name[0] != "_"}}


@dataclass(frozen=True)
class TextFormat(AnswerFormat):
    """Free text: every text is an answer."""

    kind: ClassVar[str] = "text"

    def parse(self, text: str) -> str | None:
        return None if len(text) > MAX_CHARACTERS else text.strip()

    def render(self, gold: Any) -> str:
        return _text(gold)


@dataclass(frozen=True)
class ChoiceFormat(AnswerFormat):
    """One of several options, written as its text or as its letter. The answer is the option's text."""

    kind: ClassVar[str] = "choice"

    options: tuple[str, ...]
    by: Literal["text", "letter"] = "text"

    def __post_init__(self) -> None:
        _check_options(self.options)
        if self.by == "letter" and len(self.options) > len(LETTERS):
            raise RedoneError(f"options: {len(self.options)}; letters are there for {len(LETTERS)}")

    def parse(self, text: str) -> str | None:
        if len(text) > MAX_CHARACTERS:
            return None
        if self.by == "text" and text in self.options:
            return text
        for piece in pieces(text):
            answer = self._by_letter(piece) if self.by == "letter" else None
            answer = answer or named(piece, self.options)
            if answer is not None:
                return answer
        return only_mentioned(text, self.options)

    def _by_letter(self, piece: str) -> str | None:
        letters = LETTERS[: len(self.options)]
        match = re.match(rf"\(?([{letters}])(?:[)）.:：、\s]|$)", piece.lstrip("*`（ "))
        return self.options[letters.index(match[1])] if match else None

    def render(self, gold: Any) -> str:
        if gold not in self.options:
            raise RedoneError(f"answer {gold!r} is not among the options: {', '.join(self.options)}")
        return LETTERS[self.options.index(gold)] if self.by == "letter" else str(gold)


@dataclass(frozen=True)
class LabelsFormat(AnswerFormat):
    """A set of labels, out of options or open, one after the other. The answer is a list without repeats."""

    kind: ClassVar[str] = "labels"

    options: tuple[str, ...] | None = None
    separator: str = ", "
    none: str = "none"  # how the empty set is written

    def __post_init__(self) -> None:
        if self.options is not None:
            _check_options(self.options)
        if not self.none.strip() or not self.separator:
            raise RedoneError("none and separator: text is needed")

    def parse(self, text: str) -> list[str] | None:
        if len(text) > MAX_CHARACTERS:
            return None
        for piece in (text.strip(), *pieces(text)):
            if fold(piece) == fold(self.none):
                return []
            items = read_list(piece) if piece.startswith("[") else None
            if items is None and self.options is not None:
                items = self._all_of_options(piece)
            if items is not None:
                return list(dict.fromkeys(items))
        items = [item.strip(EDGES) for item in re.split(self._separators(), pieces(text)[-1])]
        if self.options is not None:
            items = [named(item, self.options) or item for item in items]
        return list(dict.fromkeys(item for item in items if item)) or None

    def _separators(self) -> str:
        return rf"{re.escape(self.separator.strip() or self.separator)}|[\n,，、;；|]"

    def _all_of_options(self, text: str) -> list[str] | None:
        """The options in a text that holds nothing else: an option may have a separator within."""
        longest_first = sorted(self.options or (), key=len, reverse=True)
        gap = re.compile(rf"\s*(?:(?:{self._separators()})\s*)+|\s*$")
        at, found = 0, []
        while at < len(text):
            for option in longest_first:
                after = gap.match(text, at + len(option)) if text.startswith(option, at) else None
                if after is not None:
                    break
            else:
                return None
            found.append(option)
            at = after.end()
        return found or None

    def render(self, gold: Any) -> str:
        labels = _texts(gold)
        if len(set(labels)) != len(labels):
            raise RedoneError(f"answer {labels}: a label is given twice")
        if self.options is not None and not set(labels) <= set(self.options):
            raise RedoneError(f"answer {labels} is not among the options: {', '.join(self.options)}")
        text = self.separator.join(labels) if labels else self.none
        return _checked(self, labels, text)


@dataclass(frozen=True)
class YesNoFormat(AnswerFormat):
    """Yes or no, in the words of the language, at the beginning of the text. The answer is true or false."""

    kind: ClassVar[str] = "yes_no"

    yes: str = "Yes"
    no: str = "No"

    def __post_init__(self) -> None:
        if not fold(self.yes) or not fold(self.no) or fold(self.yes) == fold(self.no):
            raise RedoneError("yes and no: two different words are needed")

    def parse(self, text: str) -> bool | None:
        if len(text) > MAX_CHARACTERS:
            return None
        yes = fold(self.yes)
        denied = dict.fromkeys((f"不{yes}", f"非{yes}", f"not {yes}"), False)
        words = {**denied, yes: True, fold(self.no): False}
        pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
        # "whether" (是否) is neither.
        word = re.compile(rf"(?:{pattern})(?!否){WORD_AFTER}")
        for piece in pieces(text):
            match = word.match(fold(piece))
            if match:
                return words[match[0]]
        found = {words[match] for match in re.findall(rf"{WORD_BEFORE}(?<!是){word.pattern}", fold(text))}
        return found.pop() if len(found) == 1 else None

    def render(self, gold: Any) -> str:
        if not isinstance(gold, bool):
            raise RedoneError(f"answer {gold!r}: true or false is needed")
        return self.yes if gold else self.no


@dataclass(frozen=True)
class GradeFormat(AnswerFormat):
    """A whole number out of a scale."""

    kind: ClassVar[str] = "grade"

    grades: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.grades) < 2 or len(set(self.grades)) != len(self.grades):
            raise RedoneError("grades: at least two different whole numbers are needed")

    def parse(self, text: str) -> int | None:
        if len(text) > MAX_CHARACTERS:
            return None
        for piece in pieces(text):
            match = _INTEGER.match(piece)
            if match:
                return self._allowed(match[0])
        found = set(_INTEGER.findall(text))
        return self._allowed(found.pop()) if len(found) == 1 else None

    def _allowed(self, digits: str) -> int | None:
        number = int(digits.replace("−", "-"))
        return number if number in self.grades else None

    def render(self, gold: Any) -> str:
        if isinstance(gold, bool) or gold not in self.grades:
            raise RedoneError(f"answer {gold!r} is not one of the grades {', '.join(map(str, self.grades))}")
        return str(gold)


@dataclass(frozen=True)
class SpansFormat(AnswerFormat):
    """A list of passages: a JSON list of quoted texts, or one a line."""

    kind: ClassVar[str] = "spans"

    style: Literal["json", "lines"] = "json"
    none: str = "none"  # how an empty list is written, in lines

    def parse(self, text: str) -> list[str] | None:
        if len(text) > MAX_CHARACTERS:
            return None
        items = read_list(text)
        if items is not None or self.style == "json":
            return items
        if fold(text) == fold(self.none):
            return []
        lines = [re.sub(r"^\s*(?:[-*•]|\d{1,3}[.)、])\s+", "", line).strip() for line in text.splitlines()]
        return [line for line in lines if line] or None

    def render(self, gold: Any) -> str:
        spans = _texts(gold)
        if self.style == "json":
            return json.dumps(spans, ensure_ascii=False)
        return _checked(self, spans, "\n".join(spans) if spans else self.none)


@dataclass(frozen=True)
class PathFormat(AnswerFormat):
    """A path down a taxonomy: "A | B | C". The answer is the list of its levels."""

    kind: ClassVar[str] = "path"

    levels: int
    options: tuple[tuple[str, ...], ...] | None = None  # the options of each level

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise RedoneError(f"levels: {self.levels}; at least 1 is needed")
        if self.options is not None:
            if len(self.options) != self.levels:
                raise RedoneError(f"options: {len(self.options)} lists for {self.levels} levels")
            for options in self.options:
                _check_options(options)

    def parse(self, text: str) -> list[str] | None:
        if len(text) > MAX_CHARACTERS:
            return None
        for piece in pieces(text):
            for line in piece.splitlines():
                names = [name.strip().strip("*`\"'") for name in re.split(r"[|｜]", line)]
                if len(names) == self.levels and all(names):
                    if self.options is not None:
                        names = [named(n, options) or n for n, options in zip(names, self.options, strict=True)]
                    return names
        return None

    def render(self, gold: Any) -> str:
        names = _texts(gold)
        if len(names) != self.levels:
            raise RedoneError(f"answer {names}: {self.levels} levels are needed")
        for name, options in zip(names, self.options or (), strict=False):
            if name not in options:
                raise RedoneError(f"answer {name!r} is not among the options: {', '.join(options)}")
        return _checked(self, names, " | ".join(names))


@dataclass(frozen=True)
class FieldsFormat(AnswerFormat):
    """Several answers in one text, each in a tag or under a JSON key. The answer maps a name to its answer."""

    kind: ClassVar[str] = "fields"

    fields: dict[str, dict[str, Any]] = field(metadata={"help": "name -> format"})
    style: Literal["tags", "json"] = "tags"

    def __post_init__(self) -> None:
        if not self.fields:
            raise RedoneError("fields: at least one is needed")
        for name, mapping in self.fields.items():
            if not re.fullmatch(r"\w+", name):
                raise RedoneError(f"fields: {name!r}: letters, digits and _ are allowed in a name")
            if mapping.get("kind") == self.kind:
                raise RedoneError(f"fields.{name}: fields within fields are not allowed")
        _ = self._formats  # errors now, not at the first answer

    @functools.cached_property
    def _formats(self) -> dict[str, AnswerFormat]:
        return {name: read_format(mapping, where=f"fields.{name}") for name, mapping in self.fields.items()}

    def parse(self, text: str) -> dict[str, Any] | None:
        if len(text) > MAX_CHARACTERS:
            return None
        texts = self._tags(text) if self.style == "tags" else self._keys(text)
        if texts is None:
            return None
        answers = {name: self._formats[name].parse(value) for name, value in texts.items()}
        return None if any(answer is None for answer in answers.values()) else answers

    def _tags(self, text: str) -> dict[str, str] | None:
        found = {}
        for name in self.fields:
            start, end = text.find(f"<{name}>"), text.find(f"</{name}>")
            if start < 0 or end < start:
                return None
            found[name] = text[start + len(name) + 2 : end]
        return found

    def _keys(self, text: str) -> dict[str, str] | None:
        start, end = text.find("{"), text.rfind("}")
        try:
            values = json.loads(text[start : end + 1]) if start >= 0 else None
        except (ValueError, RecursionError):
            return None
        if not isinstance(values, dict) or not set(self.fields) <= set(values):
            return None
        return {
            name: values[name] if isinstance(values[name], str) else json.dumps(values[name], ensure_ascii=False)
            for name in self.fields
        }

    def render(self, gold: Any) -> str:
        if not isinstance(gold, Mapping) or set(gold) != set(self.fields):
            raise RedoneError(f"answer {gold!r}: a mapping with {', '.join(self.fields)} is needed")
        texts = {name: answer.render(gold[name]) for name, answer in self._formats.items()}
        if self.style == "json":
            text = json.dumps(texts, ensure_ascii=False)
        else:
            text = "\n".join(f"<{name}>{value}</{name}>" for name, value in texts.items())
        return _checked(self, dict(gold), text)


FORMATS: dict[str, type[AnswerFormat]] = {
    kind.kind: kind
    for kind in (
        TextFormat,
        ChoiceFormat,
        LabelsFormat,
        YesNoFormat,
        GradeFormat,
        SpansFormat,
        PathFormat,
        FieldsFormat,
    )
}


def read_format(mapping: Mapping[str, Any], *, where: str = "format") -> AnswerFormat:
    """The format that a mapping describes; its `kind` is one of :data:`FORMATS`.

    >>> read_format({"kind": "choice", "options": ["joy", "anger"], "by": "letter"}).parse("The answer is: B.")
    'anger'
    """
    values = dict(mapping)
    kind = values.pop("kind", None)
    if kind not in FORMATS:
        raise RedoneError(f"{where}: kind: {kind!r} is not an answer format; {did_you_mean(str(kind), FORMATS)}")
    return read_config(FORMATS[kind], values, where=where)


def _check_options(options: tuple[str, ...]) -> None:
    if len(options) < 2:
        raise RedoneError(f"options: {len(options)}; at least two are needed")
    for option in options:
        if not option or option != option.strip():
            raise RedoneError(f"options: {option!r}: text without spaces around it is needed")
    if len(set(options)) != len(options):
        raise RedoneError(f"options: one is given twice ({', '.join(options)})")


def _listed(value: Any) -> Any:
    """Tuples as lists, as a file has them."""
    return [_listed(item) if isinstance(item, tuple) else item for item in value] if isinstance(value, tuple) else value


def _text(gold: Any) -> str:
    if not isinstance(gold, str) or not gold or gold != gold.strip():
        raise RedoneError(f"answer {gold!r}: text without spaces around it is needed")
    return gold


def _texts(gold: Any) -> list[str]:
    if not isinstance(gold, list | tuple):
        raise RedoneError(f"answer {gold!r}: a list of texts is needed")
    return [_text(item) for item in gold]


def _checked(kind: AnswerFormat, gold: Any, text: str) -> str:
    """A rendered text, when its own parser reads the gold answer in it (a label with a comma may not survive)."""
    if kind.parse(text) != gold:
        raise RedoneError(f"answer {gold!r} cannot be written as {kind.kind}: {text!r} is read otherwise")
    return text
