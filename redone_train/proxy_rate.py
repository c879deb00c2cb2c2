"""How fast a proxy learns: the learning-rate rule and the schedule.

The rule was chosen by measurement, for the loss reached after 0.2M tokens of real text (docs/swarm.md has the sweep).
No torch here, so that a swarm is checked and reported on without loading it.
"""

import math

from redone_data.proxy_shape import ProxyShape

# The learning-rate rule and its point of reference, see `learning_rate`.
BASE_LEARNING_RATE = 6e-3
BASE_WIDTH = 64
BASE_BATCH_TOKENS = 1024
EMBEDDING_RATE_RATIO = 8.0
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)
WARMUP_SHARE = 0.05
FINAL_SHARE = 0.1


def learning_rate(shape: ProxyShape, batch_tokens: int) -> float:
    """The peak rate of the matrices: 6e-3 at width 64 and 1,024 tokens a step, x 64/width, x the root of the batch.

    The embedding, of which a step touches a few rows, learns at `embedding_learning_rate`, the same at every width. A
    sweep on real text at 0.2M tokens (docs/swarm.md) chose both.

    >>> learning_rate(ProxyShape(layers=1, width=64, heads=2), batch_tokens=1024)
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
