"""redone-data sft: from tables, tasks and general data to a set; what goes in comes out, or stands in the ledger."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from small_set import SENTIMENT, sentence, write_small_set

from redone_data.engine import Progress
from redone_data.errors import RedoneError
from redone_data.instruct.answers import read_format
from redone_data.instruct.conversation import Conversation, read_conversations
from redone_data.instruct.recipe import load_sft_recipe
from redone_data.instruct.report import write_set_report
from redone_data.instruct.set import InstructionSet

FILES = ("step1.jsonl", "step2.jsonl", "held_out.jsonl", "ledger.parquet", "lineage.parquet", "manifest.json")


def make(recipe: Path, out: Path, *assignments: str) -> dict[str, object]:
    return InstructionSet(load_sft_recipe(recipe, assignments), out).run()


def rows(path: Path) -> list[Conversation]:
    return list(read_conversations(path))


def digests(out: Path) -> dict[str, str]:
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_set(tmp_path_factory.mktemp("in"))


@pytest.fixture(scope="module")
def made(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished set. Not to be changed."""
    out = tmp_path_factory.mktemp("out")
    write_set_report(make(recipe, out), out, "small")
    return out


def test_every_row_read_is_a_conversation_of_the_set_or_a_line_of_the_ledger(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_bytes())
    ledger = pl.read_parquet(made / "ledger.parquet")
    assert ledger.height == sum(manifest["drops"].values())
    for name, table in manifest["tables"].items():
        gone = ledger.filter(pl.col("table") == name, pl.col("task").is_null())
        assert table["read"] == table["rows"] + gone.height
    in_set = {row.id for row in rows(made / "step1.jsonl")} | {row.id for row in rows(made / "held_out.jsonl")}
    for source in manifest["sources"]:
        gone = ledger.filter(pl.col("task") == source["task"], pl.col("table") == source["table"])
        assert source["read"] == source["kept"] + source["held_out"] + gone.height, source
    assert len(in_set) == sum(source["kept"] + source["held_out"] for source in manifest["sources"])
    assert not in_set & set(ledger["id"])
    assert {"contamination", "refusal", "near_duplicate", "exact_duplicate", "unknown_label"} <= set(ledger["rule"])


def test_each_drop_says_what_it_met(made: Path) -> None:
    ledger = pl.read_parquet(made / "ledger.parquet").filter(pl.col("rule").is_in(["contamination", "near_duplicate"]))
    found = {row["rule"]: row for row in ledger.to_dicts()}
    assert found["contamination"]["documents"] == ["evaluated"]
    assert found["contamination"]["detail"] == "exam/evaluation.jsonl#1"
    assert found["contamination"]["value"] > found["contamination"]["bound"] == 0.5
    assert {found["near_duplicate"]["documents"][0], found["near_duplicate"]["detail"]} == {"near", "en-1"}


def test_no_document_is_both_trained_on_and_held_out(made: Path) -> None:
    held = {document for row in rows(made / "held_out.jsonl") for document in row.documents}
    for step in ("step1", "step2"):
        assert not held & {document for row in rows(made / f"{step}.jsonl") for document in row.documents}
    assert all(row.split == "held_out" for row in rows(made / "held_out.jsonl"))


def test_a_held_out_text_that_stands_in_another_table_under_another_id_is_not_trained_on(
    recipe: Path, tmp_path: Path
) -> None:
    copied = "tables.copies={paths: [reviews.jsonl], id: {name: id, prefix: x-}, lang: {name: lang}, "
    copied += "columns: {text: body, label: {name: mood, values: {glad: glad, sorry: sorry}}}}"
    both = ("tasks={mood.yaml: {tables: [reviews, copies]}}", "duplicates.copies={enabled: false}")
    manifest = make(recipe, tmp_path, copied, *both, "held_out.max_conversations=500", "tables.copies.where={lang: en}")
    table = manifest["tables"]["copies"]  # type: ignore[index]
    assert table["read"] == table["rows"] + sum(table["drops"].values()), "what `where` leaves out was not read"
    said = {row["id"].removeprefix("x-"): row["body"] for row in _reviews(recipe)}
    held = {
        said[row.documents[0].removeprefix("x-")] for row in rows(tmp_path / "held_out.jsonl") if row.task == "mood"
    }
    trained = {
        said[row.documents[0].removeprefix("x-")] for row in rows(tmp_path / "step1.jsonl") if row.task == "mood"
    }
    assert held
    assert not held & trained
    ledger = pl.read_parquet(tmp_path / "ledger.parquet").filter(pl.col("rule") == "holds_held_out")
    assert len(ledger) > len(held) / 2
    assert ledger["value"].min() > 0.5  # type: ignore[operator]


def test_a_post_that_two_tables_have_is_in_a_task_once_and_in_another_task_too(recipe: Path, tmp_path: Path) -> None:
    second = [{**row, "id": f"x-{row['id']}", "body": row["body"] + "."} for row in _reviews(recipe)]
    (tmp_path / "crawled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in second), encoding="utf-8")
    feeling = SENTIMENT.replace("mood", "feeling").replace("{{ text", "So: {{ text")
    (tmp_path / "feeling.yaml").write_text(feeling, encoding="utf-8")
    table = "{paths: [%s], id: id, lang: {name: lang}, "
    table += "columns: {text: body, label: {name: mood, values: {glad: glad, sorry: sorry}}}}"
    tables = f"tables={{old: {table % (recipe.parent / 'reviews.jsonl')}, new: {table % (tmp_path / 'crawled.jsonl')}}}"
    task = recipe.parent / "mood.yaml"
    both = f"tasks={{{task}: {{tables: [old, new]}}, {tmp_path / 'feeling.yaml'}: {{tables: [old]}}}}"
    make(recipe, tmp_path / "out", tables, both, "duplicates={}", "held_out.share=0")
    said = {row["id"].removeprefix("x-"): row["body"] for row in _reviews(recipe)}
    posts: dict[str, list[str]] = {"mood": [], "feeling": []}
    for row in rows(tmp_path / "out" / "step1.jsonl"):
        if row.task in posts:
            posts[row.task].append(said[row.documents[0].removeprefix("x-")])
    assert len(posts["mood"]) == len(set(posts["mood"])) > 200
    assert len(posts["mood"]) + 5 > len(posts["feeling"]) > 200, "another task has the same posts"
    ledger = pl.read_parquet(tmp_path / "out" / "ledger.parquet").filter(pl.col("stage") == "build")
    repeats = ledger.filter(pl.col("rule").is_in(["near_duplicate", "exact_duplicate"])).to_dicts()
    assert {row["table"] for row in repeats} == {"old", "new"}, "which of the two stays does not go by the table"
    for line in repeats:
        other, _, name = line["detail"].partition("#")
        assert other != line["table"]
        one, two = (said[row.removeprefix("x-")][:30] for row in (name, line["documents"][0]))
        assert one == two
        assert line["value"] >= line["bound"]


def test_what_two_general_sources_ask_nearly_alike_is_kept_once(tmp_path: Path) -> None:
    asked = [f"Tell me how many lanterns number {n} in {sentence('en', random.Random(n))} hold" for n in range(40)]
    for name, end in (("a", "?"), ("b", ", please?")):
        lines = [{"id": f"{name}{n}", "instruction": text + end, "output": f"{n}!"} for n, text in enumerate(asked)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    general = "{paths: [%s.jsonl], form: instruction, id: id}"
    (tmp_path / "recipe.yaml").write_text(f"general: {{a: {general % 'a'}, b: {general % 'b'}}}\n", encoding="utf-8")
    make(tmp_path / "recipe.yaml", tmp_path / "out", "held_out.share=0")
    assert len(rows(tmp_path / "out" / "step1.jsonl")) == 40
    ledger = pl.read_parquet(tmp_path / "out" / "ledger.parquet")
    assert set(ledger["rule"]) == {"near_duplicate"}
    assert set(ledger["stage"]) == {"clean"}


def test_a_prompt_that_stands_in_two_sources_is_trained_on_once_and_not_at_all_if_it_is_held_out(
    tmp_path: Path,
) -> None:
    rows_ = [{"id": str(n), "instruction": f"Say {n}", "output": f"{n}!"} for n in range(80)]  # too short for n-grams
    for name, chosen in (("a", rows_[:60]), ("b", [{**row, "id": f"b{row['id']}"} for row in rows_])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    general = "{paths: [%s.jsonl], form: instruction, id: id, duplicates: {near: false}}"
    text = f"general: {{a: {general % 'a'}, b: {general % 'b'}}}\nheld_out: {{share: 0.2}}\n"
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    make(tmp_path / "recipe.yaml", tmp_path / "out")
    trained = [row.messages[0].content for row in rows(tmp_path / "out" / "step1.jsonl")]
    held = {row.messages[0].content for row in rows(tmp_path / "out" / "held_out.jsonl")}
    assert len(trained) == len(set(trained))
    assert held
    assert not held & set(trained)
    assert len(set(trained) | held) == 80


def _reviews(recipe: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (recipe.parent / "reviews.jsonl").read_text(encoding="utf-8").splitlines()]


def test_step_2_has_its_share_of_general_data_and_more_social_than_step_1(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_bytes())
    second = rows(made / "step2.jsonl")
    assert len(second) == 150
    assert sum(row.capability == "general" for row in second) == 30
    assert manifest["steps"]["step2"]["social_share"] > manifest["steps"]["step1"]["social_share"]
    assert manifest["remarks"] == []


def test_gold_answers_are_read_by_their_own_parser(made: Path) -> None:
    with_format = [row for row in rows(made / "step1.jsonl") if row.format is not None]
    assert with_format
    for row in with_format:
        assert read_format(row.format).parse(row.messages[-1].content) == row.answer  # type: ignore[arg-type]


def test_general_data_keeps_its_thoughts_system_words_and_every_turn(made: Path) -> None:
    by_task: dict[str, list[Conversation]] = {}
    for row in rows(made / "step1.jsonl"):
        by_task.setdefault(row.task, []).append(row)
    assert all("<think>\n" in row.messages[-1].content for row in by_task["sums"])
    assert {row.messages[0].role for row in by_task["shares"]} == {"system"}
    assert all(row.messages[-1].role == "assistant" for row in by_task["shares"])  # a last question is cut off
    assert {len(row.messages) for row in by_task["chats"]} == {2, 4}


def test_lineage_names_every_conversation_of_a_document_and_how_often_each_step_has_it(made: Path) -> None:
    lineage = pl.read_parquet(made / "lineage.parquet")
    second = pl.Series([row.id for row in rows(made / "step2.jsonl")]).value_counts()
    assert lineage.filter(pl.col("step2") > 0)["conversation"].n_unique() == second.height
    some = rows(made / "step1.jsonl")[0]
    assert some.id in lineage.filter(pl.col("document") == some.documents[0])["conversation"].to_list()


def test_a_second_run_does_nothing_and_rows_in_other_files_and_orders_give_the_same_set(
    recipe: Path, made: Path, tmp_path: Path
) -> None:
    again = InstructionSet(load_sft_recipe(recipe), made)
    (made / "step2.jsonl").unlink()
    again.run()
    assert again.engine.ran == []
    assert (made / "step2.jsonl").exists(), "a file that was taken away comes back"
    lines = (recipe.parent / "reviews.jsonl").read_text(encoding="utf-8").splitlines()
    moved = write_small_set(tmp_path / "in")
    (moved.parent / "reviews.jsonl").unlink()
    for name, part in (("b", lines[::2][::-1]), ("a", lines[1::2])):
        (moved.parent / f"{name}.jsonl").write_text("\n".join(part) + "\n", encoding="utf-8")
    make(moved, tmp_path / "out", "tables.reviews.paths=['[ab].jsonl']")
    one, other = digests(made), digests(tmp_path / "out")
    # The manifest names files, and the ledger calls a row without a label by its place.
    assert all(one[name] == other[name] for name in ("step1.jsonl", "step2.jsonl", "held_out.jsonl", "lineage.parquet"))


def test_in_how_many_pieces_a_set_is_made_changes_no_byte(
    recipe: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redone_data.instruct.written.BUCKET_ROWS", 70)
    monkeypatch.setattr("redone_data.instruct.making.SLICE_ROWS", 30)
    monkeypatch.setattr("redone_data.instruct.clean.BATCH_ROWS", 11)
    make(recipe, tmp_path)
    assert digests(tmp_path) == digests(made)


class _Stop(Progress):
    """Ends the run in the middle of its n-th step."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def start(self, name: str, total: int, done: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def update(self, done: int) -> None:
        pass

    def end(self, name: str, seconds: float, *, skipped: bool) -> None:
        pass


def test_cut_short_in_any_step_the_same_command_goes_on_to_the_same_bytes(
    recipe: Path, made: Path, tmp_path: Path
) -> None:
    steps = len({path.name.rsplit("-", 1)[0] for path in (made / "steps").iterdir()})
    for _ in range(steps - 1):
        with pytest.raises(KeyboardInterrupt):
            InstructionSet(load_sft_recipe(recipe), tmp_path, _Stop(1)).run()
        assert not (tmp_path / "manifest.json").exists()
    make(recipe, tmp_path)
    assert digests(tmp_path) == digests(made)


@pytest.mark.skipif(sys.platform != "linux", reason="signals a process group")
def test_killed_outright_the_command_goes_on(recipe: Path, made: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "redone_data", "sft", str(recipe), "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("steps/sft-table-*/manifest.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    make(recipe, tmp_path)
    assert digests(tmp_path) == digests(made)


def test_the_page_holds_no_address_and_escapes_what_users_wrote(made: Path, tmp_path: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_bytes())
    manifest["remarks"] = ["<script>alert(1)</script>"]
    (tmp_path / "held_out.jsonl").write_bytes((made / "held_out.jsonl").read_bytes())
    write_set_report(manifest, tmp_path, "<b>")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "median 345" in page


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("tasks={}", "general"),
        ("tasks={moods: {tables: [reviews]}}", "task 'moods': known:|task 'moods': did you mean"),
        ("tasks={mood.yaml: {tables: [review]}}", "'review': did you mean 'reviews'"),
        ("tasks={mood.yaml: {tables: [posts]}}", "table posts has no column 'label'"),
        ("lengths.max_tokens=10", "has no training conversations.*too_long"),
        ("clean.bounds={wrds: {min: 3}}", "clean: bounds.wrds: no such metric"),
        ("clean.refusal_patterns=['(']", "not a regular expression"),
        ("general.chats.turns=turns", "no column 'turns'; known|no column 'turns'"),
        ("general.sums.form=messages", "no column 'messages'"),
        ("general.chats.paths=[none.jsonl]", "no files matched"),
        (
            "steps.step2.shares={dialog: 1}",
            "steps.step2: shares.dialog: no conversation has it; did you mean 'dialogue'",
        ),
        ("lengths.tokenizer=none.json", "no such tokenizer.json"),
        ("duplicates={reviews: {by: [txt]}}", "no column 'txt'"),
        ("stepz=1", "stepz: unknown key; did you mean 'steps'"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(
    recipe: Path, tmp_path: Path, assignment: str, message: str
) -> None:
    if assignment == "tasks={}":
        assignment = "general={}"
        with pytest.raises(RedoneError, match=message):
            InstructionSet(load_sft_recipe(recipe, [assignment, "tasks={}"]), tmp_path).run()
        return
    with pytest.raises(RedoneError, match=message):
        make(recipe, tmp_path, assignment)


def test_a_recipe_that_names_no_folder_or_no_file_says_so(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RedoneError, match="output is not set"):
        load_sft_recipe(recipe).output(None)
    with pytest.raises(RedoneError, match="there is no such recipe"):
        load_sft_recipe(tmp_path / "none.yaml")
