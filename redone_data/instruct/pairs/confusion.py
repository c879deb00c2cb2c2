"""What a scored model confuses: how often it gave which wrong answer where which was right, by task.

Made from a file of answers (``redone-train generate``) by the parsers and golds that score them, or read from a table
with the columns task, gold, predicted and count. Of sets of labels, each label missing is counted with each that is too
much. Wrong options are drawn by it (wrong.py).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from redone_data.errors import RedoneError
from redone_data.instruct.answers import AnswerFormat, LabelsFormat, read_format
from redone_data.instruct.pairs.wrong import Confusions, key_of
from redone_data.manifest import atomic

COLUMNS = ("task", "gold", "predicted", "count")


def confused(form: AnswerFormat, gold: Any, answer: Any) -> list[tuple[str, str]]:
    """(gold, predicted) of one wrong answer; of sets, every label missing with every one too much."""
    if isinstance(form, LabelsFormat):
        missing = [label for label in gold if label not in answer]
        extra = [label for label in answer if label not in gold]
        return [(right, wrong) for right in missing or [form.none] for wrong in extra]
    return [] if answer == gold else [(key_of(gold), key_of(answer))]


def confusion_table(rows: Iterable[Mapping[str, Any]], answers: Mapping[str, list[str]]) -> pl.DataFrame:
    """Confusions of a model: `rows` are conversations (id, task, format, answer), `answers` what it gave by id.

    Answers that cannot be read confuse nothing; golds without a format neither.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        if row["format"] is None or row["id"] not in answers:
            continue
        form, gold = read_format(json.loads(row["format"])), json.loads(row["answer"])
        for text in answers[row["id"]]:
            read = form.parse(text)
            if read is not None:
                counts.update((row["task"], right, wrong) for right, wrong in confused(form, gold, read))
    found = [(*key, number) for key, number in sorted(counts.items())]
    return pl.DataFrame(found, schema=dict(zip(COLUMNS, [pl.String] * 3 + [pl.Int64], strict=True)), orient="row")


def read_confusions(path: Path) -> dict[str, Confusions]:
    """Task -> gold -> predicted -> count, of a CSV file with those columns."""
    try:
        frame = pl.read_csv(path, schema_overrides=dict.fromkeys(COLUMNS[:3], pl.String))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RedoneError(f"{path}: cannot be read as CSV: {str(error).splitlines()[0]}") from None
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise RedoneError(f"{path}: column '{missing[0]}' is missing; a table of confusions has {', '.join(COLUMNS)}")
    if not frame["count"].dtype.is_integer() or frame.null_count().select(pl.sum_horizontal(pl.all())).item():
        raise RedoneError(f"{path}: every row needs a task, gold, predicted and a whole number as count")
    return by_task(frame)


def by_task(frame: pl.DataFrame) -> dict[str, Confusions]:
    """A table of confusions as nested mappings."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for task, gold, predicted, count in frame.select(COLUMNS).iter_rows():
        found.setdefault(task, {}).setdefault(gold, {})[predicted] = count
    return dict(found)


def write_confusions(path: Path, frame: pl.DataFrame) -> None:
    with atomic(path) as aside:
        frame.write_csv(aside)


def read_answers(path: Path) -> dict[str, list[str]]:
    """The answers of a file that ``redone-train generate`` wrote, by id; errors name the line."""
    found: dict[str, list[str]] = {}
    for number, line in _lines(path):
        try:
            record = json.loads(line)
        except ValueError:
            raise RedoneError(f"{path} line {number}: not valid JSON") from None
        answers = record.get("answers") if isinstance(record, dict) else None
        if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers) or "id" not in record:
            raise RedoneError(
                f"{path} line {number}: a line is expected as redone-train generate writes it: id, answers"
            )
        if (name := str(record["id"])) in found:
            raise RedoneError(f"{path} line {number}: id {name!r} is given twice")
        found[name] = answers
    if not found:
        raise RedoneError(f"{path}: no answers are in it")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RedoneError(f"{path}: cannot be read as text: {error}") from None
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
