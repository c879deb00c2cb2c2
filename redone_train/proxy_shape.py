"""How large a proxy is and how fast it learns: named shapes, and the learning-rate rule.

Both were chosen by measurement, for the loss reached after 0.2M tokens of real text (docs/swarm.md has the sweep). No
torch here, so that a swarm is checked and reported on without loading it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from redone_data.errors import RedoneError, did_you_mean

# The learning-rate rule and its point of reference, see `learning_rate`.
BASE_LEARNING_RATE = 6e-3
BASE_WIDTH = 64
BASE_BATCH_TOKENS = 1024
EMBEDDING_RATE_RATIO = 8.0
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)
WARMUP_SHARE = 0.05
FINAL_SHARE = 0.1


@dataclass(frozen=True)
class ProxyShape:
    """How wide and how deep; `heads` must divide `width` into even parts (rotary positions turn pairs)."""

    layers: int
    width: int
    heads: int

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 8 or self.heads < 1:
            raise RedoneError(f"a proxy needs layers >= 1, width >= 8 and heads >= 1, not {self}")
        if self.width % (2 * self.heads):
            raise RedoneError(
                f"a proxy's width must be a multiple of twice its heads; {self.width} and {self.heads} are not"
            )

    @property
    def mlp_width(self) -> int:
        """8/3 of the width, in eights: SwiGLU then has the parameters of a plain MLP of four times the width."""
        return int(8 * self.width / 3) // 8 * 8

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters, the tied embedding counted once."""
        block = 4 * self.width**2 + 3 * self.width * self.mlp_width + 2 * self.width
        return vocab_size * self.width + self.layers * block + self.width


# Named by all parameters at a vocabulary of 4,096:        105,288 | 310,976 | 504,096 | 914,048 | 10,424,448
SIZES: Mapping[str, ProxyShape] = {
    "0.1m": ProxyShape(layers=1, width=24, heads=1),
    "0.3m": ProxyShape(layers=1, width=64, heads=2),
    "0.5m": ProxyShape(layers=1, width=96, heads=3),
    "1m": ProxyShape(layers=2, width=128, heads=4),
    "10m": ProxyShape(layers=5, width=384, heads=6),
    "50m": ProxyShape(layers=15, width=512, heads=8),
    "100m": ProxyShape(layers=14, width=768, heads=12),
}


def proxy_shape(size: str | ProxyShape) -> ProxyShape:
    """The shape behind a name.

    >>> proxy_shape("0.3m")
    ProxyShape(layers=1, width=64, heads=2)
    """
    if isinstance(size, ProxyShape):
        return size
    if size not in SIZES:
        raise RedoneError(f"unknown proxy size '{size}'; {did_you_mean(size, SIZES)}")
    return SIZES[size]


def learning_rate(shape: ProxyShape, batch_tokens: int) -> float:
    """The peak rate of the matrices: 6e-3 at width 64 and 1,024 tokens a step, x 64/width, x the root of the batch.

    The embedding, of which a step touches a few rows, learns at `embedding_learning_rate`, the same at every width. A
    sweep on real text at 0.2M tokens (docs/swarm.md) chose both.

    >>> learning_rate(proxy_shape("0.3m"), batch_tokens=1024)
    0.006
    """
    return BASE_LEARNING_RATE * BASE_WIDTH / shape.width * math.sqrt(batch_tokens / BASE_BATCH_TOKENS)


def embedding_learning_rate(shape: ProxyShape, rate: float) -> float:
    """The embedding's peak rate beside the matrices' `rate`: eight times as much at width 64, in proportion to it."""
    return rate * EMBEDDING_RATE_RATIO * shape.width / BASE_WIDTH


def rate_at(step: int, num_steps: int) -> float:
    """The schedule as a share of the peak: linear warm-up over 5 % of the steps, then a cosine down to 10 %.

    >>> [round(rate_at(step, 100), 2) for step in (0, 4, 50, 99)]
    [0.2, 1.0, 0.57, 0.1]
    """
    warmup = max(1, round(WARMUP_SHARE * num_steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step + 1 - warmup) / max(1, num_steps - warmup)
    return FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * progress))
