"""How alike two texts are, to the last digit as the published SNS-Bench code counts it.

BLEU-4 is nltk's without smoothing (a text under four tokens scores nothing, gold included), ROUGE is the package
`rouge`'s (sets of n-grams; the longest common subsequence as a set of words), tokens are jieba's, emoji are left out as
demoji leaves them out. Written anew in a hundred lines, since two of the four packages are no longer maintained; equal
on every pair of benchmarks/official_scorer.py.
"""

import logging
import math
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from redone_data.errors import RedoneError

# Unicode 16 emoji by code point; what demoji 2 replaces.
_EMOJI = """
a9 ae 203c 2049 2122 2139 2194-2199 21a9-21aa 231a-231b 2328 23cf 23e9-23f3 23f8-23fa 24c2 25aa-25ab 25b6 25c0
25fb-25fe 2600-2604 260e 2611 2614-2615 2618 261d 2620 2622-2623 2626 262a 262e-262f 2638-263a 2640 2642
2648-2653 265f-2660 2663 2665-2666 2668 267b 267e-267f 2692-2697 2699 269b-269c 26a0-26a1 26a7 26aa-26ab
26b0-26b1 26bd-26be 26c4-26c5 26c8 26ce-26cf 26d1 26d3-26d4 26e9-26ea 26f0-26f5 26f7-26fa 26fd 2702 2705
2708-270d 270f 2712 2714 2716 271d 2721 2728 2733-2734 2744 2747 274c 274e 2753-2755 2757 2763-2764 2795-2797
27a1 27b0 27bf 2934-2935 2b05-2b07 2b1b-2b1c 2b50 2b55 3030 303d 3297 3299 1f004 1f0cf 1f170-1f171 1f17e-1f17f
1f18e 1f191-1f19a 1f201-1f202 1f21a 1f22f 1f232-1f23a 1f250-1f251 1f300-1f321 1f324-1f393 1f396-1f397
1f399-1f39b 1f39e-1f3f0 1f3f3-1f3f5 1f3f7-1f4fd 1f4ff-1f53d 1f549-1f54e 1f550-1f567 1f56f-1f570 1f573-1f57a
1f587 1f58a-1f58d 1f590 1f595-1f596 1f5a4-1f5a5 1f5a8 1f5b1-1f5b2 1f5bc 1f5c2-1f5c4 1f5d1-1f5d3 1f5dc-1f5de
1f5e1 1f5e3 1f5e8 1f5ef 1f5f3 1f5fa-1f64f 1f680-1f6c5 1f6cb-1f6d2 1f6d5-1f6d7 1f6dc-1f6e5 1f6e9 1f6eb-1f6ec
1f6f0 1f6f3-1f6fc 1f7e0-1f7eb 1f7f0 1f90c-1f93a 1f93c-1f945 1f947-1f9ff 1fa70-1fa7c 1fa80-1fa89 1fa8f-1fac6
1face-1fadc 1fadf-1fae9 1faf0-1faf8
"""
_MAX_CELLS = 30_000_000


class NothingToCompareError(ValueError):
    """The published ROUGE raises here, and the published scorer with it: a text of nothing but full stops."""


def bleu_4(hypothesis: Sequence[str], reference: Sequence[str]) -> float:
    """nltk's `sentence_bleu` with one reference and no smoothing.

    >>> round(bleu_4("a b c d e".split(), "a b c d e f".split()), 4)
    0.8187
    """
    logs = []
    for order in range(1, 5):
        written, expected = _ngrams(hypothesis, order), _ngrams(reference, order)
        hits = sum(min(count, expected[ngram]) for ngram, count in written.items())
        if order == 1 and not hits:
            return 0.0
        precision = hits / max(1, written.total())
        logs.append(0.25 * math.log(precision or sys.float_info.min))
    brevity = 1.0 if len(hypothesis) > len(reference) else math.exp(1 - len(reference) / len(hypothesis))
    return brevity * math.exp(math.fsum(logs))


def rouge(hypothesis: str, reference: str) -> dict[str, float]:
    """F of ROUGE-1, ROUGE-2 and ROUGE-L of texts with spaces between tokens, as `rouge.Rouge()` gives them."""
    ours, theirs = _sentences(hypothesis), _sentences(reference)
    if not ours or not theirs:
        raise NothingToCompareError("nothing but full stops")
    our_words, their_words = ([word for line in lines for word in line] for lines in (ours, theirs))
    values = {}
    for order in (1, 2):
        written, expected = set(_ngrams(our_words, order)), set(_ngrams(their_words, order))
        hits = len(written & expected)
        precision, recall = (hits / len(ngrams) if ngrams else 0.0 for ngrams in (written, expected))
        values[f"rouge-{order}"] = _f(precision, recall)
    common: set[str] = set()
    for reference_words in theirs:
        for written_words in ours:
            common |= _common_words(reference_words, written_words)
    values["rouge-l"] = _f(len(common) / len(set(our_words)), len(common) / len(set(their_words)))
    return values


def cut(text: str) -> list[str]:
    """jieba's tokens, spaces and punctuation among them."""
    return [str(token) for token in _jieba().cut(text)]


def without_emoji(text: str) -> str:
    """The text without emoji and the selectors that they leave behind.

    >>> without_emoji("so good \\U0001f970\\U0001f44d\\U0001f3fd\\u2764\\ufe0f 10")
    'so good  10'
    """
    return _SELECTORS.sub("", _EMOJI_PATTERN.sub("", text))


def edit_distance(ours: str, theirs: str) -> int:
    """Levenshtein's distance, all of a row of the table in one integer (Hyyro 2003).

    >>> edit_distance("kitten", "sitting"), edit_distance("", "abc")
    (3, 3)
    """
    if not ours:
        return len(theirs)
    places: dict[str, int] = {}
    for place, character in enumerate(ours):
        places[character] = places.get(character, 0) | 1 << place
    full, last = (1 << len(ours)) - 1, 1 << (len(ours) - 1)
    up, down, distance = full, 0, len(ours)
    for character in theirs:
        same = places.get(character, 0)
        diagonal = ((((same & up) + up) ^ up) | same | down) & full
        right, left = down | (~(diagonal | up) & full), up & diagonal
        distance += bool(right & last) - bool(left & last)
        right, left = (right << 1 | 1) & full, (left << 1) & full
        up, down = left | (~(diagonal | right) & full), right & diagonal
    return distance


def _ngrams(tokens: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


def _sentences(text: str) -> list[list[str]]:
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def _f(precision: float, recall: float) -> float:
    return 2.0 * ((precision * recall) / (precision + recall + 1e-8))


def _common_words(reference: Sequence[str], hypothesis: Sequence[str]) -> set[str]:
    """The words of the longest common subsequence that the published traceback finds."""
    if len(reference) * len(hypothesis) > _MAX_CELLS:
        raise NothingToCompareError("over-long")
    numbers: dict[str, int] = {}
    ours, theirs = (np.array([numbers.setdefault(w, len(numbers)) for w in words]) for words in (hypothesis, reference))
    table = np.zeros(
        (len(reference) + 1, len(hypothesis) + 1), dtype=np.uint16 if len(reference) < 65_536 else np.uint32
    )
    for row, word in enumerate(theirs, start=1):
        above = table[row - 1]
        np.maximum.accumulate(np.maximum(above[1:], above[:-1] + (ours == word)), out=table[row, 1:])
    words, i, j = set(), len(reference), len(hypothesis)
    while i and j:
        if reference[i - 1] == hypothesis[j - 1]:
            words.add(reference[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1, j] > table[i, j - 1]:
            i -= 1
        else:
            j -= 1
    return words


@lru_cache(maxsize=1)
def _jieba() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own escapes and imports
            import jieba
    except ImportError:
        raise RedoneError(
            "Note-MRC-simple: the published scorer cuts text with jieba, which is not installed; "
            "pip install 'redone[eval]', or --scorer fixed"
        ) from None
    jieba.setLogLevel(logging.WARNING)
    return jieba


def _ranges(text: str) -> str:
    ends = (part.partition("-") for part in text.split())
    return "".join(f"{chr(int(first, 16))}-{chr(int(last or first, 16))}" for first, _, last in ends)


_SELECTORS = re.compile("[\ufe0e\ufe0f]")
_ONE = f"[{_ranges(_EMOJI)}]\ufe0f?[\U0001f3fb-\U0001f3ff]?"
_EMOJI_PATTERN = re.compile(
    "\U0001f3f4[\U000e0061-\U000e007a]+\U000e007f"  # England, Scotland, Wales
    f"|{_ONE}(?:\u200d{_ONE})*|[\U0001f1e6-\U0001f1ff]{{2}}|[#*0-9]\ufe0f?\u20e3"
)
