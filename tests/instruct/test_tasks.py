"""Tasks as data: the shipped ones are sound, and a bad file says what to mend."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from redone_data.config import plain, read_config
from redone_data.errors import RedoneError
from redone_data.instruct.conversation import SNS_CAPABILITIES
from redone_data.instruct.task import Task, find_task, gold_columns, read_task, shipped_tasks

MOOD: dict[str, Any] = {
    "name": "mood",
    "capability": "content_understanding",
    "about": "Whether a post is glad or sad.",
    "metric": "accuracy",
    "gold": {"kind": "real", "note": "made up"},
    "columns": {"text": {}, "label": {"kind": "label"}},
    "labels": {"glad": {"en": "glad", "zh": "开心"}, "sad": {"en": "sad", "zh": "难过"}},
    "answer": {"kind": "choice", "column": "label", "options": "labels"},
    "templates": {"en": {"plain": {"version": 1, "user": "Mood of: {{ text }}? {{ options | join(', ') }}"}}},
}


def mood(**changes: Any) -> Task:
    return read_config(Task, {**MOOD, **changes}, where="mood.yaml")


def test_the_shipped_tasks_have_all_capabilities_in_both_languages() -> None:
    tasks = shipped_tasks()
    assert len(tasks) >= 16
    for lang in ("zh", "en"):
        assert {task.capability for task in tasks.values() if lang in task.templates} == set(SNS_CAPABILITIES)


@pytest.mark.parametrize("task", shipped_tasks().values(), ids=lambda task: task.name)
def test_a_shipped_task_is_named_as_its_file_and_says_where_its_gold_is_from(task: Task) -> None:
    path = Path(__file__).parents[2] / "redone_data/instruct/tasks" / f"{task.name}.yaml"
    assert read_task(path) == task
    assert task.gold.note
    assert sum(map(len, task.templates.values())) >= 2
    asked = {
        name
        for prompts in task.prompts.values()
        for prompt in prompts
        for template in (prompt.user, *prompt.before)
        if template
        for name in template.names
    }
    unseen = set(task.columns) - asked - set(gold_columns(task.answer)) - {task.messages, "tags", "group", "clicks"}
    shown_as_options = {"candidates", "primary", "secondary", "tertiary", "persona"}
    assert unseen <= shown_as_options, f"columns that no prompt shows: {unseen}"


def test_a_task_can_be_sent_to_a_worker() -> None:
    task = shipped_tasks()["sentiment"]
    assert task.prompts
    assert pickle.loads(pickle.dumps(task)) == task


def test_a_task_of_ones_own_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mood.yaml").write_text(yaml.safe_dump(MOOD, allow_unicode=True), encoding="utf-8")
    assert find_task("mood.yaml", tmp_path).name == "mood"
    assert plain(find_task("mood.yaml", tmp_path))["labels"] == MOOD["labels"]
    with pytest.raises(RedoneError, match="did you mean 'sentiment'"):
        find_task("sentimant", tmp_path)
    with pytest.raises(RedoneError, match=r"none\.yaml: cannot be read"):
        find_task("none.yaml", tmp_path)


def test_options_of_a_recipe_take_the_place_of_the_tasks_own() -> None:
    task = mood().with_options({"max_label_share": None, "prompt_characters": 99}, where="r.yaml")
    assert task.options.max_label_share is None
    assert task.options.prompt_characters == 99
    assert task.options.answer_characters == mood().options.answer_characters
    with pytest.raises(RedoneError, match=r"r\.yaml: options\.promt_characters: unknown key"):
        mood().with_options({"promt_characters": 9}, where="r.yaml")


def in_english(user: str) -> dict[str, Any]:
    return {"templates": {"en": {"plain": {"version": 1, "user": user}}}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capability": "dialog"}, "did you mean 'dialogue'"),
        ({"templates": {"en": {"plain": {"version": 1, "before": ["{{ text }}"], "user": "x"}}}}, "pairs of turns"),
        ({"metric": "acuracy"}, "did you mean 'accuracy'"),
        ({"gold": {"kind": "guessed", "note": ""}}, "gold.kind: 'guessed'"),
        ({"answer": {"kind": "choose", "column": "label"}}, "answer.kind: 'choose'"),
        ({"answer": {"kind": "choice", "column": "lable"}}, "did you mean 'label'"),
        ({"answer": {"kind": "choice", "column": "label"}}, "choice needs options"),
        ({"answer": {"kind": "grade", "column": "label"}}, "answer.grades"),
        ({"answer": {"kind": "path", "column": "label"}}, "answer.levels"),
        ({"answer": {"kind": "yes_no"}}, "yes_no needs a column"),
        ({"answer": {"kind": "fields"}}, "answer.fields"),
        ({"answer": {"kind": "text"}}, "answer.column"),
        ({"labels": {}}, "answer.options: labels: the task has none"),
        ({"labels": {"a": {"en": "x"}, "b": {"en": "x"}}}, "two have the same word in en"),
        ({"words": {"en": {"maybe": "x"}}}, "words.en.maybe: unknown"),
        ({"templates": {}}, "templates: at least one language"),
        ({"templates": {"en": {}}}, "templates.en: at least one template"),
        ({"templates": {"en": {"plain": {"version": 1}}}}, r"templates\.en\.plain\.user: needed"),
        (in_english("{{ txt }}"), r"mood\.yaml: templates\.en\.plain\.user: variable 'txt'.*did you mean 'text'"),
        (in_english("{{ text"), r"templates\.en\.plain\.user: line 1: not a valid template"),
        (in_english("{{ text.__class__ }}"), r"templates\.en\.plain\.user: line 1: \.__class__"),
        ({"system": {"en": "{{ x }}"}}, r"system\.en: variable 'x'"),
        ({"columns": {"text": {}, "label": {"kind": "label"}, "options": {}}}, "columns.options: the name is taken"),
        ({"options": {"max_label_share": 0}}, "max_label_share: 0"),
        ({"options": {"distractors": {"how": "same_group"}}}, "group: the column that rows share"),
        ({"options": {"distractors": {"exclude": "tags"}}}, "options: exclude: 'tags'"),
        ({"options": {"negatives": {"column": "text"}}}, "options.negatives: only for yes_no"),
        ({"messages": "turns"}, "templates.en.plain.user|messages: 'turns'"),
    ],
)
def test_a_bad_task_names_its_key_and_what_is_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RedoneError, match=message):
        mood(**change)
