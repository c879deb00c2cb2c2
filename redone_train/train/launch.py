"""The processes of a run: connected, each with its device, and rank 0 first where files are made."""

import contextlib
import os
import sys
from collections.abc import Iterator

import torch
import torch.distributed

from redone_train.train.config import RunConfig
from redone_train.train.deepspeed import launch_environment, start_deepspeed


def rank() -> int:
    return int(os.environ.get("RANK", 0))


def ranks() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def connect(config: RunConfig) -> torch.device:
    """Connect the ranks; the device of this one."""
    os.environ.update(launch_environment(os.environ, alone=config.deepspeed is not None))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if config.deepspeed is not None:
        start_deepspeed()
    elif ranks() > 1:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Rank 0 makes the files that the others then find; what it cannot use, they refuse alike."""
    several = torch.distributed.is_initialized()
    if several and rank():
        torch.distributed.barrier()
    try:
        yield
    finally:
        if several and not rank():
            torch.distributed.barrier()


def say(line: str) -> None:
    """A line of rank 0."""
    if rank() == 0:
        print(f"redone-train: {line}", file=sys.stderr, flush=True)


def disconnect() -> None:
    """Without this a process that ends may be aborted by a thread of the group."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
