"""One decorator for every numba kernel here: compiled once, cached on disk, run without the interpreter lock.

numba keys its disk cache by the file of the function alone, so an edit to a kernel that others inline would leave
those others stale and silently wrong. Here the key is every source file of the kernel's folder and of this one, whose
kernels others call, and the Unicode version.
"""

import functools
import hashlib
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from numba import njit

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def kernel(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """``function`` compiled by ``numba.njit(cache=True, nogil=True)``, with the type that it was written with."""
    return _compile(function)


def lean(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A :func:`kernel` that allocates nothing, so that numba need not count references to its arrays, which is slow."""
    return _compile(function, _nrt=False)


def inlined(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A :func:`kernel` that is copied into its callers: for the few lines that run once a word or a character."""
    return _compile(function, forceinline=True, _nrt=False)


def _compile(function: Callable[Parameters, Result], **options: bool) -> Callable[Parameters, Result]:
    decorate: Any = njit
    compiled = decorate(cache=True, nogil=True, **options)(function)
    cache_file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if cache_file is not None:
        cache_file._source_stamp = source_stamp(Path(function.__code__.co_filename).parent)
    return cast("Callable[Parameters, Result]", compiled)


@functools.cache
def source_stamp(folder: Path) -> str:
    """Changes when any Python file of ``folder`` or of this one does, or the Unicode tables that kernels freeze."""
    digest = hashlib.sha256(unicodedata.unidata_version.encode())
    for path in sorted({*folder.glob("*.py"), *Path(__file__).parent.glob("*.py")}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
