"""The GPUs that a swarm may use, found without loading torch in the parent: a process of its own asks."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from redone_data.errors import RedoneError

# Where a driver shows itself (NVIDIA, AMD, WSL); where none does, nobody is asked.
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
_QUESTION = (
    "import json, torch; print(json.dumps([torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())]))"
)


@dataclass(frozen=True)
class Device:
    """Where a worker trains: "cpu" or "cuda:N", and the GPU's free memory."""

    name: str
    free_bytes: int = 0


def find_devices(wanted: str) -> tuple[Device, ...]:
    """The devices behind `auto` (GPUs if there are any), `cpu`, `cuda` (every GPU) or `cuda:N`."""
    kind, _, number = wanted.partition(":")
    if wanted == "cpu":
        return (Device("cpu"),)
    if wanted not in ("auto", "cuda") and not (kind == "cuda" and number.isdecimal()):
        raise RedoneError(f"--device: '{wanted}'; allowed are auto, cpu, cuda and cuda:0, cuda:1, ...")
    gpus = tuple(Device(f"cuda:{i}", free) for i, free in enumerate(_free_bytes()))
    if wanted == "auto":
        return gpus or (Device("cpu"),)
    if not gpus:
        raise RedoneError(f"--device: '{wanted}', but torch finds no GPU here; leave --device out, or give cpu")
    if number and int(number) >= len(gpus):
        raise RedoneError(f"--device: '{wanted}'; this machine has cuda:0 to cuda:{len(gpus) - 1}")
    return (gpus[int(number)],) if number else gpus


def _free_bytes() -> list[int]:
    if not any(Path(driver).exists() for driver in _DRIVERS):
        return []
    asked = subprocess.run([sys.executable, "-c", _QUESTION], capture_output=True, text=True, check=False)
    if asked.returncode:
        lines = asked.stderr.strip().splitlines() or ["no message"]
        raise RedoneError(f"a GPU is here but torch cannot use it: {lines[-1]}; mend it, or give --device cpu")
    free: list[int] = json.loads(asked.stdout)
    return free
