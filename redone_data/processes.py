"""Child processes that never outlive the run."""

import contextlib
import ctypes
import functools
import os
import select
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_forking = 0


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask the kernel to signal this process when its parent ends, however that ends; does nothing but on Linux."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def children_die_with_us() -> None:
    """Every process that is forked from this one ends with it, at once: a kill -9 leaves nobody behind."""
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _before_fork() -> None:
    global _forking
    _forking = os.getpid()


def _after_fork() -> None:
    die_with_parent(signal.SIGKILL)
    if os.getppid() != _forking:  # it ended before the kernel was asked
        os._exit(1)


@functools.cache
def end_with(owner: int) -> None:
    """End this process when that one has ended, however it did: for a pool's workers, whose parent is a fork server."""
    threading.Thread(target=_end_after, args=(owner,), daemon=True).start()


def _end_after(owner: int) -> None:
    try:
        select.select([os.pidfd_open(owner)], [], [])
    except ProcessLookupError:
        pass
    except (OSError, AttributeError):  # not Linux, or an old one
        while is_alive(owner):
            time.sleep(0.5)
    os._exit(1)


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
