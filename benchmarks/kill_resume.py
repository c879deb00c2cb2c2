"""Does a run that was killed again and again give the bytes of one that was not?

Runs a recipe once from start to end, then again with SIGKILL at random moments (of the main process alone, as when
memory runs out) and the same command at once after each, until it completes. Compares every file but timings.json and
report.html, and looks for processes that outlive a kill by more than a minute. Linux only: it reads /proc.

    python benchmarks/kill_resume.py recipes/quickstart.yaml --kills 10 --out runs/kill
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

VARYING = {"timings.json", "report.html"}
GRACE_SECONDS = 60.0  # a trainer saves its runs before it ends


def tree(root: Path) -> dict[str, str]:
    """Path -> hash of every file but those that may differ."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).as_posix() not in VARYING
    }


def tree_hash(files: dict[str, str]) -> str:
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]


def processes_of(session: int) -> list[int]:
    """The living processes of a session: those that a run started, and theirs."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, of = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):  # it has just ended
            continue
        if int(of) == session and state not in "ZX":
            found.append(int(folder.name))
    return found


def start(recipe: Path, out: Path, log: Path, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "redone_data", "mix", str(recipe), "--out", str(out), *options]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)


def ended(process: "subprocess.Popen[bytes]", log: Path) -> None:
    if process.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
        sys.exit("\n".join([*tail, f"exit code {process.returncode}; the whole log: {log}"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True, help="a folder for both runs; emptied first")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    whole, killed, log = (arguments.out / name for name in ("whole", "killed", "log.txt"))
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)

    began = time.monotonic()
    process = start(arguments.recipe, arguments.out / "none", log, "--dry-run")
    process.wait()
    ended(process, log)
    startup = time.monotonic() - began
    began = time.monotonic()
    process = start(arguments.recipe, whole, log)
    process.wait()
    ended(process, log)
    seconds = time.monotonic() - began
    expected = tree(whole)
    print(f"uninterrupted: {seconds:.1f} s, {len(expected)} files, tree {tree_hash(expected)}", flush=True)
    print(f"{'kill':>4}  {'after':>8}  {'steps done':>10}  {'still alive':>11}", flush=True)

    sessions: list[int] = []
    runs, differing = 0, set()
    while True:
        process = start(arguments.recipe, killed, log)
        # Spread over the work, so that about so many kills fit into one run.
        delay = startup + rng.uniform(0, 2 * max(seconds - startup, 0.5) / arguments.kills)
        try:
            process.wait(delay if len(sessions) < arguments.kills else None)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            alive = sum(bool(processes_of(session)) for session in sessions)  # of earlier kills
            sessions.append(process.pid)
            done = len(list(killed.glob("steps/*/manifest.json")))
            print(f"{len(sessions):4d}  {delay:6.1f} s  {done:10d}  {alive:11d}", flush=True)
            continue
        ended(process, log)
        runs += 1
        found = tree(killed)
        differing |= {name for name, value in (found.items() ^ expected.items())}
        if len(sessions) >= arguments.kills:
            break
        shutil.rmtree(killed)
    left_behind = [pid for session in sessions for pid in wait_for(session, GRACE_SECONDS)]
    print(f"{len(sessions)} kills in {runs} runs: tree {tree_hash(found)}, {len(differing)} files differ", flush=True)
    for name in sorted(differing)[:20]:
        print(f"  differs: {name}")
    if left_behind:
        print(f"  left behind: processes {left_behind}")
    sys.exit(1 if differing or left_behind else 0)


def wait_for(session: int, seconds: float) -> list[int]:
    """The processes of a session that are alive after so many seconds; returns early when there are none."""
    deadline = time.monotonic() + seconds
    while (alive := processes_of(session)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


if __name__ == "__main__":
    main()
