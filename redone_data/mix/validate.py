"""What is recommended in the end: the found mixture measured beside prior and uniform weights over fresh seeds.

When a baseline measured better by more than the noise, it is recommended instead, and the decision says so.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from redone_data.engine import Output
from redone_data.manifest import read_json
from redone_data.mix.config import MixConfig
from redone_data.mix.fit import FitRow
from redone_data.mix.limits import OBJECTIVE, PRIOR, PROPOSAL, UNIFORM, Limits
from redone_data.mix.proposal import MetricRecord, Proposal
from redone_data.mix.swarm import ProxyRun, SwarmConfig, trained
from redone_data.mixture import Mixture
from redone_data.rng import stream_seed

# A baseline replaces the found mixture only when it is better by more than this many standard errors.
STANDARD_ERRORS = 2.0


def validation_runs(mixtures: Mapping[str, Mixture], num_seeds: int, seed: int) -> tuple[ProxyRun, ...]:
    """Each mixture with the same few fresh seeds, none of them the swarm's."""
    return tuple(
        ProxyRun(f"{name}-{k + 1}", stream_seed(seed, "validation proxy", k) >> 33, mixture)
        for name, mixture in mixtures.items()
        for k in range(num_seeds)
    )


def scale_of(swarm: SwarmConfig) -> str:
    return f"{swarm.proxy.size} parameters x {swarm.proxy.tokens / 1e6:g}M tokens"


def propose(
    limits: Limits,
    mix: MixConfig,
    seed: int,
    searched: Output,
    fitted: Output,
    validation: Output | None,
    seeds: Sequence[int],
) -> Proposal:
    """The recommendation, after the measurement of the found mixture, the prior and uniform weights."""
    found = read_json(searched.folder / "search.json")
    wanted = mix.objective(tuple(limits.tokens))
    measured = {} if validation is None else measured_losses(validation, wanted)
    candidates = {PROPOSAL: Mixture.of(found["weights"]), **limits.baselines()}
    chosen, decision = _decide(found, measured)
    mixture = candidates[chosen]
    rows = [FitRow(**row) for row in read_json(fitted.folder / "fit.json")["report"]]
    metrics = {metric: _record(metric, chosen, found["predicted"], measured) for metric in found["predicted"][PROPOSAL]}
    return Proposal(
        weights=dict(mixture),
        prior=dict(candidates[PRIOR]),
        uniform=dict(candidates[UNIFORM]),
        epochs=limits.epochs(mixture),
        seed=seed,
        decision=decision,
        metrics=metrics,
        surrogates={row.metric: row.surrogate for row in rows},
        skill=tuple(rows),
        objective=wanted,
        nearest_run_distance=found["nearest_run_distance"],
        binding_caps=tuple(found["binding_caps"]),
        scale=scale_of(mix.swarm),
        seeds=tuple(seeds),
    )


def fixed_proposal(limits: Limits, mixture: Mixture, seed: int, decision: str) -> Proposal:
    """A proposal that was not searched: weights by hand or from an earlier run."""
    baselines = limits.baselines()
    return Proposal(
        weights=dict(mixture),
        prior=dict(baselines[PRIOR]),
        uniform=dict(baselines[UNIFORM]),
        epochs=limits.epochs(mixture),
        seed=seed,
        decision=decision,
    )


def measured_losses(validation: Output, wanted: Mapping[str, float]) -> dict[str, dict[str, list[float]]]:
    """mixture -> metric -> one loss a seed, in bits per byte; the objective among the metrics."""
    swarm = trained(validation.folder)
    total = sum(wanted.values())
    table: dict[str, dict[str, list[float]]] = {}
    for run_id, losses_M in zip(swarm.run_ids, swarm.losses_RM, strict=True):
        of_run = dict(zip(swarm.metrics, map(float, losses_M), strict=True))
        of_run[OBJECTIVE] = sum(weight * of_run[metric] for metric, weight in wanted.items()) / total
        for metric, loss in of_run.items():
            table.setdefault(run_id.rpartition("-")[0], {}).setdefault(metric, []).append(loss)
    return table


def _decide(found: dict[str, Any], measured: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[str, str]:
    """Which mixture is recommended, and why, in a sentence or two."""
    if found["found_by"] == "no skill":
        return PRIOR, (
            "No surrogate predicts held-out runs: the prior is proposed. More or larger proxy runs may tell."
        )
    note = f" Not predictable, so not searched for: {', '.join(found['unskilled'])}." if found["unskilled"] else ""
    objective = {name: losses[OBJECTIVE] for name, losses in measured.items()}
    if objective and not {PROPOSAL, PRIOR, UNIFORM} <= set(objective):
        lost = next(name for name in (PROPOSAL, PRIOR, UNIFORM) if name not in objective)
        return PRIOR, f"All proxies of one mixture ({lost}) diverged, so none can be compared: the prior is proposed."
    if PROPOSAL not in objective:
        return PROPOSAL, "Found by search on predicted losses; not measured (mix.validate.seeds is 0)." + note
    means = {name: statistics.fmean(losses) for name, losses in objective.items()}
    best = min((PRIOR, UNIFORM), key=means.__getitem__)
    gain, noise = means[best] - means[PROPOSAL], STANDARD_ERRORS * _standard_error(objective[PROPOSAL], objective[best])
    seeds = len(objective[PROPOSAL])
    figures = (
        f"{means[PROPOSAL]:.4f} against {means[best]:.4f} bits per byte ({best}), noise {noise:.4f}, {seeds} seeds"
    )
    if gain > noise:
        return PROPOSAL, f"The found mixture measured better than prior and uniform: {figures}." + note
    if gain < -noise:
        return best, f"The found mixture measured worse than {best}, so {best} is proposed: {figures}." + note
    return PROPOSAL, f"The found mixture is within the noise of the better baseline: {figures}." + note


def _standard_error(left: Sequence[float], right: Sequence[float]) -> float:
    """Of the difference of two means, from the pooled spread over seeds."""
    if len(left) < 2 or len(right) < 2:
        return math.inf
    pooled = (statistics.variance(left) + statistics.variance(right)) / 2
    return math.sqrt(pooled * (1 / len(left) + 1 / len(right)))


def _record(
    metric: str,
    chosen: str,
    predicted: Mapping[str, Mapping[str, Mapping[str, float]]],
    measured: Mapping[str, Mapping[str, Sequence[float]]],
) -> MetricRecord:
    def mean(name: str) -> float | None:
        return statistics.fmean(measured[name][metric]) if name in measured else None

    def spread(name: str) -> float | None:
        losses = measured[name][metric] if name in measured else []
        return statistics.stdev(losses) if len(losses) > 1 else None

    return MetricRecord(
        predicted=predicted[chosen][metric]["predicted"],
        predicted_prior=predicted[PRIOR][metric]["predicted"],
        predicted_uniform=predicted[UNIFORM][metric]["predicted"],
        low=predicted[chosen][metric]["low"],
        high=predicted[chosen][metric]["high"],
        measured=mean(chosen),
        measured_sd=spread(chosen),
        measured_prior=mean(PRIOR),
        measured_prior_sd=spread(PRIOR),
        measured_uniform=mean(UNIFORM),
        measured_uniform_sd=spread(UNIFORM),
    )
