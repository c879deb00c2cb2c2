"""A worker process of the swarm: trains the runs it is sent, one at a time, and dies with its parent.

Messages to the parent are tuples: ("progress", tokens) about twice a second, ("done", timing), ("stopped",),
("refused", message) for a RedoneError and ("failed", traceback) for any other. Torch is imported here and only here, so
that the parent stays small and starts at once.
"""

import ctypes
import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from redone_data.errors import RedoneError

PROGRESS_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


def work(
    connection: Connection, stop: Event, directory: Path, threads: int, checkpoint_seconds: float, parent: int
) -> None:
    """Train what comes over the connection until it sends None, closes, or `stop` is set."""
    _die_with(parent)
    # Ctrl-C and a scheduler's SIGTERM reach the whole process group; the parent alone decides, through `stop`.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        import torch

        from redone_train.proxy_run import Stopped, train_run
        from redone_train.swarm_files import Swarm

        torch.set_num_threads(threads)
        swarm = Swarm(directory)
        while (run_id := connection.recv()) is not None:
            reported = time.monotonic()

            def on_step(tokens: int) -> bool:
                nonlocal reported
                if time.monotonic() - reported >= PROGRESS_SECONDS:
                    reported = time.monotonic()
                    connection.send(("progress", tokens))
                    if os.getppid() != parent:
                        os._exit(1)
                return stop.is_set()

            try:
                timing = train_run(swarm, swarm.runs[run_id], on_step, checkpoint_seconds)
            except Stopped:
                connection.send(("stopped",))
                return
            connection.send(("done", timing))
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
