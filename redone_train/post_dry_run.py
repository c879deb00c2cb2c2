"""`redone-train sft|dpo CONFIG.yaml --dry-run`: as that of cpt (dry_run.py). The data is tokenized, for its size."""

import dataclasses
from pathlib import Path

import torch

from redone_train import dpo, sft
from redone_train.data.batches import BatchShape
from redone_train.dry_run import print_report
from redone_train.train.config import load_run
from redone_train.train.deepspeed import deepspeed_values
from redone_train.train.estimate import Machine, RowsConfig, estimate
from redone_train.train.launch import rank, ranks
from redone_train.train.post_config import DpoConfig, SftConfig
from redone_train.train.stages import num_steps_of
from redone_train.train.start import Start


def dry_run_sft(path: Path, settings: tuple[str, ...] = (), gpus: int | None = None) -> None:
    """Print the report on a configuration, for so many GPUs or for what is here."""
    if rank():
        return
    config = sft.resolved(load_run(SftConfig, path, settings), path.parent)
    total = 0
    for step in sft.step_configs(config):
        # The weights that a later step starts from are not there yet; those of the first are as large.
        step = dataclasses.replace(step, model=config.model)
        start, identity = sft.open_step(step, path.parent)
        found = sft.read_step(step, start, identity)
        rows = len(sft.step_rows(step, found))
        steps = num_steps_of(rows, step.steps[0].epochs, config.batch.rows)
        print("\n".join(sft.described(step.steps[0].name, start, found, rows, steps, config.batch.rows)))
        total += steps
    epochs = {step.name: step.epochs for step in config.steps}
    _report(config, start.start, epochs, total, path, settings, gpus, "sft")


def dry_run_dpo(path: Path, settings: tuple[str, ...] = (), gpus: int | None = None) -> None:
    """Print the report on a configuration, for so many GPUs or for what is here."""
    if rank():
        return
    config = dpo.resolved(load_run(DpoConfig, path, settings), path.parent)
    start, identity = dpo.open_pairs(config, path.parent)
    found = dpo.read_run(config, start, identity)
    steps = num_steps_of(found.lengths.rows, config.epochs, config.batch.rows)
    print("\n".join(dpo.described(start, found, steps, config.batch.rows)))
    batch = config.batch
    both = dataclasses.replace(batch, rows=2 * batch.rows, rows_per_device=2 * batch.rows_per_device)
    rows = dataclasses.replace(config, batch=both)  # a pair is two rows to the model
    _report(rows, start.start, {"pairs": config.epochs}, steps, path, settings, gpus, "dpo")


def _report(
    config: RowsConfig,
    start: Start,
    epochs: dict[str, float],
    steps: int,
    path: Path,
    settings: tuple[str, ...],
    gpus: int | None,
    verb: str,
) -> None:
    machine = Machine.of(gpus, ranks())
    # TRL's head makes the logits in tiles.
    found = estimate(config, start, epochs, num_steps=steps, machine=machine, whole_logits=False)
    shape = BatchShape(config.batch.rows, config.batch.rows_per_device, machine.devices)
    deepspeed_values(config, shape, path.parent, bf16=found.precision == torch.bfloat16)
    print_report(found, verb, path, settings)
