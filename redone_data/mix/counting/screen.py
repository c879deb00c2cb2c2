"""One metric's loss of any mixture by counts, and how it is brought to the scale of real runs.

Counts rank mixtures; they do not know the height of a trained model's loss, nor how far such a model trusts what it has
seen once. Two numbers and a choice say it, all fitted to real runs: the affine map of the counted loss, and the
effective sample, whichever of a few errs least on the runs that the map was not fitted to (leave-one-out, in closed
form). Eight runs are enough.

Shapes: R runs, C candidates, D domains, S samples tried.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from redone_data.mix.counting.model import CountModel

Floats = NDArray[np.float64]

SAMPLES = tuple(2.0**power for power in range(-5, 4))  # tried, as multiples of the default
LEVERAGE = 0.99  # of a run, at most: a run that alone decides the slope says nothing of it


@dataclass(frozen=True, eq=False)
class Screen:
    """The loss of one metric by counts: a function of rows of weights, columns in the order of the model's domains."""

    model: CountModel  # of this metric only
    sample: float
    _known: dict[bytes, Floats] = field(default_factory=dict, repr=False)

    def __call__(self, weights_CD: Floats) -> Floats:
        losses_C: Floats = self.model.losses(weights_CD, self.sample)[:, 0]
        return losses_C

    def samples(self, weights_RD: Floats) -> Floats:
        """S x R: the losses of the same few runs under each sample of SAMPLES; remembered, for folds ask again."""
        new_RD = np.array([row_D for row_D in weights_RD if row_D.tobytes() not in self._known])
        if len(new_RD):
            losses_SR = np.stack([self.model.losses(new_RD, self.sample * factor)[:, 0] for factor in SAMPLES])
            self._known.update({row_D.tobytes(): losses_SR[:, row] for row, row_D in enumerate(new_RD)})
        return np.stack([self._known[row_D.tobytes()] for row_D in weights_RD], axis=1)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A screen on the scale of real runs."""

    screen: Screen
    slope: float
    intercept: float
    chosen: int  # of SAMPLES

    @classmethod
    def on_runs(cls, screen: Screen, weights_RD: Floats, losses_R: Floats) -> "Calibrated":
        """The effective sample and the affine map that err least on runs left out."""
        maps = [_affine(counted_R, losses_R) for counted_R in screen.samples(weights_RD)]
        best = int(np.argmin([error for _, _, error in maps]))
        slope, intercept, _ = maps[best]
        return cls(screen, slope, intercept, best)

    @property
    def sample(self) -> float:
        """The effective sample, in tokens."""
        return self.screen.sample * SAMPLES[self.chosen]

    def predict(self, weights_CD: Floats) -> Floats:
        counted_C: Floats = self.screen.model.losses(weights_CD, self.sample)[:, 0]
        return self.intercept + self.slope * counted_C

    def on_known(self, weights_RD: Floats) -> Floats:
        """The same for runs that are asked for again and again."""
        counted_R: Floats = self.screen.samples(weights_RD)[self.chosen]
        return self.intercept + self.slope * counted_R

    def gradient(self, weights_CD: Floats) -> Floats:
        return self.slope * self.screen.model.gradient(weights_CD, self.sample)


def _affine(counted_R: Floats, losses_R: Floats) -> tuple[float, float, float]:
    """Slope, intercept and leave-one-out error of the least-squares line; no slope where counts do not vary."""
    centred_R = counted_R - counted_R.mean()
    total = float(centred_R @ centred_R)
    # Counts that fall where real losses rise say nothing: the line is flat then.
    slope = max(float(centred_R @ losses_R) / total, 0.0) if total > 1e-18 else 0.0
    leverage_R = 1 / len(losses_R) + (centred_R**2 / total if slope else 0.0)
    intercept = float(losses_R.mean() - slope * counted_R.mean())
    left_out_R = (losses_R - intercept - slope * counted_R) / (1 - np.minimum(leverage_R, LEVERAGE))
    return slope, intercept, float((left_out_R**2).mean())
