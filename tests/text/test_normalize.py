import pyarrow as pa
import pytest
from hypothesis import given
from posts import EDGES, SNS, assigned, real_posts, texts

from redone_data.text import reference
from redone_data.text.normalize import normalize


def normal(*rows):
    array = normalize(pa.array(rows, pa.string()))
    array.validate(full=True)
    return array.to_pylist()


@given(text=texts())
def test_normalizing_agrees_with_plain_python(text):
    if assigned(text):
        assert normal(text) == [reference.normalize(text)]


@given(text=texts())
def test_normalizing_twice_changes_nothing_more(text):
    once = normal(text)
    assert normal(*once) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\rc\u2028d\u2029e\x85f", "a\nb\nc\nd\ne\nf"),
        ("a\u200b\u0301", "\u00e1"),
        ("\ufeff \u3000a\tb \n", "a\tb"),
        ("a\x00\x1b\x7f\x9fb", "ab"),
        ("\u202eabc\u202c\u2066d\u2069", "abcd"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\u1100\u1161\u11a8", "\uac01"),
        ("\u2000a\u2126", "aΩ"),
        ("ＡＢＣ", "ＡＢＣ"),
    ],
)
def test_what_readers_cannot_see_goes_and_what_they_can_stays(text, expected):
    assert normal("other", text, "") == ["other", expected, ""]


def test_edge_cases_agree_with_plain_python_in_one_batch():
    rows = [*EDGES, "e\u0301 中 " * 150_000]
    assert normal(*rows) == list(map(reference.normalize, rows))


def test_no_rows_give_no_rows():
    assert normal() == []


@pytest.mark.skipif(not SNS.exists(), reason="shared data are not here")
@pytest.mark.parametrize("name", ["weibo_comments.jsonl.zst", "multilingual_social.jsonl.zst"])
def test_real_posts_normalize_as_in_plain_python(name):
    rows = real_posts(name, 2000)
    assert normal(*rows) == list(map(reference.normalize, rows))
