"""SNS-Bench (openreview sVNNlzjZVN; HC-Guo/SNS-Bench, CC BY-NC-SA 4.0): twelve files, eight tasks, two scorers.

The files are read in the benchmark's own format from a folder that the user names; none of their text is in this
project. The average is the plain mean of eight tasks, each the mean of its files. Two golds of three of Note-CHLW are
empty, so that an empty list always scores 67.6 there: the average is given without it as well.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from redone_data.errors import RedoneError, did_you_mean
from redone_train.evaluate import fixed, official
from redone_train.evaluate.items import Benchmark, Item, TaskScore, one_task
from redone_train.evaluate.prompts import own_prompts, published_prompts
from redone_train.evaluate.similarity import SentenceModel

Scorer = Literal["official", "fixed"]
SCORERS = {"official": official.RULES, "fixed": fixed.RULES}

TASKS: dict[str, tuple[str, ...]] = {
    "Taxonomy": ("Note-Taxonomy-single", "Note-Taxonomy-multiple"),
    "Hashtag": ("Note-Hashtag-single", "Note-Hashtag-multiple"),
    "QueryCorr": ("Note-QueryCorr-explain", "Note-QueryCorr-topic"),
    "MRC": ("Note-MRC-simple", "Note-MRC-complex"),
    "NER": ("Note-NER",),
    "Gender": ("Note-Gender",),
    "CHLW": ("Note-CHLW",),
    "QueryGen": ("Note-QueryGen",),
}
FILES = tuple(file for files in TASKS.values() for file in files)
_QUERY_GEN = "Note-QueryGen"

_FIELDS: dict[str, tuple[str, ...]] = {
    "Note-Taxonomy-single": ("content", "candidates"),
    "Note-Taxonomy-multiple": ("content", "candidates_primary", "candidates_secondary", "candidates_tertiary"),
    "Note-Hashtag-single": ("content", "candidates"),
    "Note-Hashtag-multiple": ("content", "candidates"),
    "Note-QueryCorr-explain": ("sentence1", "sentence2"),
    "Note-QueryCorr-topic": ("content",),
    "Note-MRC-simple": ("query", "content"),
    "Note-MRC-complex": ("content",),
    "Note-NER": ("question", "content"),
    "Note-Gender": ("content",),
    "Note-CHLW": ("content",),
    "Note-QueryGen": ("content",),
}
# The post of an item, and files whose answers are texts; other answers are labels, or words of the post.
_POSTS = ("content", "sentence2")
_WRITTEN = ("Note-MRC-simple", "Note-MRC-complex", "Note-QueryGen")


class SnsBench(Benchmark):
    """A folder of the benchmark's files. `prompts`: a copy of the published code, for its prompts instead of ours."""

    name = "sns_bench"

    def __init__(
        self,
        folder: Path,
        *,
        scorer: Scorer = "fixed",
        prompts: Path | None = None,
        shots: int | None = None,
        embedding: SentenceModel | None = None,
    ) -> None:
        self.folder, self.scorer, self.shots, self.embedding = folder, scorer, shots, embedding
        self.tasks = tuple(file for file in FILES if (folder / f"{file}.json").is_file())
        if not self.tasks:
            raise RedoneError(f"{folder}: none of SNS-Bench's files is here ({FILES[0]}.json, ...)")
        published = None if prompts is None else published_prompts(prompts)
        self._prompts = own_prompts() if published is None else {file: published[file.lower()] for file in FILES}
        self._columns: dict[tuple[str, str], dict[str, float]] = {}

    def items(self, task: str) -> list[Item]:
        if task not in self.tasks:
            raise RedoneError(
                f"{self.name}: {task!r} is not among the files of {self.folder}; {did_you_mean(task, self.tasks)}"
            )
        return read_items(self.folder / f"{task}.json", task, self._messages)

    def score(self, items: Sequence[Item], answers: Sequence[str]) -> TaskScore:
        return score(items, answers, self.scorer, self.embedding, known=self._columns)

    def texts(self, item: Item) -> dict[str, str]:
        row = item.meta["row"]
        written = (*_POSTS, "answer") if item.task in _WRITTEN else _POSTS
        said = {name: row[name] for name in written if name in row}
        return {name: "\n".join(text) if isinstance(text, list) else str(text) for name, text in said.items()}

    def _messages(self, task: str, row: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
        return self._prompts[task].messages(row, shots=self.shots)


def file_of(path: Path) -> str:
    """Which of the twelve files a path is, by its name: Note-NER.json, Note-NER.dev.json, note_ner_part2.json."""
    name = path.name.lower().replace("_", "-")
    named = [file for file in FILES if file.lower() in name]
    if not named:
        raise RedoneError(
            f"{path}: its name holds that of no file of SNS-Bench; give it by --task ({', '.join(FILES)})"
        )
    return max(named, key=len)


def read_items(
    path: Path, task: str, messages: Callable[[str, Mapping[str, Any]], tuple[dict[str, str], ...]] | None = None
) -> list[Item]:
    """The items of a file, in its order. Items of the same post have the same `group`, across files."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RedoneError(f"{path}: {error}") from None
    if not isinstance(rows, list) or not rows:
        raise RedoneError(f"{path}: a list of items is needed")
    items, times = [], dict[str, int]()
    for index, row in enumerate(rows):
        _check(path, index, task, row)
        name = digest(json.dumps(row, sort_keys=True, ensure_ascii=False))
        times[name] = times.get(name, 0) + 1
        again = f"-{times[name]}" if times[name] > 1 else ""
        post = str(row.get("content", row.get("sentence2")))
        meta = {"index": index, "group": digest(post), "row": row}
        asked = () if messages is None else messages(task, row)
        items.append(Item(f"{task}-{name}{again}", task, SnsBench.name, asked, row["answer"], meta))
    return items


def _check(path: Path, index: int, task: str, row: Any) -> None:
    where = f"{path}: item {index}"
    if not isinstance(row, dict):
        raise RedoneError(f"{where}: an object is needed")
    for name in (*_FIELDS[task], "answer"):
        if name not in row:
            raise RedoneError(f"{where}: field {name!r} is missing; {task} has {', '.join(_FIELDS[task])}, answer")
    if task == "Note-MRC-simple":
        if not isinstance(row["answer"], list) or not all(isinstance(part, str) for part in row["answer"]):
            raise RedoneError(f"{where}: answer: a list of texts is needed")
    elif not isinstance(row["answer"], str):
        raise RedoneError(f"{where}: answer: a text is needed")
    allowed = {"Note-QueryCorr-topic": official.LEVELS}.get(task, ())
    if allowed and row["answer"] not in allowed:
        raise RedoneError(f"{where}: answer {row['answer']!r}: one of {', '.join(allowed)} is needed")


def score(
    items: Sequence[Item],
    answers: Sequence[str],
    scorer: Scorer,
    embedding: SentenceModel | None = None,
    *,
    known: dict[tuple[str, str], dict[str, float]] | None = None,
) -> TaskScore:
    """What answers to items of one file score, beside the best trivial answer and the gold answers."""
    task = one_task(items, answers)
    rule, rows, notes = SCORERS[scorer][task], [item.meta["row"] for item in items], []
    if task == _QUERY_GEN:
        notes.append(
            f"cosine by {embedding.name} ({embedding.pooling} pooling)"
            if embedding
            else "no cosine, and so no score: no sentence-embedding model was given (--embedding FOLDER)"
        )
    known = {} if known is None else known

    def scored(texts: Sequence[str]) -> TaskScore:
        values = []
        for item, row, text in zip(items, rows, texts, strict=True):
            key = (item.id, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
            if key not in known:
                known[key] = rule.measure(row, text)
            values.append(known[key])
        columns = {name: np.array([value.get(name, 0.0) for value in values], dtype=float) for name in values[0]}
        if task == _QUERY_GEN and embedding is not None:
            asked = [official.query(text) if scorer == "official" else fixed.query(text) for text in texts]
            columns["cosine"] = embedding.cosines(asked, [str(row["answer"]) for row in rows])
            columns["item_score"] = (columns["cosine"] + columns["anls"]) / 2
        return TaskScore(task, scorer, columns, rule.combine)

    floor, floor_rule = _random(task, rows), "a candidate at random"
    for name, texts in trivial_answers(task, rows).items():
        value = scored(texts).score
        if value is not None and (floor is None or value > floor):
            floor, floor_rule = value, name
    ours = scored(answers)
    raises = ours.parts.get("published_raises")
    if raises:
        notes.append(
            "the published code raises an error on these answers (published_raises); it counts as nothing here"
        )
    return TaskScore(
        task,
        scorer,
        ours.columns,
        rule.combine,
        trivial=floor,
        trivial_rule="" if floor is None else floor_rule,
        ceiling=scored([gold_answer(row) for row in rows]).score,
        notes=tuple(notes),
    )


def gold_answer(row: Mapping[str, Any]) -> str:
    """The gold of a row as a model would write it."""
    gold = row["answer"]
    return gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False)


def trivial_answers(task: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Answers that take no understanding, by name: the same for every item, or a copy of the input."""
    n = len(rows)
    match task:
        case "Note-Hashtag-multiple":
            return {"all candidates": [str(row["candidates"]) for row in rows]}
        case "Note-QueryCorr-explain" | "Note-Gender":
            return {f"always {word}": [word] * n for word in ("Yes", "No")}
        case "Note-QueryCorr-topic":
            return {f"always {level}": [level] * n for level in official.LEVELS}
        case "Note-MRC-simple":
            return {"always []": ["[]"] * n, "the whole note": [_copied(row) for row in rows]}
        case "Note-MRC-complex":
            return {"always []": ["<Result>[]</Result>"] * n}
        case "Note-NER":
            return {"the whole text": [str(row["content"]) for row in rows]}
        case "Note-CHLW":
            return {"always []": ["[]"] * n, "all that is offered": [_offered(row) for row in rows]}
        case "Note-QueryGen":
            return {"the title": [_title(row) for row in rows]}
    return {}


def _random(task: str, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The expected accuracy of a random candidate."""
    if task in ("Note-Taxonomy-single", "Note-Hashtag-single"):
        return 100 * float(np.mean([1 / len(fixed.candidates(row)) for row in rows]))
    if task == "Note-Taxonomy-multiple":
        sizes = [[len(options) for options in fixed.levels(row) or ()] for row in rows]
        return 100 * float(np.mean([1 / math.prod(size) if size else 0.0 for size in sizes]))
    return None


def _copied(row: Mapping[str, Any]) -> str:
    return json.dumps([re.sub(r"[\[\]]", "", str(row["content"]))], ensure_ascii=False)


def _offered(row: Mapping[str, Any]) -> str:
    match = re.search(r"options list:\s*(\[.*?\])\s*\n", str(row["content"]), re.DOTALL)
    return match[1] if match else "[]"


def _title(row: Mapping[str, Any]) -> str:
    match = re.search(r"Title: (.*?),? *(?:\n|$)", str(row["content"]))
    return match[1] if match else ""


def averages(scores: Mapping[str, float | None]) -> dict[str, Any]:
    """The average as the paper takes it, and without CHLW, from scores by file; None where a file has no score.

    >>> averages({"Note-NER": 40.0, "Note-CHLW": 70.0})["average"] is None
    True
    >>> averages({file: 70.0 if file == "Note-CHLW" else 30.0 for file in FILES})["without_chlw"]
    30.0
    """
    tasks = {task: _plain_mean([scores.get(file) for file in files]) for task, files in TASKS.items()}
    return {
        "tasks": tasks,
        "average": _plain_mean(list(tasks.values())),
        "without_chlw": _plain_mean([value for task, value in tasks.items() if task != "CHLW"]),
        "without_querygen": _plain_mean([value for task, value in tasks.items() if task != "QueryGen"]),
        "without_both": _plain_mean([value for task, value in tasks.items() if task not in ("CHLW", "QueryGen")]),
    }


def _plain_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def digest(text: str) -> str:
    """A name for a text, the same in every subset of a file."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
