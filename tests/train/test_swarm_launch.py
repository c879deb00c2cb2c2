"""Groups as tasks of a cluster: Ray on this machine, and a stand-in for sbatch that runs the script it is given."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from test_swarm import ROOT, add_runs, results_in, run_command

from redone_data.errors import RedoneError
from redone_train.swarm import RunFailedError, SwarmOptions
from redone_train.swarm_launch import launch_swarm

# As sbatch --parsable --wait does: the job's number first, then nothing until every task of the array has ended.
SBATCH = """#!/bin/bash
echo "$@" >> "$SLURM_STAND_IN/arguments"
echo "1234;cluster"
for argument in "$@"; do
  case "$argument" in
    --array=*) tasks=${argument#--array=} ;;
    --output=*) output=${argument#--output=} ;;
  esac
  script=$argument
done
code=0
for task in ${tasks//,/ }; do
  log=${output/\\%A/1234}; log=${log/\\%a/$task}
  SLURM_ARRAY_TASK_ID=$task bash "$script" > "$log" 2>&1 || code=1
done
exit $code
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stand_in = tmp_path / "stand-in"
    stand_in.mkdir()
    (stand_in / "sbatch").write_text(SBATCH)
    (stand_in / "sbatch").chmod(0o755)
    monkeypatch.setenv("SLURM_STAND_IN", str(stand_in))
    monkeypatch.setenv("PATH", os.pathsep.join([str(stand_in), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return stand_in


def small(folder) -> Path:  # type: ignore[no-untyped-def]
    folder.config["proxy"]["tokens"] = 1024
    add_runs(folder)
    directory: Path = folder.directory
    return directory


def test_slurm_trains_a_group_a_task_and_only_what_is_left(folder, slurm: Path) -> None:  # type: ignore[no-untyped-def]
    directory = small(folder)
    options = SwarmOptions(stack=2, device="cpu")
    launch_swarm(directory, "slurm", options, {"partition": "cpu", "exclusive": ""})
    first = results_in(directory)
    assert set(first) == {"r0.json", "r1.json", "r2.json", "metrics.csv"}
    (directory / "results" / "r2.json").unlink()
    launch_swarm(directory, "slurm", SwarmOptions(device="cpu"), {"partition": "cpu"})
    assert results_in(directory) == first
    asked = (slurm / "arguments").read_text().splitlines()
    assert "--array=0,1 " in asked[0]
    assert "--partition=cpu --exclusive " in asked[0]
    assert "--array=1 " in asked[1]
    assert "--gpus" not in asked[0]


@pytest.mark.on_demand
def test_a_slurm_task_that_fails_shows_its_reason(folder, slurm: Path) -> None:  # type: ignore[no-untyped-def]
    directory = small(folder)
    (directory / "timings" / "r2.json").mkdir(parents=True)
    with pytest.raises(RunFailedError, match=r"run 'r2' failed with exit code 1:(.|\n)*IsADirectoryError"):
        launch_swarm(directory, "slurm", SwarmOptions(stack=2, device="cpu"), {})
    assert sorted(path.name for path in (directory / "results").iterdir()) == ["r0.json", "r1.json"]


def test_a_job_that_sbatch_refuses_is_the_users_to_mend(folder, slurm: Path) -> None:  # type: ignore[no-untyped-def]
    (slurm / "sbatch").write_text("#!/bin/bash\necho 'invalid partition' >&2\nexit 1\n")
    with pytest.raises(RedoneError, match=r"sbatch refused the job .* mend the slurm options"):
        launch_swarm(small(folder), "slurm", SwarmOptions(device="cpu"), {"partition": "none"})


def test_a_slurm_job_asks_for_a_gpu_unless_told_how(folder, slurm: Path) -> None:  # type: ignore[no-untyped-def]
    (slurm / "sbatch").write_text('#!/bin/bash\necho "$@" >> "$SLURM_STAND_IN/arguments"\nexit 1\n')
    directory = small(folder)
    for slurm_options in ({}, {"gres": "gpu:h100:1"}):
        with pytest.raises(RedoneError, match="sbatch refused"):
            launch_swarm(directory, "slurm", SwarmOptions(), slurm_options)
    asked = (slurm / "arguments").read_text().splitlines()
    assert "--gpus=1 " in asked[0]
    assert "--gpus" not in asked[1]


def test_without_sbatch_it_says_what_is_needed(folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RedoneError, match="the command sbatch is not here; run on a login node"):
        launch_swarm(small(folder), "slurm", SwarmOptions(), {})
    with pytest.raises(RedoneError, match="slurm options are given, but launch is not slurm"):
        launch_swarm(folder.directory, "ray", SwarmOptions(), {"partition": "cpu"})


@pytest.mark.skipif(sys.platform != "linux", reason="ray is tested on Linux")
@pytest.mark.on_demand
@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="with a GPU Ray gives one to each task")
def test_ray_trains_a_group_a_task_to_the_bytes_of_training_here(folder, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """The machine has no GPU, so `--device auto`, which is what a recipe gives, goes on without."""
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    directory = small(folder)
    here = directory.with_name("here")
    shutil.copytree(directory, here)
    assert run_command(here, "--stack", "2", "--device", "cpu").returncode == 0
    done = run_command(directory, "--stack", "2", "--launch", "ray")
    if "timed out during startup" in done.stderr:
        pytest.skip("Ray did not start on this machine in its time")
    assert done.returncode == 0, done.stderr
    assert set(results_in(directory)) == {"r0.json", "r1.json", "r2.json", "metrics.csv"}
    assert results_in(directory) == results_in(here)
    assert "2 of 2 groups to train by ray" in done.stderr
    again = run_command(directory, "--launch", "ray", "--device", "cpu")
    assert "nothing to do: all 3 runs" in again.stderr
