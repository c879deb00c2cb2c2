"""A measured value with its interval: a percentile bootstrap whose draws are kept.

All models are measured on the same items, and draw r takes the same items of a task for all of them. So a mean of
tasks is the mean of their draws, and a difference of models is the difference of their draws: a paired bootstrap,
without the answers or the scorer at hand. 1,000 draws take 8 KB a task and model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.rng import stream

LEVEL = 0.95
Draws = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """value: of all items; None where it cannot be said. draws: of R resamples of them, NaN where it cannot."""

    value: float | None
    draws: Draws

    @property
    def interval(self) -> tuple[float, float] | None:
        known = self.draws[np.isfinite(self.draws)]
        if self.value is None or not len(known):
            return None
        low, high = np.percentile(known, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
        return float(low), float(high)

    @property
    def above_zero(self) -> float | None:
        """The share of draws above zero; a draw at zero is half of one."""
        known = self.draws[np.isfinite(self.draws)]
        return float(np.mean(known > 0) + np.mean(known == 0) / 2) if len(known) else None

    def mapping(self) -> dict[str, Any]:
        interval = self.interval
        draws = [round(float(draw), 6) if np.isfinite(draw) else None for draw in self.draws]
        return {"value": self.value, "interval": None if interval is None else list(interval), "draws": draws}

    @classmethod
    def read(cls, values: dict[str, Any]) -> "Estimate":
        return cls(values["value"], np.array([np.nan if draw is None else draw for draw in values["draws"]], float))


def resampled(
    value: float | None,
    of: Callable[[npt.NDArray[np.int64]], float | None],
    n: int,
    *,
    seed: int,
    name: str,
    draws: int,
) -> Estimate:
    """A bootstrap of `n` items: `of` gives the value of those that are drawn. The draws depend on seed, name and n."""
    found = resampled_parts({"": value}, lambda drawn: {"": of(drawn)}, n, seed=seed, name=name, draws=draws)
    return found[""]


def resampled_parts(
    values: Mapping[str, float | None],
    of: Callable[[npt.NDArray[np.int64]], Mapping[str, float | None]],
    n: int,
    *,
    seed: int,
    name: str,
    draws: int,
) -> dict[str, Estimate]:
    """Several values of the same draws of items, as :func:`resampled`: each draw is scored once."""
    drawn_VR = {part: np.full(draws, np.nan) for part in values}
    if n > 1 and any(value is not None for value in values.values()):
        rng = stream(seed, "bootstrap", name)
        for draw in range(draws):
            found = of(rng.integers(0, n, n))
            for part, value in values.items():
                one = found[part]
                if value is not None and one is not None:
                    drawn_VR[part][draw] = one
    return {part: Estimate(value, drawn_VR[part]) for part, value in values.items()}


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The plain mean; None where one of them is."""
    values = [estimate.value for estimate in estimates]
    known = [value for value in values if value is not None]
    value = sum(known) / len(known) if len(known) == len(values) and known else None
    return Estimate(value, np.mean([estimate.draws for estimate in estimates], axis=0))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b, draw by draw."""
    value = None if a.value is None or b.value is None else a.value - b.value
    return Estimate(value, a.draws - b.draws)


def relative_change(a: Estimate, b: Estimate) -> Estimate:
    """100 (a / b - 1), draw by draw."""
    value = None if a.value is None or not b.value else 100 * (a.value / b.value - 1)
    return Estimate(value, 100 * (a.draws / b.draws - 1))
