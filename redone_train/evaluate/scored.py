"""Answers as scores: the log-probability of each allowed answer, where it is the order of texts that is measured.

Exposure and ranking put posts in an order. "Yes" or "No" would leave two heaps; the probability of each is a score, and
models that answer the same can still be told apart. A prompt is read once, whatever number of answers it allows, and
what all prompts of a task begin with once for all; log-probabilities are kept by the hash of model and prompt. Beside
the scored answers stands, where a set asks for it, a head (head.py): a linear model on the last hidden state, trained
on other documents of the same set.

An item has one prompt (a post), or several (a query's candidates): `meta["prompts"]`. Its answer is JSON: for each
prompt the log-probabilities of `meta["options"]`, or the head's number; null for one that does not fit.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.manifest import canonical
from redone_train.evaluate.answers import LINE_END, log_probs
from redone_train.evaluate.head import fitted, hidden_states, opening
from redone_train.evaluate.items import Benchmark, Item
from redone_train.evaluate.results import Answered
from redone_train.generate import LocalModel, Messages, Prompt, Sampling, read_answers
from redone_train.shared_prefix import SharedPrefix, shared_length

HEAD = " head"  # ends the name of the task that a head answers


@dataclass(frozen=True)
class Scored(Benchmark):
    """Named sets whose items are scored by the model's probabilities, and by a head where the set asks for one.

    sets: by name, as the evaluation's file has them; paths relative to `base`. reserved: as of SnsSets.
    """

    sets: Mapping[str, Any]
    base: Path
    seed: int = 1
    shots: int = 0
    reserved: int = 0

    @property
    def tasks(self) -> tuple[str, ...]:  # type: ignore[override]
        heads = {name: (name, name + HEAD) if config.head else (name,) for name, config in self.sets.items()}
        return tuple(task for tasks in heads.values() for task in tasks)

    @abstractmethod
    def training(self, task: str) -> list[Item]:
        """What the head of a set is trained on: items of documents that are not measured."""

    @abstractmethod
    def targets(self, item: Item) -> list[float]:
        """What the head of an item's prompts is to say."""

    def answers(self, model: LocalModel, items: Sequence[Item], batch_size: int, file: Path) -> list[Answered]:
        """The scores of items of one task; what `file` and its neighbours know is not computed again."""
        if not items[0].task.endswith(HEAD):
            return option_scores(model, items, file)
        training = self.training(items[0].task)
        prompts = [prompt for item in (*training, *items) for prompt in prompts_of(item)]
        states_PD, error_P = hidden_states(model, prompts, batch_size, file.with_suffix(".states.npz"))
        targets = np.array([target for item in training for target in self.targets(item)])
        fits_P = np.array([error is None for error in error_P])
        trained_on, measured = fits_P[: len(targets)], slice(len(targets), None)
        where = f"{items[0].task} ({np.sum(~trained_on)} prompts do not fit into the model's context)"
        weigh = fitted(states_PD[: len(targets)][trained_on], targets[trained_on], where)
        said = iter(zip(weigh(states_PD[measured]).tolist(), error_P[measured], strict=True))
        found = []
        for item in items:
            ours = [next(said) for _ in prompts_of(item)]
            errors = [error for _, error in ours if error is not None]
            values = [None if error is not None else round(value, 6) for value, error in ours]
            found.append(Answered(json.dumps(values), errors[0] if errors else None))
        return found


def prompts_of(item: Item) -> list[Messages]:
    """What is asked of an item: its candidates', or itself."""
    prompts: list[Messages] | None = item.meta.get("prompts")
    return [list(item.messages)] if prompts is None else prompts


def option_scores(model: LocalModel, items: Sequence[Item], file: Path) -> list[Answered]:
    """The log-probability of every option of every prompt."""
    file.parent.mkdir(parents=True, exist_ok=True)
    path = file.with_suffix(".scores.jsonl")
    known = read_answers(path)
    stamp = model.asked_of(Sampling())
    keys_IP = [
        [
            Prompt.of(item.id, messages, canonical([stamp, "options", item.meta["options"]])).key
            for messages in prompts_of(item)
        ]
        for item in items
    ]
    asked = {
        key: (messages, item.meta["options"])
        for item, keys_P in zip(items, keys_IP, strict=True)
        for key, messages in zip(keys_P, prompts_of(item), strict=True)
        if key not in known
    }
    starts = {key: model.encoded(opening(model, messages)) for key, (messages, _) in asked.items()}
    prefix = SharedPrefix.of(model.model, list(starts.values())) if starts else None
    with path.open("a", encoding="utf-8") as kept:
        kept.write("\n")  # a kill may have left a line without its end
        for key, (messages, options) in asked.items():
            known[key] = {"key": key, **_log_probs_of(model, messages, options, starts[key], prefix)}
            kept.write(canonical(known[key]) + "\n")
            kept.flush()
    found = []
    for keys_P in keys_IP:
        lines = [known[key] for key in keys_P]
        errors = [line["error"] for line in lines if "error" in line]
        answer = json.dumps([line["answers"] or None for line in lines])
        found.append(Answered(answer, errors[0] if errors else None))
    return found


def _log_probs_of(
    model: LocalModel, messages: Messages, options: Sequence[str], start: list[int], prefix: SharedPrefix | None
) -> dict[str, Any]:
    """`answers`, one an option, or none and an `error`. start: the prompt's tokens; prefix: what all prompts share."""
    end = model.tokenizer.eos_token if model.tokenizer.chat_template is not None else LINE_END
    rows = [model.encoded(opening(model, messages) + option + end) for option in options]
    if (longest := max(map(len, rows))) > model.context:
        return {"answers": [], "error": f"{longest} tokens with an answer; the model's context is {model.context}"}
    shared = max(1, shared_length([[*start, -1], *rows]))  # the prompt's last token and an option's first may merge
    return {"answers": [round(value, 6) for value in log_probs(model, shared, rows, prefix)]}


def log_odds(log_probs_PO: Sequence[Sequence[float] | None], wanted: Sequence[bool]) -> list[float | None]:
    """log P(the wanted options) - log P(the others), of each prompt.

    >>> log_odds([[-1.0, -3.0], None], [True, False])
    [2.0, None]
    """
    mask = np.array(wanted, bool)
    found: list[float | None] = []
    for row in log_probs_PO:
        if row is None:
            found.append(None)
            continue
        values = np.array(row, float)
        found.append(float(np.logaddexp.reduce(values[mask]) - np.logaddexp.reduce(values[~mask])))
    return found


def expected_grades(log_probs_PO: Sequence[Sequence[float] | None], grades: Sequence[float]) -> list[float | None]:
    """The mean grade under the grades' probabilities, which are made to sum to one.

    >>> expected_grades([[-0.5, -0.5]], [0, 3])
    [1.5]
    """
    scale = np.array(grades, float)
    found: list[float | None] = []
    for row in log_probs_PO:
        if row is None:
            found.append(None)
            continue
        weights = np.exp(np.array(row, float) - max(row))
        found.append(float(weights @ scale / weights.sum()))
    return found


def read_scores(text: str, num_prompts: int) -> list[Any]:
    """The JSON of an answer; one that is none, or of another number of prompts, scores nothing."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return [None] * num_prompts
    return found if isinstance(found, list) and len(found) == num_prompts else [None] * num_prompts


def as_floats(values: Sequence[float | None], missing: float) -> npt.NDArray[np.float64]:
    return np.array([missing if value is None else value for value in values], float)
