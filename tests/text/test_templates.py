import re

import pyarrow as pa
import pytest
from hypothesis import given
from posts import EDGES, texts

from redone_data.errors import RedoneError
from redone_data.text.templates import NO_TEMPLATE, templates


def found(*rows: str, min_words: int = 3) -> list[int]:
    return templates(pa.array(rows, pa.large_string()), min_words=min_words).tolist()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("恭喜@ann 获得第12名", "恭喜@bob_7 获得第7名！！"),
        (
            "Order 10234 has shipped, track it at https://a.example/x",
            "order 99 has shipped, track it at http://t.cn/b?c=1",
        ),
        ("今天看了《流浪地球》非常好看", "今天看了《繁花》非常好看 😂😂"),
        ('I just watched "Up" and loved it', 'I just watched "The Third Man" and loved it'),
        ("第１２期的幸运儿是", "第3期的幸运儿是"),
        ("room A12 is free from 10:30 to 11:45", "room B7 is free from 9 to 10"),
        ("thanks @a @b for following me", "thanks @c for following me"),
        ("win #5000元# now or never", "win #200元# now or never"),
    ],
)
def test_texts_that_fill_in_one_template_share_it(left, right):
    a, b = found(left, right)
    assert a == b != NO_TEMPLATE


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("thank you very much @ann", "thank you so much @ann"),
        ("I loved “" + "every minute of " * 10 + "it”", "I loved “" + "every second of " * 10 + "it”"),
        ("an (open bracket and then words", "an (open bracket and then deeds"),
        ("one two 3 four", "one 2 three four"),
        ("he said it's fine today", "he said it's good today"),
    ],
)
def test_texts_that_differ_in_their_own_words_do_not(left, right):
    a, b = found(left, right)
    assert a != b
    assert NO_TEMPLATE not in (a, b)


def test_what_says_too_little_without_its_masks_has_no_template():
    assert (
        found("@ann 123 http://t.cn/a", "“so quoted that nothing is left”", "", "😂", "ok 1", min_words=2)
        == [NO_TEMPLATE] * 5
    )


@given(texts())
def test_numbers_never_matter_and_no_text_breaks_it(text):
    assert found(re.sub("[0-9]", "7", text), min_words=1) == found(re.sub("[0-9]", "3", text), min_words=1)


def test_a_text_has_one_template_wherever_it_stands():
    rows = [*EDGES, "a [b] c " * 40_000, *EDGES]
    whole = found(*rows, min_words=1)
    assert whole[: len(EDGES)] == whole[-len(EDGES) :]
    assert whole == [value for row in rows for value in found(row, min_words=1)]


def test_a_template_without_words_cannot_be_asked_for():
    with pytest.raises(RedoneError, match="at least 1 word"):
        found("a", min_words=0)
