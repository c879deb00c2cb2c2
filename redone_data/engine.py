"""Runs steps: content-addressed, resumable, on datatrove's executors.

A :class:`Step` turns the files of earlier steps into files of its own, task by task. Its folder is
``steps/NAME-HASH``, where the hash covers its configuration, its ``VERSION`` and the manifests of its inputs: the same
step is never computed twice, and a changed one never meets the old one's files. A task's record appears after its
files, the step's manifest after all its tasks; what lacks its record is computed again. So a kill at any moment costs
at most the tasks that were under way, and never shows.

The executors are datatrove's own (local, Slurm, Ray); there is no other parallel code path: a single worker is a plain
loop. A task that fails leaves its error beside the records, on any executor, and the run stops with it.
"""

import contextlib
import functools
import os
import pickle
import shutil
import signal
import subprocess
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from loguru import logger as _loguru

from redone_data.errors import RedoneError
from redone_data.manifest import ASIDES, MANIFEST, atomic, digest, file_digest, read_json, write_json
from redone_data.processes import is_alive

# datatrove logs every task to the terminal; our progress and error records say the same once.
_loguru.disable("datatrove")

HASH_DIGITS = 12
_SLURM_POLL_SECONDS = 10.0
_TASKS, _LOGS, _PLAN, _RUNNING = "tasks", "logs", "plan.pickle", ".running-"


@dataclass(frozen=True)
class SlurmConfig:
    """How a Slurm array is asked for: the arguments of datatrove's SlurmPipelineExecutor that sites differ in."""

    partition: str
    time: str = "24:00:00"
    cpus_per_task: int = 1
    mem_per_cpu_gb: int = 4
    qos: str = "normal"
    env_command: str | None = None
    sbatch_args: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RayConfig:
    """How Ray is reached and what a task asks of it."""

    address: str | None = None
    cpus_per_task: int = 1
    memory_gb_per_task: float = 2.0


@dataclass(frozen=True)
class ExecutorConfig:
    """Where tasks run. Never part of a step's hash: the same bytes come out everywhere."""

    kind: Literal["local", "slurm", "ray"] = field(default="local", metadata={"help": "local, slurm or ray"})
    workers: int = field(default=1, metadata={"help": "tasks at a time; 1 runs in this process"})
    slurm: SlurmConfig | None = field(default=None, metadata={"help": "needed for kind: slurm"})
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise RedoneError(f"workers: {self.workers}; at least 1 is needed")
        if self.kind == "slurm" and self.slurm is None:
            raise RedoneError("kind: slurm needs executor.slurm.partition")


class Step(ABC):
    """One small thing: a pure function from input manifests and configuration to files.

    Final subclasses are frozen dataclasses, so that they travel to workers.
    """

    name: ClassVar[str]
    VERSION: ClassVar[int]

    @abstractmethod
    def config(self) -> Any:
        """What decides the output beside the inputs, JSON-able."""

    @abstractmethod
    def inputs(self) -> dict[str, str]:
        """Label -> fingerprint of every input."""

    @abstractmethod
    def tasks(self) -> Sequence[Any]:
        """One payload a task, in an order that does not depend on file names or listing order."""

    @abstractmethod
    def run(self, task: Any, index: int, folder: Path) -> dict[str, Any]:
        """Do one task: write files into `folder` (atomically), return its statistics.

        A key ``timings`` among them is kept out of the manifest (it may differ from run to run).
        """

    def finish(self, folder: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
        """The step's own statistics from its tasks' (in task order); may write more files."""
        return {}

    def units(self, folder: Path) -> tuple[int, int] | None:
        """(done, total) in finer units than tasks, for the progress bar of a step that is one long task."""
        return None

    def identity(self) -> dict[str, Any]:
        return {"step": self.name, "version": self.VERSION, "config": self.config(), "inputs": self.inputs()}

    def folder_name(self) -> str:
        return f"{self.name}-{digest(self.identity())[:HASH_DIGITS]}"


@dataclass(frozen=True)
class Output:
    """A finished step: its folder and what its manifest says."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Output":
        return cls(folder, read_json(folder / MANIFEST))

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest(self.manifest)

    @property
    def statistics(self) -> dict[str, Any]:
        result: dict[str, Any] = self.manifest["statistics"]
        return result

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """The statistics of each task, in task order."""
        result: list[dict[str, Any]] = self.manifest["tasks"]
        return result

    def files(self, suffix: str) -> list[Path]:
        """Files of this step whose name ends in `suffix`, in name order."""
        return [self.folder / name for name in sorted(self.manifest["files"]) if name.endswith(suffix)]


class Progress(ABC):
    """Shows how far a step is. The CLI draws bars; tests and libraries stay silent."""

    @abstractmethod
    def start(self, name: str, total: int, done: int) -> None: ...

    @abstractmethod
    def update(self, done: int) -> None: ...

    @abstractmethod
    def end(self, name: str, seconds: float, *, skipped: bool) -> None: ...


class Silent(Progress):
    def start(self, name: str, total: int, done: int) -> None:
        pass

    def update(self, done: int) -> None:
        pass

    def end(self, name: str, seconds: float, *, skipped: bool) -> None:
        pass


@dataclass
class Engine:
    """Runs steps below one run folder and remembers how long each took."""

    root: Path
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    progress: Progress = field(default_factory=Silent)
    timings: dict[str, Any] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def folder(self, step: Step) -> Path:
        return self.root / "steps" / step.folder_name()

    def is_done(self, step: Step) -> bool:
        return (self.folder(step) / MANIFEST).is_file()

    def run(self, step: Step) -> Output:
        return self.run_all([step])[0]

    def release_workers(self) -> None:
        """End idle worker processes, whose memory something else can use."""
        if self.executor.kind == "local" and self.executor.workers > 1:
            from redone_data.local_executor import release_workers

            release_workers()

    def run_all(self, steps: Sequence[Step]) -> list[Output]:
        """Run steps that do not depend on each other (the same verb for several sources) as one set of tasks."""
        for step in steps:
            if self.is_done(step):  # a kill between the manifest and the end of its cleaning leaves the records
                shutil.rmtree(self.folder(step) / _TASKS, ignore_errors=True)
        waiting = [step for step in steps if not self.is_done(step)]
        name = steps[0].name if steps else ""
        started = time.monotonic()
        if waiting:
            self._execute(waiting)
            self.ran.extend(self.folder(step).name for step in waiting)
            self.timings.setdefault(name, {})["seconds"] = round(time.monotonic() - started, 3)
        if steps:
            self.progress.end(name, time.monotonic() - started, skipped=not waiting)
        return [Output.open(self.folder(step)) for step in steps]

    def _execute(self, steps: Sequence[Step]) -> None:
        jobs = [Job(step, self.folder(step), list(step.tasks())) for step in steps]
        assert len({job.folder for job in jobs}) == len(jobs), "the same step is given twice"
        for job in jobs:
            job.prepare()
        pending = [(j, i) for j, job in enumerate(jobs) for i in range(len(job.payloads)) if not job.record(i).exists()]
        total = sum(len(job.payloads) for job in jobs)
        done, total = jobs[0].step.units(jobs[0].folder) or (total - len(pending), total)
        self.progress.start(steps[0].name, total, done)
        if pending:
            scratch = jobs[0].folder
            plan = scratch / _PLAN
            with atomic(plan) as aside:
                aside.write_bytes(pickle.dumps((jobs, pending)))
            run_task = RunTask(plan, os.getpid() if self.executor.kind == "local" else None)
            with self._watch(jobs):
                _run_on_executor(self.executor, run_task, len(pending), scratch / _LOGS, steps[0].name)
            _raise_first_error(jobs)
        for job in jobs:
            timings = job.complete()
            if timings:
                self.timings.setdefault(job.step.name, {}).update(timings)

    @contextlib.contextmanager
    def _watch(self, jobs: "Sequence[Job]") -> Iterator[None]:
        """Report finished tasks while the executor, wherever it is, works on them; notice a worker that was killed."""
        stop = threading.Event()
        # A pool waits for ever for the task of a killed worker; only a signal wakes its main thread.
        wakes = self.executor.kind == "local" and threading.current_thread() is threading.main_thread()

        def wake(*_: object) -> None:
            raise RedoneError(
                f"step '{jobs[0].step.name}': a worker process was killed, most likely because memory ran out; "
                "lower executor.workers, then run the same command again: finished tasks are kept"
            )

        def poll() -> None:
            while not stop.wait(0.2):
                if wakes and any(job.lost_worker() for job in jobs):
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                    return
                units = jobs[0].step.units(jobs[0].folder)
                if units is None:
                    self.progress.update(sum(job.num_done() for job in jobs))
                else:
                    self.progress.update(units[0])

        before = signal.signal(signal.SIGUSR1, wake) if wakes else None
        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            if wakes:
                signal.signal(signal.SIGUSR1, before)


@dataclass
class Job:
    """One step under way: its folder and the payloads of its tasks."""

    step: Step
    folder: Path
    payloads: list[Any]

    def prepare(self) -> None:
        try:
            (self.folder / _TASKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RedoneError(f"{self.folder}: cannot be created: {error.strerror}; choose another --out") from None
        records = self.folder / _TASKS
        for leftover in [*self.folder.rglob(ASIDES), *records.glob("*.error.json"), *records.glob(f"{_RUNNING}*")]:
            leftover.unlink(missing_ok=True)
        shutil.rmtree(self.folder / _LOGS, ignore_errors=True)

    def record(self, index: int) -> Path:
        return self.folder / _TASKS / f"{index:06d}.json"

    def num_done(self) -> int:
        with os.scandir(self.folder / _TASKS) as entries:
            return sum(1 for entry in entries if entry.name[0] != "." and not entry.name.endswith(".error.json"))

    def has_failed(self) -> bool:
        with os.scandir(self.folder / _TASKS) as entries:
            return any(entry.name.endswith(".error.json") for entry in entries)

    def lost_worker(self) -> bool:
        """Whether a worker process of ours has ended in the middle of a task."""
        for mark in (self.folder / _TASKS).glob(f"{_RUNNING}*"):
            if not is_alive(int(mark.name.removeprefix(_RUNNING))) and mark.exists():
                return True
        return False

    @contextlib.contextmanager
    def marked(self) -> Iterator[None]:
        """In a worker process: a mark that stays when the process is killed in the block."""
        mark = self.folder / _TASKS / f"{_RUNNING}{os.getpid()}"
        mark.touch()
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def run(self, index: int) -> None:
        """Run one task; its record, or its error, is what remains."""
        try:
            result = self.step.run(self.payloads[index], index, self.folder)
            write_json(self.record(index), result)
        except Exception as error:  # it crosses process and machine borders as a file
            message = {"user": isinstance(error, RedoneError), "message": str(error), "trace": traceback.format_exc()}
            try:
                write_json(self.record(index).with_suffix(".error.json"), message)
            except RedoneError:  # a full disk: the record of the error has no room either
                raise error from None

    def complete(self) -> dict[str, Any]:
        """Gather the records, write the manifest, leave nothing of the working files; the tasks' timings."""
        results = [read_json(self.record(i)) for i in range(len(self.payloads))]
        timings = {str(i): result.pop("timings") for i, result in enumerate(results) if "timings" in result}
        statistics = self.step.finish(self.folder, results)
        shutil.rmtree(self.folder / _LOGS, ignore_errors=True)
        for leftover in [self.folder / _PLAN, *self.folder.rglob(ASIDES)]:
            leftover.unlink(missing_ok=True)
        working = {self.folder / _TASKS}
        made = [
            path
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and not working & set(path.parents) and path.name != MANIFEST
        ]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            checksums = threads.map(file_digest, made)
            files = {
                path.relative_to(self.folder).as_posix(): {"bytes": path.stat().st_size, "sha256": checksum}
                for path, checksum in zip(made, checksums, strict=True)
            }
        manifest = {**self.step.identity(), "files": files, "tasks": results, "statistics": statistics}
        write_json(self.folder / MANIFEST, manifest)
        shutil.rmtree(self.folder / _TASKS)
        return {"tasks": timings} if timings else {}


class StepError(RuntimeError):
    """A task failed for a reason that is not the user's: its own traceback is in the message."""


def _raise_first_error(jobs: Sequence[Job]) -> None:
    for job in jobs:
        for path in sorted((job.folder / _TASKS).glob("*.error.json")):
            error = read_json(path)
            if error["user"]:
                raise RedoneError(error["message"])
            raise StepError(f"a task of step '{job.step.name}' failed:\n{error['trace']}")
        missing = sum(1 for i in range(len(job.payloads)) if not job.record(i).exists())
        if missing:
            raise StepError(f"{missing} tasks of step '{job.step.name}' ended without a record; see {job.folder}/logs")


@functools.lru_cache(maxsize=2)
def _load_plan(path: Path, written_at: int) -> tuple[list[Job], list[tuple[int, int]]]:
    # Written by this very run a moment ago, and keyed by that time; never a file that came from elsewhere.
    plan: tuple[list[Job], list[tuple[int, int]]] = pickle.loads(path.read_bytes())
    return plan


@dataclass(frozen=True)
class RunTask:
    """What the executor calls: a datatrove pipeline of one callable. Small, because it is pickled once a task.

    `owner`: the process that watches local workers; None where tasks run on other machines.
    """

    plan: Path
    owner: int | None = None

    def __call__(self, data: object, rank: int, world_size: int) -> None:
        jobs, pending = _load_plan(self.plan, self.plan.stat().st_mtime_ns)
        if any(job.has_failed() for job in jobs):
            return  # another task has failed: stop soon, finished work stays
        number, index = pending[rank]
        job = jobs[number]
        if self.owner in (None, os.getpid()):
            job.run(index)
        else:
            with job.marked():
                job.run(index)


def _run_on_executor(config: ExecutorConfig, run_task: Callable[..., None], tasks: int, logs: Path, name: str) -> None:
    if config.kind == "local" and min(config.workers, tasks) == 1:
        # One after another, in this process: an executor would cost 30 ms a step and 15 ms a task.
        for rank in range(tasks):
            run_task(None, rank, tasks)
    elif config.kind == "local":
        from redone_data.local_executor import PooledExecutor

        try:
            PooledExecutor([run_task], tasks=tasks, workers=config.workers, logging_dir=str(logs)).run()
        except OSError as error:  # of its logs: what a task raises is kept as its record
            raise RedoneError(f"{logs}: cannot be written: {error.strerror or error}") from error
    elif config.kind == "ray":
        _run_on_ray(config, run_task, tasks, logs)
    else:
        _run_on_slurm(config, run_task, tasks, logs, name)


def _run_on_ray(config: ExecutorConfig, run_task: Callable[..., None], tasks: int, logs: Path) -> None:
    try:
        import ray
        from datatrove.executor import RayPipelineExecutor
    except ImportError:
        raise RedoneError("executor.kind: ray needs Ray; install it with: pip install 'redone[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address=config.ray.address, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise RedoneError(f"executor.ray.address: {config.ray.address}: {error}") from None
    RayPipelineExecutor(
        [run_task],
        tasks=tasks,
        workers=min(config.workers, tasks),
        cpus_per_task=config.ray.cpus_per_task,
        mem_per_cpu_gb=config.ray.memory_gb_per_task / config.ray.cpus_per_task,
        logging_dir=str(logs),
    ).run()


def _run_on_slurm(config: ExecutorConfig, run_task: Callable[..., None], tasks: int, logs: Path, name: str) -> None:
    from datatrove.executor import SlurmPipelineExecutor

    assert config.slurm is not None
    if shutil.which("sbatch") is None:
        raise RedoneError("executor.kind: slurm: the command sbatch is not here; run on a login node of the cluster")
    executor = SlurmPipelineExecutor(
        [run_task],
        tasks=tasks,
        workers=config.workers if config.workers > 1 else -1,
        time=config.slurm.time,
        partition=config.slurm.partition,
        cpus_per_task=config.slurm.cpus_per_task,
        mem_per_cpu_gb=config.slurm.mem_per_cpu_gb,
        qos=config.slurm.qos,
        env_command=config.slurm.env_command,
        sbatch_args=dict(config.slurm.sbatch_args),
        job_name=f"redone-{name}",
        logging_dir=str(logs),
        slurm_logs_folder=str(logs / "slurm"),
    )
    try:
        executor.run()
    except subprocess.CalledProcessError as error:
        raise RedoneError(
            f"executor.kind: slurm: sbatch refused the job (exit code {error.returncode}; its message is above); "
            "mend executor.slurm"
        ) from None
    try:
        _wait_for_slurm(str(executor.job_id), lambda: len(executor.get_incomplete_ranks(skip_completed=True)))
    except BaseException:  # interrupted: nobody would wait for the tasks in the queue
        with contextlib.suppress(OSError):
            subprocess.run(["scancel", str(executor.job_id)], check=False)
        raise


def _wait_for_slurm(job_id: str, num_incomplete: Callable[[], int]) -> None:
    """Return when every task is marked complete, or when Slurm no longer knows the job (it failed or was cancelled)."""
    pause = 0.5
    while num_incomplete():
        time.sleep(pause)
        pause = min(2 * pause, _SLURM_POLL_SECONDS)
        queue = subprocess.run(["squeue", "-h", "-j", job_id], capture_output=True, text=True, check=False)
        # Any other failure of squeue says nothing about the job: a busy controller is asked again.
        if (queue.returncode == 0 and not queue.stdout.strip()) or "Invalid job id" in queue.stderr:
            time.sleep(pause)  # completion marks may lag on a network file system
            return
