"""The published SNS-Bench scorer, bug for bug, without its `eval`: to compare with published tables.

Written from github HC-Guo/SNS-Bench at fbe9840 (the OpenCompass post-processors, evaluators and dataset classes of the
twelve files) and equal to it on every output of benchmarks/official_scorer.py. What an answer can contain that the
published code cannot score (it raises) counts as nothing here and is counted in `published_raises`. docs/evaluation.md
lists its traps; `fixed` is without them.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_train.evaluate.items import Columns, Combine
from redone_train.evaluate.literal import MAX_CHARACTERS, NotLiteralError, literal
from redone_train.evaluate.overlap import NothingToCompareError, bleu_4, cut, edit_distance, rouge, without_emoji

Row = Mapping[str, Any]
Measure = Callable[[Row, str], dict[str, float]]
Array = npt.NDArray[np.float64]

LEVELS = ("-1", "0", "1", "2", "3")
_LABEL_END = re.compile(r"[\n.,]|<|endofresponse|>|<|end|>|<|im_end|>")
_YES_NO_END = re.compile(r"[\n.,]|<|endofresponse|>")
_LINE_END = re.compile(r"[\n]|<|endofresponse|>")
_FLAT_LIST = re.compile(r"\[[^\[\]]*\]", re.DOTALL)
_DROPPED = frozenset(":_`，。：？！()“”；’《》·、,「」（）－～『』|")
_CHINESE = re.compile(
    "[\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f"
    "\U0002b820-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f=]"
)


@dataclass(frozen=True)
class Rule:
    """How a file is scored: numbers of one answer, and the parts (`score` among them) of many."""

    measure: Measure
    combine: Combine


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


def _spans(answer: str) -> Any:
    match = _FLAT_LIST.search(answer)
    return literal(match[0] if match else answer)


def _highlights(row: Row, answer: str) -> dict[str, float]:
    try:
        gold, given = literal(str(row["answer"])) or [""], _spans(answer)
    except NotLiteralError:
        given = None
    if not isinstance(given, list) or not all(isinstance(span, str) for span in given):
        return {"parsed": 0, "hits": 0, "given": 0, "gold": 0}
    ours, theirs = set(given or [""]), set(gold)
    return {"parsed": 1, "hits": len(ours & theirs), "given": len(ours), "gold": len(theirs)}


def _success_f1(columns: Columns) -> dict[str, float]:
    f1, precision, recall = _rounded_f1(columns)
    success = _success(columns)
    parts = {"f1": f1 * 100, "precision": precision * 100, "recall": recall * 100}
    return {"score": success * f1, "success-ratio": success, **parts}


def _success(columns: Columns) -> float:
    parsed = columns["parsed"]
    return (1 - int((parsed == 0).sum()) / len(parsed)) * 100


def _reading(row: Row, answer: str) -> dict[str, float]:
    names = ("tp", "tn", "fp", "fn", "blue", "rouge-1", "rouge-2", "rouge-L", "raises")
    values = {"parsed": 0.0, **dict.fromkeys(names, 0.0)}
    try:
        written = "\n".join(_spans(answer)).strip()
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


def _reading_score(columns: Columns) -> dict[str, float]:
    counts = {name: int(columns[name].sum()) for name in ("tp", "fp", "fn", "tn")}
    precision = counts["tp"] / (counts["tp"] + counts["fp"] + 0.0001)
    recall = counts["tp"] / (counts["tp"] + counts["fn"] + 0.0001)
    f1 = 2 * precision * recall / (precision + recall + 0.0001)
    success, compared = _success(columns), columns["tp"] == 1
    parts = {"success-f1": success * f1}
    for name in ("blue", "rouge-1", "rouge-2", "rouge-L"):
        parts[f"success-{name}"] = success * float(np.mean(columns[name][compared])) if compared.any() else 0.0
    score = sum(parts.values()) / len(parts)
    return {"score": score, "success-ratio": success, **parts, "published_raises": float(columns["raises"].sum())}


def _options(text: str) -> dict[str, str] | None:
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


def _options_measure(row: Row, answer: str) -> dict[str, float]:
    gold, given = _options(str(row["answer"])), _options(answer)
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


def _options_score(columns: Columns) -> dict[str, float]:
    tp, fp, fn = (int(columns[name].sum()) for name in ("tp", "fp", "fn"))
    precision = tp / (tp + fp) if tp + fp else -1
    recall = tp / (tp + fn) if tp + fn else -1
    f1 = 2 * precision * recall / (precision + recall) if tp else 0.0
    raises = not tp and fp and fn  # it divides by zero: options where none should be, none where some should
    success, parsed = _success(columns), columns["parsed"] == 1
    parts = {"success-total-f1": success * f1}
    for name in ("option-f1", "option-em", "reason-f1", "reason-em"):
        parts[f"success-{name}"] = success * float(np.mean(columns[name][parsed])) if parsed.any() else 0.0
    score = (parts["success-total-f1"] + parts["success-option-f1"] + parts["success-option-em"]) / 3
    for name in ("option-precision", "option-recall", "reason-precision", "reason-recall"):
        parts[name] = 100 * float(np.mean(columns[name][parsed])) if parsed.any() else 0.0
    return {"score": score, "success-ratio": success, **parts, "published_raises": float(bool(raises))}


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
    "Note-MRC-simple": Rule(_reading, _reading_score),
    "Note-MRC-complex": Rule(_options_measure, _options_score),
    "Note-NER": Rule(_set_counts, _set_f1),
    "Note-Gender": Rule(_accuracy(_YES_NO_END, _yes_or_no), _mean),
    "Note-CHLW": Rule(_highlights, _success_f1),
    "Note-QueryGen": Rule(_query, _query_score),
}
