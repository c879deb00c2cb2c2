"""The fit of several swarms: each metric on the runs that measured it.

Rounds of one recipe measure the same; a reused run has not measured a domain that came later. The fit's own `swarm` is
of the runs that measured everything, so the search trusts no mixture for being near a run that saw half of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from redone_data.mix.fit import Fit, FitConfig, fit
from redone_data.mix.surrogates.base import Beside
from redone_data.mix.tables import Swarm


def fit_together(
    swarms: Sequence[Swarm],
    config: FitConfig,
    seed: int,
    beside: Mapping[str, Beside] | None = None,
    *,
    workers: int = 1,
) -> Fit:
    """One fit of all metrics of these swarms, of which at least one measured all; run ids differ, domains do not."""
    metrics = sorted({metric for swarm in swarms for metric in swarm.metrics})
    whole = [swarm for swarm in swarms if set(swarm.metrics) == set(metrics)]
    assert whole, "the swarm of this recipe measures every domain"
    measured: dict[tuple[int, ...], list[str]] = {}
    for metric in metrics:
        measured.setdefault(tuple(i for i, swarm in enumerate(swarms) if metric in swarm.metrics), []).append(metric)
    fits = [
        fit(together([swarms[i] for i in chosen], names), config, seed, beside, workers=workers)
        for chosen, names in measured.items()
    ]
    if len(fits) == 1:
        return fits[0]
    of = {metric: found for found in fits for metric in found.metrics}
    swarm = together(whole, metrics).in_order()  # as each fit has it: a row divided by its sum once more
    held_out_RM = np.empty_like(swarm.losses_RM)
    for column, metric in enumerate(metrics):
        row_of = {run_id: row for row, run_id in enumerate(of[metric].swarm.run_ids)}
        rows = [row_of[run_id] for run_id in swarm.run_ids]
        held_out_RM[:, column] = of[metric].held_out_RM[rows, of[metric].metrics.index(metric)]
    return replace(
        fits[0],
        swarm=swarm,
        report=tuple(of[metric].row(metric) for metric in metrics),
        compared=tuple(row for metric in metrics for row in of[metric].compared if row.metric == metric),
        dropped={metric: of[metric].dropped[metric] for metric in metrics},
        held_out_RM=held_out_RM,
        fitted={metric: of[metric].fitted[metric] for metric in metrics},
        intervals={metric: of[metric].intervals[metric] for metric in metrics},
        noise={metric: of[metric].noise[metric] for metric in metrics},
    )


def together(swarms: Sequence[Swarm], metrics: Sequence[str]) -> Swarm:
    """The runs of several swarms as one, with the metrics that all of them measured."""
    ordered = [swarm.in_order() for swarm in swarms]
    assert len({swarm.domains for swarm in ordered}) == 1, "swarms of one recipe have its domains"
    return Swarm(
        tuple(run_id for swarm in ordered for run_id in swarm.run_ids),
        ordered[0].domains,
        tuple(metrics),
        np.concatenate([swarm.weights_RD for swarm in ordered]),
        np.concatenate([swarm.losses_RM[:, [swarm.metrics.index(m) for m in metrics]] for swarm in ordered]),
    ).in_order()
