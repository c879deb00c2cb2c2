"""Linear rules about weights, and the least of a linear cost under them (HiGHS, some milliseconds).

A distance to a mixture is linear too, once each weight has a variable beside it that is at least its difference.

Shapes: C candidates, D domains, K rows of a rule, N linear rows, X variables of a linear program.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXACT = 1e-9


@dataclass(frozen=True, eq=False)
class Rule:
    """What one key of the recipe says: rows_KD @ weights <= most_K, or == where `equal`.

    stated: the value in the recipe. loosen_K: how far each row's border moves when it is loosened by one; a rule
    without a value, such as `fixed`, cannot be loosened, only left out. falls: loosening lowers the value.
    labels: what each row is about, where a rule has several.
    """

    name: str
    rows_KD: Floats
    most_K: Floats
    stated: float = 0.0
    loosen_K: Floats | None = None
    falls: bool = False
    equal: bool = False
    labels: tuple[str, ...] = ()

    @property
    def is_box(self) -> bool:
        """Whether each row is about one domain alone."""
        return not self.equal and bool((np.count_nonzero(self.rows_KD, axis=1) == 1).all())


@dataclass(frozen=True, eq=False)
class Ball:
    """Mixtures no farther from a centre than `radius`, in total variation."""

    centre_D: Floats
    radius: float
    name: str

    def distance(self, weights_CD: Floats) -> Floats:
        distance_C: Floats = np.abs(weights_CD - self.centre_D).sum(axis=1) / 2
        return distance_C


class Linear(NamedTuple):
    """A polytope for solvers: variables are the weights, then a difference for each weight and ball."""

    rows_NX: Floats
    most_N: Floats
    equal_NX: Floats
    equals_N: Floats

    def least(self, cost_X: Floats) -> Floats | None:
        """The point of least cost with all variables >= 0, or None where there is no point."""
        from scipy.optimize import linprog  # half a second, and every command reads recipes

        found: Any = linprog(cost_X, self.rows_NX, self.most_N, self.equal_NX, self.equals_N, method="highs")
        return np.asarray(found.x) if found.status == 0 else None


def linear(domains: int, rules: Sequence[Rule], balls: Sequence[Ball]) -> Linear:
    """Rules and balls as rows for a solver; the first equality is that weights sum to one."""
    size = domains * (1 + len(balls))

    def padded(rows_KD: Floats) -> Floats:
        return np.hstack([rows_KD, np.zeros((len(rows_KD), size - domains))])

    rows, most = [np.zeros((0, size))], [np.zeros(0)]
    equal, equals = [padded(np.ones((1, domains)))], [np.ones(1)]
    for rule in rules:
        (equal if rule.equal else rows).append(padded(rule.rows_KD))
        (equals if rule.equal else most).append(rule.most_K)
    for i, ball in enumerate(balls):
        own = slice(domains * (i + 1), domains * (i + 2))
        for sign in (1.0, -1.0):
            block_DX = padded(sign * np.eye(domains))
            block_DX[:, own] = -np.eye(domains)
            rows.append(block_DX)
            most.append(sign * ball.centre_D)
        total_1X = np.zeros((1, size))
        total_1X[0, own] = 1.0
        rows.append(total_1X)
        most.append(np.array([2 * ball.radius]))
    return Linear(np.vstack(rows), np.concatenate(most), np.vstack(equal), np.concatenate(equals))
