import mmh3
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redone_data.errors import RedoneError
from redone_data.text import reference
from redone_data.text.hashing import from_hex, hash128, mix64, to_hex


@given(rows=st.lists(st.text(max_size=60)), seed=st.integers(0, 2**32 - 1))
def test_ids_equal_those_of_mmh3(rows, seed):
    hi, lo = hash128(pa.array(rows, pa.string()), seed)
    assert list(zip(hi.tolist(), lo.tolist(), strict=True)) == [
        mmh3.hash64(row.encode(), seed, signed=False) for row in rows
    ]
    halves = [mmh3.hash_bytes(row.encode(), seed) for row in rows]
    assert hi.astype("<u8").tobytes() == b"".join(half[:8] for half in halves)
    assert lo.astype("<u8").tobytes() == b"".join(half[8:] for half in halves)


@pytest.mark.parametrize("size", range(34))
def test_every_tail_length_hashes_as_mmh3(size):
    text = "z" * size
    hi, lo = hash128(pa.array(["skip", text])[1:])
    assert (int(hi[0]), int(lo[0])) == mmh3.hash64(text, signed=False)


@given(pairs=st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))))
def test_hexadecimal_ids_round_trip_and_sort_as_numbers(pairs):
    hi, lo = np.array(pairs, np.uint64).reshape(-1, 2).T
    array = to_hex(hi, lo)
    assert array.to_pylist() == [f"{a:016x}{b:016x}" for a, b in pairs]
    assert sorted(array.to_pylist()) == [f"{a:016x}{b:016x}" for a, b in sorted(pairs)]
    again = from_hex(array)
    assert (again[0] == hi).all()
    assert (again[1] == lo).all()


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "g" + "0" * 31, "A" * 32])
def test_an_id_that_is_not_one_is_refused_with_its_row(text):
    with pytest.raises(RedoneError, match="row 1"):
        from_hex(pa.array(["0" * 32, text]))


def test_a_seed_out_of_range_is_refused():
    with pytest.raises(RedoneError, match="4294967295"):
        hash128(pa.array(["a"]), -1)


@given(value=st.integers(0, 2**64 - 1))
def test_mixing_agrees_with_plain_python(value):
    assert int(mix64(np.uint64(value))) == reference.mix64(value)
