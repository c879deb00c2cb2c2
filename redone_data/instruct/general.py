"""General instruction data that exists already: chat messages, instruction and answer, or ShareGPT's turns.

Columns are named in the recipe. Chain of thought is kept: inside the answer as it stands, or, from a column of its own,
before the answer between `<think>` and `</think>` (as Qwen3 and DeepSeek-R1 write it). A record that is no conversation
(no answer, turns out of order, a role that chat templates do not know) is dropped and counted; turns after the last
answer are cut off, since nothing is learnt from them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
import polars as pl
import pyarrow as pa

from redone_data.config import plain
from redone_data.curate.sources import Format, InputFile, SourceConfig
from redone_data.engine import Step
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.alike import DuplicateRowsConfig, distinct_rows
from redone_data.instruct.columns import ABSENT, lookup
from redone_data.instruct.conversation import FRAME, GENERAL
from redone_data.instruct.distill import DistilledConfig
from redone_data.instruct.ledger import CONVERSATIONS, DROPPED, LEDGER_SCHEMA, ledger_frame
from redone_data.instruct.masking import masked
from redone_data.instruct.table_files import records
from redone_data.instruct.tables import split_of
from redone_data.manifest import atomic, canonical, digest
from redone_data.text.hashing import hash128, to_hex

Form = Literal["messages", "instruction", "sharegpt"]
ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
THOUGHT = "<think>\n{thought}\n</think>\n\n{answer}"
UNKNOWN_LANGUAGE = "und"  # ISO 639: undetermined


@dataclass(frozen=True)
class GeneralConfig:
    """Instruction data as it is found. Columns may be paths: meta.lang."""

    paths: tuple[str, ...] = field(metadata={"help": "files or globs, relative to the recipe"})
    form: Form = field(default="messages", metadata={"help": "messages, instruction or sharegpt"})
    format: Format | None = field(default=None, metadata={"help": "of the files; default: by their suffix"})
    id: str | None = field(default=None, metadata={"help": "column with the record's id; default: a hash of it"})
    turns: str | None = field(
        default=None, metadata={"help": "column of the turns; default: messages, or conversations for sharegpt"}
    )
    system: str | None = field(default=None, metadata={"help": "column of a system message"})
    instruction: str = field(default="instruction", metadata={"help": "form instruction: the column of what is asked"})
    input: str | None = field(default="input", metadata={"help": "form instruction: what it is asked of, if any"})
    output: str = field(default="output", metadata={"help": "form instruction: the column of the answer"})
    thought: str | None = field(
        default=None, metadata={"help": "column of a chain of thought, put before the last answer in <think>"}
    )
    lang: str | None = field(default="lang", metadata={"help": "column of the language, or a language: =en"})
    where: dict[str, tuple[str, ...]] = field(
        default_factory=dict, metadata={"help": "column -> values: only records that have one of them"}
    )
    replace: dict[str, str] = field(
        default_factory=dict, metadata={"help": "regular expression -> text, in every message"}
    )
    max_conversations: int | None = field(
        default=None, metadata={"help": "at most so many, by a hash of the id; the others are dropped, and counted"}
    )
    duplicates: DuplicateRowsConfig = field(default_factory=DuplicateRowsConfig)
    distilled: DistilledConfig | None = field(
        default=None, metadata={"help": "answers of a model's own in place of those of the data: the best of n samples"}
    )

    def __post_init__(self) -> None:
        SourceConfig(self.paths)
        if self.format in ("warc", "huggingface", "text"):
            raise RedoneError(f"format: {self.format} holds no conversations; json, jsonl, parquet or csv")
        for pattern in self.replace:
            try:
                re.compile(pattern)
            except re.error as error:
                raise RedoneError(f"replace: {pattern!r} is not a regular expression: {error}") from None
        if self.max_conversations is not None and self.max_conversations < 1:
            raise RedoneError(f"max_conversations: {self.max_conversations}; at least 1, or leave it out")


class _UnusableError(Exception):
    """Why a record is no conversation: the rule that the ledger names."""


@dataclass(frozen=True)
class GeneralStep(Step):
    """One source of general data as conversations: conversations.parquet and dropped.parquet."""

    name = "sft-general"
    VERSION = 1

    source: str
    general: GeneralConfig
    files: tuple[InputFile, ...]
    seed: int
    held_out_share: float
    redact: tuple[str, ...]

    def config(self) -> Any:
        settings = plain(self.general)
        del settings["paths"], settings["distilled"]
        given = {"seed": self.seed, "held_out": self.held_out_share, "redact": sorted(self.redact)}
        return {"source": self.source, "general": settings, **given}

    def inputs(self) -> dict[str, str]:
        return {f"{i:06d}.{file.format}": file.sha256 for i, file in enumerate(self.files)}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        read = 0
        rows: list[dict[str, Any]] = []
        dropped: list[dict[str, Any]] = []
        for file in self.files:
            for _, record in records(file, None):
                if not self._selected(record):
                    continue
                read += 1
                name = self._name(record)
                try:
                    rows.append(self._row(record, name))
                except _UnusableError as reason:
                    dropped.append({"id": name, "documents": [name], "rule": str(reason)})
        if not read:
            raise RedoneError(f"general.{self.source}: where: no record has these values")
        if not rows:
            reasons = ", ".join(sorted({line["rule"] for line in dropped}))
            raise RedoneError(
                f"general.{self.source}: none of {read} records is a conversation in the form {self.general.form} "
                f"({reasons}); mend form, or the columns it names"
            )
        frame = pl.DataFrame(rows, schema={name: kind for name, kind in FRAME.items() if name != "split"}).sort("id")
        documents = frame["documents"].list.first()
        frame = frame.with_columns(split=split_of(documents, self.seed, self.held_out_share)).match_to_schema(FRAME)
        frame, counts = masked(frame, ["messages"], self.redact)
        bad = pl.DataFrame(dropped, schema={name: LEDGER_SCHEMA[name] for name in ("id", "documents", "rule")})
        kept, repeats = distinct_rows(frame, [prompts_of(frame)], self.general.duplicates)
        lines = [bad, repeats]
        most = self.general.max_conversations
        if most is not None and kept.height > most:
            lines.append(kept.slice(most).with_columns(rule=pl.lit("beyond_max_conversations")))
            kept = kept.head(most)
        ledger = pl.concat(ledger_frame(part, task=self.source, table=self.source, stage="table") for part in lines)
        for name, table in ((CONVERSATIONS, kept), (DROPPED, ledger)):
            with atomic(folder / name) as aside:
                table.write_parquet(aside, row_group_size=20_000)
        return {"read": read, "conversations": kept.height, "dropped": ledger.height, "masked": counts}

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        return results[0]

    def _selected(self, record: Mapping[str, Any]) -> bool:
        return all(str(column(record, path)) in allowed for path, allowed in self.general.where.items())

    def _name(self, record: Mapping[str, Any]) -> str:
        value = None if self.general.id is None else column(record, self.general.id)
        if value is not None and str(value).strip():
            return str(value)
        hi, lo = hash128(pa.array([canonical(_jsonable(record))], pa.large_string()))
        return str(to_hex(hi, lo)[0])

    def _row(self, record: Mapping[str, Any], name: str) -> dict[str, Any]:
        settings = self.general
        messages = self._messages(record)
        lang = settings.lang or UNKNOWN_LANGUAGE
        lang = lang[1:] if lang.startswith("=") else str(column(record, lang) or UNKNOWN_LANGUAGE)
        return {
            "id": digest([self.source, settings.form, name])[:32],
            "messages": messages,
            "capability": GENERAL,
            "task": self.source,
            "lang": lang,
            "template": settings.form,
            "format": None,
            "answer": None,
            "documents": [name],
        }

    def _messages(self, record: Mapping[str, Any]) -> list[dict[str, str]]:
        settings = self.general
        if settings.form == "instruction":
            asked = [_text(column(record, settings.instruction))]
            if settings.input is not None:
                asked.append(_text(column(record, settings.input)))
            turns = [
                ("user", "\n\n".join(part for part in asked if part)),
                ("assistant", _text(column(record, settings.output))),
            ]
        else:
            turns = _turns(
                column(record, settings.turns or ("conversations" if settings.form == "sharegpt" else "messages"))
            )
        if settings.system is not None and (system := _text(column(record, settings.system))):
            turns = [("system", system), *(turn for turn in turns if turn[0] != "system")]
        while turns and turns[-1][0] == "user":
            turns = turns[:-1]
        if settings.thought is not None and turns and (thought := _text(column(record, settings.thought))):
            turns[-1] = ("assistant", THOUGHT.format(thought=thought, answer=turns[-1][1]))
        for pattern, text in settings.replace.items():
            turns = [(role, re.sub(pattern, text, content).strip()) for role, content in turns]
        return _checked(turns)


def prompts_of(frame: pl.DataFrame) -> pa.Array:
    """What is asked in each conversation: all but the last answer."""
    asked = pl.col("messages").list.head(pl.col("messages").list.len() - 1)
    texts = frame.select(asked.list.eval(pl.element().struct.field("content")).list.join("\n"))["messages"]
    return texts.to_arrow().cast(pa.large_string())


def _turns(value: Any) -> list[tuple[str, str]]:
    """Turns of chat messages ({role, content}) or of ShareGPT ({from, value})."""
    if isinstance(value, str):  # a column of JSON text, as CSV and some Parquet files have it
        try:
            value = orjson.loads(value)
        except ValueError:
            raise _UnusableError("not_messages") from None
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        raise _UnusableError("not_messages")
    found = []
    for turn in value:
        role = turn.get("role", turn.get("from"))
        if not isinstance(role, str) or role.lower() not in ROLES:
            raise _UnusableError("unknown_role")
        found.append((ROLES[role.lower()], _text(turn.get("content", turn.get("value")))))
    return found


def _checked(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    """Turns as messages, an empty system message left out."""
    if turns and turns[0] == ("system", ""):
        turns = turns[1:]
    spoken = turns[1:] if turns and turns[0][0] == "system" else turns
    if not any(role == "assistant" for role, _ in spoken):
        raise _UnusableError("no_answer")
    if any(not content for _, content in turns):
        raise _UnusableError("empty_message")
    if [role for role, _ in spoken] != ["user", "assistant"] * (len(spoken) // 2):
        raise _UnusableError("turns_out_of_order")
    return [{"role": role, "content": content} for role, content in turns]


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def column(record: Mapping[str, Any], path: str) -> Any:
    """A value by its name, or by a path of names: meta.lang."""
    value = lookup(record, path)
    return None if value is ABSENT else value


def _jsonable(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))


def check_columns(general: GeneralConfig, file: InputFile, where: str) -> None:
    """Raises RedoneError when the first record of a file has none of the columns that the form needs."""
    _, first = next(records(file, None), (0, None))
    if first is None:
        raise RedoneError(f"{where}: {file.label} holds no record")
    needed = {
        "messages": [general.turns or "messages"],
        "sharegpt": [general.turns or "conversations"],
        "instruction": [general.instruction, general.output],
    }[general.form]
    for path in needed:
        if path.split(".")[0] not in first and path not in first:
            raise RedoneError(f"{where}: {file.label}: no column '{path}'; {did_you_mean(path, map(str, first))}")
