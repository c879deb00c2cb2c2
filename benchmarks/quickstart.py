"""Wall time and peak memory of a whole run, by step: what the quickstart costs on this machine.

Memory is the proportional set size (PSS) of the whole process tree, sampled twice a second: shared pages count once.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.5
PACKAGES = ("polars", "pyarrow", "numba", "tokenizers", "lightgbm", "torch", "datatrove")


def tree_pss(process: psutil.Process) -> int:
    """Bytes of PSS of a process and all its descendants."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="recipes/quickstart.yaml")
    parser.add_argument("--out", help="the run's folder; default: a new temporary one")
    arguments = parser.parse_args()
    out = Path(arguments.out or tempfile.mkdtemp(prefix="redone-bench-")) / "run"
    command = [sys.executable, "-m", "redone_data", "mix", arguments.recipe, "--out", str(out)]
    started = time.monotonic()
    peak = 0
    with subprocess.Popen(command) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, tree_pss(watched))
            time.sleep(SAMPLE_SECONDS)
    seconds = time.monotonic() - started
    if process.returncode:
        sys.exit(process.returncode)
    steps = json.loads((out / "timings.json").read_text())["steps"]
    print(f"\nmachine: {platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}")
    print("versions:", ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    print(f"wall time {seconds:.0f} s, peak memory of the process tree (PSS) {peak / 2**30:.2f} GiB")
    for name, values in steps.items():
        print(f"  {name:16s} {values.get('seconds', 0):8.1f} s")


if __name__ == "__main__":
    main()
