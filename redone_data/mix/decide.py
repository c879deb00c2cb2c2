"""The proposal from what was found and measured: which mixture is recommended, and why, in words.

With measurements the recommendation is one of the measured mixtures: the chosen one, unless a baseline measured better
by more than the noise. No word of it rests on seeds that had a part in the choice.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from redone_data.mix.config import MixConfig
from redone_data.mix.constraints import Constraints
from redone_data.mix.entrants import Entrant
from redone_data.mix.found import Found
from redone_data.mix.limits import OBJECTIVE, PRIOR, UNIFORM, Limits
from redone_data.mix.measured import COUNTED_ONLY, Measurement, scale_of
from redone_data.mix.paired import Noise, mean_difference, shared_seeds
from redone_data.mix.proposal import Difference, FrontPoint, MetricRecord, Proposal, Uncapped
from redone_data.mix.validate import BASELINES, Evidence
from redone_data.mixture import Mixture


def propose(
    found: Found, evidence: Evidence, limits: Limits, mix: MixConfig, allowed: Constraints, seed: int
) -> Proposal:
    """The recommendation and its evidence."""
    searched, differences = found.searched, evidence.differences()
    recommended, decision = _decide(searched, evidence, differences)
    if mix.swarm.proxy.is_counted if evidence.deciding is None else evidence.deciding.is_counted:
        decision += COUNTED_ONLY
    by_name = {item.name: item for item in evidence.entrants}
    mixture = by_name[recommended].mixture
    uncapped = searched.get("uncapped")
    return Proposal(
        weights=dict(mixture),
        prior=dict(by_name[PRIOR].mixture),
        uniform=dict(by_name[UNIFORM].mixture),
        epochs=limits.epochs(mixture),
        seed=seed,
        decision=decision,
        metrics={metric: _record(metric, by_name, recommended, evidence) for metric in searched["predicted"][PRIOR]},
        surrogates={row.metric: row.surrogate for row in found.report},
        skill=found.report,
        objective=mix.objective(tuple(limits.tokens)),
        nearest_run_distance=found.nearest_run_distance(mixture),
        binding_caps=limits.binding(mixture),
        binding=allowed.binding(np.array([mixture[name] for name in allowed.domains])),
        scale=scale_of(mix.swarm),
        seeds=evidence.seeds,
        recommended=recommended,
        finalists=tuple(evidence.candidate(item) for item in evidence.entrants),
        neighbours=tuple(evidence.candidate(item) for item in evidence.neighbours),
        differences=differences,
        diverged=evidence.diverged,
        front=tuple(FrontPoint(**point) for point in searched.get("front", ())),
        uncapped=None if uncapped is None else Uncapped(**uncapped),
        optimism=searched.get("optimism"),
        noise=dict(searched.get("noise") or {}),
        rounds=found.rounds,
        reused=found.reused,
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


def _decide(found: Mapping[str, Any], evidence: Evidence, differences: Sequence[Difference]) -> tuple[str, str]:
    """Which mixture is recommended, and why, in a sentence or two."""
    if found["found_by"] == "no skill":
        return PRIOR, (
            "No surrogate predicts held-out runs: the prior is proposed. More or larger proxy runs may tell."
        )
    note = f" Not predictable, so not searched for: {', '.join(found['unskilled'])}." if found["unskilled"] else ""
    contenders = [item.name for item in evidence.contenders]
    if not contenders:
        return PRIOR, "No mixture is predicted to be better than the prior: the prior is proposed." + note
    measured = evidence.deciding
    if measured is None and evidence.choosing is None:
        return contenders[0], "Found by search on predicted losses; not measured (mix.validate.seeds is 0)." + note
    lost = [name for name in contenders if evidence.choosing and name not in evidence.choosing.losses]
    left_out = f" All proxies of {', '.join(lost)} diverged: left out." if lost else ""
    compared = [*BASELINES, *([evidence.chosen.name] if evidence.chosen else [])]
    diverged = [name for name in compared if measured is None or name not in measured.losses]
    if evidence.chosen is None or measured is None or diverged:
        names = ", ".join(diverged if evidence.chosen else contenders)
        return PRIOR, f"All proxies of {names} diverged, so there is nothing to compare: the prior is proposed."
    hardest = max(
        (row for row in differences if row.name == evidence.chosen.name and row.scale == measured.scale),
        key=lambda row: row.difference,
    )
    words = _figures(hardest, evidence, measured) + left_out + _about_neighbours(evidence, differences) + note
    name, baseline = evidence.chosen.name, hardest.against
    kept, about_retention = _retained(found, evidence, measured, name)
    words += about_retention
    if not kept:
        return PRIOR, f"The mixture '{name}' costs more general ability than allowed, so the prior is proposed: {words}"
    if hardest.noise is not None and hardest.difference < -hardest.noise:
        return name, f"The mixture '{name}' measured better than prior and uniform: {words}"
    if hardest.noise is not None and hardest.difference > hardest.noise:
        return baseline, f"The mixture '{name}' measured worse than {baseline}, so {baseline} is proposed: {words}"
    return name, f"The mixture '{name}' is within the noise of the better baseline: {words}"


def _retained(found: Mapping[str, Any], evidence: Evidence, measured: Measurement, name: str) -> tuple[bool, str]:
    """Whether the general loss, as measured, rises by no more than allowed and noise explain; and a sentence on it."""
    retention = found.get("retention")
    if not retention or retention.get("epsilon") is None:
        return True, ""
    general, allowed = measured.weighted(retention["metrics"]), retention["epsilon"]
    noise = Noise.of(general).half_width(len(shared_seeds(general, name, PRIOR)))
    rise = mean_difference(general, name, PRIOR)
    words = f" General loss against the prior: {rise:+.4f} (allowed {allowed:+.4f}, noise {_written(noise)})."
    return rise <= allowed + (noise or 0.0), words


def _written(noise: float | None) -> str:
    return "unknown (one seed)" if noise is None else f"{noise:.4f}"


def _figures(row: Difference, evidence: Evidence, measured: Measurement) -> str:
    means = [sum(losses) / len(losses) for losses in (measured.values(n, OBJECTIVE) for n in (row.name, row.against))]
    noise = _written(row.noise)
    choice = f"chosen among {len(evidence.contenders)} on other seeds, " if evidence.choosing else ""
    return (
        f"{means[0]:.4f} against {means[1]:.4f} bits per byte ({row.against}), noise {noise}, "
        f"{choice}{row.seeds} fresh seeds, {measured.scale}."
    )


def _about_neighbours(evidence: Evidence, differences: Sequence[Difference]) -> str:
    rows = [row for row in differences if row.name in {item.name for item in evidence.neighbours}]
    if not rows:
        return ""
    best = min(rows, key=lambda row: row.difference)
    if best.noise is None or best.difference >= -best.noise:
        return f" None of {len(rows)} neighbours is better by more than the noise (best: {best.difference:+.4f})."
    return (
        f" Its neighbour '{best.name}' measured better by {-best.difference:.4f}, more than the noise: "
        "the search has not ended at the optimum; more runs near it may gain."
    )


def _record(metric: str, by_name: Mapping[str, Entrant], recommended: str, evidence: Evidence) -> MetricRecord:
    """Measured on fresh seeds, all of it at one scale."""

    def measured(name: str) -> tuple[float | None, float | None]:
        record = evidence.fresh.record(name) if evidence.fresh else None
        return (None, None) if record is None else (record.mean[metric], record.sd[metric])

    def predicted(name: str, key: str = "predicted") -> float | None:
        return by_name[name].predicted.get(metric, {}).get(key)

    (here, here_sd), (prior, prior_sd), (uniform, uniform_sd) = map(measured, (recommended, PRIOR, UNIFORM))
    return MetricRecord(
        predicted=predicted(recommended),
        predicted_prior=predicted(PRIOR),
        predicted_uniform=predicted(UNIFORM),
        low=predicted(recommended, "low"),
        high=predicted(recommended, "high"),
        measured=here,
        measured_sd=here_sd,
        measured_prior=prior,
        measured_prior_sd=prior_sd,
        measured_uniform=uniform,
        measured_uniform_sd=uniform_sd,
    )
