"""Answer formats: what is rendered is read back, and what models write does no harm."""

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from redone_data.errors import RedoneError
from redone_data.instruct.answers import (
    ChoiceFormat,
    FieldsFormat,
    GradeFormat,
    LabelsFormat,
    PathFormat,
    SpansFormat,
    TextFormat,
    YesNoFormat,
    read_format,
    read_list,
)

WORDS = st.text(min_size=1, max_size=12).map(str.strip).filter(bool)
PLAIN = st.text("abXY 茶饼0-'", min_size=1, max_size=12).map(str.strip).filter(bool)
OPTIONS = st.lists(WORDS, min_size=2, max_size=6, unique=True)
ONE_OF_EACH = [
    TextFormat(),
    ChoiceFormat(("joy", "anger")),
    ChoiceFormat(("joy", "anger"), by="letter"),
    LabelsFormat(("tea", "cake")),
    LabelsFormat(),
    YesNoFormat(),
    GradeFormat((-1, 0, 1, 2, 3)),
    SpansFormat(),
    SpansFormat(style="lines"),
    PathFormat(3),
    FieldsFormat({"verdict": {"kind": "yes_no"}, "why": {"kind": "text"}}),
    FieldsFormat({"verdict": {"kind": "yes_no"}, "why": {"kind": "text"}}, style="json"),
]


@settings(max_examples=60, deadline=None)
@given(OPTIONS, st.sampled_from(["text", "letter"]), st.data())
def test_a_choice_that_was_taught_is_read_back(options: list[str], by: Any, data: st.DataObject) -> None:
    answer = ChoiceFormat(tuple(options), by=by)
    gold = data.draw(st.sampled_from(options))
    assert answer.parse(answer.render(gold)) == gold


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, max_size=5, unique=True), st.booleans())
def test_labels_are_read_back_or_refused_when_they_are_written(labels: list[str], closed: bool) -> None:
    options = (*labels, "other", "else one") if closed else None
    assume(options is None or len(set(options)) == len(options))
    answer = LabelsFormat(options)
    try:
        text = answer.render(labels)
    except RedoneError:  # a label with a comma: never written so that it is read otherwise
        return
    assert answer.parse(text) == labels


@settings(max_examples=60, deadline=None)
@given(st.lists(PLAIN, max_size=5, unique=True))
def test_plain_labels_are_never_refused(labels: list[str]) -> None:
    assume(not {"none"} & set(labels) and not any(label.strip("'") != label for label in labels))
    assert LabelsFormat().parse(LabelsFormat().render(labels)) == labels


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS, max_size=5))
def test_passages_with_any_character_are_read_back(spans: list[str]) -> None:
    assert SpansFormat().parse(SpansFormat().render(spans)) == spans


@settings(max_examples=60, deadline=None)
@given(st.lists(PLAIN, min_size=3, max_size=3))
def test_a_taxonomy_path_is_read_back(names: list[str]) -> None:
    assume(not any(name.strip("'") != name for name in names))
    assert PathFormat(3).parse(PathFormat(3).render(names)) == names


@settings(deadline=None)
@given(st.booleans(), st.sampled_from([("Yes", "No"), ("是", "否"), ("相关", "不相关")]))
def test_yes_and_no_are_read_back_in_both_languages(gold: bool, words: tuple[str, str]) -> None:
    answer = YesNoFormat(*words)
    assert answer.parse(answer.render(gold)) is gold


@settings(deadline=None)
@given(st.integers(-3, 5))
def test_a_grade_is_read_back(gold: int) -> None:
    answer = GradeFormat(tuple(range(-3, 6)))
    assert answer.parse(answer.render(gold)) == gold


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.lists(PLAIN, max_size=3), PLAIN, st.sampled_from(["tags", "json"]))
def test_several_fields_are_read_back(verdict: bool, spans: list[str], why: str, style: Any) -> None:
    fields = {"verdict": {"kind": "yes_no"}, "spans": {"kind": "spans"}, "why": {"kind": "text"}}
    answer = FieldsFormat(fields, style=style)
    gold = {"verdict": verdict, "spans": spans, "why": why}
    assert answer.parse(answer.render(gold)) == gold


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(ONE_OF_EACH), st.one_of(st.text(max_size=80), st.text("[]{}()<>'\"\\,|ABjoyans:-0129 \n")))
def test_nothing_that_a_model_writes_raises_and_what_is_read_can_be_stored(answer: Any, text: str) -> None:
    found = answer.parse(text)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("answer", ONE_OF_EACH, ids=lambda answer: answer.kind)
def test_a_format_in_a_file_is_the_format_that_was_written(answer: Any) -> None:
    assert read_format(answer.mapping()) == answer
    assert answer.parse("x" * 100_001) is None


@pytest.mark.parametrize("text", ["[" * 50_000, "[" + "'a'," * 25_000, '{"a":' * 10_000, "\\" * 50_000, "- " * 50_000])
@pytest.mark.parametrize("answer", ONE_OF_EACH, ids=lambda answer: answer.kind)
def test_long_hostile_text_ends_in_an_answer_or_none(answer: Any, text: str) -> None:
    found = answer.parse(text)
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        (ChoiceFormat(("joy", "anger")), "Answer: Joy.", "joy"),
        (ChoiceFormat(("joy", "anger")), "I think it is joy", "joy"),
        (ChoiceFormat(("joy", "anger")), "joy or anger", None),
        (ChoiceFormat(("joy", "anger")), "enjoyable", None),
        (ChoiceFormat(("offensive", "neither")), "It is not offensive.", None),
        (ChoiceFormat(("offensive", "not offensive")), "It is Not Offensive, I think", "not offensive"),
        (ChoiceFormat(("冒犯", "中立")), "这并不冒犯", None),
        (ChoiceFormat(("相关", "不相关")), "它们不相关", "不相关"),
        (ChoiceFormat(("joy", "anger"), by="letter"), "B. anger", "anger"),
        (ChoiceFormat(("joy", "anger"), by="letter"), "答案：(A)", "joy"),
        (ChoiceFormat(("joy", "anger"), by="letter"), "An emotion", None),
        (LabelsFormat(("tea", "cake", "tea, iced")), "tea, iced, cake", ["tea, iced", "cake"]),
        (LabelsFormat(("tea", "cake")), "Tea, coffee", ["tea", "coffee"]),
        (LabelsFormat(), "无", ["无"]),
        (LabelsFormat(none="无"), "无", []),
        (YesNoFormat(), "no, because it is old", False),
        (YesNoFormat(), "Nobody knows", None),
        (YesNoFormat("是", "否"), "不是", False),
        (YesNoFormat("是", "否"), "这不是谣言", False),
        (YesNoFormat("是", "否"), "是否冒犯很难说", None),
        (YesNoFormat("是", "否"), "答案：是的，涉及", True),
        (YesNoFormat("相关", "不相关"), "不相关。", False),
        (GradeFormat((-1, 0, 1, 2, 3)), "Score: -1", -1),
        (GradeFormat((-1, 0, 1, 2, 3)), "7", None),
        (GradeFormat((0, 1)), "1 of 3 is 0", 1),
        (SpansFormat(), "['CC mode', \"it's\"]", ["CC mode", "it's"]),
        (SpansFormat(), "the word [Topic] and ['a']", ["a"]),
        (SpansFormat(), "CC mode", None),
        (SpansFormat(style="lines"), "1. one\n2. two", ["one", "two"]),
        (PathFormat(2), "Answer: Food | Drinks", ["Food", "Drinks"]),
        (PathFormat(2), "Food", None),
    ],
)
def test_answers_in_the_words_of_models(answer: Any, text: str, expected: Any) -> None:
    assert answer.parse(text) == expected


def test_code_in_an_answer_is_text() -> None:
    assert read_list("['a', __import__('os').system('true')]") is None
    assert SpansFormat().parse("['a' + 'b']") is None


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"kind": "chioce", "options": ["a", "b"]}, "did you mean 'choice'"),
        ({"kind": "choice", "options": ["a"]}, "at least two"),
        ({"kind": "choice", "options": ["a", "a"]}, "given twice"),
        ({"kind": "choice", "options": ["a", "b "]}, "without spaces"),
        ({"kind": "choice", "option": ["a", "b"]}, "did you mean 'options'"),
        ({"kind": "yes_no", "yes": "ok", "no": "OK"}, "two different words"),
        ({"kind": "fields", "fields": {"a": {"kind": "fields", "fields": {}}}}, "fields within fields"),
        ({"kind": "fields", "fields": {"a": {"kind": "grade"}}}, "fields.a"),
        ({}, "not an answer format"),
    ],
)
def test_a_bad_format_says_what_to_mend(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(RedoneError, match=message):
        read_format(mapping)


def test_a_gold_answer_outside_its_options_is_refused() -> None:
    with pytest.raises(RedoneError, match="not among the options"):
        ChoiceFormat(("joy", "anger")).render("fear")
