"""What repeating a domain does to the law: repeated tokens are worth less and less, and many passes may do harm.

Worth: U unique tokens seen e > 1 times count as U (1 + R (1 - exp(-(e - 1) / R))), R = 15.4 (Muennighoff et al. 2023,
arXiv 2305.16264, which found up to 4 passes about as good as new tokens). That form only saturates.

Harm: passes e over domain j add r_j^2 ((e - t) / m)^q to the loss from t passes on, m the most that any run repeats.
Where harm begins and how fast it grows depends on model, data and budget, so t > 1 and 1 < q < 3 are fitted too, drawn
to the 4 passes of that paper and to a square; all domains share them. r_j = r + d_j with d_j drawn to zero: what the
runs show of some domains is expected of those that they never repeat as often. The square of r_j makes its quadratic
pull a lasso on the harm, which stays about zero where the runs show none. Both keep the law convex: worth is concave in
the weight, harm convex.

On made swarms of 6 to 17 domains, harm from the first to the eighth pass, linear or square, the error is .07 of the
losses' spread, where harm fixed as linear beyond 4 passes leaves .20; without harm in truth it is .045 either way. The
fit takes twice the time, 12 ms; where nothing repeats it is the same to the byte. From few and noisy runs (24, noise a
fifth of the spread) it pays for the question: .14 instead of .10 where there is no harm, .2 instead of .4 where there
is.
benchmarks/planted.py has the regret.

Shapes: R runs, D domains, H domains that runs repeat beyond SHOWS passes, K = 3 + H: log (t - 1), logit (q - 1) / 2, r,
d_1..H.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from redone_data.mix.surrogates.base import Floats

DECAY = 15.4
SHOWS = 2.0  # passes: fewer are taken to show no harm
ENOUGH_RUNS = 5  # with a domain beyond SHOWS, or harm is not fitted
LEAST_EXCESS = 0.1  # of a pass: less tells nothing, and a run at a cap of SHOWS epochs exceeds it by rounding
ONSET, ONSET_WIDTH = 4.0, 0.7  # passes; the width is that of log (t - 1)
POWER_WIDTH = 1.5  # of the logit, around a square
# Of the most passes beyond the first: where harm begins in each start of the fit. From one alone it may end at r = 0.
ONSET_STARTS = (0.2, 0.4)
ROOT_START, ROOT_WIDTH, ROOT_APART = 0.5, 0.5, 0.2  # of r, r and d_j, in roots of the scaled loss
LARGEST_LOG = 30.0


class Harm(NamedTuple):
    """What passes add to the loss at r_j = 1; its derivatives by the passes and by the parameters of t and q."""

    added_RD: Floats
    by_passes_RD: Floats
    by_onset_RD: Floats
    by_power_RD: Floats


@final
@dataclass(frozen=True)
class Repetition:
    """Passes over each domain at weight one (0: unknown, nothing repeats), and what of their harm can be fitted.

    repeated_H: the domains with a harm of their own. most: the most passes beyond the first in any run, the unit of
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
        passes_RD = weights_RD * epochs_D
        shows_RD = passes_RD > SHOWS + LEAST_EXCESS
        if shows_RD.any(axis=1).sum() < ENOUGH_RUNS:
            return cls(epochs_D, np.empty(0, dtype=np.intp), 0.0)
        return cls(epochs_D, np.flatnonzero(shows_RD.any(axis=0)), float(passes_RD.max()) - 1.0)

    def harmless(self) -> "Repetition":
        """The same, with tokens that are worth less but do no harm."""
        return Repetition(self.epochs_D, np.empty(0, dtype=np.intp), 0.0)

    @property
    def num_parameters(self) -> int:
        return 3 + len(self.repeated_H) if self.most else 0

    def prior(self) -> tuple[Floats, Floats]:
        """Centres and widths of the parameters."""
        centre_K, width_K = np.zeros(self.num_parameters), np.full(self.num_parameters, ROOT_APART)
        if self.most:
            centre_K[0] = np.log(ONSET - 1.0)
            width_K[:3] = ONSET_WIDTH, POWER_WIDTH, ROOT_WIDTH
        return centre_K, width_K

    def starts(self) -> list[Floats]:
        """Where the fit begins: t among the runs, for beyond them it has no slope, and r off 0, where r^2 has none."""
        centre_K, _ = self.prior()
        if not self.most:
            return [centre_K]
        onsets = [min(centre_K[0], float(np.log(share * self.most))) for share in ONSET_STARTS]
        return [np.array([onset, 0.0, ROOT_START, *centre_K[3:]]) for onset in dict.fromkeys(onsets)]

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

    def harm(self, passes_RD: Floats, parameters_K: Floats) -> Harm:
        """Of these passes; only where harm is fitted."""
        late = float(np.exp(min(parameters_K[0], LARGEST_LOG)))
        half = float(expit(parameters_K[1]))
        power = 1.0 + 2.0 * half
        excess_RD = np.maximum(passes_RD - 1.0 - late, 0.0) / self.most
        log_RD = np.log(np.where(excess_RD > 0, excess_RD, 1.0))
        lower_RD = np.where(excess_RD > 0, np.exp((power - 1.0) * log_RD), 0.0)
        added_RD = excess_RD * lower_RD
        by_passes_RD = (power / self.most) * lower_RD
        return Harm(added_RD, by_passes_RD, -late * by_passes_RD, 2.0 * half * (1.0 - half) * log_RD * added_RD)

    def roots(self, parameters_K: Floats) -> Floats:
        """r_j of each domain."""
        roots_D = np.full(len(self.epochs_D), parameters_K[2])
        roots_D[self.repeated_H] += parameters_K[3:]
        return roots_D

    def by_parameters(self, passes_RD: Floats, parameters_K: Floats) -> Floats:
        """R x K: the derivative of the harm, summed over domains, by the parameters."""
        harm, roots_D = self.harm(passes_RD, parameters_K), self.roots(parameters_K)
        by_root_RD = 2 * harm.added_RD * roots_D
        shared = [harm.by_onset_RD @ roots_D**2, harm.by_power_RD @ roots_D**2, by_root_RD.sum(axis=1)]
        return np.column_stack([*shared, by_root_RD[:, self.repeated_H]])

    def harm_at_most(self, parameters_K: Floats, scale: float) -> Floats | None:
        """Loss that as many passes as any run makes over any domain would add, by domain; None: not fitted."""
        if not self.most:
            return None
        added_D = self.harm(np.full(len(self.epochs_D), self.most + 1.0), parameters_K).added_RD
        return scale * self.roots(parameters_K) ** 2 * added_D
