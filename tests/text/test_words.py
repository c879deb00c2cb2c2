import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posts import EDGES, SNS, real_posts, texts

from redone_data.text import reference
from redone_data.text.buffers import from_buffers
from redone_data.text.words import WordKind, split

NAMES = {value: name for name, value in vars(WordKind).items() if name.isupper()}


def units(rows):
    words = split(pa.array(["skip", *rows])[1:])
    found = []
    for row, text in enumerate(rows):
        data = text.encode()
        span = slice(words.row_offsets[row], words.row_offsets[row + 1])
        parts = zip(words.starts[span], words.ends[span], words.kinds[span], strict=True)
        found.append([(data[start:end].decode(), NAMES[kind]) for start, end, kind in parts])
    return found


def framed(rows):
    """The texts amid others: kernels read many bytes at a time except where the data end."""
    return ["a" * 70 + "'", *rows, "1\ufe0f\u20e3http://a.b/c" + "z" * 130]


def expected(text):
    return [(text[start:end], NAMES[kind]) for start, end, kind in reference.split(text)]


@given(text=texts())
@settings(max_examples=300)
def test_splitting_agrees_with_plain_python(text):
    assert units([text]) == [expected(text)]
    assert units(framed([text])) == list(map(expected, framed([text])))


@pytest.mark.parametrize("size", range(60, 70))
def test_words_that_meet_the_edge_of_a_block_are_read_whole(size):
    rows = framed(["a" * size, "a" * size + "'s", "a" * size + " b", "a" * size + "\u597d", " " * size + "don't"])
    assert units(rows) == list(map(expected, rows))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hello, it's me", "WORD Hello|WORD it's|WORD me"),
        ("'quoted' rock’n’roll", "WORD quoted|WORD rock’n’roll"),
        ("好看iPhone15真", "CJK 好|CJK 看|WORD iPhone15|CJK 真"),
        ("コーヒー안녕하세요 BTS는", "CJK コ|CJK ー|CJK ヒ|CJK ー|WORD 안녕하세요|WORD BTS는"),
        ("#tag text", "HASHTAG #tag|WORD text"),
        ("#话题#正文", "HASHTAG #话题#|CJK 正|CJK 文"),
        ("#防晒[话题]# ok", "HASHTAG #防晒[话题]#|WORD ok"),
        ("#love#happy", "HASHTAG #love|HASHTAG #happy"),
        ("#BTS#演", "HASHTAG #BTS#|CJK 演"),
        ("C# and #1", "WORD C|WORD and|WORD 1"),
        ("@张三 hi a@b.com", "MENTION @张三|WORD hi|WORD a|WORD b|WORD com"),
        ("回复@user_1:好", "CJK 回|CJK 复|MENTION @user_1|CJK 好"),
        ("看http://t.cn/A1,好", "CJK 看|URL http://t.cn/A1|CJK 好"),
        ("HTTPS://x.com/a?b=1。", "URL HTTPS://x.com/a?b=1"),
        ("http:// x", "WORD http|WORD x"),
        ("👩\u200d👩\u200d👧👍🏽❤️", "EMOJI 👩\u200d👩\u200d👧|EMOJI 👍🏽|EMOJI ❤️"),
        ("🇨🇳🇺🇸1️⃣", "EMOJI 🇨🇳|EMOJI 🇺🇸|EMOJI 1️⃣"),
        ("می\u200cخواهم क्‍ष", "WORD می\u200cخواهم|WORD क्‍ष"),
        ("!!! ... 。，", ""),
    ],
)
def test_posts_fall_into_the_units_a_reader_sees(text, parts):
    assert "|".join(f"{kind} {unit}" for unit, kind in units([text])[0]) == parts


def test_every_character_between_letters_and_before_an_emoji_sign_splits_as_in_plain_python():
    """Masks know the frequent characters by their bytes; this shows that they are right about each."""
    characters = [chr(code) for code in [*range(0x20, 0xD800), *range(0xE000, 0x10000)]]
    rows = [between.join(characters[first::128]) for between in ("a", "\ufe0f ") for first in range(128)]
    assert units(framed(rows)) == list(map(expected, framed(rows)))


@given(
    parts=st.lists(st.one_of(texts(), st.sampled_from(["plain words, it's ", "汉字，写的。", "“引”…"])), max_size=12)
)
@settings(max_examples=300)
def test_rare_characters_amid_frequent_ones_split_as_in_plain_python(parts):
    text = "".join(parts)
    assert units(framed([text])) == list(map(expected, framed([text])))


def test_the_text_before_does_not_change_how_a_text_is_read():
    assert units(["C", "#tag", "a", "@b"])[1::2] == [[("#tag", "HASHTAG")], [("@b", "MENTION")]]


def test_edge_cases_and_a_megabyte_agree_with_plain_python():
    rows = [*EDGES, "#a好 word's http://a.b/c #" * 30_000]
    assert units(rows) == list(map(expected, rows))


@given(rows=st.lists(st.binary(max_size=70)))
def test_bytes_that_are_not_utf8_are_read_within_their_row(rows):
    """No reader lets them pass; a kernel must not crash on them all the same."""
    offsets = np.cumsum([0, *map(len, rows)])
    words = split(from_buffers(offsets, np.frombuffer(b"".join(rows), np.uint8)))
    for row, content in enumerate(rows):
        span = slice(words.row_offsets[row], words.row_offsets[row + 1])
        edges = np.column_stack([words.starts[span], words.ends[span]]).ravel()
        assert (np.diff(edges) >= 0).all()
        assert ((edges >= 0) & (edges <= len(content))).all()


def test_a_megabyte_of_signs_is_read_in_linear_time():
    assert units(["#" * 1_000_000, "@" * 1_000_000, "a#" * 500_000])[:2] == [[], []]


@pytest.mark.skipif(not SNS.exists(), reason="shared data are not here")
@pytest.mark.parametrize("name", ["weibo_comments.jsonl.zst", "multilingual_social.jsonl.zst"])
def test_real_posts_split_as_in_plain_python(name):
    rows = real_posts(name, 1000)
    assert units(rows) == list(map(expected, rows))
