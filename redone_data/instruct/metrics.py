"""What an answer scores, one by one and over a set; preference pairs and evaluation use the same.

An answer that its format could not read scores 0 and is never left out; how many could be read is told apart
(:func:`parse_rate`). BLEU and chrF are sacreBLEU's (their signature: :func:`signature`), the rest is a few lines each.
Chinese text is scored by characters, as sacreBLEU's own zh tokenizer does.
"""

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.conversation import Answer

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_TOKEN = re.compile(r"[\u3400-\u9fff\u3040-\u30ff]|[^\W_]+")
_SENTENCE = {"exact_match", "accuracy", "macro_f1", "set_f1", "token_f1", "rouge_l", "bleu", "chrf"}
METRICS = tuple(sorted(_SENTENCE))


def check_metric(metric: str) -> None:
    """A metric is one of :data:`METRICS`, or FIELD:METRIC for one field of an answer with several."""
    name = metric.rpartition(":")[2]
    if name not in METRICS:
        raise RedoneError(f"metric: {metric!r} is unknown; {did_you_mean(name, METRICS)}")


def score(metric: str, parsed: Answer | None, gold: Answer) -> float:
    """What one answer scores, in [0, 1]; an answer that could not be read (None) scores 0.

    >>> score("accuracy", "joy", "joy"), score("set_f1", ["tea", "cake"], ["tea"]), score("verdict:accuracy", None, {})
    (1.0, 0.6666666666666666, 0.0)
    """
    name, parsed, gold = _field(metric, parsed, gold)
    if parsed is None:
        return 0.0
    if name in ("exact_match", "accuracy", "macro_f1"):
        return float(type(parsed) is type(gold) and parsed == gold)
    if name == "set_f1":
        return _f1(*_overlap(_set(parsed), _set(gold)))
    written, expected = _as_text(parsed), _as_text(gold)
    if name == "token_f1":
        ours, theirs = tokens(written), tokens(expected)
        shared = (Counter(ours) & Counter(theirs)).total()
        return _f1(shared, len(ours) - shared, len(theirs) - shared)
    if name == "rouge_l":
        ours, theirs = tokens(written), tokens(expected)
        common = _longest_common(ours, theirs)
        return _f1(common, len(ours) - common, len(theirs) - common)
    scorer = _sacrebleu(name, _tokenizer([expected]), "sentence")
    return min(1.0, float(scorer.sentence_score(written, [expected]).score) / 100)


def aggregate(metric: str, parsed_N: Sequence[Answer | None], golds_N: Sequence[Answer]) -> float:
    """What a set of answers scores, in [0, 1].

    accuracy, exact_match, token_f1 and rouge_l are means; macro_f1 is the mean F1 of the classes among the golds;
    set_f1 is micro: over all labels of all answers; bleu and chrf are of the corpus.
    """
    if len(parsed_N) != len(golds_N):
        raise ValueError(f"{len(parsed_N)} answers for {len(golds_N)} golds")
    if not golds_N:
        raise RedoneError(f"metric {metric}: there are no answers to score")
    rows = [_field(metric, parsed, gold)[1:] for parsed, gold in zip(parsed_N, golds_N, strict=True)]
    name = metric.rpartition(":")[2]
    if name == "macro_f1":
        classes = sorted({_key(gold) for _, gold in rows})
        return statistics.fmean(_class_f1(rows, name_of_class) for name_of_class in classes)
    if name == "set_f1":
        counts = [_overlap(set() if parsed is None else _set(parsed), _set(gold)) for parsed, gold in rows]
        return _f1(*(sum(column) for column in zip(*counts, strict=True)))
    if name in ("bleu", "chrf"):
        written = ["" if parsed is None else _as_text(parsed) for parsed, _ in rows]
        expected = [_as_text(gold) for _, gold in rows]
        corpus = _sacrebleu(name, _tokenizer(expected), "corpus").corpus_score(written, [expected])
        return min(1.0, float(corpus.score) / 100)
    return statistics.fmean(score(name, parsed, gold) for parsed, gold in rows)


def parse_rate(parsed_N: Sequence[Answer | None]) -> float:
    """The share of answers that could be read."""
    if not parsed_N:
        raise RedoneError("parse rate: there are no answers")
    return sum(parsed is not None for parsed in parsed_N) / len(parsed_N)


def signature(metric: str, golds_N: Sequence[Answer]) -> str:
    """How sacreBLEU computed a corpus score, in its own words: state it beside the score."""
    expected = [_as_text(_field(metric, None, gold)[2]) for gold in golds_N]
    scorer = _sacrebleu(metric.rpartition(":")[2], _tokenizer(expected), "corpus")
    scorer.corpus_score(expected, [expected])  # only then does it know the number of references
    return str(scorer.get_signature())


def tokens(text: str) -> list[str]:
    """Chinese and Japanese characters one by one, words of other scripts in lower case; no punctuation.

    >>> tokens("今天 so happy!")
    ['今', '天', 'so', 'happy']
    """
    return _TOKEN.findall(text.lower())


def _field(metric: str, parsed: Answer | None, gold: Answer) -> tuple[str, Any, Any]:
    name, _, kind = metric.rpartition(":")
    if kind not in _SENTENCE:
        check_metric(metric)
    if not name:
        return kind, parsed, gold
    inner = parsed.get(name) if isinstance(parsed, dict) else None
    return kind, inner, gold.get(name) if isinstance(gold, dict) else gold


def _set(answer: Any) -> set[str]:
    return set(answer) if isinstance(answer, list | tuple) else {str(answer)}


def _overlap(ours: set[str], theirs: set[str]) -> tuple[int, int, int]:
    return len(ours & theirs), len(ours - theirs), len(theirs - ours)


def _f1(hits: int, extra: int, missed: int) -> float:
    """2 TP / (2 TP + FP + FN); nothing to find and nothing found is right."""
    total = 2 * hits + extra + missed
    return 2 * hits / total if total else 1.0


def _key(answer: Any) -> str:
    return repr(answer)


def _class_f1(rows: Sequence[tuple[Any, Any]], key: str) -> float:
    hits = sum(parsed is not None and _key(parsed) == key == _key(gold) for parsed, gold in rows)
    given = sum(parsed is not None and _key(parsed) == key for parsed, _ in rows)
    there = sum(_key(gold) == key for _, gold in rows)
    return _f1(hits, given - hits, there - hits)


def _as_text(answer: Any) -> str:
    return "\n".join(map(str, answer)) if isinstance(answer, list | tuple) else str(answer)


def _tokenizer(texts: Sequence[str]) -> str:
    """sacreBLEU's tokenizer: zh where most texts have Chinese characters."""
    return "zh" if 2 * sum(_CHINESE.search(text) is not None for text in texts) > len(texts) else "13a"


def _longest_common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """The length of the longest common subsequence, all of a row of the table in one integer (Hyyro 2004)."""
    places: dict[str, int] = {}
    for place, token in enumerate(ours):
        places[token] = places.get(token, 0) | 1 << place
    row = full = (1 << len(ours)) - 1
    for token in theirs:
        hits = row & places.get(token, 0)
        row = (row + hits | row - hits) & full
    return len(ours) - row.bit_count()


@lru_cache(maxsize=8)
def _sacrebleu(name: str, tokenizer: str, unit: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    if name == "chrf":
        return CHRF(word_order=2)
    # A sentence may be shorter than four words.
    return BLEU(tokenize=tokenizer, effective_order=unit == "sentence")
