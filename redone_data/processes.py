"""Child processes that never outlive the run."""

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel (Linux) to end this process when its parent ends, however that ends. Elsewhere it does nothing."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def children_die_with_us() -> None:
    """Every process that is forked from this one ends with it: a kill -9 leaves nobody behind."""
    os.register_at_fork(after_in_child=die_with_parent)
