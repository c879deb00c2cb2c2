"""Duplicates among the rows of a table."""

import pyarrow as pa

from redone_data.curate.near import NearConfig
from redone_data.instruct.alike import find_duplicates

POST = "The noodle shop round the corner has a new soup with beef and coriander and it is very good on a cold day"


def keepers(texts: list[str], ids: list[str], near: NearConfig = NearConfig()) -> dict[str, str]:
    found = find_duplicates([pa.array(texts, pa.string())], pa.array(ids, pa.string()), near)
    return {ids[row]: ids[keeper] for row, keeper in enumerate(found.keeper.tolist()) if keeper >= 0}


def test_equal_and_nearly_equal_rows_go_and_name_the_row_that_stays_whatever_their_order() -> None:
    texts = [POST, POST, POST.replace("beef", "pork"), "something else altogether, about a train to the coast", "", ""]
    ids = list("abcdef")
    found = keepers(texts, ids)
    assert len(found) == 2
    kept = next(iter(set("abc") - set(found)))
    assert set(found.values()) == {kept}
    assert keepers(texts[::-1], ids[::-1]) == found


def test_without_near_only_equal_texts_go() -> None:
    texts = [POST, POST, POST.replace("beef", "pork")]
    assert len(keepers(texts, list("abc"), NearConfig(enabled=False))) == 1


def test_a_crowd_of_equal_rows_leaves_one() -> None:
    texts = [f"{POST} {number}" for number in range(40)]
    assert len(keepers(texts, [str(number) for number in range(40)])) == 39


def test_no_rows_are_no_duplicates() -> None:
    assert keepers([], []) == {}


def test_rows_that_differ_in_one_column_are_two_rows_however_long_the_other_is() -> None:
    notes, questions = pa.array([POST, POST, POST]), pa.array(["where is it", "what does it cost", "where is it?"])
    found = find_duplicates([notes, questions], pa.array(list("abc")), NearConfig(threshold=0.7))
    assert found.keeper[1] == -1
    assert sorted(found.keeper[[0, 2]].tolist()) in ([-1, 0], [-1, 2])
