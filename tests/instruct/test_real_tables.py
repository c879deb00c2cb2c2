"""The recipe for real tables on its small files (SNS-Bench, RedTrans-Bench), where those lie beside the project."""

import json
from pathlib import Path

import pytest

from redone_data.config import load_yaml, read_config
from redone_data.instruct.answers import read_format
from redone_data.instruct.build import build
from redone_data.instruct.tables import TableConfig, read_table
from redone_data.instruct.task import find_task

RECIPE = Path(__file__).parents[2] / "recipes/instruct/sns.yaml"
SHARED = Path(__file__).parents[3] / "shared/data"
SMALL = ("sns_bench/", "redtrans/")


@pytest.mark.skipif(not (SHARED / "sns_bench").is_dir(), reason="the real data is not here: ../shared/data/sns_bench")
def test_the_answers_of_sns_bench_are_read_back_and_a_note_keeps_its_split_in_every_file() -> None:
    recipe = load_yaml(RECIPE)
    tables = {
        name: read_config(TableConfig, values, where=str(RECIPE), path=name)
        for name, values in recipe["tables"].items()
        if any(folder in path for folder in SMALL for path in values["paths"])
    }
    splits: dict[str, str] = {}
    made, files = 0, set()
    for name, entry in recipe["tasks"].items():
        for table_name in set(entry["tables"]) & set(tables):
            table = read_table(table_name, tables, RECIPE.parent)
            conversations = build(table, find_task(name, RECIPE.parent), seed=5, held_out_share=0.3).conversations
            assert conversations.height > 0.97 * table.frame.height, f"{name} of {table_name}"
            files.update(tables[table_name].paths)
            made += conversations.height
            for row in conversations.iter_rows(named=True):
                assert splits.setdefault(row["documents"][0], row["split"]) == row["split"]
                if row["format"] is not None:
                    form = read_format(json.loads(row["format"]))
                    assert form.parse(row["messages"][-1]["content"]) == json.loads(row["answer"])
    assert len(files) == 13
    assert made > 6000
    assert 0.2 < sum(split == "held_out" for split in splits.values()) / len(splits) < 0.4
