"""A table and a task make conversations; every row that makes none is named with its reason.

Two pure functions. `select` works on columns: rows whose values are missing, too short or of an unknown label go, the
most frequent label is cut down to its share, wrong options and partners are drawn. `render` is the one loop over rows:
it writes a row's prompt by one of its language's templates and its answer by the answer format, and reads the answer
back; slices of what was selected may be rendered apart, in any order. All draws are by hashes of a row and the seed,
so neither the order of files nor of rows changes a conversation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from redone_data.errors import RedoneError
from redone_data.instruct.conversation import FRAME
from redone_data.instruct.selecting import Selected, dropped_lines, select, uniform
from redone_data.instruct.tables import Table, split_of
from redone_data.instruct.task import Task, option_columns
from redone_data.instruct.writing import Writer
from redone_data.text.hashing import hash128, to_hex

__all__ = ["Built", "Selected", "build", "check_readable", "render", "select"]
_SHORTEST_TABLE = 20  # below it one odd row is no share


@dataclass(frozen=True)
class Built:
    """Conversations (columns of conversation.FRAME), and a line of tables.DROPPED for each row that became none."""

    conversations: pl.DataFrame
    dropped: pl.DataFrame

    @property
    def drops(self) -> dict[str, int]:
        """Rule -> rows."""
        return dict(sorted(self.dropped.group_by("rule").len().iter_rows()))


def build(table: Table, task: Task, *, seed: int, held_out_share: float = 0.0) -> Built:
    """All conversations of a task from a table.

    Raises RedoneError for a table without the task's columns, and where more rows than `max_unreadable` have an answer
    that cannot be written and read.
    """
    selected = select(table, task, seed=seed)
    rendered = render(selected.frame, task, seed=seed, held_out_share=held_out_share)
    built = Built(rendered.conversations, pl.concat([selected.dropped, rendered.dropped]))
    check_readable(built, task, table.name)
    return built


def check_readable(built: Built, task: Task, table: str) -> None:
    """Raise RedoneError where too many answers cannot be written and read, or no row became a conversation."""
    if built.conversations.is_empty() and "unreadable_answer" not in built.drops:
        drops = ", ".join(f"{rule} {count:,}" for rule, count in built.drops.items()) or "it has no rows"
        raise RedoneError(f"task {task.name}, table {table}: no row became a conversation ({drops}); mend the table")
    bad = built.dropped.filter(pl.col("rule") == "unreadable_answer")
    total = bad.height + built.conversations.height
    if bad.height and (total < _SHORTEST_TABLE or bad.height > task.options.max_unreadable * total):
        row, detail = bad.select("row", "detail").row(0)
        raise RedoneError(
            f"task {task.name}, table {table}: {bad.height:,} of {total:,} answers cannot be written and read, the "
            f"first in row {row}: {detail}; mend the table's columns, or raise options.max_unreadable"
        )


def render(frame: pl.DataFrame, task: Task, *, seed: int, held_out_share: float = 0.0) -> Built:
    """Conversations of selected rows, or of a slice of them, in their order."""
    prompts = task.prompts
    which = uniform(frame, task, seed, "template")
    writer = Writer(task)
    widest = max((len(options) for options in _option_lists(frame, task)), default=0)
    shuffled = task.options.order == "shuffled" and widest > 1
    # One draw an option: their order is the options' order.
    order_NK = np.stack([uniform(frame, task, seed, f"order/{k}") for k in range(widest)], axis=1) if shuffled else None
    names: list[str] = []
    for number, row in enumerate(frame.iter_rows(named=True)):
        choices = prompts[row["lang"]]
        prompt = choices[int(which[number] * len(choices))]
        names.append(prompt.name)
        writer.write(row, prompt, None if order_NK is None else order_NK[number])
    written, lost = writer.columns()
    stays = pl.Series(~np.isin(np.arange(frame.height), [place for place, _, _ in lost]), dtype=pl.Boolean)
    kept = frame.filter(stays)
    templates = pl.Series("template", names, pl.String).filter(stays)
    identity = kept.select(
        pl.concat_str(pl.lit(task.name), templates, "identity", pl.col("occurrence").cast(pl.String), separator="\x1f")
    ).to_series()
    ids = pl.Series("id", to_hex(*hash128(identity.to_arrow().cast(pa.large_string())))).cast(pl.String)
    conversations = kept.select(
        ids,
        messages=written["messages"],
        capability=pl.lit(task.capability),
        task=pl.lit(task.name),
        lang=pl.col("lang"),
        template=templates,
        format=written["format"],
        answer=written["answer"],
        documents=pl.col("documents"),
        split=split_of(kept["document"], seed, held_out_share),
    )
    dropped = pl.DataFrame(
        {
            "row": frame["row"].gather([place for place, _, _ in lost]),
            "rule": [rule for _, rule, _ in lost],
            "detail": [detail for _, _, detail in lost],
        },
        schema_overrides={"rule": pl.String, "detail": pl.String},
    )
    return Built(conversations.select(pl.col(name).cast(kind) for name, kind in FRAME.items()), dropped_lines(dropped))


def _option_lists(frame: pl.DataFrame, task: Task) -> list[Sequence[Any]]:
    """The longest options list of the task, for each place that it has options from."""
    lists: list[Sequence[Any]] = []
    columns = [*option_columns(task.answer), *("options" for _ in range("options" in frame.columns))]
    for inner in task.answer.fields.values():
        columns += option_columns(inner)
    for column in columns:
        longest = frame[column].list.len().max()
        lists.append(range(int(longest or 0)))  # type: ignore[arg-type]
    return lists
