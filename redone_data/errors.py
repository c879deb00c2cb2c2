"""The one exception that is a user's to mend.

A :class:`RedoneError` says what was wrong, where, what is allowed and what to do. The command line prints it in one
line and exits with code 2. Every other exception is a defect of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable

USER_ERROR_EXIT_CODE = 2


class RedoneError(Exception):
    """What a user gave cannot be used: the message carries the value, the rule it breaks and the remedy."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The tail of an error message: the nearest known word if one is near, and all that are allowed.

    >>> did_you_mean("run", ["runs", "proxy"])
    "did you mean 'runs'? (known: proxy, runs)"
    >>> did_you_mean("zzz", ["runs", "proxy"])
    'known: proxy, runs'
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    listing = f"known: {', '.join(names) or 'none'}"
    return f"did you mean '{near[0]}'? ({listing})" if near else listing
