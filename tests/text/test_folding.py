"""What two posts are compared by, against plain Python."""

import itertools
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redone_data.errors import RedoneError
from redone_data.text import reference
from redone_data.text.folding import folded
from redone_data.text.letters import LOWER, LOWER_END

# Signs that decide what is read as what, beside characters of every plane.
CHARACTERS = st.one_of(
    st.sampled_from(list("hHtTpPsS:/@#aZ9_ .'\n\u3000\uff21\uff20\uff03\uff48好éÉ😂\u0301")),
    st.characters(codec="utf-8"),
)
TEXTS = st.lists(st.one_of(st.sampled_from(["https://a.b/c", "@name", " @名字 ", "#tag"]), CHARACTERS)).map("".join)


def fold(rows: list[str]) -> list[str]:
    offsets, data = folded(pa.array(["skip", *rows], pa.large_string())[1:], np.ones(len(rows), bool))
    return [bytes(data[a:b]).decode() for a, b in itertools.pairwise(offsets)]


def plain_fold(text: str) -> str:
    found, position = "", 0
    while position < len(text):
        glued = re.search("[A-Za-z0-9]\\Z", text[:position])
        link = 0 if glued else reference.url_end(text, position)
        if link:
            position = link
            continue
        character = text[position]
        position += 1
        if character in "@\uff20" and not glued:
            named = text[: position + reference.MAX_NAME]
            position = reference.run_end(named, position, reference.is_named, "_-")
        elif "\uff01" <= character <= "\uff5e":
            character = chr(ord(character) - 0xFEE0)
        if reference.is_wordlike(character) or reference.is_cjk(character):
            code = ord(character)
            found += chr(LOWER[code]) if code < LOWER_END else character
    return found or "".join(c for c in text if not c.isspace())


@given(st.lists(TEXTS))
def test_letters_are_folded_as_in_plain_python(rows):
    assert fold(rows) == list(map(plain_fold, rows))


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("RT @user: Best Ramen in town!! 🔥 https://t.co/x1", "rtbestramenintown"),
        ("＃ＡＢＣ，真的吗？#话题#", "abc真的吗话题"),
        ("😂 😂\n👍", "😂😂👍"),
        (" \t\u3000", ""),
        ("mail me: me@home.org", "mailmemehomeorg"),
    ],
)
def test_what_a_repost_changes_does_not_count(text, letters):
    assert fold([text]) == [letters]


def test_texts_that_are_not_wanted_are_empty():
    offsets, data = folded(pa.array(["Ab", "cd", "EF"]), np.array([True, False, True]))
    assert (offsets.tolist(), bytes(data)) == ([0, 2, 2, 4], b"abef")


def test_null_texts_are_refused():
    with pytest.raises(RedoneError, match="null"):
        folded(pa.array(["a", None]), np.array([True, True]))
