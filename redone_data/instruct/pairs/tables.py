"""The tables of a recipe that one set reads: configured, with the files that decide what is in them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redone_data.config import plain
from redone_data.curate.sources import InputFile
from redone_data.instruct.tables import Table, TableConfig, read_table


@dataclass(frozen=True)
class Tables:
    """Tables by name, those that they join among them."""

    configs: dict[str, TableConfig]
    files: tuple[InputFile, ...]
    base: Path

    def config(self) -> Any:
        """What of them decides the output of a step."""
        return {name: {**plain(table), "paths": []} for name, table in sorted(self.configs.items())}

    def inputs(self) -> dict[str, str]:
        return {f"{i:06d}.{file.format}": file.sha256 for i, file in enumerate(self.files)}

    def read(self, name: str) -> Table:
        return read_table(name, self.configs, self.base)
