"""Finding an answer in what a model wrote: lists of quoted text, what stands after "Answer:", the option it names.

Nothing is evaluated; every pattern takes time in proportion to the text.
"""

import functools
import re

# What models write before an answer; the last one counts.
_MARK = re.compile(r"(?:final answer|answer|答案|回答|结论)(?: is|是|为)?\s*[:：]\s*", re.IGNORECASE)
EDGES = " \t\r\n\u3000*`\"'“”‘’「」《》.。!！,，;；:："
_QUOTED = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_LIST = re.compile(rf"\[\s*(?:{_QUOTED}\s*(?:,\s*{_QUOTED}\s*)*,?\s*)?\]", re.DOTALL)
_ITEM = re.compile(_QUOTED, re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_SURROGATES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)
NOT_DENIED = r"(?<!not )(?<!n't )(?<!not a )(?<!not an )(?<!不)(?<!非)(?<!不是)(?<!并非)"
WORD_BEFORE, WORD_AFTER = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"


def read_list(text: str) -> list[str] | None:
    """The first list of quoted texts in a text, as JSON or Python write it; nothing is evaluated.

    >>> read_list("Highlights: ['CC mode', \\"it's [Topic] too\\"]")
    ['CC mode', "it's [Topic] too"]
    >>> read_list("none at all") is None
    True
    """
    match = _LIST.search(text)
    return None if match is None else [_unquoted(item[0]) for item in _ITEM.finditer(match[0])]


def _unquoted(item: str) -> str:
    plain_escapes = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

    def one(match: re.Match[str]) -> str:
        what = match[1]
        if len(what) > 1:
            return chr(int(what[1:], 16))
        return plain_escapes.get(what, what)

    def both(match: re.Match[str]) -> str:
        return chr(0x10000 + ((int(match[1], 16) - 0xD800) << 10) + int(match[2], 16) - 0xDC00)

    return _ESCAPE.sub(one, _SURROGATES.sub(both, item[1:-1]))


def pieces(text: str) -> list[str]:
    """Where an answer may begin, best first: after the last "Answer:", the whole text, its last line."""
    whole = text.strip()
    marks = list(_MARK.finditer(whole))
    after = [whole[marks[-1].end() :].strip()] if marks else []
    lines = whole.splitlines()
    return [*after, whole, *([lines[-1].strip()] if len(lines) > 1 else [])]


def fold(text: str) -> str:
    return " ".join(text.strip(EDGES).casefold().split())


def named(text: str, options: tuple[str, ...]) -> str | None:
    """The option that a text is, but for case and the punctuation around it."""
    if text in options:
        return text
    folded = fold(text)
    same = [option for option in options if fold(option) == folded]
    return same[0] if len(same) == 1 else None


def only_mentioned(text: str, options: tuple[str, ...]) -> str | None:
    """The one option that a text names and does not deny; where one option is part of another, the longer counts."""
    lowered = {option.lower(): option for option in options}
    found = set(_option_pattern(tuple(lowered)).findall(text.lower()))
    return lowered[found.pop()] if len(found) == 1 and len(lowered) == len(options) else None


@functools.lru_cache(maxsize=4096)
def _option_pattern(options: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the options; Latin ones are not found within a word, Chinese ones are found anywhere."""
    bounded = (
        (WORD_BEFORE if option[0].isascii() and option[0].isalnum() else "")
        + re.escape(option)
        + (WORD_AFTER if option[-1].isascii() and option[-1].isalnum() else "")
        for option in sorted(options, key=len, reverse=True)
    )
    return re.compile(f"{NOT_DENIED}(?:{'|'.join(bounded)})")
