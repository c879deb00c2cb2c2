"""Steps that are left out: a loss or gradient that is not finite, or a gradient far above the usual.

The norm of the whole gradient is the one thing looked at. It is the same number on all ranks, so that they agree
without a word; a loss that is not finite is made to reach it (`carried`). A refused step leaves weights and moments as
they were, the schedule goes on, and the documents of its batch are written to OUTPUT/skipped.jsonl. Too many of them,
and the run stops (PaLM, arXiv 2204.02311, left out 200 to 500 batches at each of some 20 spikes). Cost: the CPU reads
the norm once a step, as it does with DeepSpeed anyway.
"""

import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from redone_data.errors import RedoneError
from redone_train.train.config import GuardConfig
from redone_train.train.progress import cut_back

SKIPPED = "skipped.jsonl"
FEWEST_NORMS = 10  # before this many steps, nothing is usual yet
NAMED = 5  # documents in a message; the file has all


def carried(loss: Tensor) -> Tensor:
    """The loss, with a gradient that is not finite where it is not (the gradient of -log 0 can be)."""
    return loss * (1 + 0 * loss.detach())


@final
class Guard(TrainerCallback, ExportableState):
    """Judges each step once, when its gradient's norm is known. A callback, so that checkpoints hold what it knows."""

    def __init__(self, config: GuardConfig, output: Path, documents: Callable[[int], list[str]] | None = None) -> None:
        """documents: of the step with this number, counted from 0."""
        self.config, self.output, self.documents = config, output, documents
        self.norms: list[float] = []  # of the steps taken last, at most `window`
        self.skipped: list[int] = []  # steps, counted from 1
        self.norm: Callable[[], float | None] = lambda: None
        self._verdict: str | None = None
        self._judged = False

    def watch(self, optimizer: torch.optim.Optimizer, norm: Callable[[], float | None]) -> None:
        """Look at `norm` before each step of an optimizer, and hide the gradients from it where they are refused."""
        self.norm = norm
        hidden: list[tuple[Tensor, Tensor | None]] = []

        def before(*_: Any) -> None:
            if self.refusal() is not None:
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                hidden.extend((p, p.grad) for p in parameters)
                for p in parameters:
                    p.grad = None

        def after(*_: Any) -> None:
            for p, gradient in hidden:  # DeepSpeed's offload keeps these buffers
                p.grad = gradient
            hidden.clear()

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)

    def refusal(self) -> str | None:
        """Why the step under way is left out; None where it is taken."""
        if not self._judged:
            norm = self.norm()
            self._verdict, self._judged = self._judge(norm), True
            if self._verdict is None and norm is not None:
                self.norms = [*self.norms, norm][-self.config.window :]
        return self._verdict

    def _judge(self, norm: float | None) -> str | None:
        if norm is None:
            return None
        if not math.isfinite(norm) or norm < 0:  # DeepSpeed writes -1 for it
            return "loss or gradient is not finite"
        if self.config.spike and len(self.norms) >= FEWEST_NORMS:
            usual = statistics.median(self.norms)
            if norm > self.config.spike * usual:
                return f"gradient norm {norm:.3g} is {norm / max(usual, 1e-30):.0f} times the usual {usual:.3g}"
        return None

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"norms": self.norms, "skipped": self.skipped}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        saved = state.stateful_callbacks.get(type(self).__name__, {}).get("attributes", {})
        self.norms, self.skipped = saved.get("norms", []), saved.get("skipped", [])
        if state.is_world_process_zero:
            cut_back(self.output / SKIPPED, state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._judged = False

    def on_step_end(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, lr_scheduler: Any = None, **more: Any
    ) -> None:
        reason = self.refusal()
        if getattr(optimizer, "step_was_skipped", False):
            lr_scheduler.step()  # Trainer does not where DeepSpeed refused the step itself
        if reason is None:
            return
        step = state.global_step
        self.skipped.append(step)
        names = self._record(step, reason) if state.is_world_process_zero else []
        recent = [skipped for skipped in self.skipped if skipped > step - self.config.window]
        stops = len(recent) >= self.config.stop_after
        if stops:
            if torch.distributed.is_initialized():
                torch.distributed.barrier()  # a rank that fails ends the others: the record comes first
            raise RedoneError(
                f"{len(recent)} of the last {self.config.window} steps were left out "
                f"({', '.join(map(str, recent))}), the last because its {reason}, with the documents {_shown(names)}; "
                f"{self.output / SKIPPED} has all: mend or remove them, or lower optimizer.learning_rate"
            )

    def _record(self, step: int, reason: str) -> list[str]:
        names = self.documents(step - 1) if self.documents else []
        self.output.mkdir(parents=True, exist_ok=True)
        with (self.output / SKIPPED).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "reason": reason, "documents": names}, ensure_ascii=False) + "\n")
        print(f"step {step} left out: its {reason}; documents {_shown(names)}", file=sys.stderr, flush=True)
        return names


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
