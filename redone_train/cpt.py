"""Continued pre-training: from a configuration to a trained model. The parts are in data/ and train/."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from redone_data.errors import RedoneError
from redone_data.tokens.dataset import TokenDataset
from redone_train.data.batches import Batches, BatchShape
from redone_train.data.blend import Blend, Phase
from redone_train.data.evaluation import DomainEvaluation
from redone_train.data.held_out import HeldOut, open_pools
from redone_train.data.packing import Packed
from redone_train.data.rows import NO_BOS, RowSource
from redone_train.data.windows import Windows
from redone_train.train.config import CptConfig, DataConfig, load_run
from redone_train.train.deepspeed import deepspeed_values
from redone_train.train.launch import connect, main_first, rank, ranks
from redone_train.train.masks import attention_for
from redone_train.train.start import DataTokenizer, Start, find_start, load_model, precision


@dataclass(frozen=True)
class CptData:
    """The rows of a run. identity: all that they depend on, the batch included; a run goes on with no other."""

    batches: Batches
    shape: BatchShape
    num_steps: int
    identity: dict[str, Any]


def run_cpt(path: Path, settings: tuple[str, ...] = ()) -> bool:
    """Train what a file describes, from the newest good checkpoint on; whether it is done, and was not stopped.

    settings: `key.path=value`, laid over the file's. Every rank calls this alike.
    """
    # DeepSpeed says aloud that it found no GPU, unless it is told.
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    from transformers import TrainingArguments
    from transformers.utils import logging

    from redone_train.train.export import tokenizer_files
    from redone_train.train.stopping import Stopping
    from redone_train.train.trainer import CptTrainer, training_arguments

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = resolved(load_run(CptConfig, path, settings), path.parent)
    device = connect(config)
    dtype = precision(config.model, device)
    bf16 = dtype == torch.bfloat16
    with main_first():
        start, data, pools = open_run(config, path.parent, ranks())
    deepspeed = deepspeed_values(config, data.shape, path.parent, bf16=bf16)
    attention = attention_for(config.model, device, dtype, start.config)
    has_master_weights = deepspeed is not None or config.model.lora is not None
    weights = dtype if has_master_weights else torch.float32
    # The arguments tell Transformers of ZeRO-3: from then on a model is made in parts, and a new one would draw others.
    load = functools.partial(load_model, start, config.model, attention=attention, weights=weights, seed=config.seed)
    model = load() if start.folder is None else None
    training = TrainingArguments(
        **training_arguments(config, data.shape, data.num_steps, bf16=bf16, deepspeed=deepspeed)
    )
    model = load() if model is None else model
    trainer = CptTrainer(
        model,
        training,
        config=config,
        batches=data.batches,
        shape=data.shape,
        attention=attention,
        identity=data.identity,
    )
    trainer.beside = tokenizer_files(start.folder, start.tokenizer_file)
    if pools:
        every, rows = config.evaluation.every, config.batch.rows_per_device
        output = Path(config.output)
        trainer.add_callback(DomainEvaluation(pools, every=every, rows_per_device=rows, output=output, log=trainer.log))
    stopping = Stopping()
    trainer.add_callback(stopping)
    try:
        trainer.train()
    except RedoneError:
        trainer.end()  # type: ignore[no-untyped-call]
        raise
    finally:
        stopping.close()
    trainer.end()  # type: ignore[no-untyped-call]
    return not stopping.asked


def open_run(config: CptConfig, directory: Path, ranks: int = 1) -> tuple[Start, CptData, list[HeldOut]]:
    """Look at everything that the run reads, before anything heavy: RedoneError says what does not fit."""
    datasets = {name: TokenDataset.open(source.path) for name, source in config.data.sources.items()}
    cache = Path(config.output) / "start"
    start = find_start(
        config.model,
        directory,
        tokenizer=DataTokenizer.of(datasets),
        length=config.data.length,
        cache=cache,
        main=rank() == 0,
    )
    bos = NO_BOS if start.bos_token_id is None else start.bos_token_id
    paths = {name: Path(path) for name, path in config.evaluation.pools.items()}
    like = next(iter(datasets.values()))
    pools = open_pools(paths, like, length=config.data.length, bos=bos, tokens=config.evaluation.tokens)
    return start, _lay_out(config, datasets, bos, ranks), pools


def resolved(config: CptConfig, directory: Path) -> CptConfig:
    """With the paths of data and output from here, not from the configuration's folder."""

    def absolute(name: str) -> str:
        return str((directory / Path(name).expanduser()).absolute())

    sources = {
        name: dataclasses.replace(source, path=absolute(source.path)) for name, source in config.data.sources.items()
    }
    pools = {name: absolute(pool) for name, pool in config.evaluation.pools.items()}
    return dataclasses.replace(
        config,
        output=absolute(config.output),
        data=dataclasses.replace(config.data, sources=sources),
        evaluation=dataclasses.replace(config.evaluation, pools=pools),
    )


def _lay_out(config: CptConfig, datasets: Mapping[str, TokenDataset], bos: int, ranks: int) -> CptData:
    """Which rows are read at which step."""
    plans = Path(config.output) / "plans"
    sources = {name: _rows(config.data, dataset, plans, bos) for name, dataset in datasets.items()}
    shape = BatchShape(config.batch.rows, config.batch.rows_per_device, ranks)
    all_rows = sum(source.num_rows for source in sources.values())
    num_rows = all_rows if config.tokens is None else config.tokens // config.data.length
    num_steps = num_rows // shape.rows
    if not num_steps:
        raise RedoneError(
            f"the run is {num_rows} rows of {config.data.length} tokens, less than one batch of {shape.rows}: raise "
            "tokens, or lower batch.rows"
        )
    phases = _phases(config, {name: dataset.num_tokens for name, dataset in datasets.items()}, num_steps)
    blend = Blend({name: source.num_rows for name, source in sources.items()}, phases, config.seed)
    identity = {
        "seed": config.seed,
        "batch.rows": shape.rows,
        "data.sources": {name: source.identity for name, source in sorted(sources.items())},
        "data.phases": [{"samples": phase.samples, "weights": dict(phase.weights)} for phase in phases],
    }
    return CptData(Batches(sources, blend), shape, num_steps, identity)


def _rows(config: DataConfig, dataset: TokenDataset, plans: Path, bos: int) -> RowSource:
    if config.layout == "packed":
        return Packed(dataset, config.length, plans, bos if bos >= 0 else dataset.eos_token_id)
    return Windows(dataset, config.length, config.document_masks, bos)


def _phases(config: CptConfig, tokens: Mapping[str, int], num_steps: int) -> list[Phase]:
    """Whole steps of each, so that a mixture never changes within a batch."""
    phases, ended, share_ended = [], 0, 0.0
    for share, weights in config.data.mixtures(tokens):
        share_ended += share
        end = round(share_ended * num_steps)
        phases.append(Phase((end - ended) * config.batch.rows, weights))
        ended = end
    return phases
