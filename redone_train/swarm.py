"""Train a swarm: every run of a folder, in processes of one thread side by side, resumable, the same numbers each time.

A swarm is a queue of independent runs, each in one thread: no time goes into waiting for other threads, and results do
not depend on how many processes take from it. Killed at any moment, even by SIGKILL, the same command goes on where it
stopped and gives the same bytes (same machine, same `threads`).

**The folder, schema_version 1.** Given:

- ``swarm.json``: ``schema_version`` 1, ``seed``, ``vocab_size``, ``token_bytes`` (2 or 4), ``eos_token_id``;
  ``proxy``: ``size`` (a name, or layers, width, heads), ``tokens`` a run trains on, ``context``, ``batch_tokens``,
  ``learning_rate`` (null: the rule of :func:`redone_train.proxy_shape.learning_rate`);
  ``domains``: by name, ``train`` and ``validation`` (lists of .ds files, relative to the folder), ``validation_bytes``
  (UTF-8 bytes of all validation documents), ``train_limit_tokens`` (null, or how many of the domain's train tokens
  proxies may see, the same ones in every run, so that they repeat them as the real run will).
- ``swarm.json``: ``init``, only for proxies that go on from a checkpoint: ``path``, ``sha256``, ``adapt``, ``lora``,
  ``bos_token_id`` (:class:`redone_train.pretrained_config.PretrainedConfig`).
- ``runs.csv``: ``run_id`` (letters, digits, ``_.-``), ``seed``, one column a domain; a row's weights sum to 1.
- ``X.ds``: raw little-endian tokens, each document ended by ``eos_token_id``; ``X.ds.index``: u64 ends of documents.

Written, each file by atomic rename:

- ``results/<run_id>.json``: ``run_id``, ``status`` ("ok", "diverged"), ``loss_bpb`` and ``loss_nats_per_token`` by
  domain (empty when diverged), ``tokens``, ``parameters``, ``curve`` (about 20 [step, mean train loss in nats since
  the point before]), ``fingerprint`` (a hash of weights, seed, proxy and pools' sizes: a result with
  another one is of another run, and the run is trained again).
- ``base.json``: with ``init``, the losses of the untouched checkpoint, measured by the first run.
- ``timings/<run_id>.json``: ``seconds``, ``tokens_per_second`` (of training). The only file with times in it.
- ``checkpoints/<run_id>.pt``: while the run is under way.
- ``metrics.csv``: when all runs are finished; ``run_id``, and each domain's bits per byte; diverged runs left out.
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
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from redone_data.errors import RedoneError
from redone_train.swarm_files import Swarm
from redone_train.swarm_progress import SwarmProgress, make_progress
from redone_train.swarm_worker import work

CHECKPOINT_SECONDS = 10.0
STOP_SECONDS = 30.0  # how long workers may take to write their checkpoints
SIGTERM_EXIT_CODE = 143
_POLL_SECONDS = 0.25
_RESULT_FOLDERS = ("results", "checkpoints", "timings")


class RunFailedError(RuntimeError):
    """A run failed by a defect of ours or of the machine, not by what the user gave."""


def train_swarm(
    directory: Path, processes: int | None = None, *, threads: int = 1, checkpoint_seconds: float = CHECKPOINT_SECONDS
) -> None:
    """Train every run of the folder that has no result yet, then write metrics.csv.

    processes: None takes one for each core this process may use, divided by `threads`.
    Raises RedoneError for what a user can mend, RunFailedError for a run that failed; on SIGINT and SIGTERM the runs
    under way are saved before KeyboardInterrupt or SystemExit(143) is raised.
    """
    if threads < 1 or (processes is not None and processes < 1):
        raise RedoneError(f"processes is {processes} and threads {threads}; both must be at least 1")
    swarm = Swarm(directory)
    with _lock(directory):
        _remove_leftovers(directory)
        pending = deque(run_id for run_id, run in swarm.runs.items() if swarm.finished(run) is None)
        with make_progress(num_runs=len(swarm.runs), tokens_per_run=_tokens_per_run(swarm)) as progress:
            if pending:
                swarm.check_tokens()
                progress.start(num_finished=len(swarm.runs) - len(pending))
                wanted = processes or max(1, len(_usable_cores()) // threads)
                _Crew(swarm, pending, progress, min(wanted, len(pending)), threads, checkpoint_seconds).train()
            else:
                progress.say(f"nothing to do: all {len(swarm.runs)} runs of {directory} are finished")
        diverged = write_metrics(swarm)
    if diverged:
        print(f"diverged, left out of metrics.csv: {', '.join(diverged)}", file=sys.stderr)


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
    run_id: str | None = None


class _Crew:
    """The worker processes and what each is doing."""

    def __init__(
        self,
        swarm: Swarm,
        pending: deque[str],
        progress: SwarmProgress,
        processes: int,
        threads: int,
        checkpoint_seconds: float,
    ) -> None:
        self.pending, self.progress = pending, progress
        context = multiprocessing.get_context("spawn")
        self.stop = context.Event()
        self.workers: list[_Worker] = []
        self.options = (self.stop, swarm.directory.resolve(), threads, checkpoint_seconds, os.getpid())
        self.context, self.processes = context, processes

    def train(self) -> None:
        with _signals() as received:
            try:
                for _ in range(self.processes):
                    self._start()
                while self.workers and not received:
                    for worker in self._ready():
                        self._listen(worker)
            finally:
                self._stop(received)
        if received:
            raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(SIGTERM_EXIT_CODE)

    def _start(self) -> None:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=work, args=(theirs, *self.options), name="redone-train-worker")
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self.workers.append(worker)
        self._send_next(worker)

    def _send_next(self, worker: _Worker) -> None:
        worker.run_id = self.pending.popleft() if self.pending else None
        with contextlib.suppress(BrokenPipeError):  # a dead worker is noticed where it is listened to
            worker.connection.send(worker.run_id)
        if worker.run_id is None:
            worker.process.join()
            self.workers.remove(worker)

    def _ready(self) -> list[_Worker]:
        ready = wait([worker.connection for worker in self.workers], timeout=_POLL_SECONDS)
        return [worker for worker in self.workers if worker.connection in ready]

    def _listen(self, worker: _Worker) -> None:
        assert worker.run_id is not None
        try:
            message = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            raise RunFailedError(
                f"the process training run '{worker.run_id}' died (exit code {worker.process.exitcode}); "
                "if memory ran out, use fewer --processes. Run the same command again to go on"
            ) from None
        match message:
            case ("progress", tokens):
                self.progress.tokens(worker.run_id, tokens)
            case ("done", timing):
                self.progress.done(worker.run_id, timing)
                self._send_next(worker)
            case ("refused", reason):
                raise RedoneError(f"run '{worker.run_id}': {reason}")
            case ("failed", trace):
                raise RunFailedError(f"run '{worker.run_id}' failed:\n{trace}")

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
def _lock(directory: Path) -> Iterator[None]:
    """One trainer a folder: two would overwrite each other's checkpoints. The lock goes with its process."""
    try:
        for folder in _RESULT_FOLDERS:
            (directory / folder).mkdir(exist_ok=True)
        file = (directory / ".lock").open("w")
    except OSError as error:
        raise RedoneError(f"{directory}: cannot be written to: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RedoneError(f"{directory}: another redone-train is at work here; wait for it or stop it") from None
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
