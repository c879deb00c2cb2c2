"""Conversation files as rows of tokens for TRL's SFTTrainer: read, rendered, tokenized, counted, kept on disk.

Rank 0 does it once; what it made lies beside the run as Arrow, named by all that it depends on, and is memory-mapped by
every rank: 2,000 conversations a second, then none. Conversations longer than a row are left out and counted; TRL would
cut them, answer first. TRL packs what is left (best fit, longest first) and masks conversations by their positions.
"""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.instruct.conversation import Message, check_turns
from redone_data.manifest import atomic, canonical, digest, file_digest, read_json, write_json
from redone_train.data.rows import IGNORED
from redone_train.data.selection import Selection
from redone_train.train.template import CHECKED, Template, answers_of, check_template, render

VERSION = 1
AT_A_TIME = 1000
TOKENS = pa.list_(pa.int32())
# conversation: its number in its files at each of its tokens, so that a packed row says whose they are.
COLUMNS = pa.schema({"input_ids": TOKENS, "labels": TOKENS, "conversation": TOKENS, "task": pa.string()})


@dataclass(frozen=True)
class Row:
    """One conversation of a file. place: `FILE line N`. task: `CAPABILITY/TASK`, or as much as the file says."""

    messages: list[dict[str, str]]
    task: str
    held_out: bool
    place: str


@dataclass(frozen=True)
class Lengths:
    """What was read for a run, and what was left out of it."""

    rows: int
    too_long: int
    tokens: int
    learnt: int
    median: int
    percentile_95: int
    longest: int
    not_chosen: int = 0

    @classmethod
    def of(cls, lengths_N: Sequence[int], too_long: int, learnt: int, not_chosen: int) -> "Lengths":
        if not lengths_N:
            return cls(0, too_long, 0, 0, 0, 0, 0, not_chosen)
        median, high = np.percentile(lengths_N, [50, 95]).round().astype(int).tolist()
        return cls(len(lengths_N), too_long, sum(lengths_N), learnt, median, high, max(lengths_N), not_chosen)

    def __str__(self) -> str:
        others = f"; {self.not_chosen:,} of other tasks, left out" if self.not_chosen else ""
        return (
            f"{self.rows:,} of {self.tokens:,} tokens, {self.learnt:,} of them learnt; length: median {self.median:,}, "
            f"95th percentile {self.percentile_95:,}, longest {self.longest:,}; {self.too_long:,} too long, left out"
            f"{others}"
        )


@dataclass(frozen=True)
class Conversations:
    """train, held_out: Arrow files. end: the token that ends a turn."""

    train: Path
    held_out: Path
    lengths: Lengths
    held_out_lengths: Lengths
    end: int


def read_rows(path: Path) -> Iterator[Row]:
    """The conversations of a file of JSON lines; RedoneError names file and line.

    `messages` is needed; of the rest of a conversation file (docs/instruction-data.md), what is there is used.
    """
    for number, values in json_lines(path):
        place = f"{path} line {number}"
        try:
            messages = chat(values, "messages")
            check_turns(messages, last="assistant")
            task = task_of(values)
        except RedoneError as error:
            raise RedoneError(f"{place}: {error}") from None
        yield Row(plain(messages), task, values.get("split") == "held_out", place)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file (also .gz, .zst), each with the number of its line."""
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            for number, line in enumerate(io.BufferedReader(stream), 1):
                if not line.strip():
                    continue
                try:
                    values = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise RedoneError(f"{path} line {number}: not valid JSON: {error}") from None
                if not isinstance(values, dict):
                    raise RedoneError(f"{path} line {number}: a JSON object is expected")
                yield number, values
    except OSError as error:
        raise RedoneError(f"{path}: cannot be read: {error.strerror or error}") from None


def chat(values: Mapping[str, Any], name: str) -> list[Message]:
    """The messages under a key; RedoneError: they are none."""
    given = values.get(name)
    if not isinstance(given, list) or not given:
        raise RedoneError(f"{name}: a list of messages is expected, each with role and content")
    messages = []
    for number, message in enumerate(given, 1):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise RedoneError(f"{name}: message {number} must have the keys role and content")
        try:
            messages.append(Message(message["role"], message["content"]))
        except RedoneError as error:
            raise RedoneError(f"{name}: message {number}: {error}") from None
    return messages


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def task_of(values: Mapping[str, Any]) -> str:
    names = [values[key] for key in ("capability", "task") if values.get(key) is not None]
    if not all(isinstance(name, str) for name in names):
        raise RedoneError("capability and task: text is expected")
    return "/".join(names) or "all"


def data_identity(files: Sequence[Path], template: Template, tokenizer: Path, length: int) -> dict[str, Any]:
    """All that the tokens of files depend on."""
    for file in files:
        if not file.is_file():
            raise RedoneError(f"{file}: no such file")
    return {
        "version": VERSION,
        "files": [file_digest(file) for file in files],
        "template": template.digest,
        "tokenizer": file_digest(tokenizer),
        "length": length,
    }


def prepare(
    files: Sequence[Path],
    held_out: Sequence[Path],
    tokenizer: Any,
    template: Template,
    *,
    length: int,
    most_dropped: float,
    folder: Path,
    identity: Mapping[str, Any],
    selection: Selection,
) -> Conversations:
    """Tokenize files, unless that is done, and check that the template marks the answers of these conversations.

    files: their rows are for training, but those that are marked as held out. held_out: files of which all are.
    """
    name = digest(canonical(dict(identity)))[:16]
    train, evaluation, counted = (folder / f"{name}.{end}" for end in ("train.arrow", "held_out.arrow", "json"))
    if not counted.is_file():
        rows = read_all(files, held_out)
        *tables, end, tasks = _tokenize(rows, tokenizer, template, length, selection, train, evaluation)
        write_json(counted, {"lengths": [asdict(table) for table in tables], "end": end, "tasks": tasks})
    found = read_json(counted)
    lengths, held_out_lengths = (Lengths(**values) for values in found["lengths"])
    refuse_losses("conversations", lengths.rows, lengths.too_long, length, most_dropped, files)
    return Conversations(train, evaluation, lengths, held_out_lengths, found["end"])


def trained_tasks(folder: Path, identity: Mapping[str, Any]) -> dict[str, int]:
    """CAPABILITY/TASK -> conversations that a run was trained on, of what `prepare` wrote."""
    counts: dict[str, int] = read_json(folder / f"{digest(canonical(dict(identity)))[:16]}.json")["tasks"]
    return counts


def refuse_losses(kind: str, rows: int, too_long: int, length: int, most_dropped: float, files: Sequence[Path]) -> None:
    """RedoneError: no rows are left, or more are left out than is allowed."""
    names = ", ".join(str(file) for file in files)
    if not rows and not too_long:
        raise RedoneError(f"{names}: there are no {kind} to train on")
    if not rows:
        raise RedoneError(f"{names}: all {too_long:,} {kind} are longer than {length} tokens; raise data.length")
    if too_long > most_dropped * (rows + too_long):
        share = too_long / (rows + too_long)
        raise RedoneError(
            f"{names}: {too_long:,} of {rows + too_long:,} {kind} ({share:.1%}) are longer than {length} tokens, and "
            f"data.most_dropped allows {most_dropped:.1%}; raise data.length, or data.most_dropped"
        )


def read_all(files: Sequence[Path], held_out: Sequence[Path] = ()) -> Iterator[Row]:
    """The rows of files one after another, then those of files that are held out whole."""
    for path in files:
        yield from read_rows(path)
    for path in held_out:
        yield from (Row(row.messages, row.task, True, row.place) for row in read_rows(path))


def _tokenize(
    rows: Iterator[Row],
    tokenizer: Any,
    template: Template,
    length: int,
    selection: Selection,
    train: Path,
    held_out: Path,
) -> tuple[Lengths, Lengths, int, dict[str, int]]:
    lengths: tuple[list[int], list[int]] = ([], [])
    too_long, learnt, not_chosen, number, end, checked = [0, 0], [0, 0], [0, 0], 0, -1, 0
    tasks: Counter[str] = Counter()
    seen: dict[str, None] = {}
    train.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic(train) as aside,
        atomic(held_out) as held_aside,
        _writer(aside) as to_train,
        _writer(held_aside) as to_held_out,
    ):
        while block := [row for _, row in zip(range(AT_A_TIME), rows, strict=False)]:
            messages = [row.messages for row in block]
            rendered = render(tokenizer, template, messages, [row.place for row in block])
            if checked < CHECKED:
                end = check_template(tokenizer, template, messages, rendered)
                checked += len(block)
            kept: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
            for row, one in zip(block, rendered, strict=True):
                seen[row.task] = None
                if not (row.held_out or selection.takes(row.task)):
                    not_chosen[False] += 1
                    number += 1
                    continue
                size, marked, answers = len(one.tokens), len(list(one.runs())), len(answers_of(row.messages))
                if marked != answers:
                    raise RedoneError(f"{row.place}: {template.miscount(marked, answers)}")
                if size > length:
                    too_long[row.held_out] += 1
                else:
                    lengths[row.held_out].append(size)
                    learnt[row.held_out] += sum(one.marked)
                    labels = [t if m else IGNORED for t, m in zip(one.tokens, one.marked, strict=True)]
                    values = {"input_ids": one.tokens, "labels": labels, "conversation": [number] * size}
                    kept[row.held_out].append({**values, "task": row.task})
                    tasks[row.task] += not row.held_out
                number += 1
            to_train.write(pa.RecordBatch.from_pylist(kept[False], schema=COLUMNS))
            to_held_out.write(pa.RecordBatch.from_pylist(kept[True], schema=COLUMNS))
    selection.refuse_unknown(list(seen))
    counted = (Lengths.of(*values) for values in zip(lengths, too_long, learnt, not_chosen, strict=True))
    return next(counted), next(counted), end, dict(+tasks)


def _writer(path: Path) -> Any:
    return pa.ipc.new_stream(str(path), COLUMNS)
