import pyarrow as pa
from hypothesis import given
from posts import texts

from redone_data.text import reference
from redone_data.text.spaced import spaced
from redone_data.text.words import WordKind


def expected(text, limit=256):
    names = {WordKind.URL: "<url>", WordKind.MENTION: "<user>"}
    units = [names.get(kind, text[start:end]) for start, end, kind in reference.split(text)]
    return [unit.casefold() for unit in units[:limit]]


@given(text=texts())
def test_a_classifier_sees_every_unit_once_between_single_spaces(text):
    found = spaced(pa.array(["skip", text])[1:])[0].as_py()
    assert len(found.split(" ")) == max(len(expected(text)), 1)
    assert not any(character.isspace() and character != " " for character in found if character < "\x80")


def test_links_and_mentions_lose_their_names_and_chinese_is_split_by_character():
    rows = ["Great DEAL @me 加微信 https://t.cn/x #Ad", "", "ÀÉ 😀👍🏽"]
    assert spaced(pa.array(rows)).to_pylist() == ["great deal <user> 加 微 信 <url> #ad", "", "àé 😀 👍🏽"]


def test_a_megabyte_costs_no_more_than_its_first_units():
    assert spaced(pa.array(["字" * 400_000]), limit=3).to_pylist() == ["字 字 字"]
