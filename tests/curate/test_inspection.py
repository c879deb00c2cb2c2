"""``inspect``: whatever curation writes can be looked at, and what cannot be shown says why."""

import io
from pathlib import Path

import pytest
from curation import Curated, curate, domain, posts, run_recipe, sentence, write_jsonl
from rich.console import Console

from redone_data.errors import RedoneError
from redone_data.inspection import show


def said(path: Path, *, examples: int = 2, dropped: str | None = None, document: str | None = None) -> str:
    console = Console(file=io.StringIO(), width=1000)
    show(path, console, examples=examples, dropped=dropped, document=document)
    return console.file.getvalue()


ODD = "[bold]odd[/]"


def records() -> tuple[list[dict], list[dict]]:
    notes = [*posts(30), {"id": "near", "text": sentence(0) + " 😂"}, {"id": "short", "text": "ok"}]
    return notes, [{**post, "text": post["text"] + " :smile: [/b]"} for post in posts(30, seed=1)]


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Curated:
    folder = tmp_path_factory.mktemp("inspected")
    for name, group in zip("ab", records(), strict=True):
        write_jsonl(folder / f"{name}.jsonl", group)
    with (folder / "a.jsonl").open("a") as file:
        file.write("broken\n")
    rules = {"rules": {"preset": "sns"}}
    domains = {"notes": domain("a.jsonl", **rules), ODD: domain("b.jsonl", **rules)}
    return run_recipe(folder, {"domains": domains, "read": {"max_bad_fraction": 0.1}})


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Curated:
    settings = {"tokens": {"budget": 500, "tokenizer": {"vocab_size": 300}}, "mix": {"weights": {"notes": 1, ODD: 1}}}
    notes, odd = records()
    return curate_to_the_end(tmp_path_factory.mktemp("mixed"), {"notes": notes, ODD: odd}, settings)


def curate_to_the_end(folder: Path, corpora: dict, settings: dict) -> Curated:
    domains = {}
    for number, (name, group) in enumerate(corpora.items()):
        write_jsonl(folder / f"{number}.jsonl", group)
        domains[name] = domain(f"{number}.jsonl", rules={"preset": "sns"})
    return run_recipe(folder, {"domains": domains, **settings}, until="sample")


def test_a_run_that_was_only_curated_shows_its_documents_and_its_ledger(curated):
    text = said(curated.root, examples=50)
    assert "60 rows in 2 Parquet files" in text
    assert ODD in text
    for word in ("corpus", "ledger", "near_duplicate", "too_few_words", sentence(0)):
        assert word in text


def test_posts_are_shown_as_they_are_and_not_as_markup_or_emoji(curated):
    text = said(curated.run.kept.folder, examples=100)
    assert ":smile: [/b]" in text


def test_ledger_quarantine_and_single_files_are_shown(curated):
    kept = curated.run.kept.folder
    assert "near_duplicate" in said(curated.run.curation.ledger.folder)
    assert "not valid JSON" in said(next(curated.root.rglob("*.quarantine.parquet")))
    assert sentence(0) in said(next((kept / "notes").glob("*.parquet")))
    assert '"step": "keep"' in said(kept / "manifest.json")


def test_dropped_documents_are_shown_beside_those_they_duplicate(curated):
    text = said(curated.root, dropped="near_duplicate")
    assert "1 documents were dropped by near_duplicate" in text
    (row,) = [row for row in curated.dropped.values() if row["rule"] == "near_duplicate"]
    assert row["id"] in text
    assert row["duplicate_of"] in text
    lines = [line for line in text.splitlines() if repr(curated.kept[row["duplicate_of"]]["text"]) in line]
    assert [repr(sentence(0) + " 😂") in line for line in lines] == [True]  # side by side
    assert "1 documents were dropped by too_few_words" in said(
        curated.run.curation.ledger.folder, dropped="too_few_words"
    )


def test_a_document_is_found_by_id_whether_kept_or_dropped(curated):
    for identity, word in ((next(iter(curated.kept)), "text"), (next(iter(curated.dropped)), "rule")):
        text = said(curated.root, document=identity)
        assert identity in text
        assert f'"{word}"' in text


def test_a_finished_run_shows_weights_documents_and_tokens(mixed):
    text = said(mixed.root)
    for word in ("weight", "Fixed by the recipe", ODD, "near_duplicate", "tokens", "bytes/token"):
        assert word in text
    identity = next(iter(mixed.kept))
    assert identity in said(mixed.root, document=identity)
    assert "dropped by near_duplicate" in said(mixed.root, dropped="near_duplicate")
    assert said(mixed.root / "tokens", examples=1)


def test_what_cannot_be_shown_says_why(curated, tmp_path):
    kept = curated.run.kept.folder
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_text("no table")
    (tmp_path / "unfinished" / "steps").mkdir(parents=True)
    (tmp_path / "tokens-0.ds").write_text("")
    cases = [
        (tmp_path / "absent", {}, "there is nothing here"),
        (tmp_path / "empty", {}, "nothing that redone-data writes"),
        (tmp_path / "broken.parquet", {}, r"broken\.parquet: cannot be read"),
        (tmp_path / "unfinished", {}, "not curated yet"),
        (tmp_path / "tokens-0.ds", {}, "shown with its dataset"),
        (
            curated.root,
            {"dropped": "no_rule"},
            "no document was dropped by 'no_rule'; the rules are: near_duplicate, too_few",
        ),
        (kept, {"dropped": "no_rule"}, "there is no ledger here"),
        (tmp_path / "empty", {"dropped": "no_rule"}, "there is no ledger here"),
        (curated.root, {"document": "0" * 32}, "no document with id 0000"),
    ]
    for path, options, message in cases:
        with pytest.raises(RedoneError, match=message):
            said(path, **options)


def test_a_ledger_without_a_line_is_shown_too(tmp_path):
    run = curate(tmp_path, {"d": posts(20)})
    assert "20 rows" in said(run.root)
    with pytest.raises(RedoneError, match="no document was dropped by 'near_duplicate'"):
        said(run.root, dropped="near_duplicate")
