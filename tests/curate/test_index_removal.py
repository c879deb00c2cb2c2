"""Documents that leave an index: gone from every answer, gone from the disk, and nothing else changed."""

import multiprocessing
import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from curation import write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from near_posts import NEAR, Deduplicated, Post, deduplicate, ids_of, posts
from typer.testing import CliRunner

from redone_data.cli import app
from redone_data.curate import index_removal
from redone_data.curate.index import Index, reading
from redone_data.curate.index_removal import compact, forget
from redone_data.curate.index_segments import add_segment
from redone_data.curate.likeness import letters_of
from redone_data.errors import RedoneError
from redone_data.exchange import Slices
from redone_data.text.hashing import hash128

SECRET = Post("secret", "nobody may find these seven words here")
OTHERS = [Post(f"p{letter}", f"{letter * 3} {letter * 5} one two") for letter in "abcdefghijklmnopqrst"]


def accept(folder: Path, run: Deduplicated) -> Index:
    return add_segment(folder, run.corpus, NEAR, run.standing, resolved=run.resolved)


def two_segments(folder: Path) -> Path:
    """An index with the secret in the second part of its second segment."""
    first, second = OTHERS[:10], [*OTHERS[10:], SECRET]
    accept(folder / "index", deduplicate(folder / "first", [("d", first)]))
    accept(folder / "index", deduplicate(folder / "second", [("d", second[:5]), ("d", second[5:])]))
    return folder / "index"


def traces(folder: Path, post: Post) -> set[str]:
    """What of a post is still on disk: its id, its text's hash, its letters."""
    letters = letters_of(pa.array([post.text], pa.large_string())).data.tobytes()
    hashes = {
        name: hash128(pa.array([text], pa.large_string()))[0][0]
        for name, text in vars(post).items()
        if name in ("id", "text")
    }
    found = set()
    for path in folder.rglob("documents-*.arrow"):
        batch = Slices([path]).batches[0]
        found |= {name for name, value in hashes.items() if value in batch.column(f"{name}_hi").to_numpy()}
        found |= {"letters"} if letters in batch.column("letters").to_pylist() else set()
    data = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    looked_for = {"letters": letters, **{name: value.tobytes() for name, value in hashes.items()}}
    return found | {name for name, value in looked_for.items() if any(value in bytes_ for bytes_ in data)}


def answers(folder: Path, root: Path) -> dict[str, dict]:
    """Which documents of the index each text, a little changed, is found to duplicate."""
    new = [Post(post.id + "-new", post.text + " !") for post in [*OTHERS, SECRET]]
    dropped = deduplicate(root, [("d", new)], index=Index.open(folder, NEAR)).dropped
    shutil.rmtree(root)
    return dropped


def files(folder: Path) -> dict[str, int]:
    """Path -> inode of every file."""
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_a_removed_document_leaves_no_trace_on_disk(tmp_path):
    folder = two_segments(tmp_path)
    assert traces(folder, SECRET) == {"id", "text", "letters"}
    assert forget(folder, ids_of([SECRET])) == 1
    assert compact(folder) == 1
    assert traces(folder, SECRET) == set()
    assert not list(folder.glob("forgotten-*"))
    assert compact(folder) == 0


def test_other_documents_are_found_as_before(tmp_path):
    folder = two_segments(tmp_path)
    before = answers(folder, tmp_path / "before")
    forget(folder, ids_of([SECRET]))
    without = answers(folder, tmp_path / "without")
    assert len(before) == len(without) + 1
    compact(folder)
    assert answers(folder, tmp_path / "after") == without
    assert Index.open(folder, NEAR).num_accepted == len(OTHERS)


def test_files_that_hold_nothing_of_it_are_not_written_again(tmp_path):
    folder = two_segments(tmp_path)
    before = {inode: name for name, inode in files(folder).items() if "documents" in name or "keys-" in name}
    forget(folder, ids_of([SECRET]))
    compact(folder)
    kept = {before[inode] for inode in files(folder).values() if inode in before}
    assert sum("documents" in name for name in kept) == 2  # of three parts
    assert sum("keys-" in name for name in kept) >= 1  # all of the first segment


@settings(max_examples=8)
@given(posts("o"), posts("n", max_size=12), st.sets(st.integers(0, 29)))
def test_answers_are_those_of_an_index_that_never_had_them(tmp_path_factory, old, new, gone):
    folder = tmp_path_factory.mktemp("index")
    once = deduplicate(folder / "once", [("old", old)])
    accepted = [post for post, key in zip(old, ids_of(old), strict=True) if key not in once.dropped]
    leaving = [post for place, post in enumerate(accepted) if place in gone]
    staying = [post for place, post in enumerate(accepted) if place not in gone]
    accept(folder / "index", deduplicate(folder / "first", [("old", accepted[:7]), ("old", accepted[7:])]))
    assert forget(folder / "index", ids_of(leaving)) == len(leaving)
    assert compact(folder / "index") == len(leaving)
    never = accept(folder / "never", deduplicate(folder / "second", [("old", staying)]))
    found = [
        deduplicate(folder / name, [("new", new)], index=index).dropped
        for name, index in (("compacted", Index.open(folder / "index", NEAR)), ("new", never))
    ]
    assert found[0] == found[1]


def test_an_addition_after_a_removal_and_a_removal_after_it_work_on(tmp_path):
    folder = two_segments(tmp_path)
    forget(folder, ids_of([SECRET]))
    compact(folder)
    more = Post("later", "some quite other words that came later on")
    accept(folder, deduplicate(tmp_path / "third", [("d", [more])]))
    assert forget(folder, ids_of([more, OTHERS[0]])) == 2
    assert compact(folder) == 2
    assert traces(folder, more) == traces(folder, SECRET) == set()
    assert Index.open(folder, NEAR).num_accepted == len(OTHERS) - 1


def test_the_same_addition_again_does_not_bring_a_removed_document_back(tmp_path):
    run = deduplicate(tmp_path / "old", [("d", [*OTHERS, SECRET])])
    accept(tmp_path / "index", run)
    forget(tmp_path / "index", ids_of([SECRET]))
    compact(tmp_path / "index")
    assert accept(tmp_path / "index", run).num_accepted == len(OTHERS)
    assert traces(tmp_path / "index", SECRET) == set()


def test_a_kill_at_any_moment_leaves_an_index_that_answers_and_that_can_be_finished(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    original = two_segments(tmp_path / "made")
    expected = None
    for moment in range(100):
        folder = tmp_path / f"index-{moment}"
        shutil.copytree(original, folder)
        forget(folder, ids_of([SECRET]))
        expected = expected or answers(folder, tmp_path / "expected")
        left = [moment]

        def counted(do, left=left):
            def step(*arguments):
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return do(*arguments)

            return step

        with monkeypatch.context() as patched:
            for name in ("write_sliced", "link", "write_list", "_clear"):
                patched.setattr(index_removal, name, counted(getattr(index_removal, name)))
            patched.setattr(index_removal.shutil, "rmtree", counted(shutil.rmtree))
            try:
                compact(folder)
                break
            except Killed:
                pass
        if moment % 7 == 0:
            assert answers(folder, tmp_path / "run") == expected
        compact(folder)
        assert traces(folder, SECRET) == set()
        assert Index.open(folder, NEAR).num_accepted == len(OTHERS)
    assert moment >= 8


def hold(folder: Path, started, done) -> None:
    with reading(folder):
        started.set()
        done.wait(30)


def test_files_stay_while_another_process_reads_the_index(tmp_path):
    folder = two_segments(tmp_path)
    context = multiprocessing.get_context("spawn")
    started, done = context.Event(), context.Event()
    reader = context.Process(target=hold, args=(folder, started, done))
    reader.start()
    assert started.wait(60)
    try:
        assert forget(folder, ids_of([SECRET])) == 1
        with pytest.raises(RedoneError, match="another process reads this index; when it is done: redone-data index"):
            compact(folder)
    finally:
        done.set()
        reader.join()
    assert compact(folder) == 1


def test_an_index_of_any_settings_can_forget(tmp_path):
    write_jsonl(tmp_path / "posts.jsonl", [{"id": f"n{i}", "text": post.text} for i, post in enumerate(OTHERS)])
    (tmp_path / "ids.txt").write_text("n3\nn4\nnobody\n")
    runner, index = CliRunner(), str(tmp_path / "seen")
    bands = ["--set", "curate.near.bands=7", "--set", "curate.near.threshold=1.0"]
    added = runner.invoke(app, ["index", "add", index, str(tmp_path / "posts.jsonl"), "--id-field", "id", *bands])
    assert added.exit_code == 0, added.output
    removed = runner.invoke(app, ["index", "remove", index, "--ids", str(tmp_path / "ids.txt")])
    assert "2 of 3 were in the index" in removed.output
    names = pl.read_parquet(tmp_path / "seen" / "names" / "*.parquet")["own"].to_list()
    assert sorted(names) == sorted({f"n{i}" for i in range(20)} - {"n3", "n4"})
    again = runner.invoke(app, ["index", "compact", index])
    assert "0 removed documents" in again.output
