"""What every surrogate is: a model from mixture to one metric's loss.

Shapes: R runs, C candidates, D domains.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMALLEST = 1e-4  # a weight below this counts as this where a slope is taken: w^p and sqrt(w) are vertical at zero


@dataclass(frozen=True, eq=False)
class Beside:
    """What is known beside the runs, in the order of the weights. A surrogate that has no use for it ignores it.

    epochs_D: passes over each domain's tokens that a weight of one would mean; None: repetition is unknown.
    screen: the metric's loss of any mixtures (rows of weights) without training, by counted n-grams; None: not counted.
    """

    epochs_D: Floats | None = None
    screen: Callable[[Floats], Floats] | None = None


NOTHING = Beside()


class Fitted(ABC):
    """A surrogate that has seen its runs.

    smooth: a search may follow `gradient`; without it (trees, which are flat between steps) slopes are only rough.
    difference: of a weight, where a slope is taken by differences.
    harm_D: what as many passes over a domain as any run makes over any would add to the loss; None: the runs show none.
    """

    smooth: ClassVar[bool] = True
    difference: ClassVar[float] = 1e-5
    harm_D: Floats | None = None

    @abstractmethod
    def predict(self, weights_CD: Floats) -> Floats:
        """The loss of each mixture; columns in the order the fit was given."""

    def gradient(self, weights_CD: Floats) -> Floats:
        """C x D: how the loss of each mixture changes with each weight; by central differences unless it is known."""
        slopes_CD = np.empty_like(weights_CD)
        for domain in range(weights_CD.shape[1]):
            up_CD, down_CD = weights_CD.copy(), weights_CD.copy()
            up_CD[:, domain] += self.difference
            down_CD[:, domain] = np.maximum(down_CD[:, domain] - self.difference, 0.0)
            width_C = up_CD[:, domain] - down_CD[:, domain]
            slopes_CD[:, domain] = (self.predict(up_CD) - self.predict(down_CD)) / width_C
        return slopes_CD

    def spread(self, weights_CD: Floats) -> Floats | None:
        """The model's own standard deviation of a new run's loss there, noise included; None: it has no such idea."""
        return None


class Surrogate(ABC):
    """A kind of model from mixture to one metric's loss; its fields are its settings."""

    name: ClassVar[str]

    @abstractmethod
    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator, beside: Beside = NOTHING) -> Fitted:
        """Fit to runs; the result depends on the arguments alone."""
