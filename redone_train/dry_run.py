"""`redone-train cpt CONFIG.yaml --dry-run`: what a run is, what it needs on each device, and how it is launched.

Everything is looked at that the run reads, so that what does not fit is an error here as it would be there; no weight
is loaded (but a hub name is downloaded, and a GGUF file unpacked).
"""

import math
import shlex
from pathlib import Path

import torch
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from redone_train.cpt import open_run, resolved
from redone_train.train.config import CptConfig, load_run
from redone_train.train.deepspeed import deepspeed_values
from redone_train.train.estimate import FILLED, Estimate, Machine, estimate
from redone_train.train.launch import rank, ranks

NODE_DEVICES = 8


def dry_run_cpt(path: Path, settings: tuple[str, ...] = (), gpus: int | None = None) -> None:
    """Print the report on a configuration, for so many GPUs or for what is here."""
    if rank():
        return
    config = resolved(load_run(CptConfig, path, settings), path.parent)
    machine = Machine.of(gpus, ranks())
    start, data, _ = open_run(config, path.parent, machine.devices)
    blend = data.batches.blend
    read, sizes = blend.rows_read(), zip(blend.sources, blend.sizes_S, strict=True)
    epochs = {name: read[name] / int(rows) for name, rows in sizes if rows}
    found = estimate(config, start, epochs, num_steps=data.num_steps, machine=machine)
    deepspeed_values(config, data.shape, path.parent, bf16=found.precision == torch.bfloat16)
    print_report(found, "cpt", path, settings)


def print_report(found: Estimate, verb: str, path: Path, settings: tuple[str, ...]) -> None:
    arguments = shlex.join([str(path), *(word for setting in settings for word in ("--set", setting))])
    Console().print(report(found, f"{verb} {arguments}"), soft_wrap=True)  # lines to copy are not cut


def report(found: Estimate, command: str) -> Group:
    """For a terminal of 80 columns. command: verb and arguments."""
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
    reached = f"{found.mfu:.0%} MFU".replace("%", " %") if machine.gpu else "as small models reached"
    run.add_row("time", f"{duration(found.seconds)}: a guess, at {rate / 1e12:.3g} TFLOP/s a device ({reached})")

    unit, of_unit = (1e9, "GB") if max(memory.total for memory in found.memory.values()) >= 1e9 else (1e6, "MB")
    table = Table(title=f"Memory of one device ({of_unit})", title_justify="left", caption_justify="left")
    table.box, table.pad_edge, table.padding = None, False, (0, 1, 0, 0)
    table.add_column("deepspeed", no_wrap=True)
    for column in ("total", "weights", "grads", "optimizer", "buffers", "activ.", "logits", "host", "fits"):
        table.add_column(column, justify="right", no_wrap=True)
    for preset, memory in found.memory.items():
        values = [memory.total, memory.weights, memory.gradients, memory.optimizer, memory.buffers]
        values += [memory.activations, memory.logits, memory.host]
        fits = {None: "", True: "yes", False: "no"}[found.fits(preset)]
        mark = ">" if preset == found.chosen else " "
        table.add_row(f"{mark} {preset}", *(f"{value / unit:.1f}" if value else "-" for value in values), fits)
    if machine.device_bytes is not None:
        free = f"{1 - FILLED:.0%}".replace("%", " %")
        table.caption = f"fits: leaves {free} of {machine.device_bytes / 1e9:.0f} GB free"

    launch = [Text(f"{how:10} {line}") for how, line in launch_lines(command, machine.devices).items()]
    return Group(run, Padding(table, (1, 0)), *launch)


def launch_lines(command: str, devices: int) -> dict[str, str]:
    """How to start a run on so many devices, eight to a machine.

    >>> list(launch_lines("cpt cpt.yaml", 1).values())
    ['redone-train cpt cpt.yaml']
    >>> launch_lines("cpt cpt.yaml", 2)["torchrun"]
    'torchrun --standalone --nproc-per-node 2 -m redone_train cpt cpt.yaml'
    """
    if devices == 1:
        return {"plainly": f"redone-train {command}"}
    nodes, each = math.ceil(devices / NODE_DEVICES), min(devices, NODE_DEVICES)
    run = f"redone_train {command}"
    if nodes == 1:
        return {
            "torchrun": f"torchrun --standalone --nproc-per-node {each} -m {run}",
            "deepspeed": f"deepspeed --num_gpus {each} --module {run}",
            "Slurm": f"srun --ntasks {each} --gpus {each} redone-train {command}",
        }
    meeting = "--rdzv-backend c10d --rdzv-endpoint FIRST_NODE:29500"
    return {
        "torchrun": f"torchrun --nnodes {nodes} --nproc-per-node {each} {meeting} -m {run}    # on every node",
        "deepspeed": f"deepspeed --hostfile HOSTS --module {run}",
        "Slurm": f"srun --nodes {nodes} --ntasks-per-node {each} --gpus-per-node {each} redone-train {command}",
    }


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
    >>> duration(5), duration(90), duration(5400), duration(400_000)
    ('less than a minute', '2 minutes', '1.5 hours', '4.6 days')
    """
    if seconds < 60:
        return "less than a minute"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
