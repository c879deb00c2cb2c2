"""What `eval` would give for a text that writes down a value, without evaluating it.

The published SNS-Bench scorer calls `eval` on model output. Here the text is parsed and the few kinds of expression
that build a value from quoted text are followed; a name, a call, an attribute, a comprehension is refused, whatever it
would give. So an answer that says `reference` fails, where `eval` hands it the scorer's own variable of that name: the
gold.
"""

import ast
import warnings
from typing import Any

MAX_CHARACTERS = 200_000
_MAX_REPEATED = 1_000_000


class NotLiteralError(ValueError):
    """The text is no literal value: `eval` would fail, or run something."""


def literal(text: str) -> Any:
    """The value that a text writes down; :class:`NotLiteralError` when it writes none.

    >>> literal("['CC mode', 'a' 'b', 'c' or 'd']"), literal(" ('x',)")
    (['CC mode', 'ab', 'c'], ('x',))
    """
    if len(text) > MAX_CHARACTERS:
        raise NotLiteralError("over-long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in what the model wrote
            tree = ast.parse(text.lstrip(" \t"), mode="eval")
        return _value(tree.body)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise NotLiteralError(str(error)) from None


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=elements):
            return _elements(elements)
        case ast.Tuple(elts=elements):
            return tuple(_elements(elements))
        case ast.Set(elts=elements):
            # A set's order, and so the published score, changes from run to run; here it is the text's.
            return dict.fromkeys(_elements(elements)).keys()
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.BoolOp(op=op, values=operands):
            value = _value(operands[0])
            for operand in operands[1:]:
                if bool(value) is isinstance(op, ast.Or):
                    break
                value = _value(operand)
            return value
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _value(body) if _value(test) else _value(orelse)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined(_value(left), _value(right))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _repeated(_value(left), _value(right))
        case ast.JoinedStr(values=values) if all(isinstance(value, ast.Constant) for value in values):
            return "".join(_value(value) for value in values)
    raise NotLiteralError(f"{type(node).__name__} is not followed")


def _elements(nodes: list[ast.expr]) -> list[Any]:
    values: list[Any] = []
    for node in nodes:
        if isinstance(node, ast.Starred):
            values.extend(_value(node.value))
        else:
            values.append(_value(node))
    return values


def _joined(left: Any, right: Any) -> Any:
    if type(left) is type(right) and isinstance(left, str | list | tuple):
        return left + right
    raise NotLiteralError("only texts and lists are joined")


def _repeated(left: Any, right: Any) -> Any:
    if isinstance(left, int):
        left, right = right, left
    if not isinstance(left, str | list | tuple) or not isinstance(right, int):
        raise NotLiteralError("only texts and lists are repeated")
    if len(left) * right > _MAX_REPEATED:
        raise NotLiteralError("over-long")
    return left * right
