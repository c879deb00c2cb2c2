"""Which conversations of a file a run trains on, by capability and task: ablations need no data of their own.

Without general data, one task alone, four, sixteen: the same files, `data.only` and `data.without`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from redone_data.errors import RedoneError, did_you_mean


@dataclass(frozen=True)
class Selection:
    """Of the rows for training, those of some capabilities or tasks. Held-out rows stay: all arms measure the same.

    >>> words = Selection(only=("content",), without=("irony",))
    >>> [words.takes(task) for task in ("content/offensive", "content/irony", "general")]
    [True, False, False]
    """

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def takes(self, task: str) -> bool:
        names = _names(task)
        return names.isdisjoint(self.without) and (not self.only or not names.isdisjoint(self.only))

    @property
    def identity(self) -> dict[str, Any]:
        """What it adds to that of the data; nothing where all rows are taken."""
        return {name: sorted(given) for name, given in asdict(self).items() if given}

    def refuse_unknown(self, tasks: Sequence[str]) -> None:
        """RedoneError: a name that no row has would choose nothing, or leave nothing out."""
        known = sorted({name for task in tasks for name in _names(task)})
        for key, given in asdict(self).items():
            for name in given:
                if name not in known:
                    raise RedoneError(f"data.{key}: '{name}': no conversation has it; {did_you_mean(name, known)}")


def _names(task: str) -> set[str]:
    capability, _, name = task.partition("/")
    return {task, capability, name} - {""}
