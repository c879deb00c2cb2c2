"""Which rows of a table a task takes, and what they need of other rows: all that is done on columns.

Rows whose values are missing, too short or of an unknown label go, the most frequent label is cut down to its share,
wrong options and partners are drawn. All draws are by hashes of a row and the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.conversation import MESSAGES
from redone_data.instruct.distractors import others
from redone_data.instruct.tables import DROPPED, Table
from redone_data.instruct.task import LABELS, AnswerConfig, Kind, Task
from redone_data.instruct.writing import YES
from redone_data.rng import keyed_uniform
from redone_data.text.hashing import hash128

_KINDS: dict[Kind, tuple[pl.DataType, ...]] = {
    "text": (pl.String(),),
    "label": (pl.String(), pl.Int64()),
    "number": (pl.Int64(), pl.Float64(), pl.String()),
    "list": (pl.List(pl.String()),),
    "messages": (MESSAGES,),
}


@dataclass(frozen=True)
class Selected:
    """The rows that are to become conversations, and those that are not."""

    frame: pl.DataFrame
    dropped: pl.DataFrame


def select(table: Table, task: Task, *, seed: int) -> Selected:
    """Everything that needs other rows: what stays, its wrong options and its partner."""
    check_columns(table, task)
    drops = _Drops(_keyed(table, task))
    optional = [name for name, need in task.columns.items() if need.optional and name in table.frame.columns]
    absent = [name for name, need in task.columns.items() if name not in table.frame.columns]
    required = [name for name in task.columns if name not in (*optional, *absent)]
    drops.frame = drops.frame.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)
    drops.keep(pl.col("lang").is_in(list(task.templates)), "no_template", detail=pl.col("lang"))
    for name in required:
        drops.keep(pl.col(name).is_not_null(), "missing_value", detail=pl.lit(name))
    for name in required:
        if task.columns[name].kind == "text":
            length = pl.col(name).str.len_chars()
            drops.keep(length >= task.options.min_characters, "too_short", length, task.options.min_characters, name)
        elif task.columns[name].min_items:
            length = pl.col(name).list.len()
            drops.keep(
                length >= task.columns[name].min_items, "too_few_items", length, task.columns[name].min_items, name
            )
    for answer in _closed(task.answer):
        column = pl.col(str(answer.column))
        if answer.options == LABELS:
            if holds_lists(drops.frame, answer):
                drops.keep(column.list.eval(pl.element().is_in(list(task.labels))).list.all(), "unknown_label")
            else:
                drops.keep(column.cast(pl.String).is_in(list(task.labels)), "unknown_label", detail=column)
        elif answer.kind == "yes_no":
            drops.keep(column.is_in(list(YES)), "unknown_label", detail=column)
    _balance(drops, task, seed)
    if task.options.max_conversations is not None:
        draw = pl.Series("draw", uniform(drops.frame, task, seed, "most"))
        drops.keep(draw.rank("ordinal") <= task.options.max_conversations, "max_conversations")
    frame = _with_wrong_options(drops, task, seed) if task.options.distractors else _with_labels(drops.frame, task)
    if task.options.negatives is not None:
        frame = _with_negatives(frame, task, seed)
    return Selected(frame, pl.concat(drops.lines))


def check_columns(table: Table, task: Task) -> None:
    """Raise RedoneError where a table lacks a column of the task, or has it in another type."""
    given = table.frame.schema
    for name, need in task.columns.items():
        if name not in given:
            if need.optional:
                continue
            raise RedoneError(
                f"task {task.name}: table {table.name} has no column '{name}'"
                f"{f' ({need.help})' if need.help else ''}; {did_you_mean(name, given)}; name its field under columns"
            )
        if given[name] not in _KINDS[need.kind]:
            raise RedoneError(
                f"task {task.name}: table {table.name}: column '{name}' holds {given[name]}; {need.kind} is needed"
            )


class _Drops:
    """Rows under way, and a line for each that went."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self.lines = [DROPPED.to_frame()]

    def keep(
        self,
        which: pl.Expr | pl.Series,
        rule: str,
        value: pl.Expr | None = None,
        bound: float | None = None,
        detail: pl.Expr | str | None = None,
    ) -> None:
        mask = self.frame.select(pl.Series(which) if isinstance(which, pl.Series) else which).to_series()
        mask = mask.fill_null(value=False)
        if mask.all():
            return
        told = pl.lit(detail) if isinstance(detail, str) or detail is None else detail
        gone = self.frame.filter(~mask).select(
            "row",
            rule=pl.lit(rule),
            value=pl.lit(None) if value is None else value,
            bound=pl.lit(bound),
            detail=told,
        )
        self.lines.append(dropped_lines(gone))
        self.frame = self.frame.filter(mask)


def dropped_lines(gone: pl.DataFrame) -> pl.DataFrame:
    return gone.select(
        (pl.col(name) if name in gone.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in DROPPED.items()
    )


def _keyed(table: Table, task: Task) -> pl.DataFrame:
    """The table with `identity` (table, row and values), `occurrence` (of equal rows) and `key`, a hash of them."""
    frame = table.frame
    for name, need in task.columns.items():  # numbers as labels; CSV's texts as numbers
        if need.kind in ("label", "number") and name in frame.columns and frame.schema[name] != pl.List(pl.String):
            kind = pl.String() if need.kind == "label" else pl.Float64()
            frame = frame.with_columns(pl.col(name).cast(kind, strict=False))
    used = sorted(set(task.columns) & set(frame.columns))
    identity = frame.select(
        pl.concat_str(pl.lit(table.name), "row", pl.struct(used).struct.json_encode(), separator="\x1f").alias(
            "identity"
        )
    )
    frame = frame.with_columns(identity["identity"]).with_columns(
        occurrence=pl.int_range(pl.len()).over("identity", mapping_strategy="group_to_rows")
    )
    text = frame.select(pl.concat_str("identity", pl.col("occurrence").cast(pl.String), separator="\x1f")).to_series()
    lo = hash128(text.to_arrow().cast(pa.large_string()))[1]
    frame = frame.with_columns(pl.Series("key", lo))
    # The order of conversations is that of the rows' ids, not of files.
    return frame.sort("row", "key")


def uniform(frame: pl.DataFrame, task: Task, seed: int, name: str) -> npt.NDArray[np.float64]:
    return keyed_uniform(seed, f"{task.name}/{name}", frame["key"].to_numpy())


def _closed(answer: AnswerConfig) -> list[AnswerConfig]:
    """The answers (of fields: all of them) whose gold is a label."""
    inner = [found for field in answer.fields.values() for found in _closed(field)]
    is_closed = answer.column is not None and (answer.options == LABELS or answer.kind == "yes_no")
    return [answer, *inner] if is_closed else inner


def holds_lists(frame: pl.DataFrame, answer: AnswerConfig) -> bool:
    return frame.schema[str(answer.column)] == pl.List(pl.String())


def _balance(drops: _Drops, task: Task, seed: int) -> None:
    """Cut the most frequent labels down until none has more than its share of what is left."""
    share, column = task.options.max_label_share, task.answer.column
    if share is None or column is None or task.columns[column].kind != "label" or drops.frame.is_empty():
        return
    label = drops.frame[column]
    counts = label.value_counts()["count"].to_list()
    most = largest_allowed(counts, share)
    draw = pl.Series("draw", uniform(drops.frame, task, seed, "balance"))
    rank = pl.DataFrame({"label": label, "draw": draw}).select(pl.col("draw").rank("ordinal").over("label")).to_series()
    drops.keep(rank <= most, "label_balance", bound=share, detail=pl.col(column))


def largest_allowed(counts: Sequence[int], share: float) -> int:
    """The largest c such that, with every count cut down to c, none is above `share` of the sum.

    A share below an even one cannot be reached by labels of one size each, and is taken for the even one.

    >>> largest_allowed([900, 100, 100], share=0.5), largest_allowed([10], share=0.5)
    (200, 10)
    """
    share = max(share, 1 / len(counts))
    low, high = min(counts), max(counts)
    while low < high:
        middle = (low + high + 1) // 2
        if middle <= share * sum(min(count, middle) for count in counts) + 1e-9:
            low = middle
        else:
            high = middle - 1
    return low


def _with_labels(frame: pl.DataFrame, task: Task) -> pl.DataFrame:
    """Add `options`: the labels that the table has, for a task whose options are labels."""
    if task.answer.options != LABELS:
        return frame
    column = frame[str(task.answer.column)]
    seen = set(
        column.list.explode(keep_nulls=False, empty_as_null=False) if holds_lists(frame, task.answer) else column
    )
    options = [label for label in task.labels if label in seen]
    return frame.with_columns(pl.lit(options, pl.List(pl.String)).alias("options"))


def _with_wrong_options(drops: _Drops, task: Task, seed: int) -> pl.DataFrame:
    """Add `options`: the right ones and the distractors."""
    config, column = task.options.distractors, str(task.answer.column)
    assert config is not None
    pool, keys, name = drops.frame, drops.frame["key"].to_numpy(), f"{task.name}/distractors"
    asked, clicks = np.arange(pool.height), None
    if config.below is not None:
        clicks = pool[config.below].to_list()
        asked = np.flatnonzero(pool[config.below] >= config.at_least)
        drops.keep(pl.col(config.below) >= config.at_least, "below_at_least", pl.col(config.below), config.at_least)
    if holds_lists(pool, task.answer):
        values = pool[column].list.explode(keep_nulls=False, empty_as_null=False)
        right = drops.frame[column].to_list()
        found = others("random", values, keys, config.number, seed, name)
    else:
        groups = None if config.group is None else pool[config.group]
        right = [[value] for value in drops.frame[column]]
        found = others(config.how, pool[column], keys, config.number, seed, name, asked=asked, groups=groups)
    excluded = drops.frame[config.exclude].to_list() if config.exclude else right
    options: list[list[str] | None] = []
    for number, (golds, never) in enumerate(zip(right, excluded, strict=True)):
        taken = {value.casefold() for value in (*golds, *(never or ()))}
        most = None if clicks is None else clicks[asked[number]]

        def allowed(value: str, place: int, taken: set[str] = taken, most: float | None = most) -> bool:
            folded = value.casefold()
            # What is part of a right answer, or holds it, is as good as right.
            apart = config.how != "similar" or not any(folded in gold or gold in folded for gold in taken)
            lower = clicks is None or clicks[place] < most
            return lower and apart and bool(folded.strip()) and folded not in taken

        wrong = found.pick(number, config.number, allowed)
        options.append([*dict.fromkeys(golds), *wrong] if len(wrong) == config.number else None)
    drops.frame = drops.frame.with_columns(pl.Series("options", options, pl.List(pl.String())))
    drops.keep(pl.col("options").is_not_null(), "too_few_distractors", bound=config.number)
    return drops.frame


def _with_negatives(frame: pl.DataFrame, task: Task, seed: int) -> pl.DataFrame:
    """Add `is_true`: false where a column was exchanged for another row's."""
    config = task.options.negatives
    assert config is not None
    keys = frame["key"].to_numpy()
    groups = None if config.group is None else frame[config.group]
    is_true = uniform(frame, task, seed, "negative") >= config.share
    asked = np.flatnonzero(~is_true)
    name = f"{task.name}/negatives"
    found = others(config.how, frame[config.column], keys, 1, seed, name, asked=asked, groups=groups)
    values = frame[config.column].to_list()
    for number, row in enumerate(asked.tolist()):

        def differs(value: str, place: int, mine: str = values[row].casefold()) -> bool:
            return value.casefold() != mine

        other = found.pick(number, 1, differs)
        is_true[row] = not other
        values[row] = other[0] if other else values[row]
    return frame.with_columns(pl.Series(config.column, values, pl.String), pl.Series("is_true", is_true))
