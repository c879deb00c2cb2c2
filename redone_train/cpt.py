"""Continued pre-training: from a configuration to a trained model."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redone_data.config import plain
from redone_data.errors import RedoneError
from redone_data.tokens.dataset import TokenDataset
from redone_train.data.batches import Batches, BatchShape
from redone_train.data.blend import Blend, Phase
from redone_train.data.packing import Packed
from redone_train.data.rows import NO_BOS, RowSource
from redone_train.data.windows import Windows
from redone_train.train.config import CptConfig, DataConfig


@dataclass(frozen=True)
class CptData:
    """The rows of a run. vocab_size: of the tokenizer that all sources share."""

    batches: Batches
    shape: BatchShape
    num_steps: int
    vocab_size: int
    identity: dict[str, Any]


def open_data(config: CptConfig, ranks: int = 1) -> CptData:
    """Open the sources and lay the run out: which of their rows are read at which step."""
    datasets = {name: TokenDataset.open(source.path) for name, source in config.data.sources.items()}
    _one_tokenizer(datasets)
    plans = Path(config.output) / "plans"
    sources = {name: _rows(config.data, dataset, plans) for name, dataset in datasets.items()}
    shape = BatchShape(config.batch.rows, config.batch.rows_per_device, ranks)
    all_rows = sum(source.num_rows for source in sources.values())
    rows = all_rows if config.tokens is None else config.tokens / config.data.length
    num_steps = int(rows // shape.rows)
    if not num_steps:
        raise RedoneError(
            f"the run is {rows:.0f} rows of {config.data.length} tokens, less than one batch of {shape.rows}: "
            "raise tokens, or lower batch.rows"
        )
    phases = _phases(config, {name: dataset.num_tokens for name, dataset in datasets.items()}, num_steps)
    blend = Blend({name: source.num_rows for name, source in sources.items()}, phases, config.seed)
    identity = {
        "seed": config.seed,
        "batch_rows": shape.rows,
        "num_steps": num_steps,
        "sources": {name: source.identity for name, source in sorted(sources.items())},
        "phases": [{"samples": phase.samples, "weights": plain(dict(phase.weights))} for phase in phases],
    }
    vocab_size = max(dataset.vocab_size for dataset in datasets.values())
    return CptData(Batches(sources, blend), shape, num_steps, vocab_size, identity)


def run_cpt(config: CptConfig) -> None:
    """Train. Every rank calls this alike."""
    from transformers import TrainingArguments

    from redone_train.train.start import load_model
    from redone_train.train.trainer import CptTrainer, arguments

    data = open_data(config, int(os.environ.get("WORLD_SIZE", 1)))
    training = TrainingArguments(**arguments(config, data.shape, data.num_steps))
    model = load_model(config.model, data.vocab_size)
    trainer = CptTrainer(model, training, config=config, batches=data.batches, shape=data.shape)
    trainer.train()
    trainer.end()  # type: ignore[no-untyped-call]


def _one_tokenizer(datasets: Mapping[str, TokenDataset]) -> None:
    names = {dataset.manifest["tokenizer"]["sha256"]: name for name, dataset in datasets.items()}
    if len(names) > 1:
        listing = " and ".join(f"'{name}'" for name in names.values())
        raise RedoneError(f"data.sources: {listing} were written with different tokenizers; write them with one")


def _rows(config: DataConfig, dataset: TokenDataset, plans: Path) -> RowSource:
    bos = NO_BOS
    if config.layout == "packed":
        return Packed(dataset, config.length, plans, bos)
    return Windows(dataset, config.length, config.document_masks, bos)


def _phases(config: CptConfig, tokens: Mapping[str, int], num_steps: int) -> list[Phase]:
    """Whole steps of each phase, so that a mixture never changes within a batch."""
    phases, ended, share_ended = [], 0, 0.0
    for share, weights in config.data.mixtures(tokens):
        share_ended += share
        end = round(share_ended * num_steps)
        phases.append(Phase((end - ended) * config.batch.rows, weights))
        ended = end
    return phases
