"""Pairs from structure: what is chosen is right, what is rejected is wrong and of the same form."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_data import CITIES, LETTERS, check_conserved, choices, conversation, make, write_jsonl

from redone_data.instruct.answers import FORMATS, read_format
from redone_data.instruct.pairs.wrong import Known, wrong_answers

FORMS = [
    ({"kind": "choice", "options": ["joy", "anger", "fear"]}, "joy"),
    ({"kind": "choice", "options": ["joy", "anger", "fear"], "by": "letter"}, "fear"),
    ({"kind": "yes_no"}, True),
    ({"kind": "grade", "grades": [-1, 0, 1, 2, 3]}, 2),
    ({"kind": "labels", "options": ["tea", "cake", "milk"]}, ["tea", "cake"]),
    ({"kind": "labels", "options": ["tea", "cake"]}, ["tea", "cake"]),
    ({"kind": "labels"}, ["tea", "rice"]),
    ({"kind": "labels"}, []),
    ({"kind": "path", "levels": 2}, ["Food", "Tea"]),
    ({"kind": "path", "levels": 2, "options": [["Food", "Home"], ["Tea", "Pans"]]}, ["Home", "Pans"]),
    ({"kind": "fields", "fields": {"why": {"kind": "text"}, "ok": {"kind": "yes_no"}}}, {"why": "rain", "ok": False}),
]
POOL = ("Food | Cake", "Food | Tea", "Sport | Run", "rice", "tea", "cake")


@pytest.mark.parametrize(("form", "gold"), FORMS)
@settings(deadline=None)
@given(draws=st.lists(st.floats(0, 0.999999), min_size=1, max_size=4))
def test_a_wrong_answer_is_never_the_right_one_and_its_own_parser_reads_it(form, gold, draws):
    reads = read_format(form)
    found = wrong_answers(
        reads, gold, Known({}, tuple(p for p in POOL if ("|" in p) == (form["kind"] == "path"))), draws
    )
    assert found
    written = [reads.render(one.answer) for one in found]
    assert len(set(written)) == len(written) <= len(draws)
    for text in written:
        assert reads.parse(text) != gold
        assert reads.parse(text) is not None


def test_every_form_of_answer_either_has_wrong_answers_or_is_known_to_have_none():
    assert {form["kind"] for form, _ in FORMS} | {"text", "spans"} == set(FORMATS)
    for kind in ("text", "spans"):
        assert wrong_answers(read_format({"kind": kind}), ["a"], Known(), [0.5]) == []


def test_what_a_model_confuses_is_drawn_as_often_as_it_does():
    form = read_format({"kind": "choice", "options": ["joy", "anger", "fear", "love"]})
    known = Known({"joy": {"love": 3, "anger": 1}}, hard_share=0.8)
    draws = [i / 1000 for i in range(1000)]
    drawn = Counter(wrong_answers(form, "joy", known, [draw])[0].answer for draw in draws)
    assert drawn["love"] == pytest.approx(0.8 * 750 + 200 / 3, abs=2)
    assert drawn["anger"] == pytest.approx(0.8 * 250 + 200 / 3, abs=2)
    assert drawn["fear"] == pytest.approx(200 / 3, abs=2)


def test_without_confusions_the_next_grade_and_the_path_that_parts_late_come_first():
    sure = Known({}, POOL[:3], hard_share=1.0)
    grade = read_format({"kind": "grade", "grades": [0, 1, 2, 3]})
    assert {wrong_answers(grade, 3, sure, [d])[0].answer for d in (0.0, 0.5, 0.99)} == {2}
    path = read_format({"kind": "path", "levels": 2})
    assert wrong_answers(path, ["Food", "Tea"], sure, [0.7])[0].answer == ["Food", "Cake"]


def test_chosen_is_the_gold_letter_and_the_right_option_stands_everywhere_equally_often(tmp_path):
    write_jsonl(tmp_path / "set.jsonl", choices(400))
    made = make(tmp_path, {"structure": {"city": {"conversations": ["set.jsonl"], "wrong_per_prompt": 3}}})
    assert made.code == 0, made.said
    check_conserved(made)
    golds = {row["messages"][0]["content"]: row["messages"][1]["content"] for row in choices(400)}
    for pair in made.pairs:
        assert pair.chosen[0].content == golds[pair.prompt[0].content] != pair.rejected[0].content
        assert pair.rejected[0].content in LETTERS
        assert (pair.kind, pair.margin, pair.weak) == ("structure", 1.0, False)
    found = made.manifest["sets"]["city"]
    right_at = found["positions"]["after"]["right_at"]
    assert max(right_at.values()) <= 1.15 * min(right_at.values())
    assert 0.4 < found["positions"]["after"]["chosen_first"] < 0.6
    assert found["splits"].keys() == {"train", "held_out"}
    per_prompt = Counter(pair.prompt for pair in made.pairs)
    assert max(per_prompt.values()) == 2  # select.pairs_per_prompt


def test_places_that_are_right_too_often_are_thinned(tmp_path):
    rows = [row for row in choices(600) if row["messages"][1]["content"] == "A" or int(row["id"], 16) % 3 == 0]
    write_jsonl(tmp_path / "set.jsonl", rows)
    found = make(tmp_path, {"structure": {"city": {"conversations": ["set.jsonl"]}}}).manifest["sets"]["city"]
    before, after = (found["positions"][when]["right_at"] for when in ("before", "after"))
    assert before["0"] > 2 * before["1"]
    assert max(after.values()) <= 1.15 * min(after.values()) + 1
    assert found["dropped"]["position_balance"] == found["candidates"] - found["pairs"]


def test_a_scored_model_s_answers_decide_which_options_are_rejected(tmp_path):
    rows = choices(200)
    write_jsonl(tmp_path / "set.jsonl", rows)
    answers = []
    for row in rows:  # the model takes everything for Oslo, where it can
        options = row["format"]["options"]
        text = LETTERS[options.index("Oslo")] if "Oslo" in options else "no idea"
        answers.append({"id": row["id"], "key": "x", "answers": [f"The answer is: {text}."]})
    write_jsonl(tmp_path / "answers.jsonl", answers)
    structure = {"conversations": ["set.jsonl"], "answers": ["answers.jsonl"], "hard_share": 1.0}
    made = make(tmp_path, {"structure": {"city": structure}})
    assert made.code == 0, made.said
    options = {row["messages"][0]["content"]: row["format"]["options"] for row in rows}
    for pair in made.pairs:
        listed = options[pair.prompt[0].content]
        chosen, rejected = (listed[LETTERS.index(side[0].content)] for side in (pair.chosen, pair.rejected))
        if "Oslo" in listed and chosen != "Oslo":
            assert rejected == "Oslo"
    table = next(made.folder.glob("steps/pairs-structure-*/confusions.csv")).read_text().splitlines()
    assert table[0] == "task,gold,predicted,count"
    assert len(table) == 1 + len(CITIES) - 1
    (tmp_path / "confusions.csv").write_text("\n".join(table))
    again = make(
        tmp_path,
        {"structure": {"city": {"conversations": ["set.jsonl"], "confusions": "confusions.csv", "hard_share": 1.0}}},
        out="again",
    )
    assert [p.rejected for p in again.pairs] == [p.rejected for p in made.pairs]


def test_rows_without_wrong_options_and_golds_that_cannot_be_read_are_counted_by_reason(tmp_path):
    rows = choices(60)
    rows[3]["messages"][1]["content"] = "somewhere else"
    rows += [
        conversation(1000, "Say hi.", None, None, "hi"),
        conversation(1001, "Spans?", {"kind": "spans"}, ["a"], '["a"]'),
    ]
    write_jsonl(tmp_path / "set.jsonl", rows)
    made = make(tmp_path, {"structure": {"city": {"conversations": ["set.jsonl"]}}})
    check_conserved(made)
    dropped = made.manifest["sets"]["city"]["source"]["rows_dropped"]
    assert dropped == {"free_text": 1, "no_wrong_answer": 1, "unreadable_gold": 1}
    lines = made.ledger.filter(made.ledger["reason"] == "unreadable_gold")
    assert lines["id"].to_list() == [rows[3]["id"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversations": []}, "at least one path"),
        ({"conversations": ["none.jsonl"]}, "no files matched 'none.jsonl'"),
        ({"tasks": ["town"]}, "no conversation of the tasks town is in it; its tasks: city"),
        ({"hard_share": 2}, "share between 0 and 1"),
        ({"confusions": "set.jsonl", "answers": ["set.jsonl"]}, "give one of them"),
        ({"confusions": "bad.csv"}, "column 'predicted' is missing"),
        ({"answers": ["set.jsonl"]}, "set.jsonl line 1: a line is expected as redone-train generate writes it"),
        ({"answers": ["others.jsonl"]}, "their ids must be those of the conversations"),
        ({"wrong_per_promt": 2}, "did you mean 'wrong_per_prompt'"),
    ],
)
def test_a_recipe_that_cannot_work_says_why(tmp_path, change, message):
    write_jsonl(tmp_path / "set.jsonl", choices(10))
    write_jsonl(tmp_path / "others.jsonl", [{"id": "else", "answers": ["A"]}])
    (tmp_path / "bad.csv").write_text("task,gold\ncity,Oslo\n")
    made = make(tmp_path, {"structure": {"city": {"conversations": ["set.jsonl"], **change}}})
    assert made.code != 0
    assert message in made.said


def test_an_unreadable_line_is_named_by_file_and_line(tmp_path):
    path = write_jsonl(tmp_path / "set.jsonl", choices(3))
    path.write_text(path.read_text() + json.dumps({"id": "1"}) + "\n")
    assert (
        "set.jsonl line 4: field 'messages' is missing"
        in make(tmp_path, {"structure": {"city": {"conversations": ["set.jsonl"]}}}).said
    )
