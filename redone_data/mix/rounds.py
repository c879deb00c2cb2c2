"""Which proxies are trained: the runs of a swarm."""

from collections.abc import Sequence

import numpy as np

from redone_data.mix.config import MixConfig
from redone_data.mix.design import design
from redone_data.mix.limits import Limits
from redone_data.mix.swarm import ProxyRun
from redone_data.mix.tables import Swarm
from redone_data.rng import stream, stream_seed


def design_runs(limits: Limits, config: MixConfig, seed: int) -> tuple[ProxyRun, ...]:
    """The swarm's runs: prior, uniform, and mixtures sampled around the prior."""
    mixtures = design(limits.prior, limits.max_weights, config.design, stream(seed, "design"))
    # torch and LightGBM take seeds of 31 bits.
    return tuple(
        ProxyRun(f"run-{i:04d}", stream_seed(seed, "proxy", i) >> 33, mixture) for i, mixture in enumerate(mixtures)
    )


def together(swarms: Sequence[Swarm]) -> Swarm:
    """The runs of several swarms as one; their domains and metrics are the same, their run ids differ."""
    first = swarms[0]
    assert all((s.domains, s.metrics) == (first.domains, first.metrics) for s in swarms), "swarms of one recipe"
    return Swarm(
        tuple(run_id for swarm in swarms for run_id in swarm.run_ids),
        first.domains,
        first.metrics,
        np.concatenate([swarm.weights_RD for swarm in swarms]),
        np.concatenate([swarm.losses_RM for swarm in swarms]),
    ).in_order()
