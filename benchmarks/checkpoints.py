"""What a checkpoint's mark costs: SHA-256 of its files, and the agreement of ranks to stop, a step.

    python benchmarks/checkpoints.py [MEGABYTES]

CPU time of one process, files in the page cache. The agreement is between two processes of this machine.
"""

import os
import socket
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from redone_train.train import checkpoints

STEPS = 500


def hashing(megabytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        aside = checkpoints.begin(Path(folder), 1)
        block = os.urandom(1 << 20)
        with (aside / "shard.pt").open("wb") as file:
            for _ in range(megabytes):
                file.write(block)
        started = time.process_time()
        files = checkpoints.describe(aside, checkpoints.files_in(aside))
        written = time.process_time() - started
        mark = checkpoints.finish(aside, Path(folder), 1, files=files, identity={"seed": 1}, ranks=1, zero_stage=None)
        started = time.process_time()
        assert mark.damage("hashes") is None
        hashed = time.process_time() - started
        started = time.process_time()
        assert mark.damage("sizes") is None
        sizes = time.process_time() - started
    gigabytes = megabytes / 1024
    print(f"flush and hash on saving   {gigabytes / written:.2f} GB/s a process")
    print(f"compare hashes on loading  {gigabytes / hashed:.2f} GB/s a process")
    print(f"compare sizes on loading   {sizes * 1e6:.0f} us")


def agreeing(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    told = torch.zeros(1, dtype=torch.int32)
    started = time.process_time()
    for _ in range(STEPS):
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
    if rank == 0:
        print(f"agreement to stop          {(time.process_time() - started) / STEPS * 1e6:.0f} us of CPU a step")
    dist.destroy_process_group()


def main() -> None:
    hashing(int(sys.argv[1]) if len(sys.argv) > 1 else 512)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes.spawn(agreeing, (port,), nprocs=2)


if __name__ == "__main__":
    main()
