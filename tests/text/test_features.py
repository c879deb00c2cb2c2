import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posts import EDGES, SNS, real_posts, texts

from redone_data.text import reference
from redone_data.text.features import METRICS, features


def agree(rows):
    table = features(pa.array(["skip", *rows], pa.string())[1:])
    assert table.columns == list(METRICS)
    for text, row in zip(rows, table.iter_rows(named=True), strict=True):
        assert row == pytest.approx(reference.features(text), abs=1e-12)


@given(rows=texts().map(lambda text: [text, "a a a", text]))
@settings(max_examples=300)
def test_features_agree_with_plain_python(rows):
    agree(rows)


def test_edge_cases_and_a_megabyte_agree_with_plain_python():
    agree([*EDGES, "- the 好 word... #tag\n" * 30_000])


@given(words=st.lists(st.sampled_from(["a", "b", "c", "the", "Ｔｈｅ", "好", "1", "it's"]), min_size=60, max_size=90))
def test_repeats_in_texts_of_either_length_agree_with_plain_python(words):
    agree([" ".join(words)])


def test_threads_change_no_metric():
    array = pa.array([f"post {i} " * (i % 9) for i in range(50)])
    assert features(array).equals(features(array, threads=3))


def test_no_rows_keep_the_columns():
    assert features(pa.array([], pa.string())).columns == list(METRICS)


@pytest.mark.parametrize(
    ("text", "metric", "value"),
    [
        ("one two one two", "top_ngram_fraction", 1.0),
        ("one two three", "top_ngram_fraction", 0.0),
        ("a b c d e a b c d e", "duplicate_ngram_fraction", 0.5),
        ("same\nsame\nother\n\n", "duplicate_line_fraction", 1 / 3),
        ("- a\n• b\nc...", "bullet_line_fraction", 2 / 3),
        ("- a\n• b\nc...", "ellipsis_line_fraction", 1 / 3),
        ("The THE of it", "stop_word_count", 2),
        ("#a @b http://c.d 😂", "hashtag_fraction", 0.25),
        ("#a @b http://c.d 😂", "emoji_fraction", 0.25),
        ("中文ab", "cjk_fraction", 0.5),
        ("ABcd", "uppercase_fraction", 0.5),
        ("日本のテスト", "kana_fraction", 4 / 6),
        ("привет", "cyrillic_fraction", 1.0),
        ("", "mean_word_length", 0.0),
    ],
)
def test_a_metric_means_what_it_says(text, metric, value):
    assert features(pa.array([text]))[metric][0] == pytest.approx(value)


@pytest.mark.skipif(not SNS.exists(), reason="shared data are not here")
@pytest.mark.parametrize(
    "name", ["weibo_comments.jsonl.zst", "reddit_posts.jsonl.zst", "multilingual_social.jsonl.zst"]
)
def test_real_posts_measure_as_in_plain_python(name):
    agree(real_posts(name, 300))
