"""Counted n-grams and the law, weighed by what each predicts of runs left out.

From few runs counts know the shape of the loss and the law does not; from many the law, too, knows what counts miss. On
8 real domains the rank correlation from 8 runs is .97 (the law alone: .83; from 16, .92), benchmarks/count_proxies.py.

Shapes: R runs, C candidates, D domains.
"""

from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from redone_data.mix.counting.screen import Calibrated, Screen
from redone_data.mix.surrogates.base import NOTHING, Beside, Fitted, Floats, Surrogate
from redone_data.mix.surrogates.saturating import SaturatingLaw


@final
@dataclass(frozen=True)
class ScreenedSurrogate(Surrogate):
    """The counted loss, calibrated on the runs, and a saturating law, in the share that errs least on runs left out.

    Without counts (`mix.screen` is off) the law stands alone. The plain mean of the two is worse from 8 runs: there
    the law errs three times as much as the counts.

    folds: of the runs left out; runs of one mixture are left out together.
    """

    name: ClassVar[str] = "screened"
    law: SaturatingLaw = field(default_factory=SaturatingLaw)
    folds: int = 4

    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator, beside: Beside = NOTHING) -> Fitted:
        screen = beside.screen
        if not isinstance(screen, Screen):
            return self.law.fit(weights_RD, losses_R, rng, beside)
        _, mixture_R = np.unique(weights_RD.round(9), axis=0, return_inverse=True)
        law_R, counted_R = np.zeros_like(losses_R), np.zeros_like(losses_R)
        for fold in range(self.folds):
            out_R = mixture_R % self.folds == fold
            if out_R.any() and not out_R.all():
                kept_RD, kept_R = weights_RD[~out_R], losses_R[~out_R]
                law_R[out_R] = self.law.fit(kept_RD, kept_R, rng, beside).predict(weights_RD[out_R])
                counted_R[out_R] = Calibrated.on_runs(screen, kept_RD, kept_R).on_known(weights_RD[out_R])
        apart_R = law_R - counted_R
        total = float(apart_R @ apart_R)
        share = float(np.clip((losses_R - counted_R) @ apart_R / total, 0.0, 1.0)) if total > 0 else 0.0
        law = self.law.fit(weights_RD, losses_R, rng, beside)
        return _Screened(law, Calibrated.on_runs(screen, weights_RD, losses_R), share)


@final
@dataclass(frozen=True, eq=False)
class _Screened(Fitted):
    """law_share: of the law in the prediction; the rest is the counts'."""

    law: Fitted
    counted: Calibrated
    law_share: float

    def predict(self, weights_CD: Floats) -> Floats:
        by_law_C, by_counts_C = self.law.predict(weights_CD), self.counted.predict(weights_CD)
        return self.law_share * by_law_C + (1 - self.law_share) * by_counts_C

    def gradient(self, weights_CD: Floats) -> Floats:
        by_law_CD, by_counts_CD = self.law.gradient(weights_CD), self.counted.gradient(weights_CD)
        return self.law_share * by_law_CD + (1 - self.law_share) * by_counts_CD

    def spread(self, weights_CD: Floats) -> Floats | None:
        return self.law.spread(weights_CD)
