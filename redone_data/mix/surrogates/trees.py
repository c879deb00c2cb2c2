"""Boosted trees, RegMix's choice (arXiv 2407.01492): they need hundreds of runs. 0.04 s for 64 runs, 0.24 s for 512."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from redone_data.mix.surrogates.base import NOTHING, Beside, Fitted, Floats, Surrogate

if TYPE_CHECKING:
    import lightgbm


@final
@dataclass(frozen=True)
class LightGBMSurrogate(Surrogate):
    """Boosted trees with a fixed number of rounds: RegMix stops early on its test set, which leaks.

    rounds, learning_rate: of boosting.
    runs_per_leaf: leaves grow with the number of runs, one for so many runs, between 3 and 31; LightGBM's default
        of 20 runs a leaf predicts a constant below 40 runs, so the least number in a leaf is scaled too.
    bins: of each weight. LightGBM's default of 255 takes half as long again for 512 runs, and ranks RegMix's test
        mixtures no better. 15 leaves would save a third more, but rank the best runs from the worst less well.
    """

    name: ClassVar[str] = "lightgbm"
    rounds: int = 400
    learning_rate: float = 0.05
    runs_per_leaf: int = 6
    bins: int = 63

    def fit(self, weights_RD: Floats, losses_R: Floats, rng: np.random.Generator, beside: Beside = NOTHING) -> Fitted:
        runs = len(losses_R)
        mean, scale = float(losses_R.mean()), float(losses_R.std()) or 1.0
        parameters = {
            "objective": "regression",
            "learning_rate": self.learning_rate,
            "num_leaves": int(np.clip(runs // self.runs_per_leaf, 3, 31)),
            "min_data_in_leaf": int(np.clip(runs // 20, 2, 10)),
            "max_bin": self.bins,
            "min_data_in_bin": 1,
            "min_sum_hessian_in_leaf": 0.0,
            "feature_pre_filter": False,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": 1,
            "seed": int(rng.integers(2**31 - 1)),
            "verbosity": -1,
        }
        import lightgbm  # brings pandas; only fits need it

        data = lightgbm.Dataset(weights_RD, label=(losses_R - mean) / scale, params=parameters)
        # Else the trees are written out as text and read again, a third of the time for few runs.
        booster = lightgbm.train(parameters, data, num_boost_round=self.rounds, keep_training_booster=True)
        return _Trees(booster, mean, scale)


@final
@dataclass(frozen=True)
class _Trees(Fitted):
    smooth: ClassVar[bool] = False
    difference: ClassVar[float] = 0.02  # wide enough to cross a step of the trees

    booster: "lightgbm.Booster"
    mean: float
    scale: float

    def predict(self, weights_CD: Floats) -> Floats:
        prediction_C = np.asarray(self.booster.predict(weights_CD, num_threads=1), dtype=np.float64)
        return self.mean + self.scale * prediction_C
