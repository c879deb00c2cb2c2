"""The saturating law with a Gaussian process on what it leaves: the form where runs are few, their detail where many.

Shapes: R runs, C candidates, D domains.
"""

from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from redone_data.mix.surrogates.base import NOTHING, Beside, Fitted, Floats, Surrogate
from redone_data.mix.surrogates.gp import GaussianProcess, Process
from redone_data.mix.surrogates.saturating import Law, SaturatingLaw


@final
@dataclass(frozen=True)
class LawWithProcess(Surrogate):
    """The law is fitted first, then the process to its residuals; far from the runs the law stands alone."""

    name: ClassVar[str] = "law_gp"
    law: SaturatingLaw = field(default_factory=SaturatingLaw)
    process: GaussianProcess = field(default_factory=lambda: GaussianProcess(signal=0.5, noise=0.5))

    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator, beside: Beside = NOTHING) -> Fitted:
        law = self.law.fit_law(weights_RD, losses_R, rng, beside)
        process = self.process.fit_process(weights_RD, losses_R - law.predict(weights_RD), rng)
        return _LawWithProcess(law, process, law.harm_D)


@final
@dataclass(frozen=True)
class _LawWithProcess(Fitted):
    law: Law
    process: Process
    harm_D: Floats | None

    def predict(self, weights_CD: Floats) -> Floats:
        return self.law.predict(weights_CD) + self.process.predict(weights_CD)

    def gradient(self, weights_CD: Floats) -> Floats:
        return self.law.gradient(weights_CD) + self.process.gradient(weights_CD)

    def spread(self, weights_CD: Floats) -> Floats:
        return np.hypot(self.law.spread_of_law(weights_CD), self.process.spread(weights_CD))
