"""Our scorer of the twelve SNS-Bench files: what an answer says is read leniently and scored strictly.

Answers are read by the parsers of redone_data/instruct, which also made the training data: an option by its text in any
case, "Yes." for Yes, a list amid prose, brackets within quotes. An answer that cannot be read is wrong, never left
out, and never counted twice; how many could be read is told apart. docs/evaluation.md lists what differs from
`official`, and why.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from redone_data.instruct.answers import (
    MAX_CHARACTERS,
    ChoiceFormat,
    GradeFormat,
    LabelsFormat,
    PathFormat,
    SpansFormat,
    YesNoFormat,
)
from redone_data.instruct.metrics import score
from redone_data.instruct.wording import EDGES, fold, named
from redone_train.evaluate.items import Columns, Row, Rule
from redone_train.evaluate.literal import NotLiteralError, literal
from redone_train.evaluate.official import LEVELS
from redone_train.evaluate.overlap import edit_distance

_GRADES = GradeFormat(tuple(map(int, LEVELS)))
_YES_NO, _SPANS, _ENTITIES = YesNoFormat(), SpansFormat(), LabelsFormat()


def candidates(row: Row) -> tuple[str, ...]:
    """The options of a Taxonomy or Hashtag item. The file joins them by ", ", which some of them contain.

    >>> candidates({"candidates": "Tea, Acme Co., Ltd., Cats", "answer": "Acme Co., Ltd."})
    ('Tea', 'Acme Co., Ltd.', 'Cats')
    """
    whole = f", {row['candidates']}, "
    gold = str(row["answer"]).strip()
    if ", " in gold and f", {gold}, " in whole:
        before, _, after = whole.partition(f", {gold}, ")
        found = [*before.split(", "), gold, *after.split(", ")]
    else:
        found = whole.split(", ")
    return _tidy(found)


def _tidy(options: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for option in options if (text := " ".join(str(option).split()))))


def levels(row: Row) -> tuple[tuple[str, ...], ...] | None:
    """The options of each level of a taxonomy path; None when the file lists none or one."""
    lists = []
    for name in ("primary", "secondary", "tertiary"):
        try:
            lists.append(_tidy(literal(str(row[f"candidates_{name}"]))))
        except (NotLiteralError, TypeError):
            return None
    return tuple(lists) if min(map(len, lists)) > 1 else None


def _single(row: Row, answer: str) -> dict[str, float]:
    options = candidates(row)
    given = ChoiceFormat(options).parse(answer) if len(options) > 1 else named(answer[:MAX_CHARACTERS], options)
    return {"parsed": given is not None, "item_score": 100.0 * (given == " ".join(str(row["answer"]).split()))}


def _path(row: Row, answer: str) -> dict[str, float]:
    given = PathFormat(3, levels(row)).parse(answer)
    return {"parsed": given is not None, "item_score": 100.0 * (given == _names(str(row["answer"])))}


def _names(path: str) -> list[str]:
    return [" ".join(name.split()) for name in path.split("|")]


def _yes_no(row: Row, answer: str) -> dict[str, float]:
    given = _YES_NO.parse(answer)
    return {"parsed": given is not None, "item_score": 100.0 * (given is (row["answer"] == "Yes"))}


def _mean(columns: Columns) -> dict[str, float]:
    return {"score": float(np.mean(columns["item_score"]))}


def _hashtags(row: Row, answer: str) -> dict[str, float]:
    options = _tidy(str(row["candidates"]).split(", "))
    tags = LabelsFormat(options if len(options) > 1 else None)
    return _counts(tags.parse(answer), tags.parse(str(row["answer"])) or [])


def _entities(row: Row, answer: str) -> dict[str, float]:
    return _counts(_ENTITIES.parse(answer), _ENTITIES.parse(str(row["answer"])) or [])


def _counts(given: Sequence[str] | None, gold: Sequence[str]) -> dict[str, float]:
    ours, theirs = {fold(label) for label in given or ()}, {fold(label) for label in gold}
    counts = {"hits": len(ours & theirs), "given": len(ours), "gold": len(theirs)}
    return {"parsed": given is not None, **counts}


def _micro_f1(columns: Columns) -> dict[str, float]:
    hits, given, gold = (float(columns[name].sum()) for name in ("hits", "given", "gold"))
    return {
        "score": _percent(2 * hits, given + gold),
        "precision": _percent(hits, given),
        "recall": _percent(hits, gold),
    }


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0


def _topic(row: Row, answer: str) -> dict[str, float]:
    given = _GRADES.parse(answer)
    return {
        "parsed": given is not None,
        "given": np.nan if given is None else float(given),
        "gold": float(row["answer"]),
    }


def _macro_f1(columns: Columns) -> dict[str, float]:
    given, gold = columns["given"], columns["gold"]
    parts = {}
    for level in np.unique(gold):
        ours, theirs = given == level, gold == level
        parts[f"level({int(level)})-f1"] = _percent(2.0 * (ours & theirs).sum(), float(ours.sum() + theirs.sum()))
    return {"score": float(np.mean(list(parts.values()))), "accuracy": 100 * float(np.mean(given == gold)), **parts}


def _reading(row: Row, answer: str) -> dict[str, float]:
    given, gold = _SPANS.parse(answer), "\n".join(row["answer"])
    written = "\n".join(given or ())
    values = {"parsed": given is not None, "answerable": bool(gold.strip()), "answered": bool(written.strip())}
    if not gold.strip():
        right = 100.0 * (given is not None and not written.strip())
        return {**values, "item_score": right, "rouge-l": right}
    overlap = {name: 100 * score(name, written, gold) if written.strip() else 0.0 for name in ("token_f1", "rouge_l")}
    return {**values, "item_score": overlap["token_f1"], "rouge-l": overlap["rouge_l"]}


def _reading_score(columns: Columns) -> dict[str, float]:
    there, said = columns["answerable"] > 0, columns["answered"] > 0
    existence = _percent(2.0 * (there & said).sum(), float(there.sum() + said.sum()))
    return {**_mean(columns), "rouge-l": float(np.mean(columns["rouge-l"])), "existence-f1": existence}


def options(answer: str) -> list[str] | None:
    """The options of the last <Result> of an answer, closed or not, fenced or not; None when it lists none.

    >>> options('<Result>```json [{"Option": "Tea", "Reason": "hot"}]```')
    ['Tea']
    """
    start = answer.rfind("<Result>")
    if start < 0 or len(answer) > MAX_CHARACTERS:
        return None
    text = answer[start:].partition("</Result>")[0]
    try:
        items = json.loads(text[text.index("[") : text.rindex("]") + 1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return None
    found = [item.get("Option") for item in items]
    return [option for option in found if isinstance(option, str)] if all(isinstance(o, str) for o in found) else None


def _options(row: Row, answer: str) -> dict[str, float]:
    given, gold = options(answer), options(str(row["answer"])) or []
    counts = _counts(given, gold)
    return {**counts, "answerable": bool(gold), "answered": bool(given)}


def _options_score(columns: Columns) -> dict[str, float]:
    there, said = columns["answerable"] > 0, columns["answered"] > 0
    existence = _percent(2.0 * (there & said).sum(), float(there.sum() + said.sum()))
    silent = (columns["parsed"] > 0) & ~said & ~there
    rightly = _percent(float(silent.sum()), float((~there).sum()))
    return {**_micro_f1(columns), "existence-f1": existence, "silent-where-there-are-none": rightly}


def _highlights(row: Row, answer: str) -> dict[str, float]:
    given = _SPANS.parse(answer)
    gold = _SPANS.parse(str(row["answer"])) or []
    counts = _counts(given, gold)
    return {**counts, "silent": not gold, "rightly_silent": not gold and given is not None and not counts["given"]}


def _highlights_score(columns: Columns) -> dict[str, float]:
    """Micro-F1 of the words: an empty list is neither a word found nor a word missed, a word too many counts."""
    spoken = columns["silent"] == 0
    only = _micro_f1({name: column[spoken] for name, column in columns.items()})["score"]
    silent = _percent(float(columns["rightly_silent"].sum()), float(columns["silent"].sum()))
    return {**_micro_f1(columns), "f1-where-there-are-words": only, "silent-where-there-are-none": silent}


def query(answer: str) -> str:
    """The first line that says something, without its quotes."""
    text = re.sub(r"^\s*search term\s*[:：]", "", answer[:MAX_CHARACTERS], flags=re.IGNORECASE)
    return next((line.strip(EDGES) for line in text.splitlines() if line.strip(EDGES)), "")


def _query(row: Row, answer: str) -> dict[str, float]:
    written, expected = query(answer), str(row["answer"]).strip(EDGES)
    longer = max(len(written), len(expected), 1)
    return {"parsed": bool(written), "anls": 100 * (1 - edit_distance(written, expected) / longer)}


def _query_score(columns: Columns) -> dict[str, float]:
    cosine = columns.get("cosine", np.full_like(columns["anls"], np.nan))
    parts = {"anls": float(np.mean(columns["anls"])), "cosine": float(np.mean(cosine))}
    return {"score": (parts["anls"] + parts["cosine"]) / 2, **parts}


RULES: dict[str, Rule] = {
    "Note-Taxonomy-single": Rule(_single, _mean),
    "Note-Taxonomy-multiple": Rule(_path, _mean),
    "Note-Hashtag-single": Rule(_single, _mean),
    "Note-Hashtag-multiple": Rule(_hashtags, _micro_f1),
    "Note-QueryCorr-explain": Rule(_yes_no, _mean),
    "Note-QueryCorr-topic": Rule(_topic, _macro_f1),
    "Note-MRC-simple": Rule(_reading, _reading_score),
    "Note-MRC-complex": Rule(_options, _options_score),
    "Note-NER": Rule(_entities, _micro_f1),
    "Note-Gender": Rule(_yes_no, _mean),
    "Note-CHLW": Rule(_highlights, _highlights_score),
    "Note-QueryGen": Rule(_query, _query_score),
}
