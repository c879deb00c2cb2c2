"""Which surrogate describes a metric best, by nested cross-validation: the reported score is one of the whole choice.

Inner folds choose: each surrogate predicts the runs of one fold from those of the others, the lowest error wins, but
the linear baseline stays unless it is beaten by `margin`. The error is the mean absolute one: a run without any text of
a domain errs by a bit or two, and squared it would decide alone. Outer folds judge: for each, the choice is made again
without it, and the winner predicts it. So the score reported is that of "compare, choose, predict" on runs that had no
say in it, not that of the luckiest of five (Varma and Simon 2006, doi:10.1186/1471-2105-7-91).

A model without folds i and j serves as inner model of outer fold i, judged on j, and of outer fold j, judged on i: with
K folds, K (K - 1) / 2 + K + 1 fits a surrogate instead of K * K + 1 (16 instead of 26). From MANY_RUNS on, two inner
folds an outer one are enough runs to choose by, and K pairs are fitted.

The folds are a race (Maron and Moore 1994; F-race, Birattari et al. 2002): after each, a surrogate that errs more than
the best on the same runs, by a paired t-test at level LOST, is dropped and not fitted again. The linear baseline always
stays. All surrogates meet the same folds, so who is dropped follows from runs and seed alone. Where the law holds,
boosted trees are gone after one fold of 512 runs, and they were the costliest.

A fold is drawn from the seed and the run ids, so the order of rows means nothing, and runs of the same mixture
(replicates over seeds) share a fold: else a surrogate would be praised for remembering noise.

Shapes: R runs, K folds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redone_data.errors import RedoneError
from redone_data.mix.intervals import growth
from redone_data.mix.scores import mean_error
from redone_data.mix.surrogates.base import Beside, Fitted
from redone_data.mix.surrogates.linear import LinearSurrogate
from redone_data.mix.surrogates.named import surrogate_named
from redone_data.rng import stream, stream_seed

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

MIN_MIXTURES = 4  # below this, held-out scores say nothing
REPLICATE_DECIMALS = 9
LOST = 0.005  # how often a test on one fold may drop a surrogate that is as good as the best
MANY_RUNS = 200


@dataclass(frozen=True, eq=False)
class MetricRuns:
    """One metric's runs, and what is known beside them: all that its surrogates may see."""

    metric: str
    weights_RD: Floats
    losses_R: Floats
    fold_R: Rows
    beside: Beside
    seed: int

    @property
    def folds(self) -> int:
        return int(self.fold_R.max()) + 1

    def fitted(self, name: str, without: Sequence[int] = ()) -> Fitted:
        """The surrogate fitted to the runs outside these folds."""
        keep_R = ~np.isin(self.fold_R, without)
        rng = stream(self.seed, "fit", self.metric, name, *(without or ("all",)))
        return surrogate_named(name).fit(self.weights_RD[keep_R], self.losses_R[keep_R], rng, self.beside)


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen for one metric.

    chosen: the surrogate, and `fitted` is it on all runs.
    nested_R: predictions of each run by a surrogate that was chosen and fitted without its fold.
    held_out: of every surrogate, predictions of each run by a fit without its fold; NaN in folds after it was dropped.
    growth: the error of `fitted` as a share of that of the fits without a fold.
    """

    chosen: str
    fitted: Fitted
    nested_R: Floats
    held_out: dict[str, Floats]
    growth: float


def choose(runs: MetricRuns, names: Sequence[str], margin: float) -> Choice:
    """Compare the surrogates on held-out runs, choose one, and judge the choice."""
    held_out, left = _raced(runs, names)
    chosen = _lowest({name: mean_error(held_out[name], runs.losses_R) for name in left}, margin)
    inner = {name: _without_pairs(runs, name) for name in left}
    nested_R = np.empty_like(runs.losses_R)
    for fold in range(runs.folds):
        out_R = runs.fold_R == fold
        judged_R = np.isfinite(inner[chosen][fold])
        without = {name: mean_error(inner[name][fold, judged_R], runs.losses_R[judged_R]) for name in left}
        nested_R[out_R] = held_out[_lowest(without, margin)][out_R]
    pair_errors = (inner[chosen] - runs.losses_R)[np.isfinite(inner[chosen])]
    shrinks = growth(held_out[chosen] - runs.losses_R, pair_errors, runs.folds)
    return Choice(chosen, runs.fitted(chosen), nested_R, held_out, shrinks)


def _raced(runs: MetricRuns, names: Sequence[str]) -> tuple[dict[str, Floats], list[str]]:
    """Held-out predictions of every surrogate, as far as it came, and who is left after the last fold."""
    held_out = {name: np.full_like(runs.losses_R, np.nan) for name in names}
    left = list(names)
    for fold in range(runs.folds):
        out_R, seen_R = runs.fold_R == fold, runs.fold_R <= fold
        for name in left:
            held_out[name][out_R] = runs.fitted(name, (fold,)).predict(runs.weights_RD[out_R])
        errors = {name: np.abs(held_out[name][seen_R] - runs.losses_R[seen_R]) for name in left}
        best = min(left, key=lambda name: float(errors[name].mean()))
        left = [name for name in left if name == LinearSurrogate.name or not _lost(errors[name] - errors[best])]
    return held_out, left


def _without_pairs(runs: MetricRuns, name: str) -> Floats:
    """K x R: row k has each run's prediction by a fit without fold k and the run's own fold; NaN where none is."""
    predicted_KR = np.full((runs.folds, len(runs.losses_R)), np.nan)
    for first in range(runs.folds):
        for second in range(first + 1, runs.folds):
            if len(runs.losses_R) >= MANY_RUNS and second - first not in (1, runs.folds - 1):
                continue
            model = runs.fitted(name, (first, second))
            for outer, inner in ((first, second), (second, first)):
                rows_R = runs.fold_R == inner
                predicted_KR[outer, rows_R] = model.predict(runs.weights_RD[rows_R])
    return predicted_KR


def _lost(worse_R: Floats) -> bool:
    """Whether errors are larger than the best's on the same runs, by more than luck."""
    if len(worse_R) < 2:
        return False
    from scipy.special import stdtrit  # half a second, and every command reads recipes

    bound = float(stdtrit(len(worse_R) - 1, 1 - LOST)) * worse_R.std(ddof=1) / math.sqrt(len(worse_R))
    return bool(worse_R.mean() > bound)


def _lowest(errors: dict[str, float], margin: float) -> str:
    best = min(errors, key=errors.__getitem__)
    baseline = LinearSurrogate.name if LinearSurrogate.name in errors else best
    return best if errors[best] < (1 - margin) * errors[baseline] else baseline


def rows_of_mixtures(weights_RD: Floats) -> list[Rows]:
    """The rows of each different mixture."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for run, weights_D in enumerate(np.round(weights_RD, REPLICATE_DECIMALS)):
        groups.setdefault(tuple(weights_D.tolist()), []).append(run)
    return [np.array(rows, dtype=np.int64) for rows in groups.values()]


def fold_of_runs(run_ids: Sequence[str], mixtures: Sequence[Rows], folds: int, seed: int) -> Rows:
    """The fold of each run: from the seed and the run ids alone, the same for runs of the same mixture."""
    if len(mixtures) < MIN_MIXTURES:
        raise RedoneError(
            f"the swarm has {len(mixtures)} different mixtures; at least {MIN_MIXTURES} are needed to hold runs out "
            "(raise design.runs, or loosen the caps by more epochs)"
        )
    shuffled = sorted(mixtures, key=lambda rows: stream_seed(seed, "fold", min(run_ids[r] for r in rows)))
    fold_R = np.empty(len(run_ids), dtype=np.int64)
    for position, rows in enumerate(shuffled):
        fold_R[rows] = position % min(folds, len(mixtures))
    return fold_R
