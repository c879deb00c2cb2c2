"""Two or more results against the first: paired bootstrap on the same items, a difference with its interval.

Every model drew the same items of a task, so the difference is taken draw by draw (estimate.py): what is hard for both
cancels out, and the interval is narrower than that of either. Other items, another scorer, seed or number of draws are
refused: such a difference means nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redone_data.errors import RedoneError
from redone_train.evaluate.estimate import Estimate, difference
from redone_train.evaluate.results import Average, Results


@dataclass(frozen=True)
class Entrant:
    """A model of a results file."""

    name: str
    model: str
    results: Results


@dataclass(frozen=True)
class Row:
    """What is compared, by entrant; differences: each entrant's after the first, minus the first's."""

    name: str
    values: list[Estimate]
    differences: list[Estimate]
    n: int | None = None
    unit: str = "points"


@dataclass(frozen=True)
class Comparison:
    entrants: list[Entrant]
    rows: list[Row]
    left_out: list[str]  # tasks that not all of them have

    def mapping(self) -> dict[str, Any]:
        names = [entrant.name for entrant in self.entrants]
        rows = {
            row.name: {
                "n": row.n,
                "unit": row.unit,
                "values": {name: value.value for name, value in zip(names, row.values, strict=True)},
                "differences": {
                    name: {"value": found.value, "interval": found.interval, "above_zero": found.above_zero}
                    for name, found in zip(names[1:], row.differences, strict=True)
                },
            }
            for row in self.rows
        }
        return {"against": names[0], "rows": rows, "left_out": self.left_out}


def compare(paths: Sequence[Path]) -> Comparison:
    """Results files, each with its models in their order, against the first model of the first file.

    RedoneError: fewer than two models, other items or scorers in a task that they share, no task that they share.
    """
    files = [(path, Results.read(path)) for path in paths]
    for path, results in files[1:]:
        for key in ("seed", "resamples"):
            ours, theirs = getattr(files[0][1], key), getattr(results, key)
            if ours != theirs:
                raise RedoneError(
                    f"{path}: {key} {theirs}, and {files[0][0]} has {ours}: their draws are not of the same items; "
                    f"evaluate again with one {key} (answers are kept, only the draws are made anew)"
                )
    entrants = _entrants(files)
    if len(entrants) < 2:
        raise RedoneError(f"{paths[0]}: has one model; give at least two to compare")
    first = files[0][1]
    everything = list(dict.fromkeys(task for _, results in files for task in results.tasks))
    shared = [task for task in everything if all(task in results.tasks for _, results in files)]
    for task in shared:
        for path, results in files[1:]:
            _refuse_another(task, first.tasks[task], results.tasks[task], files[0][0], path)
    rows = [
        _row(task, [e.results.score(e.model, task) for e in entrants], n=len(first.tasks[task]["items"]))
        for task in shared
    ]
    for average in first.averages:
        if set(average.tasks) <= set(shared):
            rows.append(_row(average.name, [_average(entrant, average) for entrant in entrants]))
    rows += _bits(entrants)
    if not rows:
        raise RedoneError(f"{paths[0]} and the others have no task in common; evaluate them on the same")
    return Comparison(entrants, rows, [task for task in everything if task not in shared])


def _entrants(files: Sequence[tuple[Path, Results]]) -> list[Entrant]:
    models = [model for _, results in files for model in results.models]
    found = []
    for path, results in files:
        folder = path if path.is_dir() else path.parent
        for model in results.models:
            name = model if models.count(model) == 1 else f"{folder.name}/{model}"
            found.append(Entrant(name, model, results))
    return found


def _refuse_another(task: str, ours: dict[str, Any], theirs: dict[str, Any], first: Path, path: Path) -> None:
    if ours["scorer"] != theirs["scorer"]:
        raise RedoneError(
            f"{task}: scored by '{theirs['scorer']}' in {path} and by '{ours['scorer']}' in {first}; "
            "evaluate both with one scorer"
        )
    if ours["digest"] != theirs["digest"]:
        a, b = ({item["id"] for item in one["items"]} for one in (ours, theirs))
        what = f"{len(a ^ b)} items are in one of them only" if a != b else "prompts or golds differ"
        raise RedoneError(
            f"{task}: not the same items in {path} and {first} ({what}); evaluate both with the same max_items, seed "
            "and files, and sets with as many shots at most"
        )


def _average(entrant: Entrant, average: Average) -> Estimate:
    return entrant.results.average(entrant.model, average)


def _bits(entrants: Sequence[Entrant]) -> list[Row]:
    """Domains that were measured on the same documents."""
    measured = [entrant.results.bits.get(entrant.model, {}) for entrant in entrants]
    rows = []
    for domain, first in measured[0].items():
        others = [bits.get(domain) for bits in measured[1:]]
        if all(other is not None and other["digest"] == first["digest"] for other in others):
            estimates = [entrant.results.domain_bits(entrant.model, domain) for entrant in entrants]
            rows.append(_row(f"bits per byte: {domain}", estimates, n=first["documents"], unit="bits per byte"))
    return rows


def _row(name: str, values: list[Estimate], *, n: int | None = None, unit: str = "points") -> Row:
    return Row(name, values, [difference(value, values[0]) for value in values[1:]], n, unit)
