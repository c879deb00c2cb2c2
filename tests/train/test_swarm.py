"""The swarm from outside: the command, its files, its exit codes."""

import contextlib
import csv
import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from redone_data.errors import RedoneError
from redone_data.proxy_shape import ProxyShape
from redone_train import cli
from redone_train.proxy_data import TokenPool
from redone_train.proxy_model import ProxyModel
from redone_train.proxy_run import stream_nats, train_run
from redone_train.swarm import RunFailedError, train_swarm
from redone_train.swarm_files import Swarm

ROOT = Path(__file__).parents[2]


def command(directory: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "redone_train", "swarm", str(directory), *options]


def run_command(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(directory, *options), cwd=ROOT, capture_output=True, text=True, check=False)


def train_here(folder, run_id: str) -> dict:  # type: ignore[no-untyped-def, type-arg]
    """One run in this process, as a worker would train it."""
    swarm = Swarm(folder.directory)
    for name in ("results", "checkpoints", "timings"):
        (folder.directory / name).mkdir(exist_ok=True)
    train_run(swarm, swarm.runs[run_id], lambda tokens: False, checkpoint_seconds=math.inf)
    result: dict = folder.result(run_id)  # type: ignore[type-arg]
    return result


@pytest.fixture(autouse=True)
def one_thread():  # type: ignore[no-untyped-def]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def add_runs(folder) -> None:  # type: ignore[no-untyped-def]
    folder.add_run("r1", {"notes": 0.8, "中文": 0.2})
    folder.add_run("r2", {"notes": 0.2, "中文": 0.8}, seed=1)
    folder.add_run("r0", {"notes": 0.2, "中文": 0.2, 'chat, "live"/..': 0.6}, seed=2)


def test_killed_and_stopped_and_resumed_gives_the_bytes_of_an_uninterrupted_swarm(folder, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder.config["proxy"]["tokens"] = 196_608
    add_runs(folder)
    shutil.copytree(folder.directory, tmp_path / "whole")
    assert run_command(tmp_path / "whole", "--processes", "2").returncode == 0
    checkpoint = folder.directory / "checkpoints" / "r0.pt"

    with started(folder.directory, "--processes", "1", "--checkpoint-seconds", "0.05") as parent:
        wait_for(checkpoint.exists)
        workers = children(parent.pid)
        parent.kill()
        parent.wait()
        wait_for(lambda: workers and not any(map(alive, workers)))
    killed_at = torch.load(checkpoint, weights_only=True)["step"]
    assert 0 < killed_at < 768

    with started(folder.directory, "--processes", "1", "--checkpoint-seconds", "0.05") as parent:
        before = checkpoint.stat().st_mtime_ns
        wait_for(lambda: checkpoint.stat().st_mtime_ns != before)
        parent.send_signal(signal.SIGTERM)
        assert parent.wait() == 143
    assert torch.load(checkpoint, weights_only=True)["step"] > killed_at
    assert not (folder.directory / "metrics.csv").exists()

    # To the end with other processes, rows and columns.
    order = [0, 1, *reversed(range(2, len(folder.header)))]
    folder.header = [folder.header[i] for i in order]
    folder.rows = [[row[i] for i in order] for row in reversed(folder.rows)]
    folder.write()
    assert run_command(folder.directory, "--processes", "2").returncode == 0
    assert folder.results() == results_in(tmp_path / "whole")
    assert not checkpoint.exists()

    with (folder.directory / "metrics.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["run_id"] for row in table] == ["r0", "r1", "r2"]
    assert float(table[1]["notes"]) == folder.result("r1")["loss_bpb"]["notes"]
    timing = json.loads((folder.directory / "timings" / "r0.json").read_bytes())
    assert timing["seconds"] > 0
    assert timing["tokens_per_second"] > 0

    again = run_command(folder.directory)
    assert again.returncode == 0
    assert "nothing to do: all 3 runs" in again.stderr


def test_a_changed_weight_trains_its_run_again_and_no_other(folder) -> None:  # type: ignore[no-untyped-def]
    add_runs(folder)
    before = {run_id: train_here(folder, run_id) for run_id in ("r0", "r1", "r2")}
    folder.rows[0][2:] = [0.5, 0.0, 0.5]
    folder.write()
    again = run_command(folder.directory, "--processes", "1")
    assert "1 of 3 runs to train" in again.stderr
    after = {run_id: folder.result(run_id) for run_id in before}
    assert {run_id for run_id in after if before[run_id] != after[run_id]} == {"r1"}
    assert f"{after['r1']['loss_bpb']['notes']}" in (folder.directory / "metrics.csv").read_text(encoding="utf-8")


def test_more_of_a_domain_lowers_its_loss(folder) -> None:  # type: ignore[no-untyped-def]
    folder.config["proxy"]["tokens"] = 32_768
    losses = []
    for share in (0.0, 0.1, 0.5, 1.0):
        folder.add_run(f"share-{share}", {"notes": share, "中文": 1 - share})
        result = train_here(folder, f"share-{share}")
        assert result["status"] == "ok"
        assert result["tokens"] == 32_768
        assert 18 <= len(result["curve"]) <= 20
        losses.append(result["loss_nats_per_token"]["notes"])
        bpb = losses[-1] * 2000 / math.log(2) / 6000
        assert result["loss_bpb"]["notes"] == pytest.approx(bpb)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.5


def test_a_run_whose_loss_is_not_finite_is_diverged_and_left_out(folder, capfd) -> None:  # type: ignore[no-untyped-def]
    folder.config["proxy"]["learning_rate"] = 1e30
    folder.add_run("wild", {"notes": 1.0})
    train_swarm(folder.directory)
    assert folder.result("wild")["status"] == "diverged"
    assert folder.result("wild")["loss_bpb"] == {}
    assert len((folder.directory / "metrics.csv").read_text(encoding="utf-8").splitlines()) == 1
    assert "diverged, left out of metrics.csv: wild" in capfd.readouterr().err


@pytest.mark.parametrize("num_tokens", [3, 16, 2048 + 16 + 5])
def test_evaluation_predicts_every_token_once(tmp_path: Path, num_tokens: int) -> None:
    tokens = np.random.default_rng(0).integers(0, 64, num_tokens)
    tokens.astype("<u2").tofile(tmp_path / "v.ds")
    np.array([num_tokens], dtype="<u8").tofile(tmp_path / "v.ds.index")
    model = ProxyModel(ProxyShape(layers=1, width=16, heads=1), vocab_size=64, context=16, seed=0)
    total = stream_nats(model, TokenPool([tmp_path / "v.ds"], 2), context=16, eos_token_id=0)
    inputs = np.concatenate([[0], tokens[:-1]])
    expected = 0.0
    for start in range(0, num_tokens, 16):
        window = slice(start, start + 16)
        expected += model.total_nats(torch.from_numpy(inputs[None, window]), torch.from_numpy(tokens[None, window]))
    assert total == pytest.approx(expected, rel=1e-5)


def test_a_defect_names_its_run_and_exits_with_1(folder) -> None:  # type: ignore[no-untyped-def]
    folder.add_run("unlucky", {"notes": 1.0})
    (folder.directory / "timings" / "unlucky.json").mkdir(parents=True)
    failed = run_command(folder.directory)
    assert failed.returncode == 1
    assert "run 'unlucky' failed" in failed.stderr
    assert "Traceback" in failed.stderr


def test_a_worker_that_is_killed_names_its_run(folder) -> None:  # type: ignore[no-untyped-def]
    folder.config["proxy"]["tokens"] = 10_000_000
    folder.add_run("unlucky", {"notes": 1.0})
    with started(folder.directory, "--checkpoint-seconds", "0.05", stderr=subprocess.PIPE) as parent:
        wait_for((folder.directory / "checkpoints" / "unlucky.pt").exists)
        for worker in children(parent.pid):
            os.kill(worker, signal.SIGKILL)
        _, error = parent.communicate()
    assert parent.returncode == 1
    assert "the process training run 'unlucky' died" in error.decode()


def test_two_trainers_do_not_share_a_folder(folder) -> None:  # type: ignore[no-untyped-def]
    folder.add_run("a", {"notes": 1.0})
    with (folder.directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RedoneError, match="another redone-train is at work here"):
            train_swarm(folder.directory)


def test_a_users_error_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    failed = run_command(tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.startswith("redone-train: ")
    assert len(failed.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(RedoneError("x"), 2), (RunFailedError("x"), 1), (KeyboardInterrupt(), 130), (SystemExit(143), 143)],
)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, code: int) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "train_swarm", fail)
    monkeypatch.setattr(sys, "argv", ["redone-train", "swarm", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    assert exit_info.value.code == code


def test_help_describes_every_option() -> None:
    shown = CliRunner().invoke(cli.app, ["swarm", "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    for text in ("DIR", "--processes", "--threads", "--checkpoint-seconds", "--stack", "--launch", "metrics.csv"):
        assert text in shown.output


@contextlib.contextmanager
def started(directory: Path, *options: str, stderr: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command(directory, *options), cwd=ROOT, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()


def results_in(directory: Path) -> dict[str, bytes]:
    files = [*(directory / "results").iterdir(), directory / "metrics.csv"]
    return {file.name: file.read_bytes() for file in files}


def wait_for(happened, seconds: float = 60) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def children(parent: int) -> list[int]:
    """The process's own children, on Linux."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")
