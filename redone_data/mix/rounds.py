"""Which proxies are trained: the runs of a swarm."""

from redone_data.mix.config import MixConfig
from redone_data.mix.design import design
from redone_data.mix.limits import Limits
from redone_data.mix.swarm import ProxyRun
from redone_data.rng import stream, stream_seed


def design_runs(limits: Limits, config: MixConfig, seed: int) -> tuple[ProxyRun, ...]:
    """The swarm's runs: prior, uniform, and mixtures sampled around the prior."""
    mixtures = design(limits.prior, limits.max_weights, config.design, stream(seed, "design"))
    # torch and LightGBM take seeds of 31 bits.
    return tuple(
        ProxyRun(f"run-{i:04d}", stream_seed(seed, "proxy", i) >> 33, mixture) for i, mixture in enumerate(mixtures)
    )
