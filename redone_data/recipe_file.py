"""A recipe read from its file: of a corpus, an instruction set or a pair set. Paths in it are relative to the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from redone_data.config import load_yaml, read_config, set_key
from redone_data.errors import RedoneError


class _WithOutput(Protocol):
    @property
    def output(self) -> str | None: ...


R = TypeVar("R", bound=_WithOutput)


@dataclass(frozen=True)
class RecipeFile(Generic[R]):
    """A recipe with the file that its paths are relative to."""

    recipe: R
    path: Path

    @property
    def base(self) -> Path:
        return self.path.parent

    def output(self, given: Path | None) -> Path:
        """The run's folder: the command line's, or the recipe's."""
        if given is not None:
            return given
        if self.recipe.output is None:
            raise RedoneError(f"{self.path}: output is not set; set it, or give --out DIR")
        return self.base / self.recipe.output


def load(
    kind: type[R], path: Path, assignments: Sequence[str] = (), seed: int | None = None, *, example: str
) -> RecipeFile[R]:
    """Read a recipe file, with ``--set`` assignments and ``--seed`` over it.

    example: where to start from, for one that is not there. RedoneError names the file, the key and what is allowed.
    """
    if not path.is_file():
        raise RedoneError(f"{path}: there is no such recipe; {example}")
    values = load_yaml(path)
    for assignment in assignments:
        set_key(values, assignment)
    if seed is not None:
        values["seed"] = seed
    return RecipeFile(read_config(kind, values, where=str(path)), path)
