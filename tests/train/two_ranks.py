"""One rank of several launches in turn, each `redone-train ARGS` in a process forked from this one.

Importing torch, Transformers and DeepSpeed takes longer than a launch; a fork has them already. To be started by a
launcher: `deepspeed --num_accelerators 2 two_ranks.py LAUNCHES.json OUT`. Writes OUT/NAME.RANK.out and .code.
"""

import json
import os
import sys
import traceback
from pathlib import Path

# Imported once, before the forks. DeepSpeed's Muon compiles a function where it is imported: 1.5 s.
import deepspeed.runtime.zero.muon.original_muon  # noqa: F401
import numpy as np
import transformers.models.llama.modeling_llama  # noqa: F401

import redone_train.train.trainer  # noqa: F401
from redone_train import cli
from redone_train.data.packing import packed


def main() -> None:
    launches, out = [argument for argument in sys.argv[1:] if not argument.startswith("--local_rank")]
    packed(np.array([3], np.uint64), 4)  # numba loads it
    rank, first_port = os.environ["RANK"], int(os.environ["MASTER_PORT"])
    for number, (name, arguments) in enumerate(json.loads(Path(launches).read_text()).items()):
        child = os.fork()
        if child:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            (Path(out) / f"{name}.{rank}.code").write_text(str(code))
            continue
        with (Path(out) / f"{name}.{rank}.out").open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ["MASTER_PORT"] = str(first_port + 1 + number)
        sys.argv = ["redone-train", f"--local_rank={os.environ['LOCAL_RANK']}", *arguments]
        code = 1
        try:
            cli.main()
        except SystemExit as exit:
            code = int(exit.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


if __name__ == "__main__":
    main()
