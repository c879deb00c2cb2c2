"""Spreading a swarm over a cluster: each group of runs is one task of Ray or of a Slurm job array.

A task is the command `redone-train swarm DIR --groups N`, on a machine that sees the folder under the same path and has
the same Python. The cluster schedules; here tasks are handed over, waited for, and their errors shown. A group that
fails does not stop the others; run again, the command submits what has no result yet. Stopped, it takes its tasks back,
and they save what they have.
"""

import contextlib
import logging
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from redone_data.errors import USER_ERROR_EXIT_CODE, RedoneError
from redone_data.processes import die_with_parent
from redone_train.swarm import SIGTERM_EXIT_CODE, RunFailedError, SwarmOptions, finish, locked
from redone_train.swarm_files import Swarm
from redone_train.swarm_groups import CLUSTER_GPU_BYTES, CLUSTER_GPUS, Group, groups_of, keep_stack

Launcher = Literal["ray", "slurm"]
LOG_LINES = 15
_POLL_SECONDS = 1.0
_GPU_OPTIONS = ("gres", "gpus", "gpus-per-task", "gpus-per-node")


def launch_swarm(directory: Path, launcher: Launcher, options: SwarmOptions, slurm: Mapping[str, str]) -> None:
    """Train what has no result yet as tasks of the cluster, then write metrics.csv.

    slurm: options of sbatch, by name. options.device "cpu" asks for no GPU; "auto" for one on Slurm, and on Ray where
    the cluster has any.
    """
    if slurm and launcher != "slurm":
        raise RedoneError("slurm options are given, but launch is not slurm; set launch to slurm, or leave them out")
    swarm = Swarm(directory.resolve())
    submit = _Slurm(swarm, options, slurm) if launcher == "slurm" else _Ray(options)
    with locked(directory, ["launcher"]), _terminated(), submit:
        stack = keep_stack(swarm, options.stack, submit.gpu_bytes())
        groups = groups_of(swarm, stack)
        pending = [group for group in groups if group.pending(swarm)]
        if pending:
            swarm.check_tokens()
            print(f"{len(pending)} of {len(groups)} groups to train by {launcher}", file=sys.stderr, flush=True)
            failed = submit.run(
                {
                    group.number: _command(swarm, group, stack, replace(options, device=submit.device))
                    for group in pending
                }
            )
            _raise_for({number: why for number, why in failed.items() if groups[number].pending(swarm)}, groups)
        else:
            print(f"nothing to do: all {len(swarm.runs)} runs of {directory} are finished", file=sys.stderr, flush=True)
        if not finish(swarm):
            raise RunFailedError("tasks ended well, but some runs have no result; run the same command again")


def _command(swarm: Swarm, group: Group, stack: int, options: SwarmOptions) -> list[str]:
    return [
        *(sys.executable, "-m", "redone_train", "swarm", str(swarm.directory)),
        *("--groups", str(group.number), "--stack", str(stack), "--device", options.device),
        *("--threads", str(options.threads)),
        *("--checkpoint-seconds", str(options.checkpoint_seconds)),
        *([] if options.compiled else ["--no-compile"]),
        *(["--processes", str(options.processes)] if options.processes else []),
    ]


def _raise_for(failed: Mapping[int, tuple[int, str]], groups: Sequence[Group]) -> None:
    """One message for all groups that failed: how many, and the first one's reason."""
    if not failed:
        return
    number = min(failed)
    code, output = failed[number]
    lines = output.strip().splitlines() or ["no output"]
    others = f"; {len(failed) - 1} more groups failed" if len(failed) > 1 else ""
    if code == USER_ERROR_EXIT_CODE:
        raise RedoneError(lines[-1].removeprefix("redone-train: ") + others)
    shown = "\n".join(lines[-LOG_LINES:])
    raise RunFailedError(f"{groups[number].title} failed with exit code {code}{others}:\n{shown}")


class _Slurm:
    """One job array, waited for; logs in DIR/slurm."""

    def __init__(self, swarm: Swarm, options: SwarmOptions, slurm: Mapping[str, str]) -> None:
        if shutil.which("sbatch") is None:
            raise RedoneError("launch: slurm: the command sbatch is not here; run on a login node of the cluster")
        self.folder, self.slurm = swarm.directory / "slurm", dict(slurm)
        self.device = options.device
        self.on_gpu = self.device != "cpu"
        if self.on_gpu and not any(name in slurm for name in _GPU_OPTIONS):
            self.slurm["gpus"] = "1"
        self.job: str | None = None

    def gpu_bytes(self) -> list[int]:
        return [CLUSTER_GPU_BYTES] * CLUSTER_GPUS if self.on_gpu else []

    def run(self, commands: Mapping[int, Sequence[str]]) -> dict[int, tuple[int, str]]:
        """What failed: group -> exit code and end of its log."""
        self.folder.mkdir(exist_ok=True)
        script = self.folder / "group.sh"
        arms = "".join(f"  {number}) exec {shlex.join(command)} ;;\n" for number, command in commands.items())
        script.write_text(f'#!/bin/bash\ncase "$SLURM_ARRAY_TASK_ID" in\n{arms}esac\nexit 1\n', encoding="utf-8")
        arguments = ["sbatch", "--parsable", "--wait", f"--array={','.join(map(str, commands))}"]
        arguments += ["--job-name=redone-swarm", f"--output={self.folder}/%A_%a.log"]
        arguments += [f"--{name}={value}" if value else f"--{name}" for name, value in self.slurm.items()]
        with subprocess.Popen([*arguments, str(script)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            self.job = process.stdout.readline().strip().partition(";")[0] or None
            code = process.wait()
        job, self.job = self.job, None
        if job is None:
            raise RedoneError(
                f"sbatch refused the job (exit code {code}; its message is above); mend the slurm options"
            )
        return {number: _ending(self.folder / f"{job}_{number}.log") for number in commands} if code else {}

    def __enter__(self) -> "_Slurm":
        return self

    def __exit__(self, *_: object) -> None:
        if self.job is not None:
            with contextlib.suppress(OSError):
                subprocess.run(["scancel", self.job], check=False)


class _Ray:
    """One task a group on the cluster of RAY_ADDRESS, or else on this machine."""

    def __init__(self, options: SwarmOptions) -> None:
        try:
            import ray
        except ImportError:
            raise RedoneError("launch: ray: needs the package ray: pip install 'redone[ray]'") from None
        self.ray, self.options, self.device = ray, options, options.device
        self.under_way: dict[Any, int] = {}

    def gpu_bytes(self) -> list[int]:
        if self.device == "cpu":
            return []
        resources: Mapping[str, float] = self.ray.cluster_resources()  # type: ignore[no-untyped-call]
        num_gpus = int(resources.get("GPU", 0))
        if not num_gpus and self.device == "auto":
            self.device = "cpu"
        elif not num_gpus:
            raise RedoneError(
                f"--device: '{self.device}', but Ray's cluster has no GPU; leave --device out, or give cpu"
            )
        return [CLUSTER_GPU_BYTES] * num_gpus

    def run(self, commands: Mapping[int, Sequence[str]]) -> dict[int, tuple[int, str]]:
        """What failed: group -> exit code and end of its output."""
        num_gpus = 0 if self.device == "cpu" else 1
        task = self.ray.remote(num_cpus=self.options.threads, num_gpus=num_gpus, max_retries=0)(run_command)
        self.under_way = {task.remote(list(command)): number for number, command in commands.items()}
        failed: dict[int, tuple[int, str]] = {}
        while self.under_way:
            done, _ = self.ray.wait(list(self.under_way), timeout=_POLL_SECONDS)
            for reference in done:
                number = self.under_way.pop(reference)
                try:
                    code, output = self.ray.get(reference)
                except self.ray.exceptions.RayError as error:  # the node or its worker is gone
                    code, output = 1, str(error)
                if code:
                    failed[number] = code, output
                print(
                    f"group {number} {'failed' if code else 'done'}, {len(self.under_way)} left",
                    file=sys.stderr,
                    flush=True,
                )
        return failed

    def __enter__(self) -> "_Ray":
        try:
            self.ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
        except Exception as error:  # Ray raises bare exceptions here: no cluster, or one that did not start in time
            raise RedoneError(f"launch: ray: {error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        for reference in self.under_way:
            self.ray.cancel(reference, force=True)
        self.ray.shutdown()


def run_command(command: list[str]) -> tuple[int, str]:
    """Exit code and output of a command that ends with this process."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, preexec_fn=die_with_parent
    )
    return done.returncode, done.stdout


def _ending(log: Path) -> tuple[int, str]:
    """A task's log and the exit code that it tells of: a message of one line is the user's to mend."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 1, f"{log}: not there; the task never began"
    lines = text.strip().splitlines() or [""]
    return (USER_ERROR_EXIT_CODE if lines[-1].startswith("redone-train: ") else 1), text


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that tasks are taken back."""

    def leave(*_: object) -> None:
        raise SystemExit(SIGTERM_EXIT_CODE)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
