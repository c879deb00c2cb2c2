"""Real signals to real runs: whatever ends one, the same command goes on, to the same bytes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_run import ENVIRONMENT, SmallRecipe, redone, start, tree

from redone_data.pipeline import locked
from redone_data.processes import is_alive

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.on_demand)])
def test_kills_at_random_moments_leave_no_process_and_the_same_bytes(
    recipe: SmallRecipe, tmp_path: Path, kills: int
) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "kill_resume.py"), str(recipe.path)]
    command += ["--kills", str(kills), "--out", str(tmp_path / "out"), "--seed", "1"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"{kills} kills in" in finished.stdout
    assert "0 files differ" in finished.stdout
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "Traceback" not in log
    assert "redone-data:" not in log, "a resumed run met an error"


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not list(path.parent.glob(path.name)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "code", "workers"), [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 1), (signal.SIGINT, 130, 2)]
)
def test_an_interrupted_run_says_so_in_a_line_and_goes_on(
    recipe: SmallRecipe, reference: Path, tmp_path: Path, number: int, code: int, workers: int
) -> None:
    out = tmp_path / "out"
    process = start("mix", recipe.path, "--out", out, "--set", f"executor.workers={workers}")
    wait_for(out / "steps" / "exact-*", process)
    if number == signal.SIGINT:  # a terminal sends Ctrl-C to all of the group, a scheduler its SIGTERM to the process
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "the same command goes on from here" in err
    # The signal may meet a file between its opening and its `with`; the tests' own -W error names such a file.
    named = r"Exception ignored in: <_io\.FileIO.*?ResourceWarning: unclosed file[^\n]*\n"
    err = re.sub(named, "", err, flags=re.DOTALL)
    if number == signal.SIGTERM:  # a group's Ctrl-C may meet a child in the middle of its fork, which says so itself
        assert "Traceback" not in err, err
    assert not (out / "manifest.json").exists()
    deadline = time.monotonic() + 10
    while is_alive(-process.pid):  # any process of the group
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.1)
    assert tree(recipe.mixed(out)) == tree(reference)


def test_two_runs_in_one_folder_do_not_meet(recipe: SmallRecipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out):
        second = redone("mix", recipe.path, "--out", out)
    assert second.code == 2
    assert second.error == (
        f"redone-data: {out}: another run is at work in this folder; wait for it, or choose another --out"
    )
    recipe.mixed(out)
