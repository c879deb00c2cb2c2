"""Child processes that never outlive the run, and signals that always end it."""

import contextlib
import ctypes
import functools
import logging  # noqa: F401 - so that its hooks for forks lie inside ours
import os
import select
import signal
import sys
import threading
import time
import types
from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1
_RETRY_SECONDS = 0.05
_forking = 0  # our process id while a fork is under way


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask the kernel to signal this process when its parent ends, however that ends; does nothing but on Linux."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def children_die_with_us() -> None:
    """Every process that is forked from this one ends with it, at once: a kill -9 leaves nobody behind."""
    os.register_at_fork(before=_before_fork, after_in_child=_in_child, after_in_parent=_in_parent)


def _before_fork() -> None:
    global _forking
    _forking = os.getpid()


def _in_child() -> None:
    die_with_parent(signal.SIGKILL)
    if os.getppid() != _forking:  # it ended before the kernel was asked
        os._exit(1)
    _in_parent()


def _in_parent() -> None:
    global _forking
    _forking = 0


def raise_at(number: int, error: type[BaseException]) -> None:
    """Raise `error` in the main thread when that signal comes.

    Python drops what is raised in the middle of a fork; a signal that comes then is sent again a moment later.
    """

    def again(*_: object) -> None:
        signal.raise_signal(number)

    def receive(_: int, frame: types.FrameType | None) -> None:
        if not _forking:
            raise error
        signal.signal(signal.SIGALRM, again)
        signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)

    signal.signal(number, receive)


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


def kill_children() -> None:
    """End what an interrupt has orphaned in the middle of its start: Python would wait for it at its own end."""
    if "multiprocess" in sys.modules:
        for child in sys.modules["multiprocess"].active_children():
            child.kill()


def start_fork_server(environment: Mapping[str, str]) -> None:
    """Start the process that forks pool workers, deaf to Ctrl-C like all that it forks: the run alone answers it.

    ``environment``: added to its environment and theirs, where the user's own does not say otherwise.
    """
    from multiprocess import resource_tracker
    from multiprocess.forkserver import ensure_running

    resource_tracker.ensure_running()  # it would unblock signals

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    added = environment.keys() - os.environ.keys()
    os.environ.update({name: environment[name] for name in added})
    try:
        ensure_running()
    finally:
        for name in added:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
