"""Loss and bits per byte by domain while a model trains: at the start, every N steps and at the end.

What is measured, and which documents, is said in held_out.py. Rows are spread over the ranks and their nats added up in
64 bits, so the number of ranks and the rows of a batch change nothing but rounding. The model's own loss is asked for a
sum, so that evaluation takes the path of training (fused kernels, document masks) and no more memory than it. A forward
pass of 12 domains of 100,000 tokens costs what 0.4 M tokens of training do.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, distributed
from transformers import TrainerCallback

from redone_data.manifest import atomic
from redone_train.data.batches import as_tensors
from redone_train.data.held_out import HeldOut
from redone_train.data.rows import Rows

FILE = "evaluation.jsonl"

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class DomainLoss:
    """tokens: how many were predicted."""

    nats_per_token: float
    bits_per_byte: float
    tokens: int


def total_nats(model: Any, batch: Batch) -> Tensor:
    """The sum of the losses of all targets, by the model's own loss."""
    if model.config._attn_implementation == "flash_attention_2":  # parts documents in a single row only (masks.py)
        batch = {name: values.reshape(1, -1) for name, values in batch.items()}
    loss: Tensor = model(**batch, labels=batch["shift_labels"], num_items_in_batch=1, use_cache=False).loss
    return loss


@torch.no_grad()
def evaluate(
    model: Any,
    pools: Sequence[HeldOut],
    *,
    rows_per_device: int,
    nats: Callable[[Any, Batch], Tensor] = total_nats,
) -> dict[str, DomainLoss]:
    """Domain -> its loss. Every rank calls it and gets the same; each passes as often through the model (ZeRO-3)."""
    rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    device = next(model.parameters()).device
    totals_D = torch.zeros(len(pools), dtype=torch.float64, device=device)
    was_training = model.training
    model.eval()
    for d, rows in rank_rows(pools, rank, ranks, rows_per_device):
        totals_D[d] += nats(model, {name: values.to(device) for name, values in as_tensors(rows).items()})
    model.train(was_training)
    if ranks > 1:
        distributed.all_reduce(totals_D)
    return {
        pool.name: DomainLoss(total / len(pool.tokens), total / math.log(2) / pool.num_bytes, len(pool.tokens))
        for pool, total in zip(pools, totals_D.tolist(), strict=True)
    }


def rank_rows(pools: Sequence[HeldOut], rank: int, ranks: int, rows: int) -> Iterator[tuple[int, Rows]]:
    """What one rank reads, so many rows at a time, each with the number of its domain. All ranks read as often."""
    for d, pool in enumerate(pools):
        for first in range(0, pool.num_rows, ranks * rows):
            yield d, pool.read(first + rank * rows, rows)


@final
class DomainEvaluation(TrainerCallback):
    """Evaluates a Trainer's model. Writes OUTPUT/evaluation.jsonl, a line a measurement; a table at the end.

    log: the trainer's `log`, which gets `eval_bpb_DOMAIN`. every: steps; 0: at the start and the end only.
    """

    def __init__(
        self,
        pools: Sequence[HeldOut],
        *,
        every: int,
        rows_per_device: int,
        output: Path,
        log: Callable[[dict[str, float]], None],
        nats: Callable[[Any, Batch], Tensor] = total_nats,
    ) -> None:
        self.pools, self.every, self.rows_per_device = pools, every, rows_per_device
        self.path, self.log, self.nats = output / FILE, log, nats

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        history = [line for line in read_history(self.path) if line["step"] <= state.global_step]
        if state.is_world_process_zero:  # steps that the run goes back over are measured again
            _write(self.path, history)
        if state.global_step not in [line["step"] for line in history]:
            self._measure(model, state)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        if state.global_step >= state.max_steps or (self.every and state.global_step % self.every == 0):
            self._measure(model, state)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.is_world_process_zero and state.global_step >= state.max_steps:  # done, and not asked to stop
            print(table(read_history(self.path)), flush=True)

    def _measure(self, model: Any, state: Any) -> None:
        losses = evaluate(model, self.pools, rows_per_device=self.rows_per_device, nats=self.nats)
        line = {
            "step": state.global_step,
            "bits_per_byte": {name: loss.bits_per_byte for name, loss in losses.items()},
            "nats_per_token": {name: loss.nats_per_token for name, loss in losses.items()},
        }
        if state.is_world_process_zero:
            _write(self.path, [*read_history(self.path), line])
        self.log({f"eval_bpb_{name}": loss.bits_per_byte for name, loss in losses.items()})


def read_history(path: Path) -> list[dict[str, Any]]:
    """The measurements of a run so far, oldest first: `step`, and by domain `bits_per_byte` and `nats_per_token`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as aside:
        aside.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def table(history: Sequence[Mapping[str, Any]]) -> str:
    """Bits per byte by domain, first and last, and the change in per cent.

    >>> print(table([{"step": 0, "bits_per_byte": {"a": 2.0}}, {"step": 90, "bits_per_byte": {"a": 1.5}}]))
    bits per byte      step 0   step 90    change
    a                   2.000     1.500   -25.0 %
    """
    if not history:
        return "bits per byte: nothing was measured"
    first, last = history[0], history[-1]
    width = max(15, *map(len, first["bits_per_byte"]))
    steps = [f"step {line['step']}" for line in (first, last)]
    lines = [f"{'bits per byte':<{width}} {steps[0]:>9} {steps[1]:>9} {'change':>9}"]
    for name, before in first["bits_per_byte"].items():
        after = last["bits_per_byte"].get(name, math.nan)
        lines.append(f"{name:<{width}} {before:9.3f} {after:9.3f} {100 * (after / before - 1):+7.1f} %")
    return "\n".join(lines)
