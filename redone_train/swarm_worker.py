"""A worker process of the swarm: trains the groups of runs it is sent, one at a time, and dies with its parent.

Messages to the parent are tuples: ("progress", tokens) about twice a second, ("done", timings by run),
("stopped",),
("refused", message) for a RedoneError and ("failed", traceback) for any other. Torch is imported here and only here, so
that the parent stays small and starts at once.
"""

import ctypes
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from redone_data.errors import RedoneError

PROGRESS_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Job:
    """What a worker is told once. device: "cpu" or "cuda:N"; compiled: by torch.compile."""

    directory: Path
    threads: int
    checkpoint_seconds: float
    parent: int
    device: str
    compiled: bool


def work(connection: Connection, stop: Event, job: Job) -> None:
    """Train the groups that come over the connection until None comes, it closes, or `stop` is set."""
    _die_with(job.parent)
    # Ctrl-C and a scheduler's SIGTERM reach the whole process group; the parent alone decides, through `stop`.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(job.threads)
    # cuBLAS sums in a fixed order only with a workspace of its own, set before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        import torch

        from redone_train.proxy_group import train_group
        from redone_train.proxy_run import Stopped, train_run
        from redone_train.swarm_files import Swarm

        torch.set_num_threads(job.threads)
        swarm = Swarm(job.directory)
        while (run_ids := connection.recv()) is not None:
            group = [swarm.runs[run_id] for run_id in run_ids]
            reported = time.monotonic()

            def on_step(tokens: int) -> bool:
                nonlocal reported
                if time.monotonic() - reported >= PROGRESS_SECONDS:
                    reported = time.monotonic()
                    connection.send(("progress", tokens))
                    if os.getppid() != job.parent:
                        os._exit(1)
                return stop.is_set()

            try:
                if swarm.config.init is not None or (job.device == "cpu" and len(group) == 1):
                    # A pretrained model is large enough to fill a device by itself: never stacked.
                    timing = train_run(swarm, group[0], on_step, job.checkpoint_seconds, job.device)
                    timings = {group[0].run_id: timing}
                else:
                    timings = train_group(
                        swarm,
                        group,
                        torch.device(job.device),
                        on_step,
                        job.checkpoint_seconds,
                        compile_backend="inductor" if job.compiled else None,
                    )
            except Stopped:
                connection.send(("stopped",))
                return
            except torch.OutOfMemoryError:
                raise RedoneError(
                    f"a stack of {len(group)} does not fit in the memory of {job.device}; give a smaller --stack"
                ) from None
            connection.send(("done", timings))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except RedoneError as error:
        connection.send(("refused", str(error)))
    except Exception:
        connection.send(("failed", traceback.format_exc()))


def _die_with(parent: int) -> None:
    """Ask Linux for SIGKILL when the parent dies; elsewhere, and for a parent already dead, getppid tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
