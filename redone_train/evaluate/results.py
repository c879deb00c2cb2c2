"""What an evaluation found, as results.json: every prompt, answer and score, and all that a comparison needs.

A task is named BENCHMARK/TASK; its items are written once, with the prompts that the first model got (those of others
lie in `prompts`, by their number of shots), each model's answers and scores beside them. An average
is over the means of its groups (the eight tasks of SNS-Bench are twelve files), and has an interval of its own from
the tasks' draws. Retention is what general ability a model kept: general bits per byte against the first model's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from redone_data.errors import RedoneError
from redone_data.manifest import digest, read_json, write_json
from redone_train.evaluate.estimate import Estimate, mean_of, relative_change, resampled
from redone_train.evaluate.items import Item, TaskScore

FILE = "results.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Answered:
    """error: why there is no answer (a prompt that does not fit); it is scored as an empty one."""

    text: str
    error: str | None = None


@dataclass(frozen=True)
class Average:
    """Groups of tasks, the same weight each: group -> its tasks, BENCHMARK/TASK."""

    name: str
    groups: Mapping[str, tuple[str, ...]]

    @property
    def tasks(self) -> list[str]:
        return [task for tasks in self.groups.values() for task in tasks]


@dataclass
class Results:
    """`tasks`: name -> what was asked; `scores`: model -> task -> what came of it; `bits`: model -> domain."""

    models: list[str]
    seed: int
    resamples: int
    shots: dict[str, int | None] = field(default_factory=dict)  # model -> its number of them; None: the benchmark's
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    averages: list[Average] = field(default_factory=list)
    bits: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    general_domains: list[str] = field(default_factory=list)
    general: dict[str, dict[str, Any]] = field(default_factory=dict)
    trained_on: dict[str, Any] | None = None  # what evaluate/trained_on.py found; None: not looked for
    about: dict[str, Any] = field(default_factory=dict)

    def add(self, model: str, items: Sequence[Item], answers: Sequence[Answered], score: TaskScore) -> None:
        """What a model answered to a task's items, and what it scored."""
        name = f"{items[0].benchmark}/{items[0].task}"
        asked = [
            {"id": item.id, "messages": list(item.messages), "gold": item.gold, "meta": _kept(item.meta)}
            for item in items
        ]
        task = self.tasks.setdefault(
            name,
            {
                "items": asked,
                "digest": digest([[item["id"], _question(item["messages"]), item["gold"]] for item in asked]),
                "scorer": score.scorer,
                "trivial": score.trivial,
                "trivial_rule": score.trivial_rule,
                "ceiling": score.ceiling,
                "prompts": {},
            },
        )
        if any(item["messages"] != known["messages"] for item, known in zip(asked, task["items"], strict=True)):
            task["prompts"][str(self.shots.get(model))] = [item["messages"] for item in asked]
        estimate = resampled(score.score, score.of, score.n, seed=self.seed, name=score.task, draws=self.resamples)
        by_item = score.item_scores
        written = []
        for number, answer in enumerate(answers):
            columns = {column: _number(values[number]) for column, values in score.columns.items()}
            line = {"answer": answer.text, "score": None if by_item is None else by_item[number], "columns": columns}
            written.append(line if answer.error is None else {**line, "error": answer.error})
        self.scores.setdefault(model, {})[name] = {
            "score": estimate.mapping(),
            "clean": self._clean(items, score),
            "parts": score.parts,
            "parse_rate": score.parse_rate,
            "n": score.n,
            "notes": list(score.notes),
            "errors": sum(answer.error is not None for answer in answers),
            "answers": written,
        }

    def score(self, model: str, task: str) -> Estimate:
        return Estimate.read(self.scores[model][task]["score"])

    def removed(self, task: str) -> list[str]:
        """The ids of a task's items that any of the models was trained on."""
        return list((self.trained_on or {"tasks": {}})["tasks"].get(task, {"found": {}})["found"])

    def clean(self, model: str, task: str) -> Estimate:
        """The score over items that no model was trained on, the same ones for all models."""
        clean = self.scores[model][task].get("clean")
        return self.score(model, task) if clean is None else Estimate.read(clean["score"])

    def clean_average(self, model: str, average: Average) -> Estimate:
        groups = [mean_of([self.clean(model, task) for task in tasks]) for tasks in average.groups.values()]
        return mean_of(groups)

    def _clean(self, items: Sequence[Item], score: TaskScore) -> dict[str, Any] | None:
        """None: nothing is removed, so it is the score."""
        removed = set(self.removed(f"{items[0].benchmark}/{items[0].task}"))
        kept = np.array([place for place, item in enumerate(items) if item.id not in removed], np.int64)
        if len(kept) == len(items):
            return None
        value = score.of(kept) if len(kept) else None
        estimate = resampled(
            value, lambda drawn: score.of(kept[drawn]), len(kept), seed=self.seed, name=score.task, draws=self.resamples
        )
        return {"n": len(kept), "score": estimate.mapping()}

    def average(self, model: str, average: Average) -> Estimate:
        """The mean of its groups, each the mean of its tasks."""
        groups = [mean_of([self.score(model, task) for task in tasks]) for tasks in average.groups.values()]
        return mean_of(groups)

    def domain_bits(self, model: str, domain: str) -> Estimate:
        return Estimate.read(self.bits[model][domain]["bits_per_byte"])

    def clean_bits(self, model: str, domain: str) -> Estimate:
        """Over the documents that no model was trained on."""
        clean = self.bits[model][domain].get("clean")
        return self.domain_bits(model, domain) if clean is None else Estimate.read(clean["bits_per_byte"])

    def general_bits(self, model: str) -> Estimate | None:
        """The mean over general domains; None: not measured of this model."""
        if model not in self.bits or not self.general_domains:
            return None
        return mean_of([self.domain_bits(model, domain) for domain in self.general_domains])

    def retention(self, model: str) -> Estimate | None:
        """The change of general bits per byte against the first model, in per cent: above zero, something was lost."""
        first, now = self.general_bits(self.models[0]), self.general_bits(model)
        return None if first is None or now is None else relative_change(now, first)

    def reference(self, average: Average, kind: str) -> float | None:
        """The average of the trivial answers, or of the ceilings; None where a task has none."""
        means = []
        for tasks in average.groups.values():
            values = [self.tasks[task][kind] for task in tasks]
            if any(value is None for value in values):
                return None
            means.append(sum(values) / len(values))
        return float(sum(means) / len(means))

    def write(self, path: Path) -> None:
        found = {
            "averages": {
                average.name: {
                    "groups": {group: list(tasks) for group, tasks in average.groups.items()},
                    "models": {model: self.average(model, average).mapping() for model in self.models},
                    "trivial": self.reference(average, "trivial"),
                    "ceiling": self.reference(average, "ceiling"),
                }
                for average in self.averages
            },
            "retention": {model: _mapping(self.retention(model)) for model in self.models},
        }
        kept = {name: value for name, value in vars(self).items() if name != "averages"}
        write_json(path, {"schema_version": SCHEMA_VERSION, **kept, **found})

    @classmethod
    def read(cls, path: Path) -> "Results":
        """RedoneError: no results file, or one of another schema."""
        values = read_json(path / FILE if path.is_dir() else path)
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != SCHEMA_VERSION or "scores" not in values:
            raise RedoneError(
                f"{path}: schema_version {version!r}, not {SCHEMA_VERSION}; give the {FILE} of `redone-train eval`"
            )
        averages = [
            Average(name, {group: tuple(tasks) for group, tasks in found["groups"].items()})
            for name, found in values["averages"].items()
        ]
        names = cls.__dataclass_fields__
        return cls(
            **{name: value for name, value in values.items() if name in names and name != "averages"}, averages=averages
        )


def _kept(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Without the row of a benchmark's file, whose text the prompt has."""
    return {name: value for name, value in meta.items() if name != "row"}


def _question(messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """What is asked whatever the number of shots: models that get more or fewer are compared all the same."""
    return [*(message for message in messages[:-1] if message["role"] == "system"), messages[-1]]


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mapping(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.mapping()
