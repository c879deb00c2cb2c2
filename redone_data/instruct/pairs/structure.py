"""Pairs from structure: the right answer of an objective task against wrong ones of the same form.

Costs no model: 50,000 conversations in some seconds. Wrong answers are hard ones (wrong.py): those that a scored model
gives, or the nearest. The answers are written by the task's own format, so that chosen and rejected differ in what is
said alone. Free text and passages have no wrong answers of the same form: such rows are counted drops.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from redone_data.curate.sources import InputFile
from redone_data.engine import Output
from redone_data.errors import RedoneError
from redone_data.instruct.answers import AnswerFormat, ChoiceFormat, read_format
from redone_data.instruct.metrics import score
from redone_data.instruct.pairs.candidates import PairSource, Rows
from redone_data.instruct.pairs.confusion import (
    by_task,
    confusion_table,
    read_answers,
    read_confusions,
    write_confusions,
)
from redone_data.instruct.pairs.conversations import conversation_rows
from redone_data.instruct.pairs.scoring import metric_of
from redone_data.instruct.pairs.select import SelectConfig
from redone_data.instruct.pairs.wrong import NONE, Confusions, Known, Wrong, labels_of, wrong_answers
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import hash128

FREE_TEXT, UNREADABLE, NO_WRONG = "free_text", "unreadable_gold", "no_wrong_answer"
CONFUSIONS = "confusions.csv"
_ROWS_AT_A_TIME = 20_000


@dataclass(frozen=True)
class StructureConfig:
    """Objective tasks whose wrong answers are known: choices, labels, grades, paths, yes or no."""

    conversations: tuple[str, ...] = field(metadata={"help": "files of redone-data sft, relative to the recipe"})
    tasks: tuple[str, ...] = field(default=(), metadata={"help": "only these; empty: all"})
    wrong_per_prompt: int = field(default=1, metadata={"help": "wrong answers drawn for each right one"})
    confusions: str | None = field(
        default=None, metadata={"help": "CSV of a scored model: task, gold, predicted, count"}
    )
    answers: tuple[str, ...] = field(
        default=(),
        metadata={"help": "in its place: that model's answers to these conversations, by redone-train generate"},
    )
    hard_share: float = field(
        default=0.8, metadata={"help": "of wrong answers drawn by confusion or nearness; the others at random"}
    )
    select: SelectConfig = field(default_factory=SelectConfig)

    def __post_init__(self) -> None:
        if not self.conversations:
            raise RedoneError("conversations: at least one path is needed")
        if self.confusions is not None and self.answers:
            raise RedoneError("confusions, answers: give one of them; the table is made from answers")
        if self.wrong_per_prompt < 1:
            raise RedoneError(f"wrong_per_prompt: {self.wrong_per_prompt}; at least 1")
        if not 0 <= self.hard_share <= 1:
            raise RedoneError(f"hard_share: {self.hard_share}; a share between 0 and 1")


@dataclass(frozen=True)
class StructureStep(PairSource):
    """The candidates of one set from structure, and the confusions they were drawn by."""

    name = "pairs-structure"
    VERSION = 1

    conversations: Output
    files: tuple[InputFile, ...]  # confusions or answers
    structure: StructureConfig
    seed: int

    def config(self) -> Any:
        names = ("wrong_per_prompt", "hard_share")
        kind = "confusions" if self.structure.confusions else "answers"
        return {**{name: getattr(self.structure, name) for name in names}, "seed": self.seed, "from": kind}

    def inputs(self) -> dict[str, str]:
        files = {f"{i:06d}": file.sha256 for i, file in enumerate(self.files)}
        return {"conversations": self.conversations.fingerprint, **files}

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        confusions = self._confusions(folder)
        golds, moving = self._survey()
        share = self.structure.hard_share
        known = {name: Known(confusions.get(name, NONE), tuple(sorted(of)), share) for name, of in golds.items()}
        rows = Rows()
        for batch in _batches(conversation_rows(self.conversations)):
            hashes = hash128(pa.array([row["id"] for row in batch], pa.large_string()))[0]
            draws = np.stack(
                [keyed_uniform(self.seed, f"wrong.{i}", hashes) for i in range(self.structure.wrong_per_prompt)], axis=1
            )
            for row, drawn in zip(batch, draws.tolist(), strict=True):
                self._add(rows, row, known, moving, drawn)
        return {**rows.write(folder), "confusions": sum(len(by) for of in confusions.values() for by in of.values())}

    def _add(
        self, rows: Rows, row: dict[str, Any], known: Mapping[str, Known], moving: set[str], draws: list[float]
    ) -> None:
        if row["format"] is None:
            return rows.drop(row["id"], FREE_TEXT)
        form, gold = read_form(row["format"]), json.loads(row["answer"])
        if form.parse(row["messages"][-1]["content"]) != gold:
            return rows.drop(row["id"], UNREADABLE)
        wrong = wrong_answers(form, gold, known[row["task"]], draws)
        if not wrong:
            return rows.drop(row["id"], NO_WRONG, form.kind)
        metric, right = metric_of(row["task"], form), form.render(gold)
        assert metric is not None  # forms that have wrong answers have one
        return rows.add(
            shared_of(row, "structure"),
            [
                {
                    "chosen": right,
                    "rejected": form.render(one.answer),
                    "margin": round(1.0 - score(metric, one.answer, gold), 6),
                    **(_places(one) if row["task"] in moving else {}),
                }
                for one in wrong
            ],
        )

    def _confusions(self, folder: Path) -> dict[str, Confusions]:
        if self.structure.confusions is not None:
            return read_confusions(Path(self.files[0].path))
        answers: dict[str, list[str]] = {}
        for file in self.files:
            answers |= read_answers(Path(file.path))
        if not answers:
            return {}
        table = confusion_table(conversation_rows(self.conversations), answers)
        if not len(table):
            raise RedoneError(
                f"{', '.join(file.label for file in self.files)}: no answer to these conversations is readable and "
                "wrong; their ids must be those of the conversations"
            )
        write_confusions(folder / CONFUSIONS, table)
        return by_task(table)

    def _survey(self) -> tuple[dict[str, set[str]], set[str]]:
        """The golds of each task that are other rows' wrong answers, and tasks whose options change their places."""
        golds: dict[str, set[str]] = {}
        orders: dict[str, list[str]] = {}
        moving = set()
        for row in conversation_rows(self.conversations):
            of_task = golds.setdefault(row["task"], set())
            if row["format"] is None:
                continue
            form = json.loads(row["format"])
            of_task.update(labels_of(form["kind"], json.loads(row["answer"])))
            if form["kind"] == ChoiceFormat.kind and orders.setdefault(row["task"], form["options"]) != form["options"]:
                moving.add(row["task"])
        return golds, moving


@functools.lru_cache(maxsize=1 << 12)
def read_form(text: str) -> AnswerFormat:
    """A conversation's format from its JSON; most rows of a task have one of few."""
    return read_format(json.loads(text))


def shared_of(row: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What all pairs of a conversation have of it."""
    names = ("capability", "task", "lang", "documents", "split")
    shared = {name: row[name] for name in names}
    return {**shared, "prompt": row["messages"][:-1], "kind": kind, "weak": False, "group": row["id"]}


def _places(wrong: Wrong) -> dict[str, Any]:
    return {
        "chosen_position": wrong.chosen_position,
        "rejected_position": wrong.rejected_position,
        "num_options": wrong.num_options,
    }


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_AT_A_TIME:
            yield batch
            batch = []
    if batch:
        yield batch
