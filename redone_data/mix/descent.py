"""The lowest point of a smooth surface within the constraints, from a given start: SLSQP with known slopes.

Distances to a mixture are made linear by a variable beside each weight, so a trust region costs as many variables
again. What comes back is exactly inside. 17 domains take 0.02 s a start, 60 domains 0.2 s.

Shapes: C candidates, D domains, N linear rows, X variables of the solver.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from redone_data.mix.constraints import Constraints

Floats = NDArray[np.float64]

LEAST = 1e-5  # slopes of laws in powers of a weight have no end at zero, so the solver stops short of it
STEPS = 150
TOLERANCE = 1e-9  # of the loss


class Surface(NamedTuple):
    """A loss of mixtures and its slopes, both for rows of weights."""

    value: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]


class AtMost(NamedTuple):
    """A surface that must not be higher than this."""

    surface: Surface
    most: float


def descend(surface: Surface, constraints: Constraints, start_D: Floats, at_most: AtMost | None = None) -> Floats:
    """Allowed weights where the surface is lowest, as far as can be seen from the start."""
    from scipy.optimize import minimize  # half a second, and every command reads recipes

    domains, balls = len(start_D), constraints.balls
    parts = constraints.linear_without_box()
    size = parts.rows_NX.shape[1]
    lower_D = np.minimum(np.maximum(constraints.least_D, LEAST), constraints.most_D)
    lower_X, upper_X = np.zeros(size), np.ones(size)
    lower_X[:domains], upper_X[:domains] = lower_D, constraints.most_D
    start_X = np.concatenate([start_D, *(np.abs(start_D - ball.centre_D) for ball in balls)])

    def padded(slope_D: Floats) -> Floats:
        return np.concatenate([slope_D, np.zeros(size - domains)])

    rules: list[dict[str, Any]] = [
        {"type": "eq", "fun": lambda x: parts.equal_NX @ x - parts.equals_N, "jac": lambda x: parts.equal_NX}
    ]
    if len(parts.most_N):
        rules.append(
            {"type": "ineq", "fun": lambda x: parts.most_N - parts.rows_NX @ x, "jac": lambda x: -parts.rows_NX}
        )
    if at_most is not None:
        limit, most = at_most
        rules.append(
            {
                "type": "ineq",
                "fun": lambda x: most - limit.value(_row(x, domains))[0],
                "jac": lambda x: -padded(limit.slope(_row(x, domains))[0]),
            }
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a step that leaves the bounds is clipped, and says so
        found = minimize(
            lambda x: float(surface.value(_row(x, domains))[0]),
            np.clip(start_X, lower_X, upper_X),
            jac=lambda x: padded(surface.slope(_row(x, domains))[0]),
            bounds=np.stack([lower_X, upper_X], axis=1),
            constraints=rules,
            method="SLSQP",
            options={"maxiter": STEPS, "ftol": TOLERANCE},
        )
    end_D = np.asarray(found.x)[:domains]
    if not np.isfinite(end_D).all() or not np.maximum(end_D, 0).sum() > 0:
        return start_D
    full_D = np.clip(end_D, 0.0, 1.0)
    bare_D = np.where(full_D <= 1.5 * LEAST, 0.0, full_D)
    inside_2D = constraints.project(np.stack([full_D, bare_D]))
    values_2 = surface.value(inside_2D)
    # Crumbs that the solver could not let go are dropped, unless they are worth something.
    result_D: Floats = inside_2D[1] if values_2[1] <= values_2[0] + 1e-5 else inside_2D[0]
    return result_D


def _row(x: Floats, domains: int) -> Floats:
    return np.clip(x[:domains], 0.0, 1.0)[None]
