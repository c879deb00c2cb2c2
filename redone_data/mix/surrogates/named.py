"""From a mixture to its loss: the models that are fitted to the proxy runs.

From plain to strong: `linear` is the baseline that must be beaten; `lightgbm` is RegMix's choice (arXiv 2407.01492)
and needs hundreds of runs; `loglinear` is the data mixing law (arXiv 2403.16952); `saturating` is the law L(w) = c +
(b + sum_j a_j w_j^p_j)^(-g), in which every domain helps with falling returns, and may harm when repeated too often;
`gp` is a Gaussian process, free of any form; `law_gp` is the saturating law with a process on its residuals. The last
is the one to start from at any number of runs. Spearman on the published RegMix tables (17 domains, 1M proxies, 256
test mixtures, mean of 13 metrics, mean of 5 draws, one at 512), on the best 25 % of the runs after a fit to the worst
75 %, and on olmix's swarm (24 domains, 64 training runs, average of 110 metrics, mean of 5 draws), with the seconds
of CPU for one fit of 64 and of 512 runs (benchmarks/regression.py):
    runs          20     32     64    128    512   best 25 %   olmix   seconds
    linear      .570   .659   .745   .800   .833        .937    .819   0.001, 0.001
    lightgbm    .891   .939   .962   .975   .989        .111    .961   0.03, 0.13
    loglinear   .688   .863   .938   .958   .974        .910    .844   0.001, 0.004
    saturating  .976   .982   .987   .989   .991        .958    .973   0.007, 0.024
    gp          .924   .955   .975   .987   .993       -.798    .978   0.005, 0.07
    law_gp      .976   .982   .987   .989   .993        .948    .973   0.015, 0.10

Shapes: R runs, C candidates, D domains, T parameters.
"""

from redone_data.errors import RedoneError, did_you_mean
from redone_data.mix.surrogates.base import Surrogate
from redone_data.mix.surrogates.gp import GaussianProcess
from redone_data.mix.surrogates.law_gp import LawWithProcess
from redone_data.mix.surrogates.linear import LinearSurrogate
from redone_data.mix.surrogates.loglinear import LogLinearLaw
from redone_data.mix.surrogates.saturating import SaturatingLaw
from redone_data.mix.surrogates.screened import ScreenedSurrogate
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
        ScreenedSurrogate(),
    )
}


def surrogate_named(name: str) -> Surrogate:
    """The surrogate of this name with its default settings."""
    if name not in SURROGATES:
        raise RedoneError(f"there is no surrogate '{name}'; {did_you_mean(name, SURROGATES)}")
    return SURROGATES[name]
