import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redone_data.errors import RedoneError
from redone_data.text.buffers import from_buffers, replace_rows, string_buffers


def read(array):
    offsets, data = string_buffers(array)
    return [bytes(data[a:b]).decode() for a, b in itertools.pairwise(offsets)]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
@given(rows=st.lists(st.text(max_size=20)), cut=st.integers(0, 5), parts=st.integers(1, 3))
def test_texts_are_read_whole_from_any_string_type_slice_and_chunking(kind, rows, cut, parts):
    array = pa.array(rows, kind)
    assert read(array) == rows
    assert read(array[cut:]) == rows[cut:]
    assert read(array[cut:-1] if rows else array) == (rows[cut:-1] if rows else [])
    assert read(pa.chunked_array([array[cut:]] * parts, kind)) == rows[cut:] * parts
    assert read(pa.chunked_array([], kind)) == []


def test_large_strings_are_not_copied():
    array = pa.array(["ab", "c"], pa.large_string())
    assert string_buffers(array).data.ctypes.data == array.buffers()[2].address


@given(rows=st.lists(st.text(max_size=20)))
def test_buffers_round_trip_to_arrow(rows):
    array = from_buffers(*string_buffers(pa.array(rows, pa.string())))
    array.validate(full=True)
    assert array.to_pylist() == rows
    assert from_buffers(*string_buffers(array[1:])).to_pylist() == rows[1:]


@pytest.mark.parametrize("array", [pa.array(["a", None]), pa.chunked_array([["a"], [None]], pa.string())])
def test_a_null_text_is_refused_by_name(array):
    with pytest.raises(RedoneError, match="1 of 2 texts are null"):
        string_buffers(array)


def test_a_column_of_numbers_is_refused_with_its_type():
    with pytest.raises(RedoneError, match="int64"):
        string_buffers(pa.array([1]))


def test_replaced_rows_land_where_they_belong():
    array = pa.array(["a", "b", "c"], pa.large_string())
    rows = pa.array([0, 2]).to_numpy()
    assert replace_rows(array, rows, pa.array(["x", "z"])).to_pylist() == ["x", "b", "z"]
