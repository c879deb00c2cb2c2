"""Units and vectors of topics: what counts as one unit, and that any text is safe."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redone_data.text.topics import MAX_BYTES, NUM_BUCKETS, buckets, embed, nearest


def units(*texts: str) -> list[set[int]]:
    offsets, found = buckets(pa.array(texts, pa.large_string()))
    return [set(found[start:end].tolist()) for start, end in pairwise(offsets)]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("a 1 23 !", 0),
        ("Noodles noodles NOODLES", 1),
        ("noodles,river", 2),
        ("été", 1),
        ("好吃", 1),
        ("好吃面条", 3),
        ("好吃，面条", 2),
        ("好吃noodles面条", 3),
        ("🍜🍜 🍵", 2),
        ("好", 0),
    ],
)
def test_what_is_a_unit(text, count):
    assert len(units(text)[0]) == count


def test_units_do_not_depend_on_where_they_stand():
    one, two, both = units("noodles", "好吃", "好吃 x noodles!")
    assert both == one | two


@given(st.lists(st.text(), max_size=8))
def test_any_texts_give_distinct_buckets_in_range_and_unit_vectors(texts):
    array = pa.array(texts, pa.large_string())
    offsets, found = buckets(array)
    assert len(offsets) == len(texts) + 1
    assert all(len(set(row)) == len(row) for row in np.split(found, offsets[1:-1]))
    assert ((found >= 0) & (found < NUM_BUCKETS)).all()
    draw = np.random.default_rng(1)
    vectors = embed(array, np.arange(NUM_BUCKETS, dtype=np.int32), draw.standard_normal((NUM_BUCKETS, 4)).astype("f4"))
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.allclose(lengths, np.diff(offsets) > 0, atol=1e-3)


def test_vectors_equal_the_plain_sum_of_rows():
    texts = pa.array(["noodles by the river", "好吃的面条 noodles", "..."], pa.large_string())
    row_of = np.where(np.arange(NUM_BUCKETS) % 3 > 0, np.arange(NUM_BUCKETS), -1).astype(np.int32)
    projection = np.random.default_rng(2).standard_normal((NUM_BUCKETS, 8)).astype(np.float32)
    expected = []
    for found in units(*texts.to_pylist()):
        rows = [projection[row_of[bucket]] for bucket in found if row_of[bucket] >= 0]
        total = np.sum(rows, axis=0) if rows else np.zeros(8)
        expected.append(total / (np.linalg.norm(total) or 1))
    assert np.allclose(embed(texts, row_of, projection), expected, atol=1e-5)


def test_a_megabyte_of_text_is_read_at_its_beginning():
    long = "river " * 200_000 + "noodles"
    [found], [river], [noodles] = units(long), units("river"), units("noodles")
    assert river < found
    assert len(found) == 2  # the word that the limit cuts
    assert not noodles & found
    assert units("x" * (2 * MAX_BYTES)) == units("x" * (3 * MAX_BYTES))


def test_the_nearest_center_is_the_one_with_the_largest_product_and_zero_has_none():
    draw = np.random.default_rng(3)
    vectors, centers = draw.standard_normal((50, 6)).astype("f4"), draw.standard_normal((5, 6)).astype("f4")
    vectors[7] = 0
    expected = (vectors.astype("f8") @ centers.T.astype("f8")).argmax(axis=1)
    expected[7] = -1
    assert nearest(vectors, centers).tolist() == expected.tolist()
