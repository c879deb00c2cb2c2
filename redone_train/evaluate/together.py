"""Results that were measured apart, as one: a base model yesterday, tuned ones today, in the same tables.

Draws are of the same items where items, scorer, seed and their number are the same, so that differences between models
of two files are paired, too. What was not measured alike in all of them is left out, and named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from redone_data.errors import RedoneError
from redone_train.evaluate.bits import TASK as BITS
from redone_train.evaluate.results import Results

LEFT_OUT = "left_out"  # of `about`


def together(found: Sequence[tuple[Path, Results]]) -> Results:
    """RedoneError: two models have one name, draws were made by another seed, other items were removed, or nothing was
    measured alike.
    """
    first_path, first = found[0]
    for path, results in found[1:]:
        for key in ("seed", "resamples"):
            ours, theirs = getattr(first, key), getattr(results, key)
            if ours != theirs:
                raise RedoneError(
                    f"{path}: {key} {theirs}, and {first_path} has {ours}: their draws are of other items"
                )
    models = [model for _, results in found for model in results.models]
    if twice := next((model for model in models if models.count(model) > 1), None):
        raise RedoneError(f"--together: two models are named '{twice}'; each is a row of its own, so rename one")
    results = reduce(_joined, (one for _, one in found))
    if not results.tasks and not results.bits:
        names = ", ".join(str(path) for path, _ in found)
        raise RedoneError(f"{names}: nothing was measured on the same items; evaluate them with one file")
    return results


def _joined(a: Results, b: Results) -> Results:
    tasks = {name: task for name, task in a.tasks.items() if _alike(task, b.tasks.get(name))}
    domains = [
        domain
        for domain, one in next(iter(a.bits.values()), {}).items()
        if all(found.get(domain, {}).get("digest") == one["digest"] for found in b.bits.values())
    ]
    left_out = {name for name in {*a.tasks, *b.tasks} if name not in tasks}
    return replace(
        a,
        models=[*a.models, *b.models],
        shots={**a.shots, **b.shots},
        tasks=tasks,
        scores={
            model: {name: scores[name] for name in tasks} for one in (a, b) for model, scores in one.scores.items()
        },
        averages=[average for average in a.averages if set(average.tasks) <= set(tasks)],
        bits={
            model: {domain: found[domain] for domain in domains} for one in (a, b) for model, found in one.bits.items()
        },
        general_domains=[domain for domain in a.general_domains if domain in domains],
        general={**a.general, **b.general},
        trained_on=_trained_on(a.trained_on, b.trained_on, [*tasks, *(f"{BITS}/{domain}" for domain in domains)]),
        about={
            **a.about,
            "ladder": _ladders(a.about.get("ladder"), b.about.get("ladder")),
            LEFT_OUT: sorted({*a.about.get(LEFT_OUT, ()), *left_out}),
        },
    )


def _alike(ours: Mapping[str, Any], theirs: Mapping[str, Any] | None) -> bool:
    return theirs is not None and all(ours[key] == theirs[key] for key in ("digest", "scorer"))


def _trained_on(
    a: Mapping[str, Any] | None, b: Mapping[str, Any] | None, tasks: Sequence[str]
) -> dict[str, Any] | None:
    """What was found in both. RedoneError: items were removed from one that were not from the other."""
    both = [one for one in (a, b) if one is not None]
    if not both:
        return None
    for task in tasks:
        ours, theirs = (set(_measured(one, task)["found"]) for one in (a, b))
        if ours != theirs:
            raise RedoneError(
                f"--together: of {task} other items were trained on in one file ({len(ours)}) than in the other "
                f"({len(theirs)}), so scores without them are of other items; evaluate both with the same files under "
                "trained_on, or with leave_out_trained_on"
            )
    return {
        "rule": both[0]["rule"],
        "models": {model: files for one in both for model, files in one["models"].items()},
        "tasks": {task: _both_measured([_measured(one, task) for one in both]) for task in tasks},
        "left_out": {task: number for one in both for task, number in one.get("left_out", {}).items()},
    }


def _measured(trained_on: Mapping[str, Any] | None, task: str) -> dict[str, Any]:
    nothing = {"n": 0, "short": [], "found": {}}
    return nothing if trained_on is None else dict(trained_on["tasks"].get(task, nothing))


def _both_measured(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One task in both: the same items, each with the models of either that were trained on it."""
    found: dict[str, Any] = {}
    for one in measured:
        for item, leak in one["found"].items():
            models = [*found.get(item, {"models": []})["models"], *leak["models"]]
            found[item] = {**leak, "models": models}
    return {"n": measured[0]["n"], "short": measured[0]["short"], "found": found}


def _ladders(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> dict[str, Any]:
    both = [one for one in (a, b) if one]
    return {
        "stages": {name: stage for one in both for name, stage in one["stages"].items()},
        "order": list(dict.fromkeys(name for one in both for name in one["order"])),
    }
