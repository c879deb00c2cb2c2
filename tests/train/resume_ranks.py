"""Two ranks of several launches in turn, each `redone-train ARGS` in a process forked from this one, or killed.

Importing torch, Transformers and DeepSpeed takes longer than a launch; a fork has them already, and can be killed.
`python resume_ranks.py LAUNCHES.json`: a list of {name, ranks, port, arguments, copy, killed_at, told_at}.
copy: [from, to], before. killed_at: rank 0 gets SIGKILL while it finishes this step's checkpoint. told_at: the last
rank and its data workers get SIGTERM at the end of this step. Writes NAME.RANK.out and .code beside the file.
"""

import gc
import importlib
import json
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from redone_data.processes import die_with_parent
from redone_train import cli
from redone_train.data.order import permuted
from redone_train.data.packing import packed
from redone_train.train import checkpoints
from redone_train.train.stopping import Stopping

SECONDS = 60
# What a launch imports at one time or another, once for all of them.
WARM = (
    "deepspeed",
    "peft.tuners.lora",
    "redone_train.cpt",
    "redone_train.train.trainer",
    "torch._inductor.compile_fx",
    "torch.export",
    "transformers.models.qwen3.modeling_qwen3",
)
WARM_FOR_CHATS = ("datasets", "redone_train.dpo", "redone_train.sft", "redone_train.train.post_run")


def interrupt(launch: dict[str, Any], rank: int) -> None:
    finish, on_step_end = checkpoints.finish, Stopping.on_step_end

    def killed(written: Path, output: Path, step: int, **more: Any) -> Any:
        if step == launch.get("killed_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        return finish(written, output, step, **more)

    def told(stopping: Stopping, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == launch.get("told_at") and rank == launch["ranks"] - 1:
            os.killpg(0, signal.SIGTERM)
        on_step_end(stopping, args, state, control, **more)

    checkpoints.finish, Stopping.on_step_end = killed, told


def run(launch: dict[str, Any], rank: int, out: Path) -> int:
    with out.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.setpgrp()
    signal.alarm(SECONDS)  # a rank that waits for one that is gone
    os.environ.update(WORLD_SIZE=str(launch["ranks"]), MASTER_PORT=str(launch["port"]))
    interrupt(launch, rank)
    sys.argv = ["redone-train", *launch["arguments"]]
    try:
        cli.main()
    except SystemExit as exit:
        return int(exit.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    file = Path(sys.argv[1])
    launches = json.loads(file.read_text())
    chats = any(launch["arguments"][0] != "cpt" for launch in launches)
    for module in (*WARM, *(WARM_FOR_CHATS if chats else ())):
        importlib.import_module(module)
    permuted(1, size=5, positions_N=packed(np.array([3, 5], np.uint64), 4).start_K)  # numba too
    gc.freeze()
    other = os.fork()
    rank = 0 if other else 1
    if not other:
        die_with_parent(signal.SIGKILL)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    for launch in launches:
        if rank >= launch["ranks"]:
            continue
        if rank == 0 and launch.get("copy"):
            shutil.copytree(*launch["copy"])
        stem = f"{launch['name']}.{rank}"
        child = os.fork()
        if not child:
            code = run(launch, rank, file.with_name(f"{stem}.out"))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        file.with_name(f"{stem}.code").write_text(str(code))
    if other:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))


if __name__ == "__main__":
    main()
