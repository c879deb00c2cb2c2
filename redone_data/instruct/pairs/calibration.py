"""What a judge model's verdicts are worth: measured against people before a single one is used.

Each pair is asked in both orders. Reported: how often the judge takes what stands first (position bias), how often both
orders agree, how often it then agrees with people, with a 95 % interval, and how often it and people take the longer
answer. A Bradley-Terry model with covariates, logit P(people prefer x) = a * verdict + b * log(length x / length y),
is fitted by ridge regression and judged on prompts left out; it gives each verdict a probability. b below zero: the
judge likes length more than people do. Zheng et al. 2023 (arXiv:2306.05685) measured these biases of judges.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from redone_data.errors import RedoneError

FOLDS = 5
RIDGE = 1.0  # of the coefficients: a prior with standard deviation 1 on the logit scale
Z = 1.959964

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Verdicts:
    """What the judge said of N pairs (x, y): +1 for x, -1 for y, 0 for none that can be read.

    x_first: x was shown first; y_first: then the same pair, turned round.
    """

    x_first: Ints
    y_first: Ints

    @property
    def agreed(self) -> npt.NDArray[np.bool_]:
        """Both orders gave the same answer."""
        same: npt.NDArray[np.bool_] = (self.x_first == self.y_first) & (self.x_first != 0)
        return same

    @property
    def mean(self) -> Floats:
        return (self.x_first + self.y_first) / 2


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int

    def record(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "count": self.count}


def rate(hits: npt.NDArray[np.bool_], prompts: Ints) -> Rate | None:
    """The share of hits; pairs of one prompt are not independent, so the interval counts fewer of them.

    Wilson's interval for the effective number: n over the design effect of clusters (Kish 1965).
    """
    if not len(hits):
        return None
    value, n = float(hits.mean()), len(hits)
    _, cluster = np.unique(prompts, return_inverse=True)
    sizes, sums = np.bincount(cluster), np.bincount(cluster, weights=hits)
    variance = float(((sums - value * sizes) ** 2).sum()) / n**2
    simple = value * (1 - value) / n
    effective = n / max(variance / simple, 1.0) if simple > 0 else float(len(sizes))
    middle = (value + Z**2 / (2 * effective)) / (1 + Z**2 / effective)
    half = Z * math.sqrt(value * (1 - value) / effective + Z**2 / (4 * effective**2)) / (1 + Z**2 / effective)
    return Rate(round(value, 6), round(max(0.0, middle - half), 6), round(min(1.0, middle + half), 6), n)


@dataclass(frozen=True)
class Calibration:
    """A judge measured against people, and the model that turns its verdicts into probabilities."""

    verdict: float  # a
    length: float  # b
    report: dict[str, Any]

    def probability(self, verdicts: Floats, log_lengths: Floats) -> Floats:
        """That people prefer x."""
        return _sigmoid(self.verdict * verdicts + self.length * log_lengths)

    @property
    def agreement_low(self) -> float:
        """The lower end of the interval of the agreement with people, where both orders agree."""
        low: float = self.report["agreement"]["low"]
        return low


def calibrate(verdicts: Verdicts, people: Ints, log_lengths: Floats, prompts: Ints) -> Calibration:
    """Measure a judge on pairs that people judged: `people` is +1 where they prefer x and -1 for y.

    `prompts` numbers the prompts. Raises RedoneError when the judge never gave the same readable answer twice.
    """
    agreed = verdicts.agreed
    if not agreed.any():
        raise RedoneError(
            f"the judge gave the same readable answer in both orders to none of {len(people)} pairs; "
            "mend its prompt, or ask another model"
        )
    readable = np.concatenate([verdicts.x_first != 0, verdicts.y_first != 0])
    first = np.concatenate([verdicts.x_first > 0, verdicts.y_first < 0])
    uneven = agreed & (log_lengths != 0)
    single = np.concatenate([verdicts.x_first == people, verdicts.y_first == people])
    features = np.column_stack([verdicts.mean, log_lengths])
    weights = _fit(features, people)
    report = {
        "pairs": len(people),
        "unreadable": int((~readable).sum()),
        "first_taken": _record(rate(first[readable], np.tile(prompts, 2)[readable])),
        "both_orders_agree": _record(rate(agreed, prompts)),
        "agreement": _record(rate(verdicts.x_first[agreed] == people[agreed], prompts[agreed])),
        "agreement_one_order": _record(rate(single[readable], np.tile(prompts, 2)[readable])),
        "judge_takes_longer": _record(rate((verdicts.x_first * log_lengths > 0)[uneven], prompts[uneven])),
        "people_take_longer": _record(rate((people * log_lengths > 0)[uneven], prompts[uneven])),
        "verdict_coefficient": round(float(weights[0]), 6),
        "length_coefficient": round(float(weights[1]), 6),
        **_left_out(features, people, prompts),
    }
    return Calibration(float(weights[0]), float(weights[1]), report)


def _record(found: Rate | None) -> dict[str, Any] | None:
    return None if found is None else found.record()


def _left_out(features: Floats, people: Ints, prompts: Ints) -> dict[str, Any]:
    """Log loss of probabilities for prompts that the fit has not seen; that of a coin is .693."""
    _, number = np.unique(prompts, return_inverse=True)
    fold = number % FOLDS
    if len(np.unique(fold)) < 2:
        return {"log_loss_left_out": None}
    loss = np.zeros(len(people))
    for left in np.unique(fold):
        out = fold == left
        weights = _fit(features[~out], people[~out])
        loss[out] = np.logaddexp(0.0, -people[out] * (features[out] @ weights))
    return {"log_loss_left_out": round(float(loss.mean()), 6)}


def _fit(features: Floats, people: Ints) -> Floats:
    """Ridge logistic regression without an intercept (x and y may change places), by Newton's method."""
    weights = np.zeros(features.shape[1])
    for _ in range(50):
        probability = _sigmoid(features @ weights)
        gradient = features.T @ ((people > 0) - probability) - RIDGE * weights
        curvature = (features * (probability * (1 - probability))[:, None]).T @ features + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        weights = weights + step
        if np.abs(step).max() < 1e-10:
            break
    return weights


def _sigmoid(value: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(value, -40, 40)))
