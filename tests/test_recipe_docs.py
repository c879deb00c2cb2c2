"""docs/recipe.md and docs/training.md list every key with its kind, default and meaning, as the code has them.

After a change of keys, `python tests/test_recipe_docs.py recipe.md` (or another of TABLES) prints the table anew.
"""

import dataclasses
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import pytest

from redone_data.curate.rules import Bound
from redone_data.instruct.recipe import SftRecipe
from redone_data.recipe import Recipe
from redone_train.evaluate.config import EvaluationConfig
from redone_train.ladder_config import LadderConfig
from redone_train.train.config import CptConfig
from redone_train.train.post_config import DpoConfig, SftConfig

DOCS = Path(__file__).parents[1] / "docs"
SIMPLE = {str: "text", int: "whole number", float: "number", bool: "true/false"}


class Table(NamedTuple):
    """Below a heading of a page. beside: has the other keys, in a table of its own."""

    page: str
    heading: str
    config: type
    beside: type | None = None


TABLES = {
    "recipe.md": Table("recipe.md", "All keys", Recipe),
    "instruction-data.md": Table("instruction-data.md", "All keys", SftRecipe),
    "evaluation.md": Table("evaluation.md", "All keys", EvaluationConfig),
    "evaluation.md ladder": Table("evaluation.md", "Keys of a ladder", LadderConfig),
    "training.md": Table("training.md", "All keys", CptConfig),
    "training.md sft": Table("training.md", "Keys of sft", SftConfig, beside=CptConfig),
    "training.md dpo": Table("training.md", "Keys of dpo", DpoConfig, beside=CptConfig),
}


class Key(NamedTuple):
    """A line of the table. No meaning: the code gives it in a docstring, which only a person can compare."""

    name: str
    kind: str
    default: str
    meaning: str

    def __str__(self) -> str:
        return f"| `{self.name}` | {self.kind} | {self.default} | {self.meaning} |"


def keys_of(config: type, prefix: str = "") -> Iterator[Key]:
    """Every key of a configuration, each followed by the keys below it."""
    hints = get_type_hints(config)
    for field in dataclasses.fields(config):
        name, meaning, hint = f"{prefix}{field.name}", field.metadata.get("help", ""), bare(hints[field.name])
        inner, below, kind = hint, f"{name}.", "mapping"
        if get_origin(hint) is tuple:
            inner, below, kind = get_args(hint)[0], f"{name}[].", "list"
        elif get_origin(hint) is dict:
            inner, below = get_args(hint)[1], f"{name}.NAME."
        if not dataclasses.is_dataclass(inner) or inner is Bound:
            yield Key(name, kind_of(hint), default_of(field), meaning)
            continue
        if meaning:
            yield Key(name, kind, default_of(field), meaning)
        assert isinstance(inner, type)
        yield from keys_of(inner, below)


def bare(hint: Any) -> Any:
    """A type without its "or None"."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(argument for argument in get_args(hint) if argument is not type(None))
    return hint


def kind_of(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return {"text": "list of text", "number": "list of numbers"}[kind_of(get_args(hint)[0])]
    return SIMPLE.get(hint, "mapping")


def default_of(field: "dataclasses.Field[Any]") -> str:
    if field.default_factory is not dataclasses.MISSING:
        return ""
    return "required" if field.default is dataclasses.MISSING else show(field.default)


def show(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(show, value))
    return repr(value) if isinstance(value, str) and not value.strip() else str(value)


def written(name: str) -> list[Key]:
    text = (DOCS / TABLES[name].page).read_text(encoding="utf-8")
    lines = text.split(f"# {TABLES[name].heading}\n")[1].split("\n#")[0].splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    return [Key(name.strip(" `"), *(cell.strip() for cell in others)) for name, *others in cells]


def table(name: str) -> list[Key]:
    """The table as it should be: the code's, with what only a person wrote kept."""
    known = {key.name: key.meaning for key in written(name)}
    beside = TABLES[name].beside
    others = [] if beside is None else list(keys_of(beside))
    keys = [key for key in keys_of(TABLES[name].config) if key not in others]
    return [key._replace(meaning=key.meaning or known.get(key.name, "")) for key in keys]


@pytest.mark.parametrize("name", TABLES)
def test_every_key_is_in_the_docs_as_the_code_has_it(name: str) -> None:
    where = f"docs/{TABLES[name].page}, {TABLES[name].heading}"
    assert written(name) == table(name), f"{where}: print its table anew with python {__file__} {name!r}"


@pytest.mark.parametrize("name", TABLES)
def test_no_key_is_without_a_meaning(name: str) -> None:
    assert [key.name for key in written(name) if not key.meaning] == []


if __name__ == "__main__":
    print("\n".join(map(str, table(sys.argv[1]))))
