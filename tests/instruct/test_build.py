"""Building conversations: nothing is lost unsaid, answers are read back, draws depend on the row alone."""

import dataclasses
import json
from typing import Any

import polars as pl
import pytest

from redone_data.config import read_config
from redone_data.errors import RedoneError
from redone_data.instruct.answers import read_format
from redone_data.instruct.build import Built, build, render, select
from redone_data.instruct.conversation import FRAME, MESSAGES
from redone_data.instruct.selecting import largest_allowed
from redone_data.instruct.tables import DROPPED, Table
from redone_data.instruct.task import Task

FREE = {"max_label_share": None, "min_characters": 1}


def table(columns: dict[str, Any], lang: str = "en", schema: dict[str, Any] | None = None) -> Table:
    frame = pl.DataFrame(columns, schema_overrides=schema or {})
    rows = pl.Series("row", [f"d{i:03d}" for i in range(frame.height)])
    frame = frame.with_columns(rows, document=rows, lang=pl.lit(lang), documents=pl.concat_list(rows))
    return Table("posts", frame, DROPPED.to_frame(), frame.height)


def task(answer: dict[str, Any], columns: dict[str, Any], user: str = "{{ text }}", **more: Any) -> Task:
    values = {
        "name": "t",
        "capability": "content_understanding",
        "about": "made up",
        "metric": "accuracy",
        "gold": {"kind": "real", "note": "made up"},
        "columns": {"text": {}, **columns},
        "answer": answer,
        "templates": {"en": {"plain": {"version": 1, "user": user}}},
        "options": FREE,
        **more,
    }
    return read_config(Task, values, where="t.yaml")


LABEL: dict[str, Any] = {"label": {"kind": "label"}}
LABELS = {"labels": {"glad": {"en": "glad"}, "sad": {"en": "sad"}, "calm": {"en": "calm"}}}
CHOICE = {"kind": "choice", "column": "label", "options": "labels"}
MOODS = ["glad", "sad", "calm"] * 40


def moods(**more: Any) -> Task:
    return task(CHOICE, LABEL, "{{ text }} {{ options | join('/') }}", **LABELS, **more)


def posts(labels: list[Any] | None = None) -> Table:
    labels = MOODS if labels is None else labels
    return table({"text": [f"post {i}" for i in range(len(labels))], "label": labels})


def answers_of(built: Built) -> list[str]:
    return [turns[-1]["content"] for turns in built.conversations["messages"].to_list()]


def check(built: Built, rows: int) -> None:
    """Every row is a conversation or a drop, and every gold answer is read by its own parser."""
    assert built.conversations.schema == FRAME
    assert built.conversations.height + built.dropped.height == rows
    assert built.conversations["id"].n_unique() == built.conversations.height
    for row in built.conversations.iter_rows(named=True):
        if row["format"] is not None:
            parsed = read_format(json.loads(row["format"])).parse(row["messages"][-1]["content"])
            assert parsed == json.loads(row["answer"])


def test_every_row_is_a_conversation_whose_answer_is_read_back() -> None:
    built = build(posts(), moods(), seed=1)
    check(built, len(MOODS))
    assert answers_of(built) == MOODS
    assert built.conversations["template"].unique().to_list() == ["t.en.plain.v1"]


def test_no_position_is_right_more_often() -> None:
    built = build(posts(), moods(), seed=1)
    places = [
        json.loads(row["format"])["options"].index(json.loads(row["answer"])) for row in built.conversations.to_dicts()
    ]
    assert all(20 < places.count(place) < 60 for place in range(3))
    fixed = build(posts(), moods(options={**FREE, "order": "fixed"}), seed=1)
    assert fixed.conversations["format"].n_unique() == 1


def test_a_conversation_does_not_depend_on_other_rows_nor_on_slices() -> None:
    every, some = posts(), posts()
    some = Table("posts", some.frame[::-1][10:50], some.dropped, 40)
    whole, part = build(every, moods(), seed=1).conversations, build(some, moods(), seed=1).conversations
    assert whole.join(part.select("id"), on="id", how="semi").equals(part)
    chosen = select(every, moods(), seed=1).frame
    slices = [render(chosen[a:b], moods(), seed=1).conversations for a, b in ((0, 50), (50, 51), (51, 120))]
    assert pl.concat(slices).equals(whole)
    assert not build(every, moods(), seed=2).conversations["messages"].equals(whole["messages"])


def test_equal_rows_are_told_apart() -> None:
    twice = posts()
    twice = Table("posts", pl.concat([twice.frame, twice.frame]), twice.dropped, 240)
    check(build(twice, moods(), seed=1), 240)


def test_the_order_in_which_a_file_names_columns_and_templates_changes_nothing() -> None:
    texts = {"short": {"version": 1, "user": "{{ text }}?"}, "long": {"version": 1, "user": "Mood of {{ text }}"}}
    one = task(CHOICE, LABEL, templates={"en": texts}, **LABELS)
    templates = {"en": dict(reversed(one.templates["en"].items()))}
    other = dataclasses.replace(one, columns=dict(reversed(one.columns.items())), templates=templates)
    assert build(posts(), one, seed=1).conversations.equals(build(posts(), other, seed=1).conversations)
    assert build(posts(), one, seed=1).conversations["template"].n_unique() == 2


def test_documents_keep_their_split_in_every_task() -> None:
    one = build(posts(), moods(), seed=3, held_out_share=0.3).conversations
    other = build(posts(), moods(name="other"), seed=3, held_out_share=0.3).conversations
    assert one["split"].equals(other["split"])
    assert not set(one["id"]) & set(other["id"])
    assert 15 < (one["split"] == "held_out").sum() < 60


def test_the_most_frequent_label_is_cut_down_to_its_share() -> None:
    labels = ["glad"] * 90 + ["sad"] * 20 + ["calm"] * 10
    built = build(posts(labels), moods(options={**FREE, "max_label_share": 0.5}), seed=1)
    check(built, 120)
    assert {word: answers_of(built).count(word) for word in ("glad", "sad", "calm")} == {
        "glad": 30,
        "sad": 20,
        "calm": 10,
    }
    assert built.drops == {"label_balance": 60}
    assert largest_allowed([5, 5], 0.1) == 5


def test_a_label_column_of_any_choice_is_balanced() -> None:
    options = {"max_label_share": 0.5, "min_characters": 1, "distractors": {"number": 1}}
    built = build(
        posts(["food"] * 50 + ["art"] * 10), task({"kind": "choice", "column": "label"}, LABEL, options=options), seed=1
    )
    check(built, 60)
    assert answers_of(built).count("food") == 10


def test_numbers_that_a_csv_holds_as_text_are_numbers() -> None:
    columns = {"text": [f"comment {i}" for i in range(8)], "group": ["g"] * 8, "clicks": ["9", "10", *"123456"]}
    options = {
        **FREE,
        "distractors": {"number": 3, "how": "same_group", "group": "group", "below": "clicks", "at_least": 9},
    }
    needs = {"group": {"kind": "label"}, "clicks": {"kind": "number"}}
    built = build(table(columns), task({"kind": "choice", "column": "text"}, needs, options=options), seed=1)
    check(built, 8)
    assert answers_of(built) == ["comment 0", "comment 1"]


def test_rows_that_make_no_conversation_are_counted_by_reason() -> None:
    labels = [*MOODS, "bored", None, "glad", "glad", "glad"]
    rows = posts(labels)
    texts = rows.frame["text"].to_list()
    texts[-3:] = ["x", "long " * 50, None]
    langs = ["en"] * len(labels)
    langs[0] = "th"
    frame = rows.frame.with_columns(pl.Series("text", texts), pl.Series("lang", langs))
    options = {"max_label_share": None, "min_characters": 2, "prompt_characters": 100}
    built = build(Table("posts", frame, rows.dropped, len(labels)), moods(options=options), seed=1)
    check(built, len(labels))
    expected = {"missing_value": 2, "no_template": 1, "prompt_too_long": 1, "too_short": 1, "unknown_label": 1}
    assert built.drops == expected
    line = built.dropped.filter(pl.col("rule") == "too_short").row(0, named=True)
    assert (line["row"], line["value"], line["bound"], line["detail"]) == ("d122", 1.0, 2.0, "text")


def test_an_answer_that_its_parser_cannot_read_is_a_drop_and_many_are_an_error() -> None:
    labels = task({"kind": "labels", "column": "tags"}, {"tags": {"kind": "list"}})
    tags = [["tea"], ["cake"]] * 30
    tags[7] = ["tea, iced"]
    built = build(table({"text": [f"p{i}" for i in range(60)], "tags": tags}), labels, seed=1)
    check(built, 60)
    assert built.dropped.select("row", "rule").rows() == [("d007", "unreadable_answer")]
    with pytest.raises(RedoneError, match=r"task t, table posts: 4 of 60 answers.*the first in row d000: answer"):
        build(table({"text": [f"p{i}" for i in range(60)], "tags": [["a, b"]] * 4 + [["a"]] * 56}), labels, seed=1)


def test_a_template_that_does_not_fit_a_row_is_named_with_the_row() -> None:
    rows = table({"text": ["a", "b"], "label": ["glad", "sad"], "tags": [["x"], []]})
    needs = {**LABEL, "tags": {"kind": "list"}}
    with pytest.raises(RedoneError, match=r"task t: template t\.en\.plain\.v1: row d001: cannot be filled"):
        build(rows, task(CHOICE, needs, "{{ tags[0] }}", **LABELS), seed=1)


def test_a_task_without_a_conversation_is_an_error() -> None:
    with pytest.raises(RedoneError, match=r"no row became a conversation \(unknown_label 2\)"):
        build(posts(["bored", "idle"]), moods(), seed=1)


def test_a_table_without_the_tasks_columns_is_an_error() -> None:
    with pytest.raises(RedoneError, match=r"table posts has no column 'label'; did you mean 'labels'"):
        build(table({"text": ["a"], "labels": ["glad"]}), moods(), seed=1)
    with pytest.raises(RedoneError, match=r"column 'text' holds List\(String\); text is needed"):
        build(table({"text": [["a"]], "label": ["glad"]}), moods(), seed=1)


def test_distractors_are_other_rows_answers_and_never_right_ones() -> None:
    tags = [[f"tag{i}", f"tag{i + 1}"] for i in range(40)]
    rows = table({"text": [f"p{i}" for i in range(40)], "label": [t[0] for t in tags], "tags": tags})
    for how in ("random", "similar"):
        options = {**FREE, "distractors": {"number": 3, "how": how, "exclude": "tags"}}
        chosen = task({"kind": "choice", "column": "label"}, {**LABEL, "tags": {"kind": "list"}}, options=options)
        built = build(rows, chosen, seed=1)
        check(built, 40)
        for row, own in zip(built.conversations.to_dicts(), tags, strict=True):
            given = json.loads(row["format"])["options"]
            assert len(set(given)) == 4
            assert set(given) & set(own) == {own[0]}


def test_a_set_of_labels_gets_distractors_beside_all_right_ones() -> None:
    rows = table({"text": [f"p{i}" for i in range(30)], "tags": [[f"a{i}", f"b{i}"] for i in range(30)]})
    options = {**FREE, "distractors": {"number": 4}}
    built = build(rows, task({"kind": "labels", "column": "tags"}, {"tags": {"kind": "list"}}, options=options), seed=1)
    check(built, 30)
    assert {len(json.loads(text)["options"]) for text in built.conversations["format"]} == {6}


def test_wrong_options_of_the_same_group_had_fewer_clicks() -> None:
    clicks = list(range(10)) * 3
    columns = {
        "text": [f"comment {i} {i % 10}" for i in range(30)],
        "group": [str(i // 10) for i in range(30)],
        "clicks": clicks,
    }
    options = {
        **FREE,
        "distractors": {"number": 3, "how": "same_group", "group": "group", "below": "clicks", "at_least": 2},
    }
    needs = {"group": {"kind": "label"}, "clicks": {"kind": "number"}}
    built = build(
        table(columns),
        task({"kind": "choice", "column": "text", "by": "letter"}, needs, "{{ lettered }}", options=options),
        seed=1,
    )
    check(built, 30)
    assert built.drops == {"below_at_least": 6, "too_few_distractors": 3}  # 0 and 1; and 2, below which there are two
    for row in built.conversations.to_dicts():
        answer = json.loads(row["answer"])
        for option in json.loads(row["format"])["options"]:
            same_post = int(option.split()[1]) // 10 == int(answer.split()[1]) // 10
            assert same_post
            assert option == answer or int(option[-1]) < int(answer[-1])


@pytest.mark.parametrize("how", ["random", "similar"])
def test_partners_that_do_not_belong_together_get_the_answer_no(how: str) -> None:
    rows = table({"text": [f"text of {i}" for i in range(200)], "query": [f"query {i}" for i in range(200)]})
    options = {**FREE, "negatives": {"column": "query", "share": 0.5, "how": how}}
    built = build(rows, task({"kind": "yes_no"}, {"query": {}}, "{{ query }} / {{ text }}", options=options), seed=1)
    check(built, 200)
    for turns, answer in zip(built.conversations["messages"].to_list(), answers_of(built), strict=True):
        query, text = turns[0]["content"].split(" / ")
        assert (query.split()[-1] == text.split()[-1]) == (answer == "Yes")
    assert 60 < answers_of(built).count("Yes") < 140


def test_dialogues_keep_their_turns_and_bad_ones_are_counted() -> None:
    good = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " Hello "}]
    with_system = [{"role": "system", "content": "You are a cat."}, *good]
    dialogues = [good, with_system, good[::-1], good[:1]]
    persona = task(
        {"kind": "text"},
        {"turns": {"kind": "messages"}},
        templates={"en": {"plain": {"version": 1, "system": "Stay in role."}}},
        messages="turns",
    )
    rows = table({"text": ["x"] * 4, "turns": dialogues}, schema={"turns": MESSAGES})
    built = build(rows, persona, seed=1)
    check(built, 4)
    assert built.drops == {"bad_turns": 2}
    spoken = [[turn["content"] for turn in turns] for turns in built.conversations["messages"].to_list()]
    assert spoken == [["Stay in role.", "Hi", "Hello"], ["You are a cat.", "Hi", "Hello"]]
    assert built.conversations["format"].to_list() == [None, None]


def test_earlier_turns_of_a_template_come_before_the_question() -> None:
    before = ["Post: {{ text }}", "{{ opening }}"]
    template = {"en": {"plain": {"version": 1, "before": before, "user": "{{ parent }}"}}}
    given = {"text": ["tea"], "opening": ["hot"], "parent": ["too hot?"], "reply": ["never"]}
    columns: dict[str, Any] = {"opening": {}, "parent": {}, "reply": {}}
    thread = task({"kind": "text", "column": "reply"}, columns, templates=template)
    (messages,) = build(table(given), thread, seed=1).conversations["messages"].to_list()
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    assert [message["content"] for message in messages] == ["Post: tea", "hot", "too hot?", "never"]


def test_grades_paths_spans_and_fields_are_built_from_their_columns() -> None:
    columns = {
        "text": ["a note", "another"],
        "grade": ["-1", "3"],
        "path": [["A", "B"], ["C", "D"]],
        "first": [["A", "C"], ["A", "C"]],
        "second": [["B", "D"], ["D", "B"]],
        "spans": [["a"], []],
        "why": ["because", "no reason"],
    }
    graded = {"kind": "grade", "column": "grade", "grades": [-1, 3]}
    check(build(table(columns), task(graded, {"grade": {"kind": "label"}}), seed=1), 2)
    numbers = table({**columns, "grade": [-1, 3]})
    assert answers_of(build(numbers, task(graded, {"grade": {"kind": "label"}}), seed=1)) == ["-1", "3"]
    lists = {name: {"kind": "list"} for name in ("path", "first", "second", "spans")}
    path = {"kind": "path", "column": "path", "levels": 2, "options": ["first", "second"]}
    built = build(table(columns), task(path, lists, "{{ options[0] | join('+') }}"), seed=1)
    check(built, 2)
    assert answers_of(built) == ["A | B", "C | D"]
    fields = {"spans": {"kind": "spans", "column": "spans"}, "why": {"kind": "text", "column": "why"}}
    both = task({"kind": "fields", "fields": fields}, {**lists, "why": {}})
    built = build(table(columns), both, seed=1)
    check(built, 2)
    assert answers_of(built)[0] == '<spans>["a"]</spans>\n<why>because</why>'
