"""The text of `--dry-run`: what a run is, what it needs on each device, how long it takes, and how to launch it."""

import math
from pathlib import Path

import torch
from rich.console import Group
from rich.padding import Padding
from rich.table import Table

from redone_train.train.estimate import FILLED, Estimate

NODE_DEVICES = 8


def report(found: Estimate, config: Path) -> Group:
    """For a terminal; `rich.print` it."""
    size, machine = found.size, found.machine
    run = Table.grid(padding=(0, 2))
    trained = "all of them trained" if size.trained == size.parameters else f"{count(size.trained)} of them trained"
    run.add_row("model", f"{found.start}: {count(size.parameters)} parameters, {trained}")
    run.add_row(
        "tokens",
        f"{count(found.tokens)} = {found.steps:,} steps x {found.rows} rows x {found.length} (padding included)",
    )
    for number, (name, epochs) in enumerate(found.epochs.items()):
        run.add_row("" if number else "epochs", f"{epochs:.2f} of {name}")
    kind = f"{machine.name}{', assumed' if machine.gpu and machine.assumed else ''}"
    precision = "bf16" if found.precision == torch.bfloat16 else "fp32"
    run.add_row("devices", f"{machine.devices} x {kind}, {precision}")
    rate = found.size.flops_per_token * found.tokens / found.seconds / machine.devices
    reached = f"{found.mfu:.0%} MFU".replace("%", " %") if machine.gpu else "what a small model reached elsewhere"
    run.add_row("time", f"{duration(found.seconds)}: a guess, at {rate / 1e12:.3g} TFLOP/s a device ({reached})")

    parts = ("weights", "gradients", "optimizer", "buffers", "activations", "logits")
    table = Table(title="Memory of one device (GB)", title_justify="left", caption_justify="left", box=None)
    table.add_column("deepspeed")
    for column in ("total", *parts, "on its host"):
        table.add_column(column, justify="right")
    table.add_column("")
    for preset, memory in found.memory.items():
        fits = {None: "", True: "fits", False: "does not fit"}[found.fits(preset)]
        chosen = "this one; " if preset == found.chosen else ""
        values = [memory.total, *(getattr(memory, part) for part in parts), memory.host]
        table.add_row(preset, *map(gigabytes, values), f"{chosen}{fits}".removesuffix("; "))
    if machine.device_bytes is not None:
        table.caption = f"fits: leaves {1 - FILLED:.0%} of {gigabytes(machine.device_bytes)} GB free".replace("%", " %")

    launch = Table.grid(padding=(0, 2))
    for how, line in launch_lines(config, machine.devices).items():
        launch.add_row(how, line)
    return Group(run, Padding(table, (1, 0)), launch)


def launch_lines(config: Path, devices: int) -> dict[str, str]:
    """How to start a run on so many devices, eight to a machine.

    >>> list(launch_lines(Path("cpt.yaml"), 1).values())
    ['redone-train cpt cpt.yaml']
    >>> launch_lines(Path("cpt.yaml"), 2)["torchrun"]
    'torchrun --standalone --nproc-per-node 2 -m redone_train cpt cpt.yaml'
    """
    if devices == 1:
        return {"plainly": f"redone-train cpt {config}"}
    nodes, each = math.ceil(devices / NODE_DEVICES), min(devices, NODE_DEVICES)
    run = f"redone_train cpt {config}"
    if nodes == 1:
        return {
            "torchrun": f"torchrun --standalone --nproc-per-node {each} -m {run}",
            "deepspeed": f"deepspeed --num_gpus {each} --module {run}",
            "Slurm": f"srun --ntasks {each} --gpus {each} redone-train cpt {config}",
        }
    meeting = "--rdzv-backend c10d --rdzv-endpoint FIRST_NODE:29500"
    return {
        "torchrun": f"torchrun --nnodes {nodes} --nproc-per-node {each} {meeting} -m {run}    # on every node",
        "deepspeed": f"deepspeed --hostfile HOSTS --module {run}",
        "Slurm": f"srun --nodes {nodes} --ntasks-per-node {each} --gpus-per-node {each} redone-train cpt {config}",
    }


def gigabytes(value: float) -> str:
    """
    >>> gigabytes(15.23e9), gigabytes(2.5e6), gigabytes(0)
    ('15.2', '0.003', '-')
    """
    return "-" if not value else f"{value / 1e9:.1f}" if value >= 1e8 else f"{value / 1e9:.3f}"


def count(number: float) -> str:
    """
    >>> count(7_615_616_512), count(268e6), count(4096)
    ('7.62B', '268M', '4,096')
    """
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """
    >>> duration(90), duration(5400), duration(400_000)
    ('2 minutes', '1.5 hours', '4.6 days')
    """
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
