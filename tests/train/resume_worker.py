"""One rank of small training runs, one after another: `python resume_worker.py RUNS.json`.

A run: {config, settings, dies_at}. dies_at: null, or the step whose checkpoint is never finished: rank 0 is killed
while it writes it (the last run of the file), or all ranks give the run up.
"""

import faulthandler
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"

import torch

from redone_train import cpt
from redone_train.train import checkpoints, deepspeed
from redone_train.train.saving import SavingTrainer

SECONDS = 60


class GivenUp(Exception):
    pass


def main() -> None:
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    deepspeed.start_deepspeed()
    # Connected once for all runs.
    cpt._connect = lambda config: torch.device("cpu")
    disconnect, torch.distributed.destroy_process_group = torch.distributed.destroy_process_group, lambda *group: None
    runs = json.loads(Path(sys.argv[1]).read_text())
    save = SavingTrainer._save_checkpoint
    for run in runs:

        def interrupted(trainer: SavingTrainer, *args: Any, run: Any = run) -> None:
            if trainer.state.global_step == run["dies_at"]:
                if run is not runs[-1]:
                    raise GivenUp
                checkpoints.finish = lambda *args, **more: os.kill(os.getpid(), signal.SIGKILL)
            save(trainer, *args)

        SavingTrainer._save_checkpoint = interrupted
        try:
            cpt.run_cpt(Path(run["config"]), tuple(run["settings"]))
        except GivenUp:
            continue
    disconnect()


if __name__ == "__main__":
    main()
