"""The proposal from what was found and measured: which mixture is recommended, and why, in words.

With measurements the recommendation is one of the measured mixtures: the chosen one, unless a baseline measured better
by more than the noise. No word of it rests on seeds that had a part in the choice.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from redone_data.mix.config import MixConfig
from redone_data.mix.constraints import Constraints
from redone_data.mix.entrants import DISTINCT, Entrant, distance
from redone_data.mix.found import Found
from redone_data.mix.limits import OBJECTIVE, PRIOR, UNIFORM, Limits
from redone_data.mix.measured import COUNTED_ONLY, Measurement, scale_of
from redone_data.mix.proposal import Difference, FrontPoint, MetricRecord, Proposal, Uncapped
from redone_data.mix.retained import Limit
from redone_data.mix.validate import BASELINES, Evidence
from redone_data.mixture import Mixture


def propose(
    found: Found, evidence: Evidence, limits: Limits, mix: MixConfig, allowed: Constraints, seed: int
) -> Proposal:
    """The recommendation and its evidence."""
    searched, differences = found.searched, evidence.differences()
    recommended, decision = _decide(found, evidence, differences)
    by_name = {item.name: item for item in evidence.entrants}
    decision += _about_baselines(limits, allowed, {name: by_name[name].mixture for name in BASELINES})
    if mix.swarm.proxy.is_counted if evidence.deciding is None else evidence.deciding.is_counted:
        decision += COUNTED_ONLY
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
        diverged=(*found.diverged, *evidence.diverged),
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


def _decide(found: Found, evidence: Evidence, differences: Sequence[Difference]) -> tuple[str, str]:
    """Which mixture is recommended, and why, in a sentence or two."""
    searched, note = found.searched, ""
    if found.diverged:
        names = [run.rpartition("/")[2] for run in found.diverged]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        note = f" {len(names)} proxies of the swarm diverged and are left out: {', '.join(names[:5])}{more}."
    if searched["found_by"] == "no skill":
        return PRIOR, (
            "No surrogate predicts held-out runs: the prior is proposed. More or larger proxy runs may tell." + note
        )
    if searched["unskilled"]:
        note = f" Not predictable, so not searched for: {', '.join(searched['unskilled'])}." + note
    contenders = [item.name for item in evidence.contenders]
    if not contenders:
        return PRIOR, "No mixture is predicted to be better than the prior: the prior is proposed." + note
    measured = evidence.deciding
    if measured is None and evidence.choosing is None:
        return contenders[0], "Found by search on predicted losses; not measured (mix.validate.seeds is 0)." + note
    lost = [name for name in contenders if evidence.choosing and name not in evidence.choosing.losses]
    left_out = f" All proxies of {', '.join(lost)} diverged: left out." if lost else ""
    compared = [*BASELINES, *(item.name for item in (evidence.chosen, evidence.reference) if item)]
    diverged = [name for name in compared if measured is None or name not in measured.losses]
    if evidence.chosen is None or measured is None or diverged:
        names = diverged if evidence.chosen else contenders
        return (
            PRIOR,
            f"All proxies of {', '.join(names)} diverged, so there is nothing to compare: the prior is proposed.",
        )
    rows = [row for row in differences if row.name == evidence.chosen.name and row.scale == measured.scale]
    if not rows:
        return PRIOR, f"'{evidence.chosen.name}' and the baselines finished no seed in common: the prior is proposed."
    name, limit = evidence.chosen.name, _limit(found, evidence, measured)
    # A baseline that loses more general ability than allowed is no rival.
    rivals = [row for row in rows if limit is None or limit.keeps(row.against)]
    hardest = max(rivals or rows, key=lambda row: row.difference)
    words = _figures(hardest, evidence, measured) + left_out + _about_neighbours(evidence, differences) + note
    words += "" if limit is None else limit.words(name)
    if limit is not None and not limit.keeps(name):
        words += "" if limit.keeps(PRIOR) else limit.words(PRIOR) + " So the prior does not keep it either."
        return PRIOR, f"The mixture '{name}' costs more general ability than allowed, so the prior is proposed: {words}"
    baseline = hardest.against
    if limit is not None and not rivals:
        return name, f"The mixture '{name}' keeps general ability, which prior and uniform do not: {words}"
    if hardest.noise is not None and hardest.difference < -hardest.noise:
        return name, f"The mixture '{name}' measured better than {_listed(rivals)}: {words}"
    if hardest.noise is not None and hardest.difference > hardest.noise:
        return baseline, f"The mixture '{name}' measured worse than {baseline}, so {baseline} is proposed: {words}"
    return name, f"The mixture '{name}' is within the noise of the better baseline: {words}"


def _limit(found: Found, evidence: Evidence, measured: Measurement) -> Limit | None:
    """What mix.retention asks of measured mixtures; None: nothing, or of metrics that could not be predicted."""
    retention = found.searched.get("retention")
    if not retention or retention.get("epsilon") is None:
        return None
    reference = None if evidence.reference is None else evidence.reference.name
    return Limit(retention["metrics"], retention["epsilon"], reference, found.untouched or {}, measured)


def _listed(rivals: Sequence[Difference]) -> str:
    return " and ".join(name for name in BASELINES if name in {row.against for row in rivals})


def _about_baselines(limits: Limits, allowed: Constraints, compared: Mapping[str, Mixture]) -> str:
    """What had to be changed in the natural and the equal shares before they could be trained, and by which keys."""
    words = ""
    for name, plain in ((PRIOR, limits.prior), (UNIFORM, Mixture.uniform(tuple(limits.tokens)))):
        moved = distance(compared[name], plain)
        if moved >= DISTINCT:
            weights_D = np.array([compared[name][domain] for domain in allowed.domains])
            keys = ", ".join(allowed.binding(weights_D)) or "the recipe's constraints"
            words += f" The {name} mixture is compared within {keys}: {moved:.1%} of its tokens changed their domain."
    return words


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
