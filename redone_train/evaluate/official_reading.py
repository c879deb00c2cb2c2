"""The published scoring of SNS-Bench's two reading files, and of its lists: see official.py."""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from redone_train.evaluate.items import Columns, Row
from redone_train.evaluate.literal import MAX_CHARACTERS, NotLiteralError, literal
from redone_train.evaluate.overlap import NothingToCompareError, bleu_4, cut, rouge, without_emoji

_FLAT_LIST = re.compile(r"\[[^\[\]]*\]", re.DOTALL)
_DROPPED = frozenset(":_`，。：？！()“”；’《》·、,「」（）－～『』|")
_CHINESE = re.compile(
    "[\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f"
    "\U0002b820-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f=]"
)


def spans(answer: str) -> Any:
    """What `eval` gives for the first "[...]" without brackets inside, or for the whole answer."""
    match = _FLAT_LIST.search(answer)
    return literal(match[0] if match else answer)


def success(columns: Columns) -> float:
    """The share of answers that could be read, in 0-100."""
    parsed = columns["parsed"]
    return (1 - int((parsed == 0).sum()) / len(parsed)) * 100


def reading(row: Row, answer: str) -> dict[str, float]:
    """Note-MRC-simple: is there an answer where there should be, and how alike are the passages."""
    names = ("tp", "tn", "fp", "fn", "blue", "rouge-1", "rouge-2", "rouge-L", "raises")
    values = {"parsed": 0.0, **dict.fromkeys(names, 0.0)}
    try:
        written = "\n".join(spans(answer)).strip()
    except (NotLiteralError, TypeError):
        return values
    expected = "".join(row["answer"])
    kind = ("tp" if expected else "fp") if written else ("fn" if expected else "tn")
    values |= {"parsed": 1.0, kind: 1.0}
    if kind == "tp":
        values |= _alike(written, expected)
    return values


def _alike(written: str, expected: str) -> dict[str, float]:
    if len(written) > MAX_CHARACTERS:
        return {"raises": 1.0}
    ours, theirs = (cut(without_emoji(text.replace("\n", "").replace("\ufffd", ""))) for text in (written, expected))
    try:
        values = rouge(" ".join(ours), " ".join(theirs))
    except NothingToCompareError:
        return {"raises": 1.0}
    return {
        "blue": bleu_4(ours, theirs),
        "rouge-1": values["rouge-1"],
        "rouge-2": values["rouge-2"],
        "rouge-L": values["rouge-l"],
    }


def reading_score(columns: Columns) -> dict[str, float]:
    """The mean of existence F1, BLEU and three ROUGE, each times the share that could be read."""
    counts = {name: int(columns[name].sum()) for name in ("tp", "fp", "fn", "tn")}
    precision = counts["tp"] / (counts["tp"] + counts["fp"] + 0.0001)
    recall = counts["tp"] / (counts["tp"] + counts["fn"] + 0.0001)
    f1 = 2 * precision * recall / (precision + recall + 0.0001)
    share, compared = success(columns), columns["tp"] == 1
    parts = {"success-f1": share * f1}
    for name in ("blue", "rouge-1", "rouge-2", "rouge-L"):
        parts[f"success-{name}"] = share * float(np.mean(columns[name][compared])) if compared.any() else 0.0
    score = sum(parts.values()) / len(parts)
    return {"score": score, "success-ratio": share, **parts, "published_raises": float(columns["raises"].sum())}


def _listed(text: str) -> dict[str, str] | None:
    """Option -> reason of the last <Result>; None when it is not a list of both."""
    found_text = _last_result(text) if len(text) <= MAX_CHARACTERS else None
    if found_text is None:
        return None
    try:
        items = json.loads(found_text.strip().lstrip("`json").rstrip("`"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list):
        return None
    found = {}
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("Option"), str):
            return None
        if not isinstance(item.get("Reason"), str):
            return None
        found[item["Option"]] = item["Reason"]
    return found


def _last_result(text: str) -> str | None:
    """The last match of the published pattern (?<=<Result>).+?(?=</Result>), in one pass."""
    found, start = None, text.find("<Result>")
    while start >= 0:
        start += len("<Result>")
        end = text.find("</Result>", start + 1)
        if end < 0:
            break
        found, start = text[start:end], text.find("<Result>", end - len("<Result>"))
    return found


_COMPLEX = ("option-f1", "option-em", "option-precision", "option-recall")
_REASON = ("reason-f1", "reason-em", "reason-precision", "reason-recall")


def options(row: Row, answer: str) -> dict[str, float]:
    """Note-MRC-complex: are there options where there should be, and how near are those given to the golds."""
    gold, given = _listed(str(row["answer"])), _listed(answer)
    values = dict.fromkeys(("parsed", "tp", "tn", "fp", "fn", *_COMPLEX, *_REASON), 0.0)
    if gold is None or given is None:
        return values
    kind = ("tp" if gold else "fp") if given else ("fn" if gold else "tn")
    values |= {"parsed": 1.0, kind: 1.0}
    if kind == "tn":
        values |= dict.fromkeys((*_COMPLEX, *_REASON), 1.0)
    if kind == "tp":
        values |= dict(zip(_COMPLEX, _against(list(given), list(gold), 0.8), strict=True))
        values |= dict(zip(_REASON, _against(list(given.values()), list(gold.values()), 0.5), strict=True))
    return values


def _against(given: Sequence[str], gold: Sequence[str], threshold: float) -> tuple[float, float, float, float]:
    """The mean over what was given of the best F1 and the exact match; precision and recall by a threshold on F1.

    What was missed costs nothing in the first two: one right option of ten scores in full.
    """
    ours, theirs = [_normalized(text) for text in given], [_normalized(text) for text in gold]
    table_OT = np.array([[_segment_f1(_segments(one), _segments(other)) for other in theirs] for one in ours])
    exact = float(np.mean([one in theirs for one in ours]))
    near = table_OT > threshold
    hits, missed = int(near.any(axis=1).sum()), int((~near.any(axis=0)).sum())
    precision, recall = (hits / len(ours), hits / (hits + missed)) if hits else (0.0, 0.0)
    return float(np.mean(table_OT.max(axis=1))), exact, precision, recall


def _normalized(text: str) -> str:
    return "".join(character for character in text.lower() if character not in _DROPPED)


def _segments(text: str) -> list[str]:
    """Chinese characters and "=" one by one; whatever stands between two of them, a whole English text, is one."""
    segments, start = [], 0
    for match in _CHINESE.finditer(text):
        segments += [text[start : match.start()]] * (match.start() > start) + [match[0]]
        start = match.end()
    return segments + [text[start:]] * (len(text) > start)


def _segment_f1(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """By the longest common run of segments."""
    if not set(ours) & set(theirs):
        return 0.0
    longest, row = 0, [0] * (len(theirs) + 1)
    for segment in ours:
        row = [0, *(row[at] + 1 if segment == other else 0 for at, other in enumerate(theirs))]
        longest = max(longest, max(row))
    precision, recall = longest / len(ours), longest / len(theirs)
    return (2 * precision * recall) / (precision + recall)


def options_score(columns: Columns) -> dict[str, float]:
    """The mean of existence F1, option F1 and exact match, each times the share that could be read."""
    tp, fp, fn = (int(columns[name].sum()) for name in ("tp", "fp", "fn"))
    precision = tp / (tp + fp) if tp + fp else -1
    recall = tp / (tp + fn) if tp + fn else -1
    f1 = 2 * precision * recall / (precision + recall) if tp else 0.0
    raises = not tp and fp and fn  # it divides by zero: options where none should be, none where some should
    share, parsed = success(columns), columns["parsed"] == 1
    parts = {"success-total-f1": share * f1}
    for name in ("option-f1", "option-em", "reason-f1", "reason-em"):
        parts[f"success-{name}"] = share * float(np.mean(columns[name][parsed])) if parsed.any() else 0.0
    score = (parts["success-total-f1"] + parts["success-option-f1"] + parts["success-option-em"]) / 3
    for name in ("option-precision", "option-recall", "reason-precision", "reason-recall"):
        parts[name] = 100 * float(np.mean(columns[name][parsed])) if parsed.any() else 0.0
    return {"score": score, "success-ratio": share, **parts, "published_raises": float(bool(raises))}
