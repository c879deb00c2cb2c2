import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from posts import EDGES, SNS, real_posts, texts

from redone_data.errors import RedoneError
from redone_data.text import reference
from redone_data.text.minhash import (
    EMPTY_BAND_KEY,
    band_factors,
    band_keys,
    jaccard,
    permutations,
    shingles,
    signatures,
    text_band_keys,
    text_signatures,
)


def hashes(rows, ngram=3):
    found = shingles(pa.array(["skip", *rows])[1:], ngram)
    return [found.hashes[a:b].tolist() for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


@given(text=texts())
def test_shingles_agree_with_plain_python(text):
    for ngram in (1, 3):
        assert hashes([text], ngram) == [reference.shingles(text, ngram)]


def test_edge_cases_and_a_megabyte_agree_with_plain_python():
    rows = [*EDGES, "好 word's #tag " * 60_000]
    assert hashes(rows) == list(map(reference.shingles, rows))


@given(text=texts())
def test_every_text_with_something_in_it_has_a_shingle(text):
    assert bool(hashes([text])[0]) == bool(text.strip())


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Good Morning everyone", "good morning EVERYONE"),
        ("Ｈｅｌｌｏ world", "hello world"),
        ("so true #blessed", "so true blessed"),
        ("#话题#正文在这里", "话题正文在这里"),
        ("look at this http://t.cn/a", "look at this http://t.cn/b @friend"),
    ],
)
def test_posts_that_differ_in_case_width_signs_or_links_are_duplicates(left, right):
    a, b = hashes([left, right])
    assert a == b


@pytest.mark.parametrize(
    ("left", "right"), [("http://t.cn/a", "http://t.cn/b"), ("@ann", "@bob"), ("😂", "👍"), ("!!", "??")]
)
def test_posts_without_words_are_told_apart_by_what_they_hold(left, right):
    a, b = hashes([left, right])
    assert a != b


def agree_on_signatures(rows):
    array = pa.array(["skip", *rows])[1:]
    signed = signatures(shingles(array), 10, seed=3)
    factors, terms = (part.tolist() for part in permutations(10, 3))
    assert signed.tolist() == [reference.signature(reference.shingles(row), factors, terms) for row in rows]
    assert (text_signatures(array, num_perm=10, seed=3) == signed).all()
    factors, terms = (part.tolist() for part in band_factors(2, 5))
    keys = band_keys(signed, 2, 5)
    assert keys.tolist() == [reference.band_keys(row, factors, terms) for row in signed.tolist()]
    assert (text_band_keys(array, bands=2, rows=5, seed=3) == keys).all()


@given(text=texts())
def test_signatures_and_keys_agree_with_plain_python(text):
    agree_on_signatures([text, "", text])


def test_signatures_of_edge_cases_and_a_megabyte_agree_with_plain_python():
    agree_on_signatures([*EDGES, "a b c d", "好 word's Ｆｕｌｌ #tag " * 40_000])


def test_threads_change_no_signature_or_key():
    array = pa.array([f"post number {i} about things {i % 7}" for i in range(101)])
    found = shingles(array)
    assert (signatures(found) == signatures(found, threads=3)).all()
    assert (signatures(found) == text_signatures(array, threads=3)).all()
    assert (text_band_keys(array) == text_band_keys(array, threads=200)).all()


def test_empty_posts_are_duplicates_of_nothing():
    found = shingles(pa.array(["", "  \n", "text", "\u3000"]))
    keys = band_keys(signatures(found))
    assert (keys == text_band_keys(pa.array(["", "  \n", "text", "\u3000"]))).all()
    assert (keys[[0, 1, 3]] == EMPTY_BAND_KEY).all()
    assert (keys[2] != EMPTY_BAND_KEY).all()
    assert jaccard(found, np.array([0, 0, 2]), np.array([1, 0, 2])).tolist() == [0.0, 0.0, 1.0]


@given(left=texts(), right=texts())
def test_jaccard_is_that_of_the_sets(left, right):
    a, b = set(reference.shingles(left)), set(reference.shingles(right))
    got = jaccard(shingles(pa.array([left, right])), np.array([0, 1]), np.array([1, 0]))
    assert got.tolist() == [len(a & b) / len(a | b) if a | b else 0.0] * 2


def planted(number=400, words=20):
    """Posts, and each again with one word changed."""
    rng = np.random.default_rng(0)
    posts = [[f"w{word}" for word in rng.integers(0, 5000, words)] for _ in range(number)]
    changed = [[*post[:9], "changed", *post[10:]] for post in posts]
    return [" ".join(post) for post in [*posts, *changed]]


def test_estimated_similarity_is_unbiased():
    rows = planted()
    found = shingles(pa.array(rows))
    left, right = np.arange(400), np.arange(400, 800)
    exact = jaccard(found, left, right)
    signed = signatures(found)
    estimate = (signed[left] == signed[right]).mean(axis=1)
    assert abs((estimate - exact).mean()) < 0.01
    assert np.sqrt(((estimate - exact) ** 2).mean()) < 1.3 * np.sqrt((exact * (1 - exact)).mean() / 125)


def test_planted_near_duplicates_share_a_band_and_strangers_do_not():
    keys = band_keys(signatures(shingles(pa.array(planted()))))
    assert (keys[:400] == keys[400:]).any(axis=1).mean() > 0.97
    assert (keys[:399] == keys[401:]).any(axis=1).mean() == 0


def test_settings_that_cannot_be_are_refused():
    found = shingles(pa.array(["a"]))
    with pytest.raises(RedoneError, match="ngram is 0"):
        shingles(pa.array(["a"]), 0)
    with pytest.raises(RedoneError, match="125 minima"):
        band_keys(signatures(found, 100))
    with pytest.raises(RedoneError, match="rows 0 to 0"):
        jaccard(found, np.array([0]), np.array([1]))
    with pytest.raises(RedoneError, match="num_perm is 0"):
        signatures(found, 0)
    with pytest.raises(RedoneError, match="bands is 0"):
        text_band_keys(pa.array(["a"]), bands=0)
    with pytest.raises(RedoneError, match="threads is 0"):
        text_signatures(pa.array(["a"]), threads=0)
    with pytest.raises(RedoneError, match="seed is -1"):
        text_signatures(pa.array(["a"]), seed=-1)


@pytest.mark.skipif(not SNS.exists(), reason="shared data are not here")
def test_real_posts_shingle_as_in_plain_python():
    rows = real_posts("multilingual_social.jsonl.zst", 500)
    assert hashes(rows) == list(map(reference.shingles, rows))
