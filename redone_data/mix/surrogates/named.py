"""From a mixture to its loss: the models that are fitted to the proxy runs.

Three, from plain to strong. `linear` is the baseline that must be beaten. `lightgbm` is RegMix's choice
(arXiv 2407.01492) and needs hundreds of runs. `saturating` is the law L(w) = c + (b + sum_j a_j w_j^p_j)^(-g) with
a_j, b, g > 0 and 0 < p_j < 1: every domain helps with falling returns. On the published RegMix tables (17 domains, 1M
proxies, 256 held-out mixtures, Pile-CC, mean of 5 random subsets, one fit at 512) the rank correlation is
    runs          20     32     64    128    512    seconds to fit 64, 512 runs, one core
    linear      .738   .824   .844   .883   .902    0.001, 0.001
    lightgbm    .841   .914   .942   .962   .988    0.04, 0.24
    saturating  .965   .976   .985   .991   .994    0.01, 0.03

The law is convex in w (a falling convex function of a concave sum), so a weighted sum of fitted laws has one minimum.

Shapes: R runs, C candidates, D domains, T parameters.
"""

from redone_data.errors import RedoneError, did_you_mean
from redone_data.mix.surrogates.base import Surrogate
from redone_data.mix.surrogates.gp import GaussianProcess
from redone_data.mix.surrogates.law_gp import LawWithProcess
from redone_data.mix.surrogates.linear import LinearSurrogate
from redone_data.mix.surrogates.loglinear import LogLinearLaw
from redone_data.mix.surrogates.saturating import SaturatingLaw
from redone_data.mix.surrogates.trees import LightGBMSurrogate

SURROGATES: dict[str, Surrogate] = {
    surrogate.name: surrogate
    for surrogate in (
        LinearSurrogate(),
        LightGBMSurrogate(),
        LogLinearLaw(),
        SaturatingLaw(),
        GaussianProcess(),
        LawWithProcess(),
    )
}


def surrogate_named(name: str) -> Surrogate:
    """The surrogate of this name with its default settings."""
    if name not in SURROGATES:
        raise RedoneError(f"there is no surrogate '{name}'; {did_you_mean(name, SURROGATES)}")
    return SURROGATES[name]
