"""The learning rate at each step, as a share of its peak: a pure function, so that a run goes on at any step."""

import math

from redone_train.train.config import ScheduleConfig


def rate_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """The share of the peak at a step, counted from 0, of so many.

    Linear warm-up; then a cosine to the floor (Loshchilov and Hutter, arXiv 1608.03983), constant, or constant with a
    linear decay at the end (WSD, arXiv 2404.06395). A decayed model that is trained again is re-warmed by the warm-up
    (Ibrahim et al., arXiv 2403.08763).

    >>> [round(rate_factor(ScheduleConfig(warmup=0.2, floor=0.1), step, 10), 2) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    warmup = round(config.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    if config.kind == "constant":
        return 1.0
    if config.kind == "wsd":
        start = steps - round(config.decay * steps)
        gone = 0.0 if step < start else (step - start) / max(1, steps - start)
        return 1 - (1 - config.floor) * gone
    gone = (step - warmup) / max(1, steps - warmup)
    return config.floor + (1 - config.floor) * (1 + math.cos(math.pi * min(1.0, gone))) / 2
