import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from posts import EDGES, SNS, assigned, real_posts, texts

from redone_data.text import reference
from redone_data.text.normalize import LABELS, LATIN_STICKERS, TOPICS, normalize
from redone_data.text.plain_text import BLOCK_READ

MARKUP = ("keep", "topics", "strip")
PIECES = [
    *["[", "]", "(", "[话题]", "[Topic]", "[笑哭]", "[微笑R]", "[Wow R]", "[doge]", "[原创]", "#"],
    *["哭", "a", "b", " ", "  ", "\t", "\n", "\n\n", "\u3000", "\u200b", "\u0301", "\u212a", "R", "o"],
]


# Plain text is copied in blocks, but not at the end of the data: a text must be the same in both places.
BEYOND = "x" * 2 * BLOCK_READ


def normal(*rows, **options):
    array = normalize(pa.array(rows, pa.string()), **options)
    array.validate(full=True)
    *with_more, last = normalize(pa.array([*rows, BEYOND], pa.string()), **options).to_pylist()
    assert with_more == array.to_pylist()
    assert last == BEYOND
    return with_more


def pieces():
    """Texts of plain stretches, up to several blocks long, and of what is not plain."""
    plain = st.sampled_from(["word ", "好", "，", "、", "\u2026"]).flatmap(
        lambda piece: st.integers(1, 90).map(lambda times: piece * times)
    )
    return st.lists(st.sampled_from(PIECES) | plain, max_size=30).map("".join)


@given(text=texts())
def test_normalizing_agrees_with_plain_python(text):
    if assigned(text):
        assert normal(text, whitespace="keep", markup="keep") == [reference.normalize(text)]


@given(text=texts() | pieces(), whitespace=st.sampled_from(["keep", "collapse"]), markup=st.sampled_from(MARKUP))
def test_normalizing_twice_changes_nothing_more(text, whitespace, markup):
    once = normal(text, whitespace=whitespace, markup=markup)
    assert normal(*once, whitespace=whitespace, markup=markup) == once


def collapsed(text):
    """The rule for white space, from its definition."""
    blank = r"[^\S\n]"
    text = re.sub(f"{blank}+$", "", text, flags=re.MULTILINE)
    text = re.sub("\n{3,}", "\n\n", text)
    return re.sub(rf"(?<=\S)({blank}){blank}+", r"\1", text)


@given(text=texts() | pieces())
def test_white_space_collapses_as_in_plain_python(text):
    if assigned(text):
        assert normal(text, markup="keep") == [collapsed(reference.normalize(text))]


@given(text=texts() | pieces(), markup=st.sampled_from(MARKUP))
def test_only_brackets_and_white_space_are_ever_missing(text, markup):
    def bare(text):
        return re.sub(r"\s", "", text)

    plain, cleaned = normal(text, markup="keep")[0], normal(text, markup=markup)[0]
    removed = re.compile(r"\[[^\[\]\n]{1,24}\]")
    assert bare(without(removed, plain)) == bare(without(removed, cleaned))


def without(pattern, text):
    """`text` with the pattern taken out until none is left."""
    while (shorter := pattern.sub("", re.sub(r"\s", "", text))) != text:
        text = shorter
    return text


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a   b\t\tc", "a b\tc"),
        ("a \u3000 b", "a b"),
        ("one  \ntwo\t", "one\ntwo"),
        ("a\n\n\n\n\nb\n\nc", "a\n\nb\n\nc"),
        ("a\n \t \n \nb", "a\n\nb"),
        ("def f():\n    if x:\n\treturn  1", "def f():\n    if x:\n\treturn 1"),
        ("- a\n  - b\n\u3000\u3000段落", "- a\n  - b\n\u3000\u3000段落"),
        ("sooooo!!!!!! 哈哈哈哈哈", "sooooo!!!!!! 哈哈哈哈哈"),
    ],
)
def test_repeated_white_space_becomes_one_and_indentation_stays(text, expected):
    assert normal(text) == [expected]
    assert normal(text, whitespace="keep") == [text.strip()]


TOPIC_CASES = [
    ("#咖啡[话题]# 好喝", "#咖啡# 好喝"),
    ("#coffee[Topic]##tea[topic]#", "#coffee##tea#"),
    ("# slow cooking [Topic]#", "# slow cooking #"),
    ("#旅行[超话]#", "#旅行#"),
    ("see [Topic](https://example.com)", None),
]
STICKER_CASES = [
    ("太好笑了[笑哭][笑哭][doge]", "太好笑了"),
    ("早安[太阳] 出门啦", "早安 出门啦"),
    ("早安 [太阳] 出门啦", "早安 出门啦"),
    ("[微笑R]谢谢[派对R]", "谢谢"),
    ("so cute[ShyR][Wow R]!", "so cute!"),
    ("走起[笑cry][bed凌乱][hold住]", "走起"),
    ("一[泪]\n二", "一\n二"),
    ("[笑[哭]]", ""),
    ("[愛你]", ""),
    ("[原创] 新作 [图片][视频]", None),
    ("[链接](https://example.com) ![图](a.png)", None),
    ("[微笑](https://example.com)", None),
    ("a[0] = b[i]; x = ['微笑', 1]", None),
    ("[1] Smith [2019]; [sic] [here] [OC] [H] [PSA] [US] [1920x1080]", None),
    ("[中国人民银行] [中国,上海] [] [ ] [R] [OR] [xR] tail", "[中国人民银行] [中国,上海] [] [ ] [R] [OR] tail"),
    ("[ x ] [-] [...] [哈 哈] [哈哈", None),
    ("【笑哭】", None),
]


@pytest.mark.parametrize(("text", "expected"), TOPIC_CASES)
def test_marks_of_topics_go_and_their_hashtags_stay(text, expected):
    expected = text if expected is None else expected
    assert normal(text) == [expected]
    assert normal(text, markup="strip") == [expected]
    assert normal(text, markup="keep") == [text]


@pytest.mark.parametrize(("text", "expected"), STICKER_CASES)
def test_stickers_go_only_when_asked_and_other_brackets_never(text, expected):
    assert normal(text, markup="strip") == [text if expected is None else expected]
    assert normal(text) == [text]


def test_every_listed_name_in_brackets_is_told():
    for markup, names in (("topics", TOPICS), ("strip", TOPICS + LATIN_STICKERS)):
        assert normal(*[f"a[{name}]b" for name in names], markup=markup) == ["ab"] * len(names)
    labels = [f"a[{name}]b" for name in LABELS]
    assert normal(*labels, markup="strip") == labels


def test_edge_cases_agree_with_plain_python_in_one_batch():
    rows = [*EDGES, "e\u0301 中 " * 150_000]
    assert normal(*rows, whitespace="keep", markup="keep") == list(map(reference.normalize, rows))


@pytest.mark.parametrize("text", [" " * 200_000, "\n" * 200_000, "a\n" + " " * 200_000, "[" * 200_000, "[笑]" * 60_000])
def test_a_text_made_to_be_slow_is_not(text):
    assert len(normal(text, markup="strip")) == 1


def test_no_rows_give_no_rows():
    assert normal() == []


@pytest.mark.skipif(not SNS.exists(), reason="shared data are not here")
@pytest.mark.parametrize("name", ["weibo_comments.jsonl.zst", "multilingual_social.jsonl.zst"])
def test_real_posts_normalize_as_in_plain_python(name):
    rows = real_posts(name, 2000)
    plain = list(map(reference.normalize, rows))
    assert normal(*rows, whitespace="keep", markup="keep") == plain
    assert normal(*rows, markup="keep") == list(map(collapsed, plain))
