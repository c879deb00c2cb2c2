"""DeepSpeed's configuration: a preset by name or a file of one's own, filled from ours; and the environment it wants.

Presets: zero0 (gradients averaged, nothing shared out), zero1 (optimizer states), zero2 (and gradients), zero3 (and
weights), and with _offload the optimizer, and in ZeRO-3 the weights, in the memory of the CPU (Rajbhandari et al.,
arXiv 1910.02054). AdamW stays torch's in all of them: DeepSpeed's own would drop our groups (no decay for vectors) and
compile C++ at the start (144 s).
"""

import json
import logging
import re
import socket
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redone_data.errors import RedoneError, did_you_mean
from redone_train.data.batches import BatchShape
from redone_train.train.config import RunConfig

PRESETS = Path(__file__).parent / "presets"
# What our configuration says in a place of its own.
OURS = {
    "fp16": "fp16 is not supported; use model.precision: bf16",
    "optimizer": "use the section `optimizer`",
    "scheduler": "use the section `schedule`",
}


def preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.json"))


def deepspeed_values(config: RunConfig, shape: BatchShape, directory: Path, *, bf16: bool) -> dict[str, Any] | None:
    """What DeepSpeed is given; None where it is not used. directory: of the configuration, which paths start from."""
    if config.deepspeed is None:
        return None
    values = _read(config.deepspeed, directory)
    for key, remedy in OURS.items():
        if key in values:
            raise RedoneError(f"deepspeed: {config.deepspeed} sets `{key}`; leave it out: {remedy}")
    _fill(values, "train_batch_size", shape.rows, "batch.rows")
    _fill(values, "train_micro_batch_size_per_gpu", shape.rank_rows, "batch.rows_per_device")
    _fill(values, "gradient_accumulation_steps", shape.micro_batches, "batch")
    _fill(values, "gradient_clipping", config.optimizer.clip, "optimizer.clip")
    _fill(values.setdefault("bf16", {}), "enabled", bf16, "model.precision")
    stage = values.get("zero_optimization", {}).get("stage", 0)
    if bf16 and stage == 0:
        raise RedoneError(
            "deepspeed: ZeRO-0 in bf16 begins with a step that is none, and so makes the first ones too small "
            "(DeepSpeed 0.19); use zero1, or leave deepspeed out"
        )
    if bf16 and shape.micro_batches > 1:
        # A sum of many micro-batches in bf16 loses the small ones.
        values.setdefault("data_types", {}).setdefault("grad_accum_dtype", "fp32")
    return values


def _read(name: str, directory: Path) -> dict[str, Any]:
    path = PRESETS / f"{name}.json" if name in preset_names() else directory / name
    if not path.is_file():
        raise RedoneError(f"deepspeed: '{name}' is no preset and no file; {did_you_mean(name, preset_names())}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RedoneError(f"deepspeed: {path}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise RedoneError(f"deepspeed: {path}: an object is expected at the top")
    return values


def _fill(values: dict[str, Any], key: str, ours: Any, from_key: str) -> None:
    given = values.get(key, "auto")
    if given not in ("auto", ours):
        raise RedoneError(f"deepspeed: {key} is {given}, but {from_key} makes it {ours}; set it to auto")
    values[key] = ours


def launch_environment(environment: Mapping[str, str], *, alone: bool) -> dict[str, str]:
    """The variables that torchrun or deepspeed would have set, for a task of srun, or for one process alone.

    alone: whether a process without a launcher wants them too (DeepSpeed does).

    >>> task = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "9", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "7"}
    >>> launch_environment({**task, "SLURM_STEP_NODELIST": "gpu[03-04]"}, alone=False)["MASTER_ADDR"]
    'gpu03'
    """
    if "RANK" in environment:
        return {}
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        nodes = environment["SLURM_STEP_NODELIST"]
        first = re.match(r"([^,\[]+)(?:\[([^],-]+))?", nodes)
        return {
            "RANK": environment["SLURM_PROCID"],
            "LOCAL_RANK": environment["SLURM_LOCALID"],
            "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
            "MASTER_ADDR": "".join(first.groups(default="")) if first else nodes,
            "MASTER_PORT": str(20_000 + int(environment["SLURM_JOB_ID"]) % 20_000),
        }
    if not alone:
        return {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", **here}


def start_deepspeed() -> None:
    """Connect the ranks. To be called before a model is made: ZeRO-3 shares weights out while it is."""
    import deepspeed
    from deepspeed.accelerator import get_accelerator
    from deepspeed.utils import logger

    logger.setLevel(logging.WARNING)
    # Of no use to a user: Trainer's own accumulation beside DeepSpeed's, and names that torch will drop.
    logging.getLogger("accelerate.accelerator").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    if get_accelerator().device_name() == "cpu":
        # The shared-memory reductions would be compiled by g++ first (78 s); gloo does.
        deepspeed.ops.__dict__["__compatible_ops__"] = {}
    deepspeed.init_distributed(verbose=False)
