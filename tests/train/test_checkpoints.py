"""Checkpoint folders, without a trainer: what is taken, what is passed over, what is refused, what is removed."""

import json
from pathlib import Path
from typing import Any

import pytest

from redone_data.errors import RedoneError
from redone_train.train import checkpoints
from redone_train.train.checkpoints import Checkpoint

IDENTITY = {"seed": 1, "batch.rows": 8, "data": {"posts": {"layout": "packed", "tokens": ["a" * 64]}}}


def write(output: Path, step: int, identity: dict[str, Any] | None = None) -> Checkpoint:
    aside = checkpoints.begin(output, step)
    (aside / "state").mkdir()
    (aside / "state" / "weights.bin").write_bytes(bytes([step]) * 100)
    (aside / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    files = checkpoints.describe(aside, checkpoints.files_in(aside))
    return checkpoints.finish(aside, output, step, files=files, identity=identity or IDENTITY, ranks=2, zero_stage=2)


def newest(output: Path, verification: checkpoints.Verification = "sizes") -> checkpoints.Found:
    found = checkpoints.present(output, "auto")
    return checkpoints.newest(found, lambda folder: checkpoints.damage_of(folder, verification))


def steps(output: Path) -> list[str]:
    return [folder.name for folder in checkpoints.folders(output)]


def test_the_newest_good_checkpoint_is_taken(tmp_path: Path) -> None:
    assert newest(tmp_path).checkpoint is None
    for step in (2, 10, 9):
        write(tmp_path, step)
    found = newest(tmp_path, "hashes")
    assert found.checkpoint is not None
    assert (found.checkpoint.step, found.checkpoint.ranks, found.checkpoint.zero_stage) == (10, 2, 2)
    assert found.passed_over == ()
    assert steps(tmp_path) == ["step-10", "step-9", "step-2"]


def truncated(folder: Path) -> None:
    (folder / "state" / "weights.bin").write_bytes(b"short")


def absent(folder: Path) -> None:
    (folder / "state" / "weights.bin").unlink()


def without_mark(folder: Path) -> None:
    (folder / checkpoints.MARK).unlink()


def with_half_a_mark(folder: Path) -> None:
    (folder / checkpoints.MARK).write_text('{"schema_version":')


def of_another_release(folder: Path) -> None:
    (folder / checkpoints.MARK).write_text('{"schema_version": 99}')


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncated, "state/weights.bin has 5 bytes of 100"),
        (absent, "state/weights.bin is absent"),
        (without_mark, "no checkpoint.json: not a checkpoint, or one that was not finished"),
        (with_half_a_mark, "not valid JSON"),
        (of_another_release, "schema_version 99; this release reads 1"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_one_line_that_says_why(
    tmp_path: Path, spoil: Any, reason: str
) -> None:
    write(tmp_path, 1)
    spoil(write(tmp_path, 2).folder)
    found = newest(tmp_path)
    assert found.checkpoint is not None
    assert found.checkpoint.step == 1
    assert len(found.passed_over) == 1
    assert "step-2 is passed over" in found.passed_over[0]
    assert reason in found.passed_over[0]


def test_a_flipped_byte_is_found_by_hash_and_by_the_rank_that_has_the_file(tmp_path: Path) -> None:
    write(tmp_path, 1)
    spoilt = write(tmp_path, 2)
    (spoilt.folder / "state" / "weights.bin").write_bytes(bytes([2]) * 99 + b"!")
    by_size = newest(tmp_path, "sizes").checkpoint
    assert by_size is not None
    assert by_size.step == 2, "sizes alone cannot see it"
    found = newest(tmp_path, "hashes")
    assert found.checkpoint is not None
    assert found.checkpoint.step == 1
    assert "state/weights.bin is not what was written" in found.passed_over[0]
    by_rank = [spoilt.damage("hashes", rank, 2) for rank in (0, 1)]
    assert by_rank == ["state/weights.bin is not what was written", None]


def test_an_interrupted_write_is_never_taken_and_removed_by_the_next(tmp_path: Path) -> None:
    aside = checkpoints.begin(tmp_path, 3)
    (aside / "half").write_bytes(b"half of it")
    assert newest(tmp_path).checkpoint is None
    write(tmp_path, 4)
    assert not aside.exists()
    assert [path.name for path in (tmp_path / checkpoints.FOLDER).iterdir()] == ["step-4"]


def test_a_run_whose_every_checkpoint_is_damaged_stops_rather_than_start_anew(tmp_path: Path) -> None:
    truncated(write(tmp_path, 1).folder)
    without_mark(write(tmp_path, 2).folder)
    with pytest.raises(RedoneError, match=r"no checkpoint is good: .*step-2 .*step-1 .*remove .* to start anew"):
        newest(tmp_path)


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_reached_again(tmp_path: Path) -> None:
    truncated(write(tmp_path, 1).folder)
    write(tmp_path, 1)
    found = newest(tmp_path, "hashes")
    assert found.checkpoint is not None
    assert found.passed_over == ()


def test_keeping_the_last_never_removes_the_only_good_one(tmp_path: Path) -> None:
    write(tmp_path, 1)
    for step in (2, 3, 4):
        truncated(write(tmp_path, step).folder)
    checkpoints.prune(tmp_path, 1)
    assert steps(tmp_path) == ["step-4", "step-3", "step-2", "step-1"]
    write(tmp_path, 5)
    checkpoints.prune(tmp_path, 1)
    assert steps(tmp_path) == ["step-5"]


def test_the_newest_so_many_are_kept_and_0_keeps_all(tmp_path: Path) -> None:
    for step in range(1, 6):
        write(tmp_path, step)
    checkpoints.prune(tmp_path, 0)
    assert len(steps(tmp_path)) == 5
    checkpoints.prune(tmp_path, 3)
    assert steps(tmp_path) == ["step-5", "step-4", "step-3"]
    assert not list((tmp_path / checkpoints.FOLDER).glob(".*")), "removed folders leave nothing"


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({**IDENTITY, "batch.rows": 16}, r"batch\.rows was 8, is 16"),
        ({**IDENTITY, "seed": 2}, "seed was 1, is 2"),
        ({**IDENTITY, "data": {**IDENTITY["data"], "chat": {}}}, r"data\.chat is new"),
        ({**IDENTITY, "data": {}}, r"data\.posts is gone"),
        ({**IDENTITY, "data": {"posts": {"layout": "windows", "tokens": ["a" * 64]}}}, 'was "packed", is "windows"'),
        ({**IDENTITY, "data": {"posts": {"layout": "packed", "tokens": ["b" * 64]}}}, r"data\.posts\.tokens was"),
    ],
)
def test_a_changed_run_is_refused_with_what_was_what_is_and_what_to_do(
    tmp_path: Path, now: dict[str, Any], reason: str
) -> None:
    checkpoint = write(tmp_path, 1)
    checkpoint.refuse_changes(dict(reversed(IDENTITY.items())))
    with pytest.raises(RedoneError, match=reason) as refused:
        checkpoint.refuse_changes(now)
    assert "another `output`" in str(refused.value)


def test_a_run_that_shall_start_anew_is_refused_where_there_is_one(tmp_path: Path) -> None:
    assert checkpoints.present(tmp_path, "never") == []
    write(tmp_path, 7)
    with pytest.raises(RedoneError, match=r"holds a run at step-7, and checkpoints\.resume is never"):
        checkpoints.present(tmp_path, "never")
    assert len(checkpoints.present(tmp_path, "auto")) == 1


def test_a_folder_that_cannot_be_written_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / checkpoints.FOLDER).write_text("a file")
    with pytest.raises(RedoneError, match="the checkpoint cannot be written"):
        checkpoints.begin(tmp_path, 1)


def test_storage_that_nodes_do_not_share_is_named(tmp_path: Path) -> None:
    aside = checkpoints.begin(tmp_path, 1)
    with pytest.raises(RedoneError, match="`output` must be on storage that all nodes share"):
        checkpoints.describe(aside, ["shard-of-another-node.pt"])
