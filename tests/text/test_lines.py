import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from posts import EDGES, texts
from runs import words_of

from redone_data.errors import RedoneError
from redone_data.text.lines import lines

WRITING = st.lists(
    st.sampled_from(["a", "b ", "好", "。", "\n", ". ", "?", "...", "x.y", "😂", "#c ", "…", "．"]), max_size=30
)


def expected(text: str, min_words: int, sentences: bool) -> list[tuple[tuple[str, ...], int, int]]:
    """The lines of a text: cut once between two words, after the first sign that cuts there."""
    words, raw = words_of(text), text.encode()
    sign = re.compile(r"\n|[!?…。！？]|\.(?=[\x00-\x20])" if sentences else r"\n")
    found, begin, held = [], 0, []
    for number, (word, _, end) in enumerate(words):
        held.append(word)
        cut = len(raw)
        if number + 1 < len(words):
            gap = raw[end : words[number + 1][1]].decode()
            match = sign.search(gap)
            if match is None:
                continue
            cut = end + len(gap[: match.end()].encode())
        found.append((tuple(held), begin, cut))
        begin, held = cut, []
    return [line for line in found if len(set(line[0])) >= min_words] if len(found) > 1 else []


@given(st.lists(texts() | WRITING.map("".join), max_size=4), st.integers(1, 3), st.booleans())
def test_lines_agree_with_plain_python(rows, min_words, sentences):
    rows = [*rows, *EDGES]
    found = lines(pa.array(["skip", *rows])[1:], min_words=min_words, sentences=sentences)
    hash_of: dict[tuple[str, ...], int] = {}
    for row, text in enumerate(rows):
        want = expected(text, min_words, sentences)
        here = slice(found.offsets[row], found.offsets[row + 1])
        assert list(zip(found.starts[here].tolist(), found.ends[here].tolist(), strict=True)) == [w[1:] for w in want]
        for (words, _, _), value in zip(want, found.hashes[here].tolist(), strict=True):
            assert hash_of.setdefault(words, value) == value
    assert len(set(hash_of.values())) == len(hash_of)


def test_the_lines_of_a_text_cover_all_of_it():
    text = "  First line!!  😂 Second one. http://t.cn/a.b?c\nThird; 3.5 percent"
    found = lines(pa.array([text]), min_words=1, sentences=True)
    assert "".join(text.encode()[a:b].decode() for a, b in zip(found.starts, found.ends, strict=True)) == text


def test_a_post_of_one_line_is_left_to_other_steps():
    posts = pa.array(["转发微博", "Thank you so much for this!", "one line http://t.cn/a?b"])
    assert len(lines(posts, min_words=1, sentences=True).hashes) == 0


def test_a_line_of_no_words_cannot_be_asked_for():
    with pytest.raises(RedoneError, match="at least 1 word"):
        lines(pa.array(["a"]), min_words=0, sentences=True)
