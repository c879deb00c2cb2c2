"""The engine: nothing is computed twice, nothing half done is shown, and the bytes are the same wherever tasks run."""

import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
from counting import STEP, NextVersion
from small_run import ENVIRONMENT, tree

from redone_data.engine import Engine, ExecutorConfig, SlurmConfig, StepError
from redone_data.errors import RedoneError
from redone_data.manifest import MANIFEST, read_json

HERE = Path(__file__).parent
# How other processes (Ray, Slurm, killed ones) find the steps.
PATHS = os.pathsep.join([str(HERE), str(HERE.parent)])


def test_the_folder_changes_with_configuration_version_and_inputs_and_with_nothing_else() -> None:
    names = [
        step.folder_name()
        for step in (STEP, replace(STEP, power=3), NextVersion(STEP.numbers), replace(STEP, source={"a": "1"}))
    ]
    assert len(set(names)) == 4
    assert replace(STEP, trouble="x").folder_name() == STEP.folder_name()


def test_a_finished_step_is_not_computed_again(tmp_path: Path) -> None:
    first = Engine(tmp_path)
    output = first.run(STEP)
    assert output.statistics == {"total": 52}
    assert [task["value"] for task in output.tasks] == [9, 1, 16, 1, 25]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second = Engine(tmp_path)
    assert second.run(STEP).fingerprint == output.fingerprint
    assert (len(first.ran), second.ran) == (1, [])
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_of_the_user_stops_the_run_with_its_message_and_keeps_finished_tasks(
    tmp_path: Path, workers: int
) -> None:
    trouble = tmp_path / "trouble"
    trouble.write_text("user")
    step, engine = replace(STEP, trouble=str(trouble)), Engine(tmp_path / "run", ExecutorConfig(workers=workers))
    with pytest.raises(RedoneError, match=r"line 41: field 'text' is missing; set fields\.text"):
        engine.run(step)
    assert not engine.is_done(step)
    finished = {path: path.stat().st_mtime_ns for path in engine.folder(step).glob("count-*.txt")}
    assert finished
    trouble.unlink()
    assert engine.run(step).statistics == {"total": 52}
    assert (
        finished.items() <= {path: path.stat().st_mtime_ns for path in engine.folder(step).glob("count-*.txt")}.items()
    )
    Engine(tmp_path / "other").run(STEP)
    assert tree(tmp_path / "run") == tree(tmp_path / "other")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_defect_keeps_its_traceback(tmp_path: Path, workers: int) -> None:
    (tmp_path / "trouble").write_text("defect")
    with pytest.raises(StepError, match=r"step 'count' failed:(.|\n)*ZeroDivisionError: a defect"):
        Engine(tmp_path / "run", ExecutorConfig(workers=workers)).run(replace(STEP, trouble=str(tmp_path / "trouble")))


def test_a_killed_worker_process_ends_the_run_with_advice_instead_of_a_hang(tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    trouble.write_text("die")
    step, engine = replace(STEP, trouble=str(trouble)), Engine(tmp_path / "run", ExecutorConfig(workers=2))
    with pytest.raises(RedoneError, match=r"step 'count': a worker process was killed.* lower executor.workers"):
        engine.run(step)
    trouble.unlink()
    engine.run(step)
    assert sorted(read_json(engine.folder(step) / MANIFEST)["files"]) == [f"count-{i}.txt" for i in range(5)]
    Engine(tmp_path / "other").run(STEP)
    assert tree(tmp_path / "run") == tree(tmp_path / "other")


IMPORTS = """
import dataclasses, pathlib, sys
import redone_data.engine as engine, redone_data.errors
from counting import STEP
"""


def script(body: str, *arguments: object, **environment: str) -> "subprocess.Popen[str]":
    """A Python process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", IMPORTS + textwrap.dedent(body), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**ENVIRONMENT, "PYTHONPATH": PATHS, **environment},
    )


RUN = """
from redone_data.processes import children_die_with_us
children_die_with_us()
step = dataclasses.replace(STEP, trouble=sys.argv[2])
engine.Engine(pathlib.Path(sys.argv[1]), engine.ExecutorConfig(workers=int(sys.argv[3]))).run(step)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_kill_only_missing_tasks_run_and_leftovers_never_show(tmp_path: Path, workers: int) -> None:
    psutil = pytest.importorskip("psutil")
    trouble, run = tmp_path / "trouble", tmp_path / "run"
    trouble.write_text("wait")
    process = script(RUN, run, trouble, workers)
    deadline = time.monotonic() + 60
    while not (tmp_path / "trouble.waiting").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)  # the other worker finishes its tasks
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive, f"left behind: {alive}"
    folder = Engine(run).folder(STEP)
    (folder / ".count-1.txt.tmp-1").write_text("half")
    (folder / "logs").mkdir(exist_ok=True)  # a single worker has no executor, and no logs
    (folder / "logs" / "leftover").write_text("")
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("count-*.txt")}
    assert finished
    trouble.unlink()
    Engine(run).run(STEP)
    assert finished.items() <= {path: path.stat().st_mtime_ns for path in folder.glob("count-*.txt")}.items()
    Engine(tmp_path / "other").run(STEP)
    assert tree(run) == tree(tmp_path / "other")


def test_a_kill_between_the_manifest_and_the_end_of_cleaning_leaves_nothing(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "run")
    records = engine.run(STEP).folder / "tasks"
    records.mkdir()
    (records / "000000.json").write_text("{}")
    Engine(tmp_path / "run").run(STEP)
    assert not records.exists()


def test_two_workers_give_the_same_bytes_as_one(tmp_path: Path) -> None:
    for workers in (1, 2):
        Engine(tmp_path / str(workers), ExecutorConfig(workers=workers)).run(STEP)
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


def test_workers_outlive_a_step_share_the_cores_and_end_when_asked(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    engine = Engine(tmp_path, ExecutorConfig(workers=2))
    engine.run(STEP)
    first = engine.timings["count"]["tasks"].values()
    engine.run(NextVersion(STEP.numbers))
    second = engine.timings["count"]["tasks"].values()
    workers = {task["process"] for task in [*first, *second]}
    assert len(workers) <= 2
    assert os.getpid() not in workers
    assert {task["threads"] for task in second} == {max(1, (os.cpu_count() or 1) // 2)}
    engine.release_workers()
    assert not any(map(psutil.pid_exists, workers))


def test_ray_gives_the_same_bytes(tmp_path: Path) -> None:
    """On a real Ray cluster of one machine with two cores."""
    pytest.importorskip("ray")
    body = """
    import ray
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    config = engine.ExecutorConfig(kind="ray", workers=2, ray=engine.RayConfig(memory_gb_per_task=0.25))
    engine.Engine(pathlib.Path(sys.argv[1]), config).run(STEP)
    (pathlib.Path(sys.argv[1]) / "trouble").write_text("user")
    try:
        step = dataclasses.replace(STEP, power=3, trouble=sys.argv[1] + "/trouble")
        engine.Engine(pathlib.Path(sys.argv[1]), config).run(step)
    except redone_data.errors.RedoneError as error:
        print("REFUSED", error)
    """
    process = script(body, tmp_path / "ray")
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert "REFUSED posts-2.jsonl line 41" in out
    output = Engine(tmp_path / "local").run(STEP)
    assert tree(tmp_path / "ray" / "steps" / output.folder.name) == tree(output.folder)


def test_an_unreachable_ray_cluster_is_named(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    body = """
    config = engine.ExecutorConfig(kind="ray", ray=engine.RayConfig(address="auto"))
    try:
        engine.Engine(pathlib.Path(sys.argv[1]), config).run(STEP)
    except redone_data.errors.RedoneError as error:
        print("REFUSED", error)
    """
    out, err = script(body, tmp_path).communicate(timeout=120)
    assert "REFUSED executor.ray.address: auto: " in out, err


SBATCH = """\
#!/bin/bash
# A stand-in for Slurm: runs the tasks of the script's array here, two at a time, and gives them what Slurm would.
for last; do :; done
for argument; do case $argument in --export=ALL,*) export "${argument#--export=ALL,}";; esac; done
copy=$(mktemp "$SLURM_STAND_IN/job.XXXX"); cp "$last" "$copy"
echo "$*" >> "$SLURM_STAND_IN/calls"
array=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$copy")
case "$*" in *dependency*) echo "Submitted batch job 2"; exit;; esac
grep -q dependency "$copy" && { echo "Submitted batch job 2"; exit; }
(
    for i in $(seq 0 "$array"); do
        SLURM_NODELIST=localhost SLURM_ARRAY_TASK_ID=$i bash "$copy" > "$SLURM_STAND_IN/task-$i.out" 2>&1 || true
    done
    touch "$SLURM_STAND_IN/ended"
) > /dev/null 2>&1 &
echo "Submitted batch job 1"
"""
SQUEUE = '#!/bin/bash\n[ -e "$SLURM_STAND_IN/ended" ] || echo 1\n'
SRUN = '#!/bin/bash\nwhile [ "${1#-}" != "$1" ]; do [ "$1" = -n ] && shift; shift; done\nexec "$@"\n'


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`sbatch`, `squeue`, `srun` and `scontrol` that run datatrove's own script on this machine. No cluster is used."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, "srun": SRUN, "scontrol": "#!/bin/bash\necho $3\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("SLURM_STAND_IN", str(folder))
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", PATHS)
    return folder


SLURM = ExecutorConfig(kind="slurm", workers=2, slurm=SlurmConfig(partition="cpu"))


def test_slurm_gives_the_same_bytes(tmp_path: Path, slurm: Path) -> None:
    """datatrove's SlurmPipelineExecutor writes the script and launch_pickled_pipeline runs every task, but the queue is
    a stand-in on this machine: no cluster was used."""
    step = replace(STEP, numbers=(3, 1, 4))
    output = Engine(tmp_path / "slurm-run", SLURM).run(step)
    other = Engine(tmp_path / "local").run(step)
    assert tree(output.folder) == tree(other.folder)
    assert len(list(slurm.glob("task-*.out"))) == 3


def test_a_failing_slurm_task_reaches_the_user(tmp_path: Path, slurm: Path) -> None:
    (tmp_path / "trouble").write_text("user")
    step = replace(STEP, numbers=(3, 1, 4), trouble=str(tmp_path / "trouble"))
    engine = Engine(tmp_path / "run", SLURM)
    with pytest.raises(RedoneError, match="line 41: field 'text' is missing"):
        engine.run(step)
    assert sorted(path.name for path in engine.folder(step).glob("count-*")) == ["count-0.txt", "count-1.txt"]


def test_a_slurm_task_that_vanished_is_reported_not_waited_for(tmp_path: Path, slurm: Path) -> None:
    (tmp_path / "trouble").write_text("die")
    with pytest.raises(StepError, match=r"1 tasks of step 'count' ended without a record; see .*logs"):
        Engine(tmp_path / "run", SLURM).run(replace(STEP, numbers=(3, 1, 4), trouble=str(tmp_path / "trouble")))


def test_a_job_that_sbatch_refuses_is_the_users_to_mend(tmp_path: Path, slurm: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: invalid partition specified: cpu' >&2\nexit 1\n")
    with pytest.raises(RedoneError, match=r"sbatch refused the job .* mend executor\.slurm"):
        Engine(tmp_path / "run", SLURM).run(STEP)


def test_slurm_without_sbatch_or_partition_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RedoneError, match="the command sbatch is not here; run on a login node"):
        Engine(tmp_path / "run", SLURM).run(STEP)
    with pytest.raises(RedoneError, match=r"executor\.slurm\.partition"):
        ExecutorConfig(kind="slurm")
    with pytest.raises(RedoneError, match="workers: 0; at least 1"):
        ExecutorConfig(workers=0)
