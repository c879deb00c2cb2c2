"""A kernel that makes no array: compiled without counting references, which costs more than short posts do.

numba counts references whenever an array is taken out of a tuple or handed on: atomic additions, a dozen a word in
kernels that hand on tables. Code that only reads and fills arrays of its caller needs none of it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from numba import njit

from redone_data.text.kernel import source_stamp

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def bare_kernel(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """As :func:`~redone_data.text.kernel.kernel`, for functions that create no array and call none that does."""
    uncounted: Any = {"_nrt": False}  # understood by numba, not in its stubs
    compiled: Any = njit(cache=True, nogil=True, **uncounted)(function)
    cache_file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if cache_file is not None:
        cache_file._source_stamp = source_stamp(Path(function.__code__.co_filename).parent)
    return cast("Callable[Parameters, Result]", compiled)
