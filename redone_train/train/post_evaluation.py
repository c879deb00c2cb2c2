"""Held-out loss by task of SFT, and held-out preferences of DPO: at the start, every N steps and at the end.

Sums over conversations and pairs, added up over ranks in 64 bits, so that ranks and batches change nothing but
rounding; OUTPUT/evaluation.jsonl has a line a measurement. DPO stops by it: when accuracy has been below its best for
`patience` measurements (rewards overfit while the training loss still falls: Rafailov et al., arXiv 2406.02900), on all
ranks at the same step, for all have the same sums. Accuracy is also given for pairs whose chosen answer is the longer
one and the shorter one: a model that learns length is good at the first and bad at the second (2403.19159).
"""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from datasets import Dataset
from torch import Tensor, distributed
from torch.nn import functional as F  # noqa: N812 - its name everywhere
from transformers import TrainerCallback

from redone_data.manifest import atomic, digest
from redone_train.data.evaluation import read_history
from redone_train.train.post_config import PreferenceLossConfig

FILE = "evaluation.jsonl"

Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]
Line = dict[str, Any]


class HeldOutEvaluation(TrainerCallback):
    """Measures a Trainer's model on held-out rows. log: the trainer's. every: steps; 0: at start and end only."""

    def __init__(
        self,
        rows: Dataset,
        collate: Collate,
        *,
        every: int,
        rows_per_device: int,
        output: Path,
        log: Callable[[dict[str, float]], None],
    ) -> None:
        self.rows = sorted(rows, key=_size)
        self.collate, self.every, self.rows_per_device = collate, every, rows_per_device
        self.path, self.log = output / FILE, log
        self.tasks = sorted({part for task in rows["task"] for part in parts_of(task)})

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        self.history = [line for line in read_history(self.path) if line["step"] <= state.global_step]
        if state.is_world_process_zero:  # steps that the run goes back over are measured again
            _write(self.path, self.history)
        if not self.history:
            self._add(model, state)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        if state.global_step >= state.max_steps or (self.every and state.global_step % self.every == 0):
            self._add(model, state)
            self.judge(state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        done = state.global_step >= state.max_steps or self.stopped
        if state.is_world_process_zero and done:
            print(self.table(), flush=True)

    stopped = False  # before the last step, by what was measured

    def judge(self, state: Any, control: Any) -> None:
        """Stop the run, or keep its checkpoint, by what was measured last."""

    @abstractmethod
    def measure(self, model: Any, step: int) -> Line:
        """By name, by task, what the model is worth; the same on all ranks."""

    @abstractmethod
    def logged(self, line: Line) -> dict[str, float]:
        """What of a line goes to the log."""

    @abstractmethod
    def table(self) -> str:
        """The first and the last measurement."""

    def _add(self, model: Any, state: Any) -> None:
        was_training = model.training
        model.eval()
        with torch.no_grad():
            line = {"step": state.global_step, **self.measure(model, state.global_step)}
        model.train(was_training)
        self.history.append(line)  # on every rank: the file is rank 0's
        if state.is_world_process_zero:
            _write(self.path, self.history)
        self.log(self.logged(line))

    def batches(self) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        """This rank's batches, and whether they count: all ranks pass as often through the model (ZeRO-3 gathers)."""
        rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
        size = self.rows_per_device
        batches = [self.rows[first : first + size] for first in range(0, len(self.rows), size)]
        for first in range(0, len(batches), ranks):
            at = first + rank
            yield batches[min(at, len(batches) - 1)], at < len(batches)

    def add_up(self, device: Any, values: int) -> "Sums":
        return Sums(self.tasks, values, device)


class Sums:
    """Values added up by task, then over ranks."""

    def __init__(self, tasks: Sequence[str], values: int, device: Any) -> None:
        self.at = {task: number for number, task in enumerate(tasks)}
        self.total_TV = torch.zeros(len(tasks), values, dtype=torch.float64, device=device)

    def add(self, task: str, value_V: Tensor) -> None:
        for part in parts_of(task):
            self.total_TV[self.at[part]] += value_V

    def over_ranks(self) -> dict[str, list[float]]:
        if distributed.is_initialized() and distributed.get_world_size() > 1:
            distributed.all_reduce(self.total_TV)
        return dict(zip(self.at, self.total_TV.tolist(), strict=True))


def sample_rows(file: Path, each: int, seed: int) -> Dataset:
    """At most so many rows of each task of an Arrow file, drawn by what they hold, whatever their order."""
    rows = Dataset.from_file(str(file))
    by_task: dict[str, list[tuple[str, int]]] = {}
    for number, row in enumerate(rows):
        drawn = digest([seed, row["task"], [value for name, value in sorted(row.items()) if name.endswith("_ids")]])
        by_task.setdefault(row["task"], []).append((drawn, number))
    chosen = [number for found in by_task.values() for _, number in sorted(found)[:each]]
    return rows.select(sorted(chosen))


def parts_of(task: str) -> list[str]:
    """What a row counts for.

    >>> parts_of("translation/zh_en")
    ['all', 'translation', 'translation/zh_en']
    """
    names = task.split("/")
    return list(dict.fromkeys(["all", *("/".join(names[: n + 1]) for n in range(len(names)))]))


@final
class ConversationEvaluation(HeldOutEvaluation):
    """Nats a token of the answers, by capability and task."""

    def measure(self, model: Any, step: int) -> Line:
        device = next(model.parameters()).device
        sums = self.add_up(device, 2)
        for rows, counts in self.batches():
            batch = {name: values.to(device) for name, values in self.collate(rows).items()}
            found = model(**batch, fused_lm_head=True, use_cache=False)
            nats_B, tokens_B = -found.log_probs.double().sum(1), found.label_mask.double().sum(1)
            for row, nats, tokens in zip(rows, nats_B, tokens_B, strict=True):
                if counts:
                    sums.add(row["task"], torch.stack([nats, tokens]))
        return {"nats_per_token": {task: nats / tokens for task, (nats, tokens) in sums.over_ranks().items()}}

    def logged(self, line: Line) -> dict[str, float]:
        return {f"eval_loss_{task}": loss for task, loss in line["nats_per_token"].items() if "/" not in task}

    def table(self) -> str:
        first, last = self.history[0], self.history[-1]
        before, after = first["nats_per_token"], last["nats_per_token"]
        width = max(15, *map(len, after))
        lines = [f"{'nats a token':<{width}} {_step(first):>10} {_step(last):>10} {'change':>9}"]
        for task, loss in after.items():
            change = 100 * (loss / before[task] - 1)
            lines.append(f"{task:<{width}} {before[task]:10.3f} {loss:10.3f} {change:+7.1f} %")
        return "\n".join(lines)


@final
class PairEvaluation(HeldOutEvaluation):
    """Preferences on held-out pairs whose reference is known (`ref_chosen_logps`, `ref_rejected_logps`).

    accuracy: pairs whose chosen answer has the higher reward, a tie being half of one; likelier: whose chosen answer
    the model itself finds likelier; margin: of rewards; longer, shorter: accuracy where the chosen answer is so.
    keep: is told of each step that is the best so far, to keep its checkpoint.
    """

    def __init__(
        self,
        *given: Any,
        loss: PreferenceLossConfig,
        patience: int,
        keep: Callable[[int], None],
        **more: Any,
    ) -> None:
        super().__init__(*given, **more)
        self.loss, self.patience, self.keep = loss, patience, keep

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        super().on_train_begin(args, state, control, model=model, **others)
        if (best := self.best()) is not None and self.patience:
            self.keep(best["step"])

    def measure(self, model: Any, step: int) -> Line:
        device = next(model.parameters()).device
        sums = self.add_up(device, 9)
        for rows, counts in self.batches():
            inputs = {name: values.to(device) for name, values in self.collate(rows).items()}
            mask = inputs.pop("completion_mask")
            reference_2B = torch.cat([inputs.pop("ref_chosen_logps"), inputs.pop("ref_rejected_logps")]).double()
            if step:
                labels = inputs["input_ids"].masked_fill(mask == 0, -100)
                found = model(**inputs, labels=labels, fused_lm_head=True, use_cache=False)
                policy_2B = found.log_probs.double().sum(1)
            else:  # the policy is the reference, and all that is measured of the difference would be rounding
                policy_2B = reference_2B
            for row, values_V in zip(rows, self._values(policy_2B, reference_2B, mask.sum(1)), strict=True):
                if counts:
                    sums.add(row["task"], values_V)
        found_by_task = {task: _preferences(values) for task, values in sums.over_ranks().items()}
        names = next(iter(found_by_task.values()))
        return {name: {task: values[name] for task, values in found_by_task.items()} for name in names}

    def _values(self, policy_2B: Tensor, reference_2B: Tensor, length_2B: Tensor) -> Tensor:
        ratio_2B = policy_2B - reference_2B
        chosen, rejected = ratio_2B.chunk(2)
        margin = self.loss.beta * (chosen - rejected)
        if self.loss.kind == "ipo":
            each, other = (ratio_2B / length_2B).chunk(2)
            loss = (each - other - 1 / (2 * self.loss.beta)) ** 2
        else:
            loss = -F.logsigmoid(margin)
        right = _won(margin)
        first, second = length_2B.chunk(2)
        longer, shorter = (first > second).double(), (first < second).double()
        likelier = _won(torch.sub(*policy_2B.chunk(2)))
        ones = torch.ones_like(margin)
        columns = [ones, right, likelier, margin, loss, longer, longer * right, shorter, shorter * right]
        return torch.stack(columns, dim=1)

    def logged(self, line: Line) -> dict[str, float]:
        names = ("accuracy", "margin", "loss", "likelier")
        shown = {f"eval_{name}": line[name]["all"] for name in names}
        return shown | {f"eval_accuracy_{task}": value for task, value in line["accuracy"].items() if task != "all"}

    def best(self) -> Line | None:
        """The measurement with the highest accuracy, of these the one with the lowest loss."""
        measured = [line for line in self.history if line["step"]]
        return max(measured, key=lambda line: (line["accuracy"]["all"], -line["loss"]["all"]), default=None)

    def result(self) -> int | None:
        """The step whose checkpoint is the run's result; None: the last one."""
        best = self.best()
        return int(best["step"]) if best is not None and self.patience else None

    def judge(self, state: Any, control: Any) -> None:
        best = self.best()
        if not self.patience or best is None:
            return
        if best["step"] == state.global_step:
            self.keep(best["step"])
            control.should_save = True
        highest = max(line["accuracy"]["all"] for line in self.history)  # at the start it is a half
        recent = [line["accuracy"]["all"] for line in self.history[-self.patience :] if line["step"]]
        if len(recent) == self.patience and all(accuracy < highest for accuracy in recent):
            self.stopped = control.should_training_stop = state.global_step < state.max_steps

    def table(self) -> str:
        last = self.history[-1]
        width = max(15, *map(len, last["accuracy"]))
        columns = ("accuracy", "longer", "shorter", "likelier", "margin")
        lines = [f"{_step(last):<{width}} {' '.join(f'{name:>9}' for name in columns)}"]
        for task in last["accuracy"]:
            values = (last[name][task] for name in columns)
            shown = " ".join(f"{'-':>9}" if value is None else f"{value:9.3f}" for value in values)
            lines.append(f"{task:<{width}} {shown}")
        return "\n".join(lines)


def _won(difference: Tensor) -> Tensor:
    return (difference > 0).double() + 0.5 * (difference == 0).double()


def _preferences(values: Sequence[float]) -> dict[str, float | None]:
    pairs, right, likelier, margin, loss, longer, longer_right, shorter, shorter_right = values
    found = {"accuracy": right / pairs, "likelier": likelier / pairs, "margin": margin / pairs, "loss": loss / pairs}
    longer_accuracy = longer_right / longer if longer else None
    return {**found, "longer": longer_accuracy, "shorter": shorter_right / shorter if shorter else None, "pairs": pairs}


def _size(row: Mapping[str, Any]) -> int:
    return max(len(values) for name, values in row.items() if name.endswith("_ids"))


def _step(line: Line) -> str:
    return f"step {line['step']}"


def _write(path: Path, lines: Sequence[Line]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as aside:
        text = (json.dumps({**line}, ensure_ascii=False, allow_nan=True) for line in lines)
        aside.write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
