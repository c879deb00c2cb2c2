"""docs/instruction-data.md: its example runs as it stands there, and its lists are those of the code."""

import dataclasses
import json
import re
from pathlib import Path

import redone_data.instruct
from redone_data.config import load_yaml, read_config
from redone_data.instruct.answers import FORMATS
from redone_data.instruct.build import build
from redone_data.instruct.columns import ColumnConfig
from redone_data.instruct.conversation import SNS_CAPABILITIES, frame_lines
from redone_data.instruct.metrics import METRICS
from redone_data.instruct.tables import TableConfig, read_table
from redone_data.instruct.task import Task, TaskOptions, find_task, shipped_tasks
from redone_data.instruct.template import FILTERS

PAGE = Path(__file__).parents[2] / "docs/instruction-data.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def table_line(task: Task) -> str:
    answer = f"{task.answer.kind} by letter" if task.answer.by == "letter" else task.answer.kind
    return f"| {task.name} | {task.capability} | {answer} | {task.metric} | {task.gold.kind} | {task.about} |"


def test_the_worked_example_gives_what_the_page_shows(tmp_path: Path) -> None:
    task_file, recipe_file, *_ = blocks("yaml")
    (tmp_path / "places.jsonl").write_text(blocks("jsonl")[0], encoding="utf-8")
    (tmp_path / "recommends.yaml").write_text(task_file, encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(recipe_file, encoding="utf-8")
    recipe = load_yaml(tmp_path / "recipe.yaml")
    tables = {name: read_config(TableConfig, values, where="recipe.yaml") for name, values in recipe["tables"].items()}
    ((name, entry),) = recipe["tasks"].items()
    table = read_table(entry["tables"][0], tables, tmp_path)
    built = build(table, find_task(name, tmp_path), seed=1)
    assert built.conversations.height == 4
    assert built.dropped.select("row", "rule", "detail").rows() == [("n5", "missing_value", "label")]
    first = next(frame_lines(built.conversations))
    assert json.loads(first) == json.loads(blocks("json")[0])


def test_the_page_lists_every_shipped_task_as_it_is() -> None:
    tasks = sorted(shipped_tasks().values(), key=lambda task: (SNS_CAPABILITIES.index(task.capability), task.name))
    assert "\n".join(map(table_line, tasks)) in PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_option_format_metric_filter_and_rule() -> None:
    text = PAGE.read_text(encoding="utf-8")
    names = [field.name for config in (TaskOptions, ColumnConfig) for field in dataclasses.fields(config)]
    code = Path(redone_data.instruct.__file__).parent
    source = "".join((code / f"{name}.py").read_text(encoding="utf-8") for name in ("selecting", "writing", "tables"))
    rules = re.findall(
        r'DropError\("(\w+)"|rule="(\w+)"|"rule": "(\w+)"|, "(\w+)", (?:detail|length|pl\.col|bound)', source
    )
    found = {name for groups in rules for name in groups if name}
    assert {"missing_value", "too_short", "unknown_label", "bad_turns", "label_balance", "no_partner"} <= found
    for name in (*names, *FORMATS, *METRICS, *found):
        assert f"`{name}`" in text, name
    for name in FILTERS:
        assert name in text
