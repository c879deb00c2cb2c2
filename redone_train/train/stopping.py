"""Stopping when asked: SIGTERM (Slurm, Kubernetes), SIGINT or SIGUSR1 end a run at the next step, with a checkpoint.

A signal sets a flag; after each step all ranks reduce their flags, so that all stop at the same step whichever rank
was told (Transformers' own `enable_jit_checkpoint` goes by each rank's clock). That is one number by gloo, so that no
GPU is waited for: .1 ms a step. The exit code is 75 (EX_TEMPFAIL: start the same command again to go on). A further
signal ends the process at once; one within ECHO_SECONDS is the first one's echo: launchers pass on what their ranks
were sent too.
"""

import os
import signal
import time
from types import FrameType
from typing import Any, final

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

STOPPED_EXIT_CODE = 75
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
ECHO_SECONDS = 3.0


@final
class Stopping(TrainerCallback):
    """Saves and stops at the end of the step in which any rank was told to; `asked` says that this was why.

    Made before the first step; `close` gives the signals back.
    """

    def __init__(self) -> None:
        self.asked = False
        self._told_at: float | None = None
        self._before = {number: signal.signal(number, self._told) for number in SIGNALS}
        self._group = dist.new_group(backend="gloo") if _ranks() > 1 else None

    def close(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        told = torch.tensor([self._told_at is not None], dtype=torch.int32)
        if self._group is not None:
            dist.all_reduce(told, op=dist.ReduceOp.MAX, group=self._group)
        if told.item() and state.global_step < state.max_steps:
            self.asked = control.should_save = control.should_training_stop = True

    def _told(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._told_at is None:
            self._told_at = now
        elif now - self._told_at > ECHO_SECONDS:
            os._exit(128 + number)


def _ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
