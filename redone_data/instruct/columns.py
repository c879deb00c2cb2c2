"""One column of a table: which field of a record it is, and how its text is cut, so that no table needs a script."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redone_data.errors import RedoneError
from redone_data.instruct.wording import read_list

ABSENT = object()


class UnknownLabelError(Exception):
    """A value that `values` does not name: the row is dropped, and counted."""


@dataclass(frozen=True)
class ColumnConfig:
    """Where a column's value comes from. Steps are applied in the order in which they stand here."""

    name: str = field(metadata={"help": "the field; a dot reaches into nested records: meta.score"})
    extract: str | None = field(
        default=None, metadata={"help": "regular expression: its first group, or all it matches, is the value"}
    )
    find: str | None = field(default=None, metadata={"help": "regular expression: all its matches are a list"})
    remove: str | None = field(default=None, metadata={"help": "regular expression: what it matches is taken out"})
    split: str | None = field(default=None, metadata={"help": "text between the items of a list"})
    quoted_list: bool = field(default=False, metadata={"help": "the text is a list as JSON or Python write it"})
    prefix: str = field(default="", metadata={"help": "put before an id, to name it as another table does"})
    values: dict[str, str] = field(
        default_factory=dict, metadata={"help": "raw value -> label of the task; rows with others are dropped"}
    )

    def __post_init__(self) -> None:
        if not self.name:
            raise RedoneError("name must not be empty")
        for key in ("extract", "find", "remove"):
            pattern = getattr(self, key)
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise RedoneError(f"{key}: {pattern!r} is not a regular expression: {error}") from None
        if sum(bool(kind) for kind in (self.find, self.split, self.quoted_list)) > 1:
            raise RedoneError("find, split, quoted_list: each makes a list; give one of them")


def column_config(given: "str | ColumnConfig") -> ColumnConfig:
    return ColumnConfig(given) if isinstance(given, str) else given


def lookup(record: Any, path: str) -> Any:
    """The value at a dotted path (a field of that very name comes first); :data:`ABSENT` where there is none."""
    if path in record:
        return record[path]
    for name in path.split("."):
        if not isinstance(record, dict) or name not in record:
            return ABSENT
        record = record[name]
    return record


def as_label(value: Any) -> str:
    """A raw value as YAML keys name it: 1, true, positive."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def reader(config: ColumnConfig) -> Callable[[Any], Any]:
    """A function from a record to the column's value; :data:`ABSENT` or None where it has none."""
    extract, find, remove = (re.compile(p) if p else None for p in (config.extract, config.find, config.remove))
    cuts = any((extract, find, remove, config.split, config.quoted_list))

    def cut(text: str) -> str | list[str] | None:
        if extract is not None:
            match = extract.search(text)
            if match is None:
                return None
            text = match[1] if match.re.groups else match[0]
        if find is not None:
            found = (match[1] if match.re.groups else match[0] for match in find.finditer(text))
            return list(dict.fromkeys(item.strip() for item in found if item and item.strip()))
        if remove is not None:
            text = remove.sub("", text)
        if config.quoted_list:
            return read_list(text)
        if config.split is not None:
            return list(dict.fromkeys(item.strip() for item in text.split(config.split) if item.strip()))
        return text.strip()

    def read(record: Any) -> Any:
        value = lookup(record, config.name)
        if value is ABSENT or value is None:
            return value
        if cuts:
            if not isinstance(value, str):
                raise RedoneError(f"field '{config.name}': text is needed to cut, not {type(value).__name__}")
            value = cut(value)
        if isinstance(value, str):
            value = value.strip() or None
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = [item.strip() for item in value if item.strip()]
        if config.values and value is not None:
            value = [_label(config, item) for item in value] if isinstance(value, list) else _label(config, value)
        if config.prefix and value is not None:
            value = f"{config.prefix}{value}"
        return value

    return read


def _label(config: ColumnConfig, value: Any) -> str:
    label = config.values.get(as_label(value))
    if label is None:
        raise UnknownLabelError(f"{config.name}: {as_label(value)[:40]}")
    return label
