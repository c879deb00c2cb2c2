"""The verb `redone-train score`: answers that any model gave to a benchmark's file, and what they score.

An answers file has one JSON object a line: `index`, the place of the item in the file from 0, and `answer`, a text. An
item without a line counts as an empty answer and is counted; an index twice, or one that the file has not, is an error.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redone_data.errors import RedoneError, did_you_mean
from redone_train.evaluate import sns_bench, trans_bench
from redone_train.evaluate.items import Item, TaskScore
from redone_train.evaluate.similarity import SentenceModel
from redone_train.evaluate.sns_bench import Scorer

_TRANS = Path(trans_bench.FILE).stem


def score_file(
    task: Path, answers: Path, scorer: Scorer, *, name: str | None = None, embedding: Path | None = None, seed: int = 1
) -> dict[str, Any]:
    """What `score` prints, of one file of SNS-Bench or of both ways of RedTrans-Bench; `name` says which."""
    if (name or task.name).startswith(_TRANS):
        return _both_ways(task, answers, scorer, seed)
    if name is not None and name not in sns_bench.FILES:
        raise RedoneError(f"--task {name!r} is unknown; {did_you_mean(name, [*sns_bench.FILES, _TRANS])}")
    items = sns_bench.read_items(task, name or sns_bench.file_of(task))
    texts, missing = read_answers(answers, len(items))
    model = None if embedding is None else SentenceModel(embedding)
    return {**sns_bench.score(items, texts, scorer, model).mapping(seed), "missing": missing}


def _both_ways(task: Path, answers: Path, scorer: Scorer, seed: int) -> dict[str, Any]:
    items = trans_bench.read_items(task)
    texts, missing = read_answers(answers, len(items))
    ways: dict[str, TaskScore] = {}
    for way in trans_bench.TASKS:
        of_way: Sequence[Item] = [item for item in items if item.task == way]
        if of_way:
            ways[way] = trans_bench.score(of_way, [texts[item.meta["index"]] for item in of_way], scorer)
    return {
        "task": _TRANS,
        "scorer": scorer,
        "score": trans_bench.average({way: score.score for way, score in ways.items()}),
        "parts": {way: score.mapping(seed) for way, score in ways.items()},
        "parse_rate": sum(score.parse_rate * score.n for score in ways.values()) / len(items),
        "n": len(items),
        "missing": missing,
    }


def read_answers(path: Path, num_items: int) -> tuple[list[str], int]:
    """The answers in the items' order, and how many items have none (an empty answer stands for it)."""
    found: dict[int, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else None
    except ValueError as error:
        raise RedoneError(f"{path}: {error}; UTF-8 is needed") from None
    if lines is None:
        raise RedoneError(f"{path}: no such file; JSON lines with index and answer are needed")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RedoneError(f"{where}: {error}; one JSON object a line is needed") from None
        index, answer = (row.get("index"), row.get("answer")) if isinstance(row, dict) else (None, None)
        if not isinstance(index, int) or isinstance(index, bool) or not isinstance(answer, str):
            raise RedoneError(f"{where}: index (a whole number) and answer (a text) are needed")
        if not 0 <= index < num_items:
            raise RedoneError(f"{where}: index {index}; the file's items are 0 to {num_items - 1}")
        if index in found:
            raise RedoneError(f"{where}: index {index} has an answer already")
        found[index] = answer
    return [found.get(index, "") for index in range(num_items)], num_items - len(found)
