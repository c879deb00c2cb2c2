import polars as pl
import pyarrow as pa
import pytest

from redone_data.curate.language import LanguageModel, matches, model_path
from redone_data.errors import RedoneError


def identify(*rows):
    languages, confidence = LanguageModel.load(None).identify(pa.array(rows))
    return dict(zip(rows, zip(languages, confidence.tolist(), strict=True), strict=True))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("今天天气真好，我们去公园吧", "zh-hans"),
        ("今天天氣真好，我們去公園吧", "zh-hant"),
        ("大家好", "zh"),
        ("我の家很大，欢迎来玩", "zh-hans"),
        ("今日はとても天気がいいですね", "ja"),
        ("오늘 날씨가 정말 좋아요", "ko"),
        ("วันนี้อากาศดีมาก", "th"),
        ("The weather was lovely today", "en"),
        ("THE WEATHER WAS LOVELY TODAY", "en"),
        ("Il faisait très beau aujourd'hui au parc", "fr"),
        ("Сегодня очень хорошая погода", "ru"),
        ("اليوم الطقس جميل جدا", "ar"),
        ("我在Starbucks点了一杯Latte然后去逛街", "zh-hans"),
        ("@someone https://example.com/a 今天好开心", "zh-hans"),
    ],
)
def test_a_clear_post_is_told(text, language):
    assert identify(text)[text][0] == language


def test_posts_that_cannot_tell_are_not_sure_enough_to_be_dropped():
    unclear = [
        "ok",
        "lol",
        "hhhhhh",
        "哈",
        "QAQ",
        "T_T",
        "233333",
        "😀😀",
        "(´・ω・`)",
        "@a",
        "https://a.b/c",
        "nice 哈哈 one ok",
    ]
    found = identify(*unclear)
    assert {text for text, (_, sure) in found.items() if sure >= 0.7} == set()
    assert {text for text, (language, sure) in found.items() if language == "und" and sure == 0} >= {
        *["233333", "😀😀", "(´・ω・`)", "@a", "https://a.b/c"]
    }


def test_more_of_the_same_makes_surer_and_a_repeated_letter_does_not():
    found = identify("加油", "我们一起加油", "我们一起加油，明天会更好", "哈哈", "哈哈哈哈哈哈哈哈")
    sure = [confidence for _, confidence in found.values()]
    assert sure[0] < sure[1] < sure[2]
    assert sure[3] == sure[4]


def test_the_batch_a_post_is_in_does_not_change_its_answer():
    rows = ["hello world my friends", "今天好", "", "123", "bonjour à tous", "ok 哈哈", "é"]
    together = identify(*rows)
    assert all(identify(row)[row] == together[row] for row in rows)
    languages, confidence = LanguageModel.load(None).identify(pa.array([], pa.large_string()))
    assert isinstance(languages, pl.Series)
    assert len(languages) == len(confidence) == 0


def test_an_allowed_language_allows_its_writings_and_no_other():
    assert matches("zh-hans", "zh")
    assert matches("zh", "zh")
    assert not matches("zh", "zh-hans")
    assert not matches("zh-hant", "zh-hans")
    assert not matches("zhx", "zh")


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RedoneError, match=r"is not a file; give the path of lid\.176\.ftz"):
        model_path(str(tmp_path / "none.ftz"))
