import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from posts import EDGES, texts
from runs import words_of

from redone_data.errors import RedoneError
from redone_data.text.hash_table import build_table, find_keys
from redone_data.text.windows import windows


def expected(rows: list[str], size: int) -> list[list[tuple[tuple[str, ...], int, int]]]:
    listed = [words_of(row) for row in rows]
    return [
        [
            (tuple(word for word, _, _ in words[i : i + size]), words[i][1], words[i + size - 1][2])
            for i in range(len(words) - size + 1)
        ]
        for words in listed
    ]


@given(st.lists(texts(), max_size=4), st.integers(1, 5))
def test_windows_agree_with_plain_python(rows, size):
    rows = [*rows, *EDGES]
    found = windows(pa.array(["skip", *rows])[1:], size)
    runs, hash_of = expected(rows, size), {}
    for row, (begin, end) in enumerate(zip(found.offsets[:-1], found.offsets[1:], strict=True)):
        assert [(a, b) for _, a, b in runs[row]] == list(
            zip(found.starts[begin:end].tolist(), found.ends[begin:end].tolist(), strict=True)
        )
        for (run, _, _), value in zip(runs[row], found.hashes[begin:end].tolist(), strict=True):
            assert hash_of.setdefault(run, value) == value
    assert len(set(hash_of.values())) == len(hash_of)


def test_a_megabyte_of_text_has_all_its_windows():
    found = windows(pa.array(["好 word's #tag " * 60_000, "a b"]), 50)
    assert np.diff(found.offsets).tolist() == [180_000 - 49, 0]
    assert len(np.unique(found.hashes)) == 3


def test_punctuation_case_width_and_emoji_between_words_change_no_window():
    a, b = "Today, I saw a CAT!! 今天真好", "today I saw 😂 a Ｃａｔ… 今天，真好 @friend http://t.cn/a"
    found = windows(pa.array([a, b]), 3)
    assert found.hashes[: found.offsets[1]].tolist() == found.hashes[found.offsets[1] :].tolist()


def test_a_window_without_words_is_refused():
    with pytest.raises(RedoneError, match="at least 1 word"):
        windows(pa.array(["a"]), 0)


@given(st.sets(st.integers(0, 2**64 - 1), max_size=50), st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_a_hash_table_knows_its_keys_and_no_others(keys, others):
    # Low bits alike: the worst that open addressing meets.
    keys = sorted(keys | {key & ~0xFFFF for key in keys})
    table = np.array(keys, np.uint64)
    asked = [*keys, *others]
    found = find_keys(build_table(table), table, np.array(asked, np.uint64))
    assert found.tolist() == [keys.index(value) if value in keys else -1 for value in asked]
