"""The rows of a conversation file and of a pair file: what is in them, read strictly, written whole or not at all.

One JSON object a line, in the form that TRL reads (`messages`; `prompt`, `chosen`, `rejected`). A line that breaks a
rule is an error with file, line and field, never a guess. A step's work is on columns: a :data:`FRAME` of polars holds
the same rows, with `format` and `answer` as JSON text, and is written without a Python object a message.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import orjson
import polars as pl
import pyarrow as pa

from redone_data.errors import RedoneError, did_you_mean
from redone_data.manifest import atomic

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "held_out"]
PairKind = Literal["structure", "outputs", "judge", "engagement"]
# What an answer is once it is read; null in a file for free text.
Answer = str | int | bool | list[str] | dict[str, Any]

SNS_CAPABILITIES = (
    "content_understanding",
    "information_extraction",
    "semantic_matching",
    "user_behaviour",
    "dialogue",
    "translation",
)
GENERAL = "general"
CAPABILITIES = (*SNS_CAPABILITIES, GENERAL)

MESSAGES: pl.DataType = pl.List(pl.Struct({"role": pl.String(), "content": pl.String()}))
# The columns of conversations in memory and in Parquet, in the order of the file's keys.
FRAME = pl.Schema(
    {
        "id": pl.String(),
        "messages": MESSAGES,
        "capability": pl.String(),
        "task": pl.String(),
        "lang": pl.String(),
        "template": pl.String(),
        "format": pl.String(),  # JSON text, or null
        "answer": pl.String(),  # JSON text, or null
        "documents": pl.List(pl.String()),
        "split": pl.String(),
    }
)
_ROWS_AT_A_TIME = 10_000


@dataclass(frozen=True)
class Message:
    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise RedoneError(f"role: {self.role!r} is not allowed; {did_you_mean(str(self.role), get_args(Role))}")
        if not isinstance(self.content, str) or not self.content.strip():
            raise RedoneError(f"content of a {self.role} message: text is needed, and it must not be empty")


@dataclass(frozen=True)
class Conversation:
    """One example of SFT: it ends with the answer that is learnt."""

    id: str
    messages: tuple[Message, ...]
    capability: str
    task: str
    lang: str
    template: str
    format: Mapping[str, Any] | None
    answer: Answer | None
    documents: tuple[str, ...]
    split: Split

    def __post_init__(self) -> None:
        _check_text(self, "id", "task", "lang", "template")
        _check_capability(self.capability)
        _check_split(self.split)
        check_turns(self.messages, last="assistant")
        if (self.format is None) != (self.answer is None):
            raise RedoneError("format and answer: both are given, or both are null (free text)")


@dataclass(frozen=True)
class Pair:
    """One preference: of two answers to a prompt, the one to choose."""

    id: str
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    capability: str
    task: str
    lang: str
    kind: PairKind
    weak: bool
    margin: float | None
    documents: tuple[str, ...]
    split: Split

    def __post_init__(self) -> None:
        _check_text(self, "id", "task", "lang")
        _check_capability(self.capability)
        _check_split(self.split)
        if self.kind not in get_args(PairKind):
            raise RedoneError(f"kind: {self.kind!r} is not allowed; {did_you_mean(self.kind, get_args(PairKind))}")
        if not isinstance(self.weak, bool):
            raise RedoneError(f"weak: {self.weak!r}; true or false is needed")
        if self.margin is not None and (isinstance(self.margin, bool) or not isinstance(self.margin, int | float)):
            raise RedoneError(f"margin: {self.margin!r}; a number or null is needed")
        check_turns(self.prompt, last="user")
        for name, answer in (("chosen", self.chosen), ("rejected", self.rejected)):
            if [message.role for message in answer] != ["assistant"]:
                raise RedoneError(f"{name}: exactly one assistant message is needed")
        if self.chosen == self.rejected:
            raise RedoneError("chosen and rejected are the same text")


def check_turns(messages: Sequence[Message], *, last: Role) -> None:
    """A system message may come first; then user and assistant take turns, from the user to `last`."""
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    expected: Iterator[Role] = itertools.cycle(("user", "assistant"))
    for number, (message, role) in enumerate(zip(turns, expected, strict=False), len(messages) - len(turns) + 1):
        if message.role != role:
            raise RedoneError(f"message {number}: its role is {message.role}, and {role} is expected there")
    if not turns or turns[-1].role != last:
        raise RedoneError(f"the messages must end with one of the {last}")


def read_conversations(path: Path) -> Iterator[Conversation]:
    """The rows of a conversation file (also .gz, .zst), each checked; an error names file, line and field."""
    return _read(path, _conversation)


def read_pairs(path: Path) -> Iterator[Pair]:
    """The rows of a pair file (also .gz, .zst), each checked; an error names file, line and field."""
    return _read(path, _pair)


def write_rows(path: Path, rows: Iterable[Conversation | Pair]) -> int:
    """Write rows as JSON lines, atomically; how many."""
    return _write(path, (orjson.dumps(row) for row in rows))


def to_frame(rows: Iterable[Conversation]) -> pl.DataFrame:
    """Conversations as columns."""
    columns: dict[str, list[Any]] = {name: [] for name in FRAME}
    for row in rows:
        for name, column in columns.items():
            value = getattr(row, name)
            if name == "messages":
                value = [{"role": message.role, "content": message.content} for message in value]
            elif name in ("format", "answer"):
                value = None if value is None else orjson.dumps(value).decode()
            column.append(list(value) if name == "documents" else value)
    return pl.DataFrame(columns, schema=FRAME)


def write_frame(path: Path, frames: Iterable[pl.DataFrame]) -> int:
    """Write columns of conversations as the same JSON lines that :func:`write_rows` gives; how many rows."""
    return _write(path, (line for frame in frames for line in frame_lines(frame)))


def frame_lines(frame: pl.DataFrame) -> Iterator[bytes]:
    """The JSON line of each row, without its line break."""
    frame = frame.select(list(FRAME))
    for piece in frame.iter_slices(_ROWS_AT_A_TIME):
        for row in piece.iter_rows(named=True):
            for name in ("format", "answer"):
                if row[name] is not None:
                    row[name] = orjson.Fragment(row[name])
            yield orjson.dumps(row)


def _write(path: Path, lines: Iterable[bytes]) -> int:
    with atomic(path) as aside, aside.open("wb") as file:
        return sum(file.write(line + b"\n") > 0 for line in lines)


_Row = TypeVar("_Row", Conversation, Pair)


def _read(path: Path, make: Callable[[dict[str, Any]], _Row]) -> Iterator[_Row]:
    try:
        # pyarrow undoes .gz and .zst by the name.
        with pa.input_stream(str(path), compression="detect") as stream:
            for number, line in enumerate(stream_lines(stream), 1):
                try:
                    values = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise RedoneError(f"{path} line {number}: not valid JSON: {error}") from None
                if not isinstance(values, dict):
                    raise RedoneError(f"{path} line {number}: a JSON object is expected, with keys such as messages")
                try:
                    yield make(values)
                except RedoneError as error:
                    raise RedoneError(f"{path} line {number}: {error}") from None
    except OSError as error:
        raise RedoneError(f"{path}: cannot be read: {error.strerror or error}") from None


def stream_lines(stream: Any) -> Iterator[bytes]:
    """Lines of a pyarrow stream, without the line break; a last empty one is none."""
    left = b""
    while block := stream.read(1 << 20):
        *lines, left = (left + block).split(b"\n")
        yield from lines
    if left:
        yield left


def _conversation(values: dict[str, Any]) -> Conversation:
    _check_keys(Conversation, values)
    if values["format"] is not None and not isinstance(values["format"], dict):
        raise RedoneError("format: a mapping or null is expected")
    return Conversation(
        **{**values, "messages": _messages(values, "messages"), "documents": _documents(values["documents"])}
    )


def _pair(values: dict[str, Any]) -> Pair:
    _check_keys(Pair, values)
    turns = {name: _messages(values, name) for name in ("prompt", "chosen", "rejected")}
    return Pair(**{**values, **turns, "documents": _documents(values["documents"])})


def _check_keys(kind: type, values: Mapping[str, Any]) -> None:
    names = [field.name for field in fields(kind)]
    for name in names:
        if name not in values:
            raise RedoneError(f"field '{name}' is missing")
    for name in values:
        if name not in names:
            raise RedoneError(f"field '{name}' is unknown; {did_you_mean(name, names)}")


def _messages(values: Mapping[str, Any], name: str) -> tuple[Message, ...]:
    given = values[name]
    if not isinstance(given, list):
        raise RedoneError(f"{name}: a list of messages is expected")
    messages = []
    for number, message in enumerate(given, 1):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise RedoneError(f"{name}: message {number} must have the keys role and content, and no other")
        try:
            messages.append(Message(cast(Role, message["role"]), message["content"]))
        except RedoneError as error:
            raise RedoneError(f"{name}: message {number}: {error}") from None
    return tuple(messages)


def _documents(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise RedoneError("documents: a list of ids (text) is expected")
    return tuple(given)


def _check_text(row: Conversation | Pair, *names: str) -> None:
    for name in names:
        value = getattr(row, name)
        if not isinstance(value, str) or not value:
            raise RedoneError(f"{name}: text is needed, and it must not be empty")


def _check_capability(name: str) -> None:
    if name not in CAPABILITIES:
        raise RedoneError(f"capability: {name!r} is not allowed; {did_you_mean(str(name), CAPABILITIES)}")


def _check_split(name: str) -> None:
    if name not in get_args(Split):
        raise RedoneError(f"split: {name!r} is not allowed; {did_you_mean(str(name), get_args(Split))}")
