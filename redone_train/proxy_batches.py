"""What a stack reads: the windows that each of its runs would read alone, for K runs at once.

On a GPU the token pools lie in its memory, one copy for all sets (2 or 4 bytes a token, as on disk), and a step is one
gather; pools that would take more than RESIDENT_SHARE of the free memory stay memory-mapped on the host, and each step
copies its rows over. Both give the same tokens (tests/train/test_stacked_run.py).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from redone_train.proxy_data import TokenPool, TrainPlan

RESIDENT_SHARE = 0.25
_COPY_TOKENS = 1 << 24


class HostBatches:
    """Rows are read from the memory-mapped pools, step by step."""

    def __init__(self, plans: Sequence[TrainPlan], device: torch.device) -> None:
        self.plans, self.device = plans, device

    def steps(self, first: int, end: int) -> Iterator[Tensor]:
        """Sets x rows x (context + 1) tokens of each step in [first, end)."""
        for step in range(first, end):
            yield torch.from_numpy(np.stack([plan.batch(step) for plan in self.plans])).to(self.device)


class ResidentBatches:
    """The pools lie on the device, end to end; what is copied for a step is where its windows begin."""

    def __init__(
        self,
        plans: Sequence[TrainPlan],
        pools: Mapping[str, TokenPool],
        device: torch.device,
        *,
        context: int,
        rows_per_step: int,
        token_bytes: int,
    ) -> None:
        self.plans, self.device, self.rows_per_step = plans, device, rows_per_step
        self.window_L = torch.arange(context + 1, device=device)
        # PyTorch has few kernels for unsigned types: the bits are kept as signed, and the sign is masked away.
        self.narrow = token_bytes == 2
        self.base: dict[str, int] = {}
        lengths = {name: len(pool) + context + 1 for name, pool in pools.items() if len(pool)}
        self.tokens = torch.empty(sum(lengths.values()), dtype=torch.int16 if self.narrow else torch.int32)
        self.tokens = self.tokens.to(device)
        start = 0
        for name, length in lengths.items():
            self.base[name] = start
            # The ring goes on past its end, so that every window lies in one piece.
            for offset in range(0, length, _COPY_TOKENS):
                part = pools[name].read(offset, min(_COPY_TOKENS, length - offset))
                bits = part.astype(np.uint16).view(np.int16) if self.narrow else part.astype(np.uint32).view(np.int32)
                self.tokens[start + offset : start + offset + len(part)] = torch.from_numpy(bits).to(device)
            start += length

    def steps(self, first: int, end: int) -> Iterator[Tensor]:
        """As :meth:`HostBatches.steps`."""
        rows = self.rows_per_step
        positions = np.stack([plan.positions(self.base, first * rows, end * rows) for plan in self.plans])
        starts_KSB1 = torch.from_numpy(positions).to(self.device).view(len(self.plans), end - first, rows, 1)
        for i in range(end - first):
            tokens_KBL = self.tokens[starts_KSB1[:, i] + self.window_L].long()
            yield tokens_KBL & 0xFFFF if self.narrow else tokens_KBL


def pool_bytes(pools: Mapping[str, TokenPool], token_bytes: int) -> int:
    """What the pools take on a device."""
    return token_bytes * sum(map(len, pools.values()))
