"""How a run goes: its loss, its speed and what it waits for, as one line on the terminal and a line of log.jsonl.

Speed is of training alone, without evaluation and checkpoints. MFU counts 6 operations a token and weight that learns
(4 where it is frozen: no gradient of its own), the output layer included and the input embedding not, and leaves out
attention and what gradient checkpointing computes again (PaLM, arXiv 2204.02311, appendix B).
"""

import json
import math
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from torch import nn
from transformers import TrainerCallback

from redone_data.manifest import atomic

LOG = "log.jsonl"
FILE_ONLY = (
    "epoch",
    "entropy",
    "num_tokens",
    "mean_token_accuracy",
    "logits/",
    "logps/",
    "lengths/",
)  # too many to show
# Dense bf16 operations a second, by a part of the device's name; the makers' data sheets.
PEAK_FLOPS = {
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "GH200": 989e12,
    "H800": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "B200": 2250e12,
    "RTX 4090": 165e12,
}


def peak_flops() -> float | None:
    """Of this rank's GPU; None where it is not known."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


def flops_per_token(model: nn.Module) -> int:
    """Operations of training on one token: 6 a weight that learns, 4 a frozen one.

    >>> flops_per_token(nn.Linear(10, 10, bias=False))
    600
    """
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    output = getattr(model, "get_output_embeddings", lambda: None)()
    looked_up = set() if embedding is None else {id(p) for p in embedding.parameters()}
    if output is not None:
        looked_up -= {id(p) for p in output.parameters()}  # tied: it is the output layer too
    kept = [p for p in model.parameters() if id(p) not in looked_up]
    # Of a parameter that ZeRO-3 holds in parts, only ds_numel knows the size.
    return sum((6 if p.requires_grad else 4) * int(getattr(p, "ds_numel", p.numel())) for p in kept)


@final
class Meter:
    """Sums since the last log, of this rank."""

    def __init__(self, model: nn.Module, ranks: int) -> None:
        self.flops_per_token, self.ranks, self.peak = flops_per_token(model), ranks, peak_flops()
        self._started = time.perf_counter()
        self._reset()

    def _reset(self) -> None:
        self._tokens, self._seconds, self._waited = 0, 0.0, 0.0

    def waits(self) -> None:
        """A step begins: its batches are asked for."""
        self._started = time.perf_counter()

    def has_batches(self) -> None:
        self._waited += time.perf_counter() - self._started

    def tokens(self, tokens: int) -> None:
        """Of a micro-batch."""
        self._tokens += tokens * self.ranks

    def step_done(self) -> None:
        self._seconds += time.perf_counter() - self._started

    def take(self) -> dict[str, float]:
        rate = self._tokens / max(self._seconds, 1e-9)
        values = {"tokens_per_second": rate}
        if self.peak is not None:
            values["mfu"] = rate * self.flops_per_token / (self.peak * self.ranks)
        values |= {"data_wait": self._waited / max(self._seconds, 1e-9), "memory_gb": _memory_bytes() / 1e9}
        self._reset()
        return values


def _memory_bytes() -> int:
    """The most that this process has held: on its GPU, or else in memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@final
class ProgressLine(TrainerCallback):
    """Rank 0's line on stderr (redrawn on a terminal), and OUTPUT/log.jsonl: a line a log, each step once."""

    def __init__(self, output: Path) -> None:
        self.log = output / LOG
        self._bar: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        cut_back(self.log, state.global_step)
        console = Console(stderr=True)
        if console.is_terminal:
            whole, rest = Column(no_wrap=True, min_width=9), Column(no_wrap=True, overflow="ellipsis", ratio=1)
            columns = (MofNCompleteColumn(table_column=whole), TimeRemainingColumn(table_column=whole))
            line = TextColumn("{task.fields[line]}", table_column=rest)
            self._bar = Progress(*columns, line, console=console, transient=True, expand=True)
            self._task = self._bar.add_task("steps", total=state.max_steps, completed=state.global_step, line="")
            self._bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        if not state.is_world_process_zero or "train_runtime" in logs:
            return
        values = {"step": state.global_step, **{name: value for name, value in logs.items() if name != "epoch"}}
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: _json_number(value) for name, value in values.items()}) + "\n")
        line = progress_text(logs)
        if self._bar is None:
            print(f"step {state.global_step}/{state.max_steps}  {line}", file=sys.stderr, flush=True)
        elif "learning_rate" in logs:
            self._bar.update(self._task, line=line)
        else:
            self._bar.console.print(f"step {state.global_step}  {line}", highlight=False, markup=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def progress_text(values: Mapping[str, Any]) -> str:
    """One line of what was logged.

    >>> progress_text({"loss": 2.5, "learning_rate": 2e-5, "tokens_per_second": 12345.6, "mfu": 0.4512, "skipped": 0})
    'loss 2.5000  rate 2.00e-05  12,346 tokens/s  MFU 45.1 %'
    """
    shown = {
        "loss": "loss {:.4f}",
        "z_loss": "z {:.2f}",
        "learning_rate": "rate {:.2e}",
        "grad_norm": "norm {:.3g}",
        "tokens_per_second": "{:,.0f} tokens/s",
        "mfu": "MFU {:.1%}",
        "memory_gb": "{:.1f} GB",
        "data_wait": "waits {:.1%}",
        "skipped": "left out {:.0f}",
    }
    known = [
        text.format(values[name]).replace("%", " %")
        for name, text in shown.items()
        if name in values and (values[name] or name != "skipped")
    ]
    others = [
        f"{name} {value:.4g}" for name, value in values.items() if name not in shown and not name.startswith(FILE_ONLY)
    ]
    return "  ".join([*known, *others])


def _json_number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cut_back(log: Path, step: int) -> None:
    """Take back the lines that a run wrote after the checkpoint that it goes on from."""
    if not log.is_file():
        return
    lines = log.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    if kept != lines:
        with atomic(log) as aside:
            aside.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
