"""What repeating a domain does to the law: repeated tokens are worth less and less, and many passes may do harm.

Worth: U unique tokens seen e > 1 times count as U (1 + R (1 - exp(-(e - 1) / R))), R = 15.4 (Muennighoff et al. 2023,
arXiv 2305.16264, which found up to 4 passes about as good as new tokens). That form only saturates. Harm: beyond
HARMLESS passes each further pass over domain j adds r_j^2 to the loss, r_j = r + d_j with d_j drawn to zero: what the
runs show of some domains is expected of those that they never repeat as often. The square makes the quadratic pull of r
a lasso on the harm, which stays about zero where the runs show none. Both keep the law convex: worth is concave in the
weight, harm convex.

Shapes: R runs, D domains, H domains that runs repeat beyond HARMLESS, K = 1 + H (r, d_1..H).
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from redone_data.mix.surrogates.base import Floats

HARMLESS = 4.0
DECAY = 15.4
ENOUGH_RUNS = 5  # with a domain beyond HARMLESS, or harm is not fitted
LEAST_EXCESS = 0.1  # of a pass: less tells nothing, and a run at a cap of HARMLESS epochs exceeds it by rounding


@final
@dataclass(frozen=True)
class Repetition:
    """Passes over each domain at weight one (0: unknown, nothing repeats), and what of their harm can be fitted.

    repeated_H: the domains with a harm of their own. most: the most passes beyond HARMLESS in any run, the unit of
    excess in the fit; 0: harm is not fitted.
    """

    epochs_D: Floats
    repeated_H: NDArray[np.intp]
    most: float

    @classmethod
    def seen(cls, weights_RD: Floats, epochs_D: Floats | None) -> "Repetition":
        """What these runs can tell."""
        if epochs_D is None:
            epochs_D = np.zeros(weights_RD.shape[1])
        epochs_D = np.where(np.isfinite(epochs_D), epochs_D, 0.0)  # a domain without tokens has no weight to repeat
        excess_RD = np.maximum(weights_RD * epochs_D - HARMLESS, 0.0)
        if (excess_RD.max(axis=1) > LEAST_EXCESS).sum() < ENOUGH_RUNS:
            return cls(epochs_D, np.empty(0, dtype=np.intp), 0.0)
        return cls(epochs_D, np.flatnonzero(excess_RD.max(axis=0) > LEAST_EXCESS), float(excess_RD.max()))

    @property
    def num_parameters(self) -> int:
        return 1 + len(self.repeated_H) if self.most else 0

    def worth(self, weights_RD: Floats) -> Floats:
        """The weight that tokens seen once would need for the same effect; equal to the weight up to one pass."""
        again_RD = np.maximum(weights_RD * self.epochs_D - 1.0, 0.0)
        lost_RD = again_RD + DECAY * np.expm1(-again_RD / DECAY)
        worth_RD: Floats = weights_RD - lost_RD / np.maximum(self.epochs_D, 1.0)
        return worth_RD

    def worth_slope(self, weights_RD: Floats) -> Floats:
        """The derivative of `worth` by the weight."""
        slope_RD: Floats = np.exp(-np.maximum(weights_RD * self.epochs_D - 1.0, 0.0) / DECAY)
        return slope_RD

    def excess(self, weights_RD: Floats) -> Floats:
        """R x D: passes beyond the harmless ones, in the fit's unit; nothing where harm is not fitted."""
        if not self.most:
            return np.zeros_like(weights_RD)
        excess_RD: Floats = np.maximum(weights_RD * self.epochs_D - HARMLESS, 0.0) / self.most
        return excess_RD

    def excess_slope(self, weights_RD: Floats) -> Floats:
        """R x D: the derivative of `excess` by the weights."""
        if not self.most:
            return np.zeros_like(weights_RD)
        slope_RD: Floats = (weights_RD * self.epochs_D > HARMLESS) * self.epochs_D / self.most
        return slope_RD

    def roots(self, parameters_K: Floats) -> Floats:
        """r_j of each domain."""
        roots_D = np.full(len(self.epochs_D), parameters_K[0] if self.most else 0.0)
        roots_D[self.repeated_H] += parameters_K[1:]
        return roots_D

    def by_parameters(self, by_root_RD: Floats) -> Floats:
        """R x K: the derivative by the parameters, from that by r_j."""
        columns = [by_root_RD.sum(axis=1, keepdims=True), by_root_RD[:, self.repeated_H]]
        by_parameter_RK: Floats = np.hstack(columns)[:, : self.num_parameters]
        return by_parameter_RK

    def harm(self, parameters_K: Floats, scale: float) -> Floats | None:
        """Loss that each pass beyond the harmless ones adds, by domain; None: not fitted."""
        return scale * self.roots(parameters_K) ** 2 / self.most if self.most else None
