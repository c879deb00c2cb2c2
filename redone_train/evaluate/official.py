"""The published SNS-Bench scorer, bug for bug, without its `eval`: to compare with published tables.

Written from github HC-Guo/SNS-Bench at fbe9840 (the OpenCompass post-processors, evaluators and dataset classes of the
twelve files) and equal to it on every output of benchmarks/official_scorer.py. What an answer can contain that the
published code cannot score (it raises) counts as nothing here and is counted in `published_raises`. docs/evaluation.md
lists its traps; `fixed` is without them.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

from redone_train.evaluate.items import Columns, Measure, Row, Rule
from redone_train.evaluate.literal import MAX_CHARACTERS, NotLiteralError, literal
from redone_train.evaluate.official_reading import options, options_score, reading, reading_score, spans, success
from redone_train.evaluate.overlap import edit_distance

LEVELS = ("-1", "0", "1", "2", "3")
_LABEL_END = re.compile(r"[\n.,]|<|endofresponse|>|<|end|>|<|im_end|>")
_YES_NO_END = re.compile(r"[\n.,]|<|endofresponse|>")
_LINE_END = re.compile(r"[\n]|<|endofresponse|>")


def label(text: str, end: re.Pattern[str] = _LABEL_END) -> str:
    """Up to the first newline, full stop, comma, "<", ">" or "end".

    >>> label("Answer: Weekend Trips")
    'Week'
    """
    return end.split(text.replace("Answer:", "").strip(), maxsplit=1)[0].strip()


def labels(text: str) -> list[str]:
    """The first line cut at commas; " " between two of them is a label, "" is none."""
    line = _LINE_END.split(text.replace("Answer:", "").strip(), maxsplit=1)[0]
    return [part.strip() for part in line.split(",") if part]


def _accuracy(end: re.Pattern[str], options: Callable[[Row], Sequence[str]]) -> Measure:
    def measure(row: Row, answer: str) -> dict[str, float]:
        given = label(answer, end)
        return {"parsed": given in options(row), "item_score": 100.0 * (given == row["answer"])}

    return measure


def _candidates(row: Row) -> list[str]:
    return str(row["candidates"]).split(", ")


def _yes_or_no(row: Row) -> Sequence[str]:
    return "Yes", "No"


def _path(row: Row, answer: str) -> dict[str, float]:
    given = _general(label(answer))
    right = given in (_general(str(row["answer"])), row["answer"])
    return {"parsed": answer.count("|") == 2, "item_score": 100.0 * right}


def _general(text: str) -> str:
    """OpenCompass's "general" post-processor: no punctuation (so no "|"), no articles."""
    first = re.split(r"[\n.,]", text, maxsplit=1)[0]
    words = re.sub(r"\b(a|an|the)\b", "", re.sub(r"[^\w\s]", "", first), flags=re.IGNORECASE)
    return re.sub(r"\s+", " ", words).strip()


def _set_counts(row: Row, answer: str) -> dict[str, float]:
    ours, theirs = set(labels(answer)), set(labels(str(row["answer"])))
    return {"parsed": bool(ours), "hits": len(ours & theirs), "given": len(ours), "gold": len(theirs)}


def _mean(columns: Columns) -> dict[str, float]:
    # As scikit-learn: the share first, then times 100.
    return {"score": float(np.mean(columns["item_score"] / 100.0)) * 100}


def _share(columns: Columns) -> dict[str, float]:
    return {"score": float(np.sum(columns["item_score"] == 100.0)) / len(columns["item_score"]) * 100}


def _rounded_f1(columns: Columns) -> tuple[float, float, float]:
    hits, given, gold = (int(columns[name].sum()) for name in ("hits", "given", "gold"))
    return (
        round(hits * 2 / (given + gold + 0.0001), 4),
        round(hits / (given + 0.0001), 4),
        round(hits / (gold + 0.0001), 4),
    )


def _set_f1(columns: Columns) -> dict[str, float]:
    f1, precision, recall = _rounded_f1(columns)
    return {"score": f1 * 100, "precision": precision * 100, "recall": recall * 100}


def _topic(row: Row, answer: str) -> dict[str, float]:
    found = re.search(r"(-1|0|1|2|3)", answer)
    level = LEVELS.index(found[0]) if found else -1
    return {"parsed": found is not None, "given": level, "gold": LEVELS.index(str(row["answer"]))}


def _macro_f1(columns: Columns) -> dict[str, float]:
    parsed, given, gold = columns["parsed"] > 0, columns["given"], columns["gold"]
    success = 1 - int((~parsed).sum()) / len(parsed)
    parts, f1s = {"success-ratio": success * 100}, []
    for number, level in enumerate(LEVELS):
        hits = int((parsed & (given == number) & (gold == number)).sum())
        precision = hits / (int((parsed & (given == number)).sum()) + 1e-5) * 100
        recall = hits / (int((parsed & (gold == number)).sum()) + 1e-5) * 100
        f1s.append(2 * precision * recall / (precision + recall + 1e-5))
        parts[f"level({level})-f1"] = f1s[-1]
    return {"score": float(np.mean(f1s)) * success, **parts}


def _highlights(row: Row, answer: str) -> dict[str, float]:
    try:
        gold, given = literal(str(row["answer"])) or [""], spans(answer)
    except NotLiteralError:
        given = None
    if not isinstance(given, list) or not all(isinstance(span, str) for span in given):
        return {"parsed": 0, "hits": 0, "given": 0, "gold": 0}
    ours, theirs = set(given or [""]), set(gold)
    return {"parsed": 1, "hits": len(ours & theirs), "given": len(ours), "gold": len(theirs)}


def _success_f1(columns: Columns) -> dict[str, float]:
    f1, precision, recall = _rounded_f1(columns)
    share = success(columns)
    parts = {"f1": f1 * 100, "precision": precision * 100, "recall": recall * 100}
    return {"score": share * f1, "success-ratio": share, **parts}


def query(answer: str) -> str:
    """What the published code embeds; its edit distance takes the whole answer."""
    return _LINE_END.split(answer.strip(), maxsplit=1)[0]


def _query(row: Row, answer: str) -> dict[str, float]:
    expected, written = str(row["answer"]), answer[:MAX_CHARACTERS]
    longer = max(len(written), len(expected))
    anls = 100 * (1.0 - edit_distance(written, expected) / longer) if longer else 0.0
    return {"parsed": bool(query(answer).strip()), "anls": anls, "raises": not longer}


def _query_score(columns: Columns) -> dict[str, float]:
    cosine = columns.get("cosine", np.full_like(columns["anls"], np.nan))
    parts = {"anls": float(np.mean(columns["anls"])), "cosine": float(np.mean(cosine))}
    score = float(np.mean((cosine + columns["anls"]) / 2))
    return {"score": score, **parts, "published_raises": float(columns["raises"].sum())}


RULES: dict[str, Rule] = {
    "Note-Taxonomy-single": Rule(_accuracy(_LABEL_END, _candidates), _mean),
    "Note-Taxonomy-multiple": Rule(_path, _share),
    "Note-Hashtag-single": Rule(_accuracy(_LABEL_END, _candidates), _mean),
    "Note-Hashtag-multiple": Rule(_set_counts, _set_f1),
    "Note-QueryCorr-explain": Rule(_accuracy(_YES_NO_END, _yes_or_no), _mean),
    "Note-QueryCorr-topic": Rule(_topic, _macro_f1),
    "Note-MRC-simple": Rule(reading, reading_score),
    "Note-MRC-complex": Rule(options, options_score),
    "Note-NER": Rule(_set_counts, _set_f1),
    "Note-Gender": Rule(_accuracy(_YES_NO_END, _yes_or_no), _mean),
    "Note-CHLW": Rule(_highlights, _success_f1),
    "Note-QueryGen": Rule(_query, _query_score),
}
