"""The same answers in plain Python, one text at a time: what the kernels of this folder must agree with.

Slow and short on purpose, and written from the definitions rather than from the kernels. Tests compare the two over
arbitrary Unicode; nothing else calls it.
"""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable

from redone_data.text.characters import EMOJI_RANGES, HAN_NUMERALS, SCRIPTS
from redone_data.text.features import BULLETS, STOP_WORDS
from redone_data.text.words import MAX_NAME, MAX_TOPIC, WordKind

WORD64, WORD32 = (1 << 64) - 1, (1 << 32) - 1
SCRIPT_NAMES = dict(zip(SCRIPTS, ["latin", "cyrillic", "arabic", "thai", "hangul", "han", "kana"], strict=True))
CJK_SCRIPTS = ("han", "kana")
MODIFIERS = {0xFE0E, 0xFE0F, 0x20E3, *range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080)}
REMOVED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\ufeff\u2060\u202a-\u202e\u2066-\u2069]")
URL_PATTERN = re.compile(r"https?://", re.IGNORECASE | re.ASCII)


def normalize(text: str) -> str:
    """What :func:`redone_data.text.normalize.normalize` gives for one text."""
    text = re.sub("\r\n|[\r\x85\u2028\u2029]", "\n", text)
    return unicodedata.normalize("NFC", REMOVED.sub("", text).strip())


def script(character: str) -> str:
    """The script of a letter, ``other`` for those not told apart, "" for what is no letter."""
    code = ord(character)
    if any(first <= code <= last for first, last in HAN_NUMERALS):
        return "han"
    if unicodedata.category(character)[0] != "L" or code == 0x2139:
        return ""
    for number, ranges in SCRIPTS.items():
        if any(first <= code <= last for first, last in ranges):
            return SCRIPT_NAMES[number]
    return "other"


def is_digit(character: str) -> bool:
    return unicodedata.category(character)[0] == "N" and not script(character)


def is_mark(character: str) -> bool:
    return (
        unicodedata.category(character)[0] == "M" or character in "\u200c\u200d" or 0xE0020 <= ord(character) < 0xE01F0
    )


def is_cjk(character: str) -> bool:
    return script(character) in CJK_SCRIPTS


def is_wordlike(character: str) -> bool:
    return is_digit(character) or (script(character) != "" and not is_cjk(character))


def is_sign(character: str) -> bool:
    """Whether it is punctuation or a symbol, emoji included."""
    return unicodedata.category(character)[0] in "PS" or ord(character) == 0x2139


def is_emoji(character: str) -> bool:
    code = ord(character)
    return unicodedata.category(character)[0] == "S" and any(first <= code <= last for first, last in EMOJI_RANGES)


def split(text: str) -> list[tuple[int, int, int]]:
    """(start, end, kind) of each unit, in characters."""
    units = []
    position = 0
    while position < len(text):
        end, kind = unit_at(text, position)
        if kind == WordKind.NONE:
            position += 1
        else:
            units.append((position, end, kind))
            position = end
    return units


def unit_at(text: str, start: int) -> tuple[int, int]:
    """(end, kind) of the unit that begins at ``start``; kind is ``NONE`` where none begins."""
    first = text[start]
    keycap = re.compile("[0-9#*]\ufe0f?\u20e3").match(text, start)
    if is_cjk(first):
        return run_end(text, start + 1, is_mark), WordKind.CJK
    if is_wordlike(first):
        link = url_end(text, start)
        if link:
            return link, WordKind.URL
    if keycap:
        return keycap.end(), WordKind.EMOJI
    if is_wordlike(first):
        return word_end(text, start + 1), WordKind.WORD
    if is_emoji(first) or (is_sign(first) and first > "\x7f" and text[start + 1 : start + 2] == "\ufe0f"):
        return emoji_end(text, start), WordKind.EMOJI
    glued = start > 0 and text[start - 1].isascii() and text[start - 1].isalnum()
    if first in "#\uff03" and (not glued or re.search(r"#(?:[A-Za-z0-9_]|[^\x00-\x7f])*\Z", text[:start])):
        end = hashtag_end(text, start + 1)
        return end, WordKind.HASHTAG if end else WordKind.NONE
    if first in "@\uff20" and not glued:
        end = run_end(text[: start + 1 + MAX_NAME], start + 1, is_named, "_-")
        return end, WordKind.MENTION if end > start + 1 else WordKind.NONE
    return start, WordKind.NONE


def is_named(character: str) -> bool:
    return is_wordlike(character) or is_cjk(character) or is_mark(character)


def run_end(text: str, position: int, belongs: Callable[[str], bool], more: str = "") -> int:
    """The first position from ``position`` on whose character neither ``belongs`` nor is in ``more``."""
    while position < len(text) and (text[position] in more or belongs(text[position])):
        position += 1
    return position


def word_end(text: str, position: int) -> int:
    while position < len(text):
        if text[position] in "'\u2019":
            if position + 1 == len(text) or not is_wordlike(text[position + 1]):
                break
        elif not is_wordlike(text[position]) and not is_mark(text[position]):
            break
        position += 1
    return position


def url_end(text: str, start: int) -> int:
    head = URL_PATTERN.match(text, start)
    if not head:
        return 0
    end = head.end()
    while end < len(text):
        character = text[end]
        if character.isascii():
            if character <= " " or character in '\x7f"<>':
                break
        elif not is_mark(character) and (not is_wordlike(character) or script(character) == "hangul"):
            break
        end += 1
    end = head.end() + len(text[head.end() : end].rstrip(".,;:!?')]"))
    return end if end > head.end() else 0


def emoji_end(text: str, start: int) -> int:
    def is_flag(index: int) -> bool:
        return index < len(text) and "\U0001f1e6" <= text[index] <= "\U0001f1ff"

    position = start + 1
    flag = is_flag(start)
    while position < len(text):
        joined = text[position + 1 : position + 2]
        if text[position] == "\u200d" and joined:
            symbol = not joined.isascii() and (unicodedata.category(joined)[0] == "S" or ord(joined) == 0x2139)
            if not symbol:
                break
            position += 1
        elif flag and is_flag(position):
            flag = False
        elif ord(text[position]) not in MODIFIERS:
            break
        position += 1
    return position


def hashtag_end(text: str, start: int) -> int:
    """The end of the hashtag whose sign stands before ``start``, or 0."""
    for position in range(start, min(len(text), start + MAX_TOPIC + 1)):
        if text[position] in "#\uff03":
            after = text[position + 1 : position + 2]
            latin = after != "" and (script(after) == "latin" or is_digit(after))
            if position > start and (any(map(is_cjk, text[start:position])) or not latin):
                return position + 1
            break
        if text[position].isspace():
            break
    end = run_end(text, start, is_named, "_")
    return end if any(map(script, text[start:end])) else 0


def fold(text: str) -> str:
    """Full-width ASCII to half-width, then ASCII letters to lower case."""
    half = "".join(chr(ord(c) - 0xFEE0) if "\uff01" <= c <= "\uff5e" else c for c in text)
    return "".join(c.lower() if c.isascii() else c for c in half)


def mix64(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & WORD64
    value = (value ^ value >> 27) * 0x94D049BB133111EB & WORD64
    return value ^ value >> 31


def chain(value: int, word: int) -> int:
    value = (value ^ word) * 0x9E3779B97F4A7C15 & WORD64
    return value ^ value >> 32


def word_hash(word: str) -> int:
    data = fold(word).encode()
    value = 0
    for start in range(0, len(data), 8):
        value = chain(value, int.from_bytes(data[start : start + 8], "little"))
    return value ^ len(data)


def shingle_words(text: str) -> list[str]:
    """The words that shingles are made of, before they are folded."""
    words, others = [], []
    position = 0
    while position < len(text):
        end, kind = unit_at(text, position)
        if kind in (WordKind.WORD, WordKind.CJK):
            words.append(text[position:end])
        elif kind not in (WordKind.NONE, WordKind.HASHTAG):
            others.append(text[position:end])
        position = end if kind not in (WordKind.NONE, WordKind.HASHTAG) else position + 1
    if words:
        return words
    if others:
        return [text[start:end] for start, end, _ in split(text)]
    return [text] if text.strip() else []


def shingles(text: str, ngram: int = 3) -> list[int]:
    words = list(map(word_hash, shingle_words(text)))
    size = min(ngram, len(words))
    found = set()
    for first in range(len(words) - size + 1 if words else 0):
        value = size
        for word in words[first : first + size]:
            value = chain(value, word)
        found.add(value)
    return sorted(found)


def mix32(value: int) -> int:
    value = (value ^ value >> 16) * 0x85EBCA6B & WORD32
    value = (value ^ value >> 13) * 0xC2B2AE35 & WORD32
    return value ^ value >> 16


def signature(hashes: list[int], factors: list[int], terms: list[int]) -> list[int]:
    mixed = [mix32(x & WORD32) for x in hashes]
    return [min([WORD32, *(a * x + b & WORD32 for x in mixed)]) for a, b in zip(factors, terms, strict=True)]


def band_keys(minima: list[int], factors: list[int], terms: list[int]) -> list[int]:
    """One key for each of ``terms``; the minima of a band lie as far apart as there are bands."""
    bands = len(terms)
    if all(value == WORD32 for value in minima):
        return [0] * bands
    keys = []
    for band, term in enumerate(terms):
        pairs = zip(factors[band::bands], minima[band : len(factors) : bands], strict=True)
        keys.append(max(1, mix64(term + sum(a * x for a, x in pairs) & WORD64)))
    return keys


def features(text: str) -> dict[str, float]:
    """The metrics of :data:`redone_data.text.features.METRICS` for one text."""
    units = split(text)
    kinds = Counter(kind for _, _, kind in units)
    spelled = [(text[a:b], kind) for a, b, kind in units if kind in (WordKind.WORD, WordKind.CJK)]
    plain = [word for word, kind in spelled if kind == WordKind.WORD]
    words = [fold(word) for word, _ in spelled]
    sizes = [len(word) for word, _ in spelled]
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    scripts = Counter(filter(None, map(script, text)))
    letters = scripts.total()
    dots = sum(len(run) // 3 for run in re.findall(r"\.+", text))

    def share(part: float, whole: float) -> float:
        return part / whole if whole else 0.0

    top_pair = 0
    pairs = Counter(itertools.pairwise(words))
    for index, pair in enumerate(itertools.pairwise(words)):
        if pairs[pair] > 1:
            top_pair = max(top_pair, pairs[pair] * (sizes[index] + sizes[index + 1]))
    seen = set()
    repeated = index = 0
    while index + 5 <= len(words):
        run = tuple(words[index : index + 5])
        if run in seen:
            repeated += sum(sizes[index : index + 5])
            index += 5
        else:
            seen.add(run)
            index += 1
    categories = Counter(unicodedata.category(c)[0] for c in text)
    return {
        "num_chars": len(text),
        "num_bytes": len(text.encode()),
        "num_words": len(words),
        "num_lines": len(lines),
        "stop_word_count": len({fold(word) for word in plain} & set(STOP_WORDS)),
        "mean_word_length": share(sum(map(len, plain)), len(plain)),
        "alpha_fraction": share(letters, len(text)),
        "alpha_word_fraction": share(sum(any(map(script, word)) for word, _ in spelled), len(words)),
        "digit_fraction": share(sum(map(is_digit, text)), len(text)),
        "punctuation_fraction": share(categories["P"], len(text)),
        "symbol_word_ratio": (text.count("#") + text.count("\u2026") + dots) / max(len(words), 1),
        "hashtag_fraction": share(kinds[WordKind.HASHTAG], len(units)),
        "mention_fraction": share(kinds[WordKind.MENTION], len(units)),
        "url_fraction": share(kinds[WordKind.URL], len(units)),
        "emoji_fraction": share(kinds[WordKind.EMOJI], len(units)),
        "cjk_fraction": share(scripts["han"] + scripts["kana"] + scripts["hangul"], letters),
        "uppercase_fraction": share(sum(bool(script(c)) and c.isupper() for c in text), letters),
        "top_word_fraction": share(max(Counter(words).values(), default=0), len(words)),
        "duplicate_line_fraction": share(len(lines) - len(set(lines)), len(lines)),
        "top_ngram_fraction": min(1.0, share(top_pair, sum(sizes))),
        "duplicate_ngram_fraction": share(repeated, sum(sizes)),
        "bullet_line_fraction": share(sum(ord(line[0]) in BULLETS for line in lines), len(lines)),
        "ellipsis_line_fraction": share(sum(line.endswith(("...", "\u2026")) for line in lines), len(lines)),
        **{f"{name}_fraction": share(scripts[name], letters) for name in ("latin", "han", "kana", "hangul")},
        **{f"{name}_fraction": share(scripts[name], letters) for name in ("cyrillic", "arabic", "thai")},
    }
