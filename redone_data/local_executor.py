"""datatrove's local executor on workers that outlive a step.

Its own starts a manager and a pool for every step, and each new worker loads the compiled kernels anew: two workers
were twice as slow as one on 100 MB. Here one pool serves all steps until :func:`release_workers`.
"""

import atexit
import os
from typing import Any

import multiprocess
from datatrove.executor import LocalPipelineExecutor

from redone_data.processes import end_with, start_fork_server

_pools: dict[tuple[int, str], Any] = {}


class PooledExecutor(LocalPipelineExecutor):  # type: ignore[misc]
    """``workers`` tasks at a time; whatever ends :meth:`run` early ends the workers too."""

    def run(self) -> None:
        try:
            for _ in _pool(self.workers).imap_unordered(self._run_for_rank, range(self.tasks)):
                pass
        except BaseException:
            release_workers()
            raise


@atexit.register
def release_workers() -> None:
    """End the idle workers: what comes next wants their memory."""
    while _pools:
        _, pool = _pools.popitem()
        pool.terminate()
        pool.join()


def _pool(workers: int) -> Any:
    key = (workers, os.getcwd())  # relative paths mean the same here and there
    if key not in _pools:
        release_workers()
        # Workers are forked from a server that has imported everything once.
        multiprocess.set_forkserver_preload(["redone_data.pipeline"])
        # Threads of polars and Arrow, of all workers together: about one a core.
        threads = max(1, (os.cpu_count() or 1) // workers)
        start_fork_server({"POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)})
        _pools[key] = multiprocess.get_context("forkserver").Pool(workers, end_with, (os.getpid(),))
    return _pools[key]
