import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redact_cases import CASES

from redone_data.errors import RedoneError
from redone_data.text.personal_data import ALL, KINDS
from redone_data.text.redact import candidate_rows, redact

LABELLED = [(kind, text, text if expected is None else expected) for kind in CASES for text, expected in CASES[kind]]


@pytest.mark.parametrize(("kind", "text", "expected"), LABELLED)
def test_personal_data_go_and_look_alikes_stay(kind, text, expected):
    redacted, counts = redact(pa.array([text]))
    assert redacted.to_pylist() == [expected]
    for name, found in counts.items():
        assert found.tolist() == [expected.count(KINDS[name].placeholder)]


@pytest.mark.parametrize("kind", ALL)
def test_the_prefilter_of_a_kind_misses_no_case_of_it(kind):
    for text, expected in CASES[kind]:
        if expected is not None and expected != text:
            assert len(candidate_rows(pa.array([text], pa.large_string()), [kind])) == 1, text


def test_rows_keep_their_places_and_their_counts():
    rows = ["none", "a@b.com c@d.com", "", "电话13812345678"]
    redacted, counts = redact(pa.chunked_array([["skip"], rows]).slice(1))
    assert redacted.to_pylist() == ["none", "<EMAIL> <EMAIL>", "", "电话<PHONE>"]
    assert counts["email"].tolist() == [0, 2, 0, 0]
    assert counts["phone"].tolist() == [0, 0, 0, 1]
    assert counts["ip"].dtype == np.uint32


def test_only_the_kinds_asked_for_go():
    redacted, counts = redact(pa.array(["a@b.com 13812345678"]), ["phone"])
    assert redacted.to_pylist() == ["a@b.com <PHONE>"]
    assert list(counts) == ["phone"]


PIECES = [
    *[
        *"0123456789 -.:：@+xX/，我",
        "微信",
        "QQ",
        "vx",
        "a@b.com",
        "13812345678",
        "010-62345678",
        "10.0.0.1",
        "<PHONE>",
    ],
    *["4111111111111111", "11010519491231002X", "fe80::1", "http://", "订单号", "v", "abc_12"],
]


@given(text=st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_redacting_twice_changes_nothing_more(text):
    once, _ = redact(pa.array([text]))
    twice, counts = redact(once)
    assert twice.to_pylist() == once.to_pylist()
    assert not any(found.any() for found in counts.values())


@pytest.mark.parametrize("text", ["1" * 200_000, "1 " * 100_000, "a." * 100_000, "a@" * 100_000, "::" * 100_000])
def test_a_text_made_to_be_slow_is_not(text):
    assert len(redact(pa.array([text]))[0]) == 1


def test_no_rows_give_no_rows():
    assert redact(pa.array([], pa.string()))[0].to_pylist() == []


def test_an_unknown_kind_is_refused_with_the_nearest_name():
    with pytest.raises(RedoneError, match="did you mean 'email'"):
        redact(pa.array(["a"]), ["emial"])
