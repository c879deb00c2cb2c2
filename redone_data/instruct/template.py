"""Prompt templates: Jinja, sandboxed, checked when they are read and not at the millionth row.

A template comes from a file that anyone may write, so little of Jinja is left to it: names, conditions, loops over
lists of the row, slices and a few filters. No calls, no attributes (but `loop`'s), no arithmetic: a template can
neither reach Python's objects nor run long or grow large, and what it prints is cut off at a limit of characters all
the same.
Rendering costs some 6 us of CPU a prompt.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes as nodes
import jinja2.sandbox

from redone_data.errors import RedoneError, did_you_mean

MAX_TEMPLATE_CHARACTERS = 20_000
FILTERS = ("default", "first", "join", "last", "length", "lower", "trim", "truncate", "upper")
TESTS = ("defined", "undefined", "none", "string", "number", "sequence")
LOOP = ("index", "index0", "first", "last", "length")
_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.If,
    nodes.For,
    nodes.Filter,
    nodes.Test,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.CondExpr,
    nodes.Getitem,
    nodes.Slice,
    nodes.Neg,
    nodes.Concat,
)


class TooLongError(Exception):
    """A prompt that passed the limit: its row is dropped, and counted."""


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    def __init__(self) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.tests = {name: test for name, test in self.tests.items() if name in TESTS}
        self.globals = {}


_ENVIRONMENT = _Environment()


class Template:
    """A checked template; `names` are the variables it uses."""

    def __init__(self, source: str, known: Iterable[str]) -> None:
        """Raises RedoneError, without the place, for what is no template or not allowed in one."""
        known = set(known)
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise RedoneError(f"{len(source):,} characters; {MAX_TEMPLATE_CHARACTERS:,} are allowed")
        try:
            tree = _ENVIRONMENT.parse(source)
            _check(tree)
            self.names = frozenset(jinja2.meta.find_undeclared_variables(tree))
            self._template = _ENVIRONMENT.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise RedoneError(f"line {error.lineno}: not a valid template: {error.message}") from None
        except RecursionError:
            raise RedoneError("expressions are nested too deeply") from None
        for name in sorted(self.names - known):
            raise RedoneError(f"variable '{name}' is not a column of the task; {did_you_mean(name, known)}")

    def render(self, values: Mapping[str, Any], max_characters: int) -> str:
        """The text for one row, without space around it.

        Raises TooLongError above the limit, and RedoneError, without the place, where a value does not fit its use.
        """
        pieces, length = [], 0
        try:
            for piece in self._template.generate(values):
                length += len(piece)
                if length > max_characters:
                    raise TooLongError
                pieces.append(piece)
        except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
            raise RedoneError(f"cannot be filled: {error}") from None
        return "".join(pieces).strip()


def _is_place(node: nodes.Expr) -> bool:
    """A number, a slice or a loop's own number: what can only lead to an item."""
    if isinstance(node, nodes.Neg):
        node = node.node
    is_number = isinstance(node, nodes.Const) and isinstance(node.value, int)
    return is_number or isinstance(node, nodes.Slice | nodes.Getattr)


def _check(tree: nodes.Template) -> None:
    for node in tree.find_all(nodes.Node):
        place = f"line {node.lineno}: "
        if isinstance(node, nodes.Getattr):
            if not (isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr in LOOP):
                raise RedoneError(f"{place}.{node.attr}: attributes are not allowed in templates, but loop's")
        elif isinstance(node, nodes.Getitem) and not _is_place(node.arg):
            raise RedoneError(f"{place}[...]: attributes are not allowed in templates; number the items: options[0]")
        elif isinstance(node, nodes.Filter) and node.name not in FILTERS:
            raise RedoneError(f"{place}filter '{node.name}' is not allowed; {did_you_mean(node.name, FILTERS)}")
        elif isinstance(node, nodes.Test) and node.name not in TESTS:
            raise RedoneError(f"{place}test '{node.name}' is not allowed; {did_you_mean(node.name, TESTS)}")
        elif isinstance(node, nodes.For) and (node.recursive or len(list(node.find_all(nodes.For)))):
            raise RedoneError(f"{place}loops within loops are not allowed in templates: they may run for ever")
        elif not isinstance(node, (*_ALLOWED, nodes.Getattr, nodes.Keyword)):
            kind = type(node).__name__.lower()
            raise RedoneError(f"{place}'{kind}' is not allowed in templates: names, if, for, slices and filters are")
