import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from posts import EDGES, SNS, real_posts, texts

from redone_data.text import chinese, reference
from redone_data.text.characters import HAN, KANA, LATIN, OTHER_LETTER
from redone_data.text.letters import HANS, HANT, LETTERS, TALLIES, first_letters

NAMES = ["other", "latin", "cyrillic", "arabic", "thai", "hangul", "han", "kana"]


def found(rows, limit=200):
    letters = first_letters(pa.array(["skip", *rows])[1:], limit)
    data = letters.data.tobytes()
    spans = zip(letters.offsets[:-1], letters.offsets[1:], strict=True)
    return [data[begin:end].decode() for begin, end in spans], letters.tally_NT


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("Hello WORLD", "hello world"),
        ("see https://t.co/Abc now", "see now"),
        ("@user_1 好 (RT @张三: hi)", "好 rt hi"),
        ("call <PHONE> or <b>me</b>", "call or b me b"),
        ("#OOTD #穿搭# 2024!!!", "ootd 穿搭"),
        ("don’t 'quote' well-known --", "don't quote well-known"),
        ("gr8 m8", "gr m"),
        ("ÀÉ ΑΒΓ ПРИВЕТ İ", "àé αβγ привет İ"),
        ("(╯°□°)╯ 😀 666", ""),
        ("cafe\u0301", "cafe\u0301"),
        ("", ""),
    ],
)
def test_only_letters_reach_the_model(text, letters):
    assert found([text])[0] == [letters]


def test_a_long_post_costs_no_more_than_its_beginning():
    texts_found, _ = found(["ab " * 500_000, "字" * 1_000_000], limit=10)
    assert texts_found == ["ab ab ab a", "字" * 10]


def test_scripts_are_counted_in_bytes_and_repeated_letters_once():
    _, tally_NT = found(["ok 哈哈", "hhhhhh", "かな漢字", "這個们"])
    assert tally_NT[:, LATIN].tolist() == [2, 6, 0, 0]
    assert tally_NT[:, HAN].tolist() == [6, 0, 6, 9]
    assert tally_NT[:, KANA].tolist() == [0, 0, 6, 0]
    assert tally_NT[:, LETTERS].tolist() == [3, 1, 4, 3]
    assert tally_NT[3, [HANS, HANT]].tolist() == [1, 2]


@given(text=texts())
@settings(max_examples=300)
def test_letters_are_valid_text_and_each_is_counted_in_its_script(text):
    (letters,), tally_NT = found([text], limit=10**6)
    assert tally_NT.shape == (1, TALLIES)
    scripts = [reference.script(character) for character in letters if unicodedata.category(character)[0] != "M"]
    for index, name in enumerate(NAMES, OTHER_LETTER):
        members = [c for c in letters if reference.script(c) == name]
        assert tally_NT[0, index] == len("".join(members).encode()), (name, scripts)
    assert not re.search(r"\d|  |^ | $", letters)


@given(text=texts())
def test_the_texts_around_do_not_matter(text):
    alone, tally = found([text])
    among, tallies = found(["don't @a", text, "好 <PHONE"])
    assert among[1] == alone[0]
    assert np.array_equal(tallies[1], tally[0])


@pytest.mark.skipif(not SNS.exists(), reason="shared data are not here")
def test_real_posts_and_edges_become_valid_text():
    rows = [*EDGES, *real_posts("multilingual_social.jsonl.zst", 2000)]
    letters, tally_NT = found(rows)
    assert all(len(text) <= 201 for text in letters)
    assert (tally_NT.sum(axis=1) > 0).mean() > 0.9


def test_the_tables_of_chinese_characters_are_those_that_opencc_gives():
    opencc = pytest.importorskip("opencc")
    to_traditional, to_simplified = opencc.OpenCC("s2t"), opencc.OpenCC("t2s")

    def encoded(character, charset):
        try:
            return character.encode(charset)
        except UnicodeEncodeError:
            return b""

    simplified, traditional = "", ""
    for character in map(chr, range(chinese.FIRST_IDEOGRAPH, chinese.LAST_IDEOGRAPH + 1)):
        gb, big5 = encoded(character, "gb2312"), encoded(character, "big5")
        if gb and gb < b"\xd8\x00" and not big5 and to_traditional.convert(character) != character:
            simplified += character
        if big5 and big5 < b"\xc9\x40" and not gb and to_simplified.convert(character) != character:
            traditional += character
    assert simplified == chinese.ONLY_SIMPLIFIED
    assert traditional == chinese.ONLY_TRADITIONAL
