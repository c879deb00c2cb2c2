"""What the benchmarks share: a function run in a process of its own, with its CPU time, wall time and peak memory."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from typing import Any

import psutil

SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Measured:
    """Seconds of CPU of the process and its children, seconds of the clock, peak PSS of the tree in bytes."""

    result: Any
    cpu: float
    wall: float
    peak: int

    def rate(self, num_bytes: int) -> float:
        """MB of text a second of CPU: what one core does."""
        return num_bytes / 1e6 / self.cpu


def measured(function: Callable[..., Any], *arguments: Any, threads: int = 1) -> Measured:
    """Run `function(*arguments)` in a fresh process with so many threads for every library."""
    names = (
        "POLARS_MAX_THREADS",
        "OMP_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "TOKENIZERS_PARALLELISM",
    )
    values = {name: str(threads) for name in names} | {"TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(values)
    try:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_child, args=(theirs, function, arguments))
        process.start()
        theirs.close()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    watched, peak = psutil.Process(process.pid), 0
    while not ours.poll(SAMPLE_SECONDS):
        peak = max(peak, _tree_pss(watched))
        if not process.is_alive() and not ours.poll():
            raise RuntimeError(f"{function.__name__} ended with exit code {process.exitcode}")
    result, cpu, wall = ours.recv()
    process.join()
    return Measured(result, cpu, wall, peak)


def _child(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # Imports before this line are Python's start; those inside the function are the tool's.
    wall, before = time.perf_counter(), sum(os.times()[:4])
    result = function(*arguments)
    pipe.send((result, sum(os.times()[:4]) - before, time.perf_counter() - wall))


def _tree_pss(process: psutil.Process) -> int:
    total = 0
    try:
        members = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in members:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def machine(*packages: str) -> str:
    """One line that says where figures were taken."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}; {versions}; "
        f"load at the end {os.getloadavg()[0]:.1f}"
    )
