"""`redone-train score`: a file, answers in JSON lines, and one JSON object; every mistake is one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from sns_rows import PAIRS, ROWS, write_bench
from typer.testing import CliRunner

from redone_data.errors import RedoneError
from redone_train.cli import app

DOCS = Path(__file__).parents[2] / "docs"


def score(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["score", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return dict(json.loads(done.stdout))


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_in_any_order_are_scored_and_missing_ones_counted(tmp_path: Path) -> None:
    task = write_bench(tmp_path) / "Note-NER.json"
    golds = [{"index": index, "answer": row["answer"]} for index, row in enumerate(ROWS["Note-NER"])]
    found = score(task, write(tmp_path / "all.jsonl", *reversed(golds)))
    assert (found["task"], found["scorer"], found["score"]) == ("Note-NER", "official", 100)
    assert (found["parse_rate"], found["n"], found["missing"]) == (1, 2, 0)
    assert (found["interval"], found["ceiling"]) == ([100, 100], 100)
    # 2 of 3 golds, 2 given: 2 * 2 / 5.
    part = score(task, write(tmp_path / "part.jsonl", golds[1]), "--scorer", "fixed")
    assert (part["score"], part["missing"], part["parse_rate"]) == (80, 1, 0.5)
    assert part["scorer"] == "fixed"


def test_a_part_of_a_file_is_known_by_its_name_or_told(tmp_path: Path) -> None:
    whole = write_bench(tmp_path) / "Note-Gender.json"
    answers = write(tmp_path / "a.jsonl", {"index": 0, "answer": "Yes"})
    part = whole.rename(tmp_path / "note_gender_dev.json")
    assert score(part, answers)["score"] == 50
    assert score(part.rename(tmp_path / "mine.json"), answers, "--task", "Note-Gender")["score"] == 50


def test_line_separators_within_an_answer_do_not_end_its_line(tmp_path: Path) -> None:
    task, answers = write_bench(tmp_path) / "Note-Gender.json", tmp_path / "a.jsonl"
    answers.write_text(
        '{"index": 0, "answer": "Yes\u2028so"}\n\n{"index": 1, "answer": "No\\ud83d"}\n', encoding="utf-8"
    )
    assert score(task, answers, "--scorer", "fixed")["score"] == 100


def test_both_ways_of_translation_are_one_file(tmp_path: Path) -> None:
    task = write_bench(tmp_path) / "RedTrans-Bench.json"
    golds = [{"index": i, "answer": pair[pair["dst_lang"]]} for i, pair in enumerate(PAIRS)]
    found = score(task, write(tmp_path / "a.jsonl", *golds), "--scorer", "fixed")
    assert found["score"] == pytest.approx(100)
    assert set(found["parts"]) == {"zh-en", "en-zh"}
    assert found["n"] == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"index": 0, "answer": "a"}\n{"index": 0, "answer": "b"}', "line 2: index 0 has an answer already"),
        ('{"index": 2, "answer": "a"}', "line 1: index 2; the file's items are 0 to 1"),
        ('{"index": -1, "answer": "a"}', "line 1: index -1; the file's items are 0 to 1"),
        ('{"index": true, "answer": "a"}', "index .a whole number. and answer .a text. are needed"),
        ('{"index": 0, "answer": null}', "index .a whole number. and answer .a text. are needed"),
        ("[1]", "index .a whole number. and answer .a text. are needed"),
        ("{", "one JSON object a line is needed"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, message: str) -> None:
    task, answers = write_bench(tmp_path) / "Note-NER.json", tmp_path / "a.jsonl"
    answers.write_text(line)
    with pytest.raises(RedoneError, match=message):
        CliRunner().invoke(app, ["score", str(task), str(answers)], catch_exceptions=False)


def test_a_file_of_another_name_and_a_file_that_is_absent_are_errors(tmp_path: Path) -> None:
    task = write_bench(tmp_path) / "Note-NER.json"
    with pytest.raises(RedoneError, match="no such file; JSON lines"):
        CliRunner().invoke(app, ["score", str(task), str(tmp_path / "none.jsonl")], catch_exceptions=False)
    other = task.rename(tmp_path / "notes.json")
    with pytest.raises(RedoneError, match="its name holds that of no file of SNS-Bench"):
        CliRunner().invoke(app, ["score", str(other), str(other)], catch_exceptions=False)


def test_every_option_is_in_the_docs() -> None:
    shown = CliRunner().invoke(app, ["score", "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"}).stdout
    section = (DOCS / "cli.md").read_text(encoding="utf-8").partition("\n## redone-train score\n")[2]
    for option in ("--scorer", "--task", "--embedding", "--seed"):
        assert option in shown
        assert f"| `{option}" in section.partition("\n## ")[0]
