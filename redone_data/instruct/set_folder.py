"""A recipe's folder while it is made: the engine, hashes of inputs, what a kill left, the manifest that comes last.

What instruction sets and pair sets have in common; a folder with a manifest is complete.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from redone_data.curate.sources import DigestCache, InputFile
from redone_data.engine import Engine, ExecutorConfig, Progress, Silent
from redone_data.manifest import ASIDES, MANIFEST, link, read_json, write_json
from redone_data.recipe_file import RecipeFile

TIMINGS = "timings.json"


class _Recipe(Protocol):
    @property
    def output(self) -> str | None: ...

    @property
    def executor(self) -> ExecutorConfig: ...


R = TypeVar("R", bound=_Recipe)


@dataclass
class SetFolder(ABC, Generic[R]):
    """One run of a recipe into a folder."""

    loaded: RecipeFile[R]
    root: Path
    progress: Progress = field(default_factory=Silent)
    inputs: dict[str, list[InputFile]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.recipe = self.loaded.recipe
        self.engine = Engine(self.root, self.recipe.executor, self.progress)
        self.cache = DigestCache()
        if (self.root / TIMINGS).is_file():
            self.cache.known.update(read_json(self.root / TIMINGS).get("input_files", {}))

    def run(self) -> dict[str, Any]:
        """Make what is missing; the manifest. Raises RedoneError for a recipe or data that cannot be used."""
        for leftover in self.root.glob(ASIDES):
            leftover.unlink(missing_ok=True)
        try:
            return self._made()
        finally:
            self.engine.release_workers()
            write_json(self.root / TIMINGS, {"steps": self.engine.timings, "input_files": self.cache.known})

    @abstractmethod
    def _made(self) -> dict[str, Any]:
        """Run the steps and publish what they made; the manifest."""

    def _publish(self, manifest: dict[str, Any], shown: Mapping[str, Path]) -> dict[str, Any]:
        """Show finished files in the folder, by name; the manifest comes last, and nothing changes if all is there."""
        path = self.root / MANIFEST
        if all((self.root / name).is_file() for name in (*shown, MANIFEST)) and read_json(path) == manifest:
            return manifest
        path.unlink(missing_ok=True)
        for name, source in shown.items():
            (self.root / name).unlink(missing_ok=True)
            link(source, self.root / name)
        write_json(path, manifest)
        return manifest
