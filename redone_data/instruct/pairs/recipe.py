"""The recipe of a pair set: tables, and named sets of each kind. One YAML file, read strictly; paths relative to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redone_data.config import plain
from redone_data.curate.contamination import ContaminationConfig
from redone_data.engine import ExecutorConfig
from redone_data.errors import RedoneError, did_you_mean
from redone_data.instruct.pairs.engagement import EngagementConfig
from redone_data.instruct.pairs.judges import JudgesConfig
from redone_data.instruct.pairs.outputs import OutputsConfig
from redone_data.instruct.pairs.select import SelectConfig
from redone_data.instruct.pairs.structure import StructureConfig
from redone_data.instruct.tables import TableConfig
from redone_data.recipe_file import RecipeFile, load


@dataclass(frozen=True)
class HeldOutConfig:
    """What is kept from training. Conversations bring their own split; here it is that of the tables."""

    share: float = field(default=0.02, metadata={"help": "of documents; as in the recipe of redone-data sft"})

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 0.5:
            raise RedoneError(f"share: {self.share}; between 0 and 0.5")


@dataclass(frozen=True)
class PairsRecipe:
    """A pair set: sets of four kinds, each under a name of its own."""

    structure: dict[str, StructureConfig] = field(default_factory=dict)
    outputs: dict[str, OutputsConfig] = field(default_factory=dict)
    judges: dict[str, JudgesConfig] = field(default_factory=dict)
    engagement: dict[str, EngagementConfig] = field(default_factory=dict)
    tables: dict[str, TableConfig] = field(default_factory=dict, metadata={"help": "name -> where rows come from"})
    output: str | None = field(default=None, metadata={"help": "the set's folder; --out overrides it"})
    seed: int = field(default=1, metadata={"help": "of every random choice; as in the recipe of redone-data sft"})
    held_out: HeldOutConfig = field(default_factory=HeldOutConfig)
    contamination: ContaminationConfig = field(default_factory=ContaminationConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)

    def __post_init__(self) -> None:
        names = [*self.structure, *self.outputs, *self.judges, *self.engagement]
        if not names:
            raise RedoneError("there is nothing to make; name a set under structure, outputs, judges or engagement")
        for name in names:
            if names.count(name) > 1:
                raise RedoneError(f"the set '{name}' is given under two kinds; give each a name of its own")
            if not name or set(name) & set("/\\ "):
                raise RedoneError(f"the set's name {name!r} must not be empty or hold spaces or slashes")
        for where, table in self._tables():
            if table not in self.tables:
                raise RedoneError(f"{where}: '{table}': {did_you_mean(table, self.tables)}")

    def _tables(self) -> list[tuple[str, str]]:
        """Every table that a set or a join names, and where."""
        named = [(f"engagement.{name}.table", one.table) for name, one in self.engagement.items()]
        for name, one in self.judges.items():
            named.append((f"judges.{name}.rankings.table", one.rankings.table))
            if one.expand is not None:
                named.append((f"judges.{name}.expand.table", one.expand.table))
        return named + [
            (f"tables.{name}.join", join.table) for name, table in self.tables.items() for join in table.join
        ]

    def canonical(self) -> dict[str, Any]:
        """What decides the bytes of a pair set."""
        values: dict[str, Any] = plain(self)
        for key in ("output", "executor"):
            del values[key]
        return values

    def selects(self) -> dict[str, tuple[str, SelectConfig]]:
        """Set -> its kind and how it is chosen from, by name: the order of pairs in the files."""
        kinds: dict[str, Any] = {"structure": self.structure, "outputs": self.outputs}
        kinds |= {"judge": self.judges, "engagement": self.engagement}
        return dict(sorted((name, (kind, one.select)) for kind, sets in kinds.items() for name, one in sets.items()))


LoadedPairsRecipe = RecipeFile[PairsRecipe]


def load_pairs_recipe(path: Path, assignments: Sequence[str] = (), seed: int | None = None) -> LoadedPairsRecipe:
    return load(PairsRecipe, path, assignments, seed, example="recipes/instruct/pairs_tiny.yaml is one to start from")
