"""Texts to test kernels with: arbitrary Unicode, the awkward parts of posts, and real posts where they are at hand."""

import io
import itertools
import json
import unicodedata
from pathlib import Path

import pyarrow as pa
from hypothesis import strategies as st

SNS = Path(__file__).resolve().parents[3] / "shared" / "data" / "sns"
PARTS = [
    *"abzAZ09 '\u2019_-.,\u2026#@\uff03\uff20:/?!\n\t\r中文あアー가나дЯعกไ１Ａａ〇①ℹ",
    *["😂", "👍🏽", "❤️", "©️", "👩\u200d👩\u200d👧", "🇨🇳", "1️⃣", "\u20e3", "\u200d", "\u200c", "\ufe0f", "\U000e0062"],
    *[
        "e\u0301",
        "か\u3099",
        "\u1100\u1161",
        "\u212b",
        "\u0958",
        "\ufeff",
        "\u200b",
        "\u2028",
        "\x85",
        "\u3000",
        "\x00",
    ],
    *["http://", "https://t.cn/a.", "...", "#中文#", "#tag", "@name", "the ", "and ", "a b c d e ", "- ", "C#"],
]
EDGES = [
    *[
        "",
        " ",
        "a",
        "中",
        "#",
        "@",
        "👩\u200d👩\u200d👧\u200d👦",
        "Ｈｅｌｌｏ，１２３",
        "好看iPhone15真的",
        "سلام دنیا می\u200cخواهم",
        "\u202eabc",
    ],
    *["#a#b#c", "http://", "\ud7ff\ue000\U0010ffff", "क्‍ष", "....", "......", "a\n\na\nb", "\n\n"],
    *["#!!# ", "*\ufe0f\u20e3", "#\ufe0f\u20e3a", "。\ufe0f", "it'é", "#tag's @bob's"],
]


def texts() -> st.SearchStrategy[str]:
    """Any text, assigned code points or not, or one put together from awkward parts."""
    return st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PARTS), max_size=40).map("".join))


def assigned(text: str) -> bool:
    """Whether this Python knows every character; polars' Unicode is newer."""
    return not any(unicodedata.category(character) == "Cn" for character in text)


def real_posts(name: str, number: int) -> list[str]:
    """The first texts of a file of ``SNS``."""
    with pa.input_stream(SNS / name, compression="zstd") as file:
        lines = io.TextIOWrapper(file, encoding="utf-8")
        return [json.loads(line)["text"] for line in itertools.islice(lines, number)]
