"""Preference optimization: from a configuration to a trained model. The parts are in data/ and train/.

The reference is the model that the run starts from; its log-probabilities of all pairs are computed before the first
step and kept beside the run (DATA/cache-*.arrow, named by weights and pairs), so that one model is in memory.
"""

import dataclasses
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from redone_data.manifest import folder_stamp
from redone_train.data.batches import BatchShape
from redone_train.data.conversations import data_identity
from redone_train.data.pairs import Pairs, prepare_pairs, read_all_pairs
from redone_train.train.chat import ChatStart, absolute_path, ends_with, open_start
from redone_train.train.config import load_run
from redone_train.train.launch import connect, disconnect, main_first, ranks, say
from redone_train.train.post_config import DpoConfig
from redone_train.train.stages import finished, num_steps_of
from redone_train.train.start import adapter_config, load_model, precision


def run_dpo(path: Path, settings: tuple[str, ...] = ()) -> bool:
    """Train what a file describes, from the newest good checkpoint on; whether it is done, and was not stopped.

    settings: `key.path=value`, laid over the file's. Every rank calls this alike.
    """
    # DeepSpeed says aloud that it found no GPU, unless it is told.
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    os.environ.setdefault("TQDM_DISABLE", "" if sys.stderr.isatty() else "1")  # of TRL's pass over the reference
    config = resolved(load_run(DpoConfig, path, settings), path.parent)
    device = connect(config)
    try:
        return _run(config, path.parent, device)
    finally:
        disconnect()


def open_pairs(config: DpoConfig, directory: Path) -> tuple[ChatStart, dict[str, Any]]:
    """Look at what a run starts from and reads, and what identifies it, before anything heavy."""
    start = open_start(config.model, directory, config.output, config.data.template, config.data.length)
    files = [Path(file) for file in (*config.data.files, *config.evaluation.data)]
    identity = {
        "seed": config.seed,
        "batch.rows": config.batch.rows,
        "data": data_identity(files, start.template, start.tokenizer_file, config.data.length),
        "data.weak": config.data.weak,
        "epochs": config.epochs,
        "loss": dataclasses.asdict(config.loss),
        **start.identity,
    }
    return start, identity


def read_run(config: DpoConfig, start: ChatStart, identity: dict[str, Any]) -> Pairs:
    """Tokenize a run's pairs, where that is not done yet."""
    return prepare_pairs(
        [Path(file) for file in config.data.files],
        [Path(file) for file in config.evaluation.data],
        start.tokenizer,
        start.template,
        length=config.data.length,
        most_dropped=config.data.most_dropped,
        weak=config.data.weak,
        reference=folder_stamp(start.folder),
        folder=Path(config.output) / "data",
        identity=identity["data"],
    )


def resolved(config: DpoConfig, directory: Path) -> DpoConfig:
    """With the paths of data and output from here, not from the configuration's folder."""
    absolute = functools.partial(absolute_path, directory)
    data, evaluation = config.data, config.evaluation
    template = None if data.template is None else absolute(data.template)
    return dataclasses.replace(
        config,
        output=absolute(config.output),
        data=dataclasses.replace(data, files=tuple(map(absolute, data.files)), template=template),
        evaluation=dataclasses.replace(evaluation, data=tuple(map(absolute, evaluation.data))),
    )


def described(start: ChatStart, found: Pairs, steps: int, batch: int) -> list[str]:
    """What a run reads, for a person."""
    return [
        f"template: {start.template.origin}",
        f"pairs: {found.lengths}",
        f"held out: {found.held_out_lengths}",
        f"{steps:,} steps of {batch}, after a pass of the reference",
    ]


def _run(config: DpoConfig, directory: Path, device: torch.device) -> bool:
    from datasets import Dataset, disable_progress_bars
    from transformers.utils import logging

    from redone_train.train.deepspeed import deepspeed_values
    from redone_train.train.masks import attention_for
    from redone_train.train.post_evaluation import PairEvaluation, sample_rows
    from redone_train.train.post_run import train
    from redone_train.train.post_trainer import DpoTrainer, dpo_arguments

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    disable_progress_bars()
    output, dtype = Path(config.output), precision(config.model, device)
    with main_first():
        start, identity = open_pairs(config, directory)
        if done := finished(output, identity):
            say(f"the run is finished: {done.folder}")
            return True
        found = read_run(config, start, identity)
        rows = Dataset.from_file(str(found.train))
        held_out = sample_rows(found.held_out, config.evaluation.pairs, config.seed)
    shape = BatchShape(config.batch.rows, config.batch.rows_per_device, ranks())
    num_steps = num_steps_of(len(rows), config.epochs, shape.rows)
    for line in described(start, found, num_steps, shape.rows):
        say(line)
    bf16 = dtype == torch.bfloat16
    deepspeed = deepspeed_values(config, shape, directory, bf16=bf16)
    attention = attention_for(config.model, device, dtype, start.start.config)
    training = dpo_arguments(config, shape, num_steps, bf16=bf16, deepspeed=deepspeed)
    weights = dtype if deepspeed is not None or config.model.lora is not None else torch.float32
    # TRL adds the adapters: it takes the model without them as the reference, and would copy those that are there.
    whole = dataclasses.replace(config.model, lora=None)
    model = load_model(start.start, whole, attention=attention, weights=weights, seed=config.seed)
    ends = ends_with(model, found.end, output)
    trainer = DpoTrainer(
        model,
        args=training,
        config=config,
        shape=shape,
        train_dataset=rows,
        eval_dataset=held_out if len(held_out) else None,
        columns=["prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "ref_rejected_logps"],
        names=functools.partial(_places, [*map(Path, config.data.files)]),
        processing_class=start.tokenizer,
        peft_config=None if config.model.lora is None else adapter_config(config.model.lora),
        identity={**identity, "steps": num_steps},
    )
    trainer.beside = [ends]
    if not len(held_out):
        return train(trainer)
    evaluation = PairEvaluation(
        trainer.eval_dataset,
        trainer.data_collator,
        every=config.evaluation.every,
        rows_per_device=config.batch.rows_per_device,
        output=output,
        log=trainer.log,
        loss=config.loss,
        patience=config.evaluation.patience,
        keep=trainer.keep_only,
    )
    trainer.add_callback(evaluation)
    return train(trainer, evaluation.result)


def _places(files: Sequence[Path], rows: Any) -> list[str]:
    """`FILE line N` of some pairs. Reads the files again: slow."""
    wanted = set(rows["pair"])
    return [row.place for number, row in enumerate(read_all_pairs(files)) if number in wanted]
