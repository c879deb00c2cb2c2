"""Results in the layout of RedOne's tables 1 to 3 (arXiv 2507.10605): models down, what was measured across.

General ability, the eight SNS tasks and their averages, translation both ways; then what the paper has in figures:
sets that nothing was trained on. Beside them what makes a gain a gain: over the better of the first model and the
trivial answer, by the paired bootstrap of all scores, and what general ability it cost. These are figures by name;
tables.py writes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redone_train.evaluate.estimate import Estimate, difference, mean_of, relative_change
from redone_train.evaluate.results import Results
from redone_train.evaluate.sns_bench import TASKS
from redone_train.evaluate.trans_bench import TASKS as WAYS

SNS, TRANSLATION, OTHER, HELD_OUT = "SNS-Bench", "Translation of SNS text", "Out of distribution", "Held-out rows"
WITHOUT_GENERAL = "without_general"  # in the name of an arm that was trained without general data
STANDARD_ERRORS = 3.0
UNBALANCED = "CHLW"  # two of three golds are empty: an empty list always scores two thirds
GENERAL_CAPABILITY = "general"


@dataclass(frozen=True)
class Column:
    """What was measured, by model. parts: the tasks of results that it is the mean of, the same weight each group."""

    block: str
    name: str
    groups: tuple[tuple[str, ...], ...]
    results: Results
    average: bool = False

    @property
    def tasks(self) -> list[str]:
        return [task for tasks in self.groups for task in tasks]

    @property
    def n(self) -> int:
        return sum(len(self.results.tasks[task]["items"]) for task in self.tasks)

    def score(self, model: str) -> Estimate:
        return self._mean({task: self.results.score(model, task) for task in self.tasks})

    def reference(self, kind: str) -> float | None:
        """Of the trivial answers, or of the ceilings; None where a task has none."""
        values = {task: self.results.tasks[task][kind] for task in self.tasks}
        if any(value is None for value in values.values()):
            return None
        return float(np.mean([np.mean([values[task] for task in tasks]) for tasks in self.groups]))

    def gain(self, model: str) -> Estimate:
        """Over the better of the first model and the trivial answer."""
        first, trivial = self.score(self.results.models[0]), self.reference("trivial")
        return difference(self.score(model), _better(first, trivial))

    def gain_by_task(self, model: str) -> Estimate:
        """The same with the better one chosen in each task: never above `gain`."""
        first = self.results.models[0]
        floors = {
            task: _better(self.results.score(first, task), self.results.tasks[task]["trivial"]) for task in self.tasks
        }
        return difference(self.score(model), self._mean(floors))

    @property
    def above_chance(self) -> bool | None:
        """Whether the first model is above the trivial answer by three standard errors; None: it cannot be said."""
        first, trivial = self.score(self.results.models[0]), self.reference("trivial")
        known = first.draws[np.isfinite(first.draws)]
        if first.value is None or trivial is None or not len(known):
            return None
        return bool(first.value - trivial >= STANDARD_ERRORS * float(np.std(known)))

    def _mean(self, of: Mapping[str, Estimate]) -> Estimate:
        return mean_of([mean_of([of[task] for task in tasks]) for tasks in self.groups])


def columns_of(results: Results) -> list[Column]:
    """Every column, in the order of the paper's tables; averages after what they are of."""
    return [
        *_sns(results),
        *_translation(results),
        *_sets(results),
        *(
            Column(task.partition("/")[0], task.partition("/")[2], ((task,),), results)
            for task in results.tasks
            if task.partition("/")[0] not in ("sns_bench", "trans_bench", "sets")
        ),
    ]


def chains(results: Results) -> dict[str, dict[str, Any]]:
    """What a ladder says of its stages; empty where the results are of no ladder."""
    told = results.about.get("ladder", {"stages": {}, "order": []})
    return {name: told["stages"][name] for name in told["order"]}


def num_tasks(stage: Mapping[str, Any]) -> int:
    """Distinct tasks of the conversations that a stage has seen, general ones not counted."""
    return sum(task.partition("/")[0] != GENERAL_CAPABILITY for task in stage["tasks"])


def against_without_general(results: Results) -> dict[str, dict[str, Estimate]]:
    """Arm without general data -> model -> change of its general bits per byte against that arm's, in per cent."""
    bits = {model: results.general_bits(model) for model in results.models}
    return {
        arm: {
            model: relative_change(own, other)
            for model, own in bits.items()
            if own is not None and model != results.models[0] and WITHOUT_GENERAL not in model
        }
        for arm, other in bits.items()
        if WITHOUT_GENERAL in arm and other is not None
    }


def _sns(results: Results) -> list[Column]:
    scored = _scored(results, "sns_bench")
    groups = {
        task: tuple(name for file in files if (name := f"sns_bench/{file}") in scored) for task, files in TASKS.items()
    }
    whole = {task: files for task, files in groups.items() if len(files) == len(TASKS[task])}
    columns = [Column(SNS, task, (files,), results) for task, files in groups.items() if files]
    if len(whole) > 1:
        named = "average" if len(whole) == len(TASKS) else f"average of {len(whole)}"
        columns.append(Column(SNS, named, tuple(whole.values()), results, average=True))
    if UNBALANCED in whole and len(whole) > 2:
        rest = tuple(files for task, files in whole.items() if task != UNBALANCED)
        columns.append(Column(SNS, f"average of {len(rest)}, no {UNBALANCED}", rest, results, average=True))
    return columns


def _translation(results: Results) -> list[Column]:
    scored = _scored(results, "trans_bench")
    names = [name for way in WAYS if (name := f"trans_bench/{way}") in scored]
    columns = [Column(TRANSLATION, _plain(name), ((name,),), results) for name in names]
    return columns + _average(TRANSLATION, names, results)


def _sets(results: Results) -> list[Column]:
    names = _scored(results, "sets")
    held_out = [name for name in names if _trained(name, results)]
    other = [name for name in names if name not in held_out]
    found = []
    for block, ours in ((OTHER, other), (HELD_OUT, held_out)):
        found += [Column(block, _plain(name), ((name,),), results) for name in ours]
        found += _average(block, ours, results)
    return found


def _trained(name: str, results: Results) -> bool:
    """Whether a set's task was trained on, on other rows: as the ladder says, else files of conversations were."""
    of = results.about.get("config", {}).get("sets", {}).get(name.partition("/")[2].partition("/")[0], {})
    stages = chains(results)
    if not stages:
        return bool(of.get("files"))
    task = name.rpartition("/")[2] if of.get("files") else str(of.get("task") or name.rpartition("/")[2])
    trained = {seen.rpartition("/")[2] for stage in stages.values() for seen in stage["tasks"]}
    return task in trained


def _average(block: str, names: Sequence[str], results: Results) -> list[Column]:
    if len(names) < 2:
        return []
    return [Column(block, "average", tuple((name,) for name in names), results, average=True)]


def _scored(results: Results, benchmark: str) -> list[str]:
    names = [name for name in results.tasks if name.startswith(f"{benchmark}/")]
    return [name for name in names if all(results.score(model, name).value is not None for model in results.models)]


def _plain(name: str) -> str:
    """Without the benchmark, and without the set where its task says as much."""
    return name.partition("/")[2]


def _better(first: Estimate, trivial: float | None) -> Estimate:
    if trivial is None or (first.value is not None and first.value >= trivial):
        return first
    return Estimate(trivial, np.full(len(first.draws), trivial))
