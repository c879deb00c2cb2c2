"""Instruction tuning, in steps: from a configuration to a trained model. The parts are in data/ and train/.

Each step is a run of its own (OUTPUT/NAME: checkpoints, log, evaluation) that starts from the weights of the one
before; a step that is finished is not run again. RedOne (arXiv 2507.10605) has two: everything, then a higher share of
social tasks with general data still in it.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from redone_train.data.batches import BatchShape
from redone_train.data.conversations import Conversations, data_identity, prepare, read_all
from redone_train.data.selection import Selection
from redone_train.train.chat import ChatStart, absolute_path, ends_with, open_start
from redone_train.train.config import load_run
from redone_train.train.launch import connect, disconnect, main_first, rank, ranks, say
from redone_train.train.post_config import SftConfig
from redone_train.train.stages import finished, num_steps_of, result_of, write_result
from redone_train.train.start import load_model, precision


def run_sft(path: Path, settings: tuple[str, ...] = ()) -> bool:
    """Train the steps that a file describes, from where they are; whether all are done, and were not stopped.

    settings: `key.path=value`, laid over the file's. Every rank calls this alike.
    """
    # DeepSpeed says aloud that it found no GPU, unless it is told.
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    config = resolved(load_run(SftConfig, path, settings), path.parent)
    device = connect(config)
    try:
        steps = step_configs(config)
        for step in steps:
            if not _run_step(step, path.parent, device):
                return False
        if rank() == 0:
            last = result_of(Path(steps[-1].output))
            write_result(Path(config.output), last.folder, f"the end of step {config.steps[-1].name}")
        return True
    finally:
        disconnect()


def open_step(config: SftConfig, directory: Path) -> tuple[ChatStart, dict[str, Any]]:
    """Look at what a step starts from and reads, and what identifies it, before anything heavy."""
    start = open_start(config.model, directory, config.output, config.data.template, config.data.length)
    (step,) = config.steps
    files = [Path(file) for file in (*step.data, *config.evaluation.data)]
    identity = {
        "seed": config.seed,
        "batch.rows": config.batch.rows,
        "data": {
            **data_identity(files, start.template, start.tokenizer_file, config.data.length),
            **_selection(config).identity,
        },
        "data.packing": config.data.packing,
        "epochs": step.epochs,
        **start.identity,
    }
    return start, identity


def read_step(config: SftConfig, start: ChatStart, identity: dict[str, Any]) -> Conversations:
    """Tokenize a step's files, where that is not done yet."""
    (step,) = config.steps
    return prepare(
        [Path(file) for file in step.data],
        [Path(file) for file in config.evaluation.data],
        start.tokenizer,
        start.template,
        length=config.data.length,
        most_dropped=config.data.most_dropped,
        folder=Path(config.output) / "data",
        identity=identity["data"],
        selection=_selection(config),
    )


def _selection(config: SftConfig) -> Selection:
    return Selection(config.data.only, config.data.without)


def step_rows(config: SftConfig, found: Conversations) -> Any:
    """The rows that a step trains on, packed where they are to be."""
    from datasets import Dataset, disable_progress_bars
    from trl.data_utils import pack_dataset

    disable_progress_bars()
    rows = Dataset.from_file(str(found.train)).remove_columns("task")
    return pack_dataset(rows, config.data.length, "bfd") if config.data.packing else rows


def resolved(config: SftConfig, directory: Path) -> SftConfig:
    """With the paths of data and output from here, not from the configuration's folder."""
    absolute = functools.partial(absolute_path, directory)
    steps = tuple(dataclasses.replace(step, data=tuple(map(absolute, step.data))) for step in config.steps)
    data, evaluation = config.data, config.evaluation
    return dataclasses.replace(
        config,
        output=absolute(config.output),
        steps=steps,
        data=dataclasses.replace(data, template=None if data.template is None else absolute(data.template)),
        evaluation=dataclasses.replace(evaluation, data=tuple(map(absolute, evaluation.data))),
    )


def step_configs(config: SftConfig) -> list[SftConfig]:
    """A configuration for each step: in a folder of its own, from the weights of the one before."""
    found: list[SftConfig] = []
    for step in config.steps:
        rate = config.optimizer.learning_rate if step.learning_rate is None else step.learning_rate
        changed = dataclasses.replace(
            config,
            output=str(Path(config.output) / step.name),
            steps=(step,),
            optimizer=dataclasses.replace(config.optimizer, learning_rate=rate),
        )
        if found:
            model = dataclasses.replace(config.model, start=found[-1].output, revision=None)
            changed = dataclasses.replace(changed, model=model)
        found.append(changed)
    return found


def described(name: str, start: ChatStart, found: Conversations, rows: int, steps: int, batch: int) -> list[str]:
    """What a step reads, for a person."""
    return [
        f"step {name}: template: {start.template.origin}",
        f"conversations: {found.lengths}",
        f"held out: {found.held_out_lengths}",
        f"{rows:,} rows, {steps:,} steps of {batch}",
    ]


def _run_step(config: SftConfig, directory: Path, device: torch.device) -> bool:
    from transformers.utils import logging

    from redone_train.train.deepspeed import deepspeed_values
    from redone_train.train.masks import attention_for
    from redone_train.train.post_evaluation import ConversationEvaluation, sample_rows
    from redone_train.train.post_run import train
    from redone_train.train.post_trainer import SftTrainer, padded_conversations, sft_arguments

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    (step,) = config.steps
    output = Path(config.output)
    bf16 = precision(config.model, device) == torch.bfloat16
    with main_first():
        start, identity = open_step(config, directory)
        if done := finished(output, identity):
            say(f"step {step.name} is finished: {done.folder}")
            return True
        found = read_step(config, start, identity)
        rows = step_rows(config, found)
    shape = BatchShape(config.batch.rows, config.batch.rows_per_device, ranks())
    num_steps = num_steps_of(len(rows), step.epochs, shape.rows)
    for line in described(step.name, start, found, len(rows), num_steps, shape.rows):
        say(line)
    deepspeed = deepspeed_values(config, shape, directory, bf16=bf16)
    attention = attention_for(config.model, device, precision(config.model, device), start.start.config)
    training = sft_arguments(config, shape, num_steps, packing=config.data.packing, bf16=bf16, deepspeed=deepspeed)
    has_master_weights = deepspeed is not None or config.model.lora is not None
    weights = precision(config.model, device) if has_master_weights else torch.float32
    model = load_model(start.start, config.model, attention=attention, weights=weights, seed=config.seed)
    ends = ends_with(model, found.end, output)
    trainer = SftTrainer(
        model,
        args=training,
        config=config,
        shape=shape,
        train_dataset=rows,
        columns=["input_ids", "labels", *(["seq_lengths"] if config.data.packing else [])],
        names=functools.partial(_places, [*map(Path, step.data)]),
        processing_class=start.tokenizer,
        attention=attention,
        identity={**identity, "steps": num_steps},
    )
    trainer.beside = [ends]
    held_out = sample_rows(found.held_out, config.evaluation.conversations, config.seed)
    if len(held_out):
        trainer.add_callback(
            ConversationEvaluation(
                held_out,
                padded_conversations(start.tokenizer),
                every=config.evaluation.every,
                rows_per_device=config.batch.rows_per_device,
                output=output,
                log=trainer.log,
            )
        )
    return train(trainer)


def _places(files: Sequence[Path], rows: Any) -> list[str]:
    """`FILE line N` of the conversations in some rows. Reads the files again: slow."""
    wanted = {number for row in rows["conversation"] for number in row}
    found: Iterator[Any] = read_all(files)
    return [row.place for number, row in enumerate(found) if number in wanted]
