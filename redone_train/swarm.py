"""Train a swarm: every run of a folder, in groups side by side, resumable, the same numbers each time.

A swarm is a queue of groups (swarm_groups). On a CPU a group is one run in one thread: no time goes into waiting for
other threads, and results do not depend on how many processes take from the queue. On GPUs a group is a stack of K runs
(proxy_stack), and each GPU has a process. Killed at any moment, even by SIGKILL, the same command goes on where it
stopped and gives the same bytes (same machine, same `threads`, same K).

The folder is a contract: docs/swarm.md. Each file in it appears by atomic rename.
"""

import contextlib
import csv
import fcntl
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from redone_data.errors import RedoneError
from redone_train.swarm_devices import Device, find_devices
from redone_train.swarm_files import Swarm
from redone_train.swarm_groups import Group, chosen_groups, groups_of, keep_stack
from redone_train.swarm_progress import SwarmProgress, make_progress
from redone_train.swarm_worker import Job, work

CHECKPOINT_SECONDS = 10.0
STOP_SECONDS = 30.0  # how long workers may take to write their checkpoints
SIGTERM_EXIT_CODE = 143
_POLL_SECONDS = 0.25
_RESULT_FOLDERS = ("results", "checkpoints", "timings")


class RunFailedError(RuntimeError):
    """A run failed by a defect of ours or of the machine, not by what the user gave."""


@dataclass(frozen=True, kw_only=True)
class SwarmOptions:
    """How a swarm is trained; none of it changes a result by more than rounding.

    processes: None takes one a GPU, or one for each core this process may use, divided by `threads`.
    stack: runs in a stack; None is the rule of :mod:`redone_train.swarm_groups`. device: auto, cpu, cuda, cuda:N.
    compiled: whether torch compiles the model on GPUs.
    """

    processes: int | None = None
    threads: int = 1
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    stack: int | None = None
    device: str = "auto"
    compiled: bool = True

    def __post_init__(self) -> None:
        for name in ("processes", "threads", "stack"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RedoneError(f"{name} is {value}; it must be at least 1")


def train_swarm(directory: Path, options: SwarmOptions = SwarmOptions(), numbers: Sequence[int] | None = None) -> None:
    """Train every run of the folder that has no result yet, then write metrics.csv.

    numbers: of the groups to train, None for all; metrics.csv is written by whoever ends the last run.
    Raises RedoneError for what a user can mend, RunFailedError for a run that failed; on SIGINT and SIGTERM the runs
    under way are saved before KeyboardInterrupt or SystemExit(143) is raised.
    """
    swarm = Swarm(directory)
    parts = None if numbers is None else [f"group-{number}" for number in sorted(set(numbers))]
    with locked(directory, parts):
        if all(swarm.finished(run) for run in swarm.runs.values()):
            print(f"nothing to do: all {len(swarm.runs)} runs of {directory} are finished", file=sys.stderr, flush=True)
        else:
            _train(swarm, options, numbers)
        finish(swarm)


def _train(swarm: Swarm, options: SwarmOptions, numbers: Sequence[int] | None) -> None:
    devices = find_devices(options.device)
    stack = keep_stack(swarm, options.stack, [device.free_bytes for device in devices if device.name != "cpu"])
    groups = chosen_groups(groups_of(swarm, stack), numbers)
    pending = deque(group for group in groups if group.pending(swarm))
    num_runs = sum(len(group.runs) for group in groups)
    num_pending = sum(len(group.pending(swarm)) for group in pending)
    with make_progress(num_runs=num_runs, tokens_per_run=_tokens_per_run(swarm)) as progress:
        if not pending:
            progress.say(f"nothing to do: all {num_runs} runs of these groups are finished")
            return
        swarm.check_tokens()
        progress.start(num_finished=num_runs - num_pending)
        if stack > 1:
            progress.say(f"{stack} runs in a stack, on {', '.join(device.name for device in devices)}")
        on_cpu = devices[0].name == "cpu"
        wanted = options.processes or (max(1, len(_usable_cores()) // options.threads) if on_cpu else len(devices))
        _Crew(swarm, pending, progress, min(wanted, len(pending)), devices, options).train()


def finish(swarm: Swarm) -> bool:
    """Write metrics.csv if every run has a result, and name those that diverged."""
    if not all(swarm.finished(run) for run in swarm.runs.values()):
        return False
    if diverged := write_metrics(swarm):
        print(f"diverged, left out of metrics.csv: {', '.join(diverged)}", file=sys.stderr)
    return True


def write_metrics(swarm: Swarm) -> list[str]:
    """Write metrics.csv from the results, if it is not already as it should be; returns the runs that diverged."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["run_id", *swarm.domains])
    diverged = []
    for run_id, run in swarm.runs.items():
        result = swarm.finished(run)
        assert result is not None, "metrics are written when all runs are finished"
        if result["status"] == "ok":
            writer.writerow([run_id, *(repr(result["loss_bpb"][name]) for name in swarm.domains)])
        else:
            diverged.append(run_id)
    path, content = swarm.directory / "metrics.csv", table.getvalue().encode()
    if not path.exists() or path.read_bytes() != content:
        aside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        aside.write_bytes(content)
        os.replace(aside, path)
    return diverged


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    group: Group | None = None


class _Crew:
    """The worker processes and what each is doing."""

    def __init__(
        self,
        swarm: Swarm,
        pending: deque[Group],
        progress: SwarmProgress,
        processes: int,
        devices: Sequence[Device],
        options: SwarmOptions,
    ) -> None:
        self.pending, self.progress = pending, progress
        context = multiprocessing.get_context("spawn")
        self.stop = context.Event()
        self.workers: list[_Worker] = []
        self.directory, self.options, self.devices = swarm.directory.resolve(), options, devices
        self.context, self.processes = context, processes

    def train(self) -> None:
        with _signals() as received:
            try:
                for i in range(self.processes):
                    self._start(self.devices[i % len(self.devices)].name)
                while self.workers and not received:
                    for worker in self._ready():
                        self._listen(worker)
            finally:
                self._stop(received)
        if received:
            raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(SIGTERM_EXIT_CODE)

    def _start(self, device: str) -> None:
        ours, theirs = self.context.Pipe()
        job = Job(
            directory=self.directory,
            threads=self.options.threads,
            checkpoint_seconds=self.options.checkpoint_seconds,
            parent=os.getpid(),
            device=device,
            compiled=self.options.compiled and device != "cpu",
        )
        process = self.context.Process(target=work, args=(theirs, self.stop, job), name="redone-train-worker")
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self.workers.append(worker)
        self._send_next(worker)

    def _send_next(self, worker: _Worker) -> None:
        worker.group = self.pending.popleft() if self.pending else None
        message = None if worker.group is None else [run.run_id for run in worker.group.runs]
        with contextlib.suppress(BrokenPipeError):  # a dead worker is noticed where it is listened to
            worker.connection.send(message)
        if worker.group is None:
            worker.process.join()
            self.workers.remove(worker)

    def _ready(self) -> list[_Worker]:
        ready = wait([worker.connection for worker in self.workers], timeout=_POLL_SECONDS)
        return [worker for worker in self.workers if worker.connection in ready]

    def _listen(self, worker: _Worker) -> None:
        assert worker.group is not None
        title = worker.group.title
        try:
            message = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            raise RunFailedError(
                f"the process training {title} died (exit code {worker.process.exitcode}); "
                "if memory ran out, use fewer --processes. Run the same command again to go on"
            ) from None
        match message:
            case ("progress", tokens):
                self.progress.tokens(title, tokens)
            case ("done", timings):
                self.progress.done(title, timings)
                self._send_next(worker)
            case ("refused", reason):
                raise RedoneError(f"{title}: {reason}")
            case ("failed", trace):
                raise RunFailedError(f"{title} failed:\n{trace}")

    def _stop(self, received: list[int]) -> None:
        """Let every worker save and leave; a second signal, or a worker that takes too long, is not waited for."""
        if not self.workers:
            return
        self.stop.set()
        for worker in self.workers:
            with contextlib.suppress(OSError):
                worker.connection.send(None)
        deadline = time.monotonic() + STOP_SECONDS
        for worker in self.workers:
            while worker.process.is_alive() and time.monotonic() < deadline and len(received) < 2:
                with contextlib.suppress(EOFError, OSError):
                    if worker.connection.poll(_POLL_SECONDS):  # an undelivered message could block the worker
                        worker.connection.recv()
                        continue
                worker.process.join(_POLL_SECONDS)
            worker.process.kill()
            worker.process.join()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM that arrive in the block are listed; off the main thread Python lets nobody listen."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def receive(number: int, frame: Any) -> None:
        received.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def locked(directory: Path, parts: Sequence[str] | None = None) -> Iterator[None]:
    """One trainer a folder: two would overwrite each other's checkpoints. A lock goes with its process.

    parts: share the folder with others that name parts, and hold these alone.
    """
    with contextlib.ExitStack() as stack:
        try:
            for folder in _RESULT_FOLDERS:
                (directory / folder).mkdir(exist_ok=True)
            names = [".lock", *(f".lock-{part}" for part in parts or ())]
            files = [stack.enter_context((directory / name).open("w")) for name in names]
        except OSError as error:
            raise RedoneError(f"{directory}: cannot be written to: {error.strerror}") from None
        for name, file in zip(names, files, strict=True):
            shared = parts is not None and name == ".lock"
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RedoneError(
                    f"{directory}: another redone-train is at work here; wait for it or stop it"
                ) from None
        if parts is None:
            _remove_leftovers(directory)
        yield


def _remove_leftovers(directory: Path) -> None:
    for folder in _RESULT_FOLDERS:
        for path in (directory / folder).glob(".*.tmp-*"):
            path.unlink(missing_ok=True)


def _tokens_per_run(swarm: Swarm) -> int:
    proxy = swarm.config.proxy
    return proxy.num_steps * proxy.rows_per_step * proxy.context


def _usable_cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
