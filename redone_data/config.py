"""Strict YAML -> frozen dataclasses.

Every key and type is checked against the dataclass that owns it; an error names the file, the path of the key, the
nearest known key and what is allowed. Field metadata ``{"help": ...}`` documents a key where it is defined.
"""

import contextlib
import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from redone_data.errors import RedoneError, did_you_mean

T = TypeVar("T")


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error, not a silent override, and a date is text."""


def _mapping_without_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool):
            raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, *, where: str) -> Any:
    """YAML as plain values; a syntax error becomes a one-line :class:`RedoneError` with its line."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RedoneError(f"{where}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RedoneError(f"{where}: not valid YAML: {error}") from None


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RedoneError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RedoneError(f"{path}: not UTF-8 text (byte {error.start})") from None
    values = parse_yaml(text, where=str(path))
    if not isinstance(values, dict):
        raise RedoneError(f"{path}: a mapping of keys is expected at the top, not {_kind(values)}")
    return values


def set_key(values: dict[str, Any], assignment: str) -> None:
    """Apply one ``key.path=value`` of the command line, in place; the value is read as YAML."""
    path, equals, text = assignment.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise RedoneError(f"--set {assignment}: expected key.path=value, for example --set mix.swarm.runs=40")
    for key in keys[:-1]:
        inner = values[key] = {} if values.get(key) is None else values[key]
        if not isinstance(inner, dict):
            raise RedoneError(f"--set {assignment}: '{key}' is {_kind(inner)} and has no keys")
        values = inner
    values[keys[-1]] = parse_yaml(text, where=f"--set {assignment}")


def read_config(kind: type[T], values: Any, *, where: str, path: str = "") -> T:
    """Build dataclass `kind` from plain values, checking every key and type.

    `where` is the file named in errors, `path` the path of the key read so far.
    """
    return typing.cast(T, _read(kind, values, where, path))


def plain(config: Any) -> Any:
    """The inverse of :func:`read_config`: dataclasses to JSON-able values, for hashes and manifests."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: plain(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [plain(value) for value in config]
    return config


def _read(kind: Any, value: Any, where: str, path: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(typing.cast(type, kind), value, where, path)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, value, where, path)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) != any(isinstance(a, bool) for a in arguments):
            hint = did_you_mean(str(value), map(str, arguments))
            raise RedoneError(f"{where}: {path}: {value!r} is not allowed; {hint}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise RedoneError(f"{where}: {path}: expected a list, got {_kind(value)}")
        return tuple(_read(arguments[0], item, where, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise RedoneError(f"{where}: {path}: expected a mapping of names, got {_kind(value)}")
        for key in value:
            if not isinstance(key, str):
                raise RedoneError(f"{where}: {path}: the name {key!r} is read as {_kind(key)}; put it in quotes")
        return {key: _read(arguments[1], item, where, f"{path}.{key}" if path else key) for key, item in value.items()}
    return _read_scalar(kind, value, where, path)


def _read_dataclass(kind: type, values: Any, where: str, path: str) -> Any:
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise RedoneError(f"{where}: {path or 'top level'}: expected keys and values, got {_kind(values)}")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    given = {}
    for key, value in values.items():
        inner = f"{path}.{key}" if path else str(key)
        if key not in fields:
            raise RedoneError(f"{where}: {inner}: unknown key; {did_you_mean(str(key), fields)}")
        given[key] = _read(hints[key], value, where, inner)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            inner = f"{path}.{name}" if path else name
            purpose = field.metadata.get("help")
            raise RedoneError(f"{where}: {inner}: missing, and required" + (f" ({purpose})" if purpose else ""))
    try:
        return kind(**given)
    except RedoneError as error:  # a check in __post_init__: say where
        raise RedoneError(f"{where}: {path + ': ' if path else ''}{error}") from None


def _read_union(arguments: tuple[Any, ...], value: Any, where: str, path: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    options = [option for option in arguments if option is not type(None)]
    if len(options) == 1:
        return _read(options[0], value, where, path)
    if isinstance(value, dict) and len(kinds := [kind for kind in options if dataclasses.is_dataclass(kind)]) > 1:
        nearest = max(kinds, key=lambda kind: sum(field.name in value for field in dataclasses.fields(kind)))
        return _read(nearest, value, where, path)
    for option in options:
        try:
            return _read(option, value, where, path)
        except RedoneError:
            # A mapping meant for a dataclass: its own message says more than "none of these types".
            if dataclasses.is_dataclass(option) and isinstance(value, dict):
                raise
    raise RedoneError(f"{where}: {path}: expected {' or '.join(map(_name, options))}, got {_kind(value)}")


def _read_scalar(kind: Any, value: Any, where: str, path: str) -> Any:
    if kind is Any:
        return value
    # Text too: YAML 1.1 reads 1e-4 (no dot) as text. Infinities have no JSON, so no manifest could hold them.
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            if math.isfinite(number := float(value)):
                return number
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is kind and kind is not float:
        return value
    hint = "; put it in quotes" if kind is str and isinstance(value, int | float | bool) else ""
    raise RedoneError(f"{where}: {path}: expected {_name(kind)}, got {_kind(value)}{hint}")


def _name(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(map(str, get_args(kind)))
    return names.get(kind, {tuple: "a list", dict: "a mapping"}.get(origin, getattr(kind, "__name__", str(kind))))


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{str(value).lower()} (true/false)"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int | float):
        return f"the number {value}"
    return f"the text {value!r}"
