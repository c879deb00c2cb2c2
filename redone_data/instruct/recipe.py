"""The recipe of an instruction set: tables, tasks over them, general data, what is cleaned away, two steps.

One YAML file, read strictly; paths are relative to it. What decides the bytes of a set is `canonical`: everything but
where it is written and how many processes work on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redone_data.config import plain
from redone_data.curate.contamination import ContaminationConfig
from redone_data.engine import ExecutorConfig
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.alike import DuplicateRowsConfig
from redone_data.instruct.blend import StepConfig
from redone_data.instruct.clean import CleanConfig
from redone_data.instruct.general import GeneralConfig
from redone_data.instruct.held_out import HeldOutConfig
from redone_data.instruct.lengths import LengthConfig
from redone_data.instruct.making import TaskEntry
from redone_data.instruct.tables import TableConfig
from redone_data.recipe_file import RecipeFile, load
from redone_data.text.personal_data import ALL


@dataclass(frozen=True)
class StepsConfig:
    """The two steps of training: everything, then more of the platform's own tasks with general data still in it."""

    step1: StepConfig = field(default_factory=StepConfig)
    step2: StepConfig = field(default_factory=StepConfig)


@dataclass(frozen=True)
class SftRecipe:
    """An instruction set."""

    tables: dict[str, TableConfig] = field(default_factory=dict, metadata={"help": "name -> where rows come from"})
    tasks: dict[str, TaskEntry] = field(
        default_factory=dict, metadata={"help": "a shipped task's name, or the path of your own -> its tables"}
    )
    duplicates: dict[str, DuplicateRowsConfig] = field(
        default_factory=dict, metadata={"help": "table -> what counts as a duplicate among its rows"}
    )
    general: dict[str, GeneralConfig] = field(
        default_factory=dict, metadata={"help": "name -> instruction data that exists already"}
    )
    output: str | None = field(default=None, metadata={"help": "the set's folder; --out overrides it"})
    seed: int = field(default=1, metadata={"help": "of every random choice"})
    redact: tuple[str, ...] = field(default=tuple(ALL), metadata={"help": f"personal data to mask: {', '.join(ALL)}"})
    held_out: HeldOutConfig = field(default_factory=HeldOutConfig)
    lengths: LengthConfig = field(default_factory=LengthConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    contamination: ContaminationConfig = field(default_factory=ContaminationConfig)
    steps: StepsConfig = field(default_factory=StepsConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)

    def __post_init__(self) -> None:
        if not self.tasks and not self.general:
            raise RedoneError("tasks and general: there is nothing to make; name a task, or general data")
        for kind in self.redact:
            if kind not in ALL:
                raise RedoneError(f"redact: {kind!r}: {did_you_mean(kind, ALL)}")
        for name, entry in self.tasks.items():
            for table in entry.tables:
                if table not in self.tables:
                    raise RedoneError(f"tasks.{name}.tables: '{table}': {did_you_mean(table, self.tables)}")
        for table in self.duplicates:
            if table not in self.tables:
                raise RedoneError(f"duplicates.{table}: {did_you_mean(table, self.tables)}")

    def canonical(self) -> dict[str, Any]:
        """What decides the bytes of a set."""
        values: dict[str, Any] = plain(self)
        for key in ("output", "executor"):
            del values[key]
        return values


LoadedSftRecipe = RecipeFile[SftRecipe]


def load_sft_recipe(path: Path, assignments: Sequence[str] = (), seed: int | None = None) -> LoadedSftRecipe:
    return load(SftRecipe, path, assignments, seed, example="recipes/instruct/tiny.yaml is one to start from")
