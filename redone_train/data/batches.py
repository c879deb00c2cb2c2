"""The batches of a run: which rows each rank reads at each step, as torch tensors.

Sample i of step s is sample s G + i of the blend, G rows in a global batch. Micro-batch m of rank r of R reads rows
(m R + r) B .. + B of the step, so a step is the same set of rows in the same order of micro-batches whatever R is, and
the one number that a checkpoint keeps is the step.
"""

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from redone_data.errors import RedoneError
from redone_train.data.blend import Blend
from redone_train.data.order import Int64
from redone_train.data.rows import Rows, RowSource


@final
class Batches(Dataset[dict[str, Tensor]]):
    """All samples of a run. A batch is read at once: `input_ids`, `shift_labels` and `position_ids`, each B x L."""

    def __init__(self, sources: Mapping[str, RowSource], blend: Blend) -> None:
        self.sources, self.blend = [sources[name] for name in blend.sources], blend
        (self.length,) = {source.length for source in self.sources}

    def __len__(self) -> int:
        return self.blend.num_samples

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in self.__getitems__([sample]).items()}

    def __getitems__(self, samples: Sequence[int]) -> dict[str, Tensor]:
        source_N, row_N = self.blend.lookup(np.asarray(samples, np.int64))
        rows = Rows.empty(len(samples), self.length)
        for source in np.unique(source_N).tolist():
            here = np.flatnonzero(source_N == source)
            self.sources[source].fill(rows, here, row_N[here])
        return as_tensors(rows)

    def documents(self, samples: Int64) -> list[str]:
        """`source/id` of every document that these samples read, in order, once each. Reads the side files: slow."""
        source_N, row_N = self.blend.lookup(samples)
        names: dict[str, None] = {}
        for source, row in zip(source_N.tolist(), row_N.tolist(), strict=True):
            rows = self.sources[source]
            starts = [start for start, _ in rows.pieces(row)]
            names |= dict.fromkeys(f"{self.blend.sources[source]}/{id}" for id in rows.dataset.ids_at(starts))
        return list(names)


def as_tensors(rows: Rows) -> dict[str, Tensor]:
    """What a model is given, without a copy."""
    return _named(map(torch.from_numpy, (rows.input_NL, rows.target_NL, rows.position_NL)))


def _named(values: Iterable[Tensor]) -> dict[str, Tensor]:
    return dict(zip(("input_ids", "shift_labels", "position_ids"), values, strict=True))


@dataclass(frozen=True)
class BatchShape:
    """rows: of a global batch. rank_rows: of one micro-batch of one rank."""

    rows: int
    rank_rows: int
    ranks: int = 1

    def __post_init__(self) -> None:
        if self.rows % (self.rank_rows * self.ranks):
            raise RedoneError(
                f"batch: {self.rows} rows cannot be {self.ranks} ranks x {self.rank_rows} rows x a whole number of "
                "micro-batches; change batch.rows_per_device"
            )

    @property
    def micro_batches(self) -> int:
        """Of one rank in one step: the steps of gradient accumulation."""
        return self.rows // (self.rank_rows * self.ranks)


@final
class RankSampler(Sampler[list[int]]):
    """The samples of each micro-batch of one rank, from the step that `first_step` gives when iteration begins."""

    def __init__(self, shape: BatchShape, rank: int, num_steps: int) -> None:
        self.shape, self.rank, self.num_steps = shape, rank, num_steps
        self.first_step = 0

    def __len__(self) -> int:
        return self.num_steps * self.shape.micro_batches

    def __iter__(self) -> Iterator[list[int]]:
        shape = self.shape
        for step in range(self.first_step, self.num_steps):
            for micro in range(shape.micro_batches):
                first = step * shape.rows + (micro * shape.ranks + self.rank) * shape.rank_rows
                yield list(range(first, first + shape.rank_rows))


def loader(batches: Batches, sampler: RankSampler, workers: int, *, pinned: bool) -> DataLoader[dict[str, Tensor]]:
    """`workers` processes read ahead; 0 reads when asked."""
    return DataLoader(
        batches,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_Together,
        pin_memory=pinned,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_heed_the_parent_alone,
    )


def _heed_the_parent_alone(worker: int) -> None:
    """A terminal and a scheduler signal workers too, but the batches of the step under way are still needed."""
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return
    numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def wait() -> None:
        while True:
            if signal.sigwaitinfo(numbers).si_pid == os.getppid():
                os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


class _Together(dict[str, Tensor]):
    """A batch that travels from a worker as one tensor: each costs the training process a connection, .3 ms."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (torch.stack(list(self.values())),)
