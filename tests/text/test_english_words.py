"""The kernel's words are spaCy's: the reference is spaCy itself, as datatrove calls it."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posts import EDGES, SNS, real_posts, texts

spacy = pytest.importorskip("spacy")

from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION, split_into_words  # noqa: E402
from spacy.lang import char_classes  # noqa: E402
from spacy.pipeline import Sentencizer  # noqa: E402

from redone_data.text import english_rules as rules  # noqa: E402
from redone_data.text.english_rules import character_classes, read_exceptions  # noqa: E402
from redone_data.text.english_words import english_words  # noqa: E402

PIECES = [
    *[
        "don't",
        "DON’T",
        "can't've",
        "cannot",
        "U.S.",
        "e.g.",
        "Mr.",
        "a.m.",
        "9a.m.",
        "10km",
        "5GB",
        "3°C.",
        "$5",
        "US$5",
    ],
    *[
        "(",
        ")",
        '"',
        "'",
        "“",
        "”",
        "...",
        "…",
        "--",
        "-",
        "—",
        ",",
        ".",
        "?!",
        ":",
        ";",
        "/",
        "*",
        "<",
        ">",
        "=",
        "+",
        "~",
    ],
    *[":)", ":-)", ">:(", "<3", "xD", "(ಠ_ಠ)", "'s", "’S", "http://a.co/b?c=d", "me@x.org", "10.0.0.1", "8.8.8.8:80/x"],
    *[
        "www.site.com",
        "the",
        "word",
        "Word",
        "WORD",
        "naïve",
        "東京",
        "好，",
        "😂",
        "é",
        "x_y",
        "#tag",
        "@name",
        "C++",
        "v1.2.3",
    ],
    *[
        " ",
        " ",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "\u3000",
        "\u2028",
        "\u00a0",
        "1",
        "2.5",
        "1,000",
        "50%",
        "²",
        "€",
        "ß",
        "İ",
    ],
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(max_examples=400)
def test_words_of_awkward_parts_are_those_of_spacy(text):
    for chunk in text.split():
        assert english_words(chunk) == split_into_words(chunk)


@given(texts())
@settings(max_examples=300)
def test_words_of_any_text_are_those_of_spacy(text):
    if "IS_ALPHA" not in text:
        assert english_words(text) == split_into_words(text)


@pytest.mark.parametrize(
    "text", [*EDGES, "IM(:", "a" * 2000, "(((((", "....a....", "don't." * 3, "x@y@z.com", "a.b" * 40]
)
def test_edge_cases_are_split_as_spacy_does(text):
    assert english_words(text) == split_into_words(text)


@pytest.mark.skipif(not SNS.exists(), reason="shared data are not here")
@pytest.mark.parametrize("name", ["reddit_posts", "tweets_tweeteval", "multilingual_social", "weibo_comments"])
def test_words_of_real_posts_are_those_of_spacy(name):
    for text in real_posts(f"{name}.jsonl.zst", 300):
        assert english_words(text) == split_into_words(text)


def test_the_classes_of_characters_are_those_of_spacy_and_datatrove():
    english = spacy.blank("en").tokenizer
    bits = {
        rules.ALPHA: re.compile(f"[{char_classes.ALPHA}]").fullmatch,
        rules.LOWER: re.compile(f"[{char_classes.ALPHA_LOWER}]").fullmatch,
        rules.UPPER: re.compile(f"[{char_classes.ALPHA_UPPER}]").fullmatch,
        rules.QUOTE: re.compile(f"[{char_classes.CONCAT_QUOTES}]").fullmatch,
        rules.ICON: re.compile(f"[{char_classes.ICONS}]").fullmatch,
        rules.PREFIX: lambda character: character != "+" and english.find_prefix(character) == 1,
        rules.SUFFIX: lambda character: english.find_suffix(character) == 1,
        rules.BEFORE_STOP: lambda character: character != "." and english.find_suffix(character + ".") > 0,
        rules.SYMBOL: PUNCTUATION_SET.__contains__,
        rules.LINE_END: TERMINAL_PUNCTUATION.__contains__,
        rules.SENTENCE_END: Sentencizer.default_punct_chars.__contains__,
        rules.LETTER: str.isalpha,
        rules.SPACE: str.isspace,
        rules.BREAK: lambda character: len(f"a{character}b".splitlines()) == 2,
    }
    classes = character_classes()
    for code in range(rules.TABLE_END):
        if not 0xD800 <= code < 0xE000:
            expected = sum(bit for bit, is_in in bits.items() if is_in(chr(code)))
            assert classes[code] & sum(bits) == expected, hex(code)


def test_the_exceptions_are_those_of_spacy():
    english = spacy.blank("en").tokenizer
    _, pieces = read_exceptions()
    expected = {
        name: [token.text for token in english(name)] for name in english.rules if not any(map(str.isspace, name))
    }
    assert pieces == expected
    assert set(rules.UNITS.split()) == set(char_classes.LIST_UNITS)


def test_a_hash_of_words_joined_follows_from_theirs():
    text = np.frombuffer(b"one two", np.uint8)
    joined = np.frombuffer(b"onetwo", np.uint8)
    with np.errstate(over="ignore"):
        both = rules.text_hash(text, 0, 3) * rules.WORD_BASE ** np.uint64(3) + rules.text_hash(text, 4, 7)
    assert both == rules.text_hash(joined, 0, 6)
