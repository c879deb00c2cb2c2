"""From a trained swarm to a proposal: fit, search, validate, and what is recommended in the end.

The proposal is honest by construction: what is recommended was measured beside the prior and the uniform mixture, over
fresh seeds; when one of those measured better by more than the noise, it is recommended instead, and it says so.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from redone_data.config import plain
from redone_data.engine import Output, Step
from redone_data.manifest import atomic, read_json, write_json
from redone_data.mix.config import MixConfig
from redone_data.mix.design import capped, design
from redone_data.mix.fit import Fit, FitRow, fit
from redone_data.mix.proposal import MetricRecord, Proposal
from redone_data.mix.search import Objective, search
from redone_data.mix.swarm import ProxyRun, SwarmConfig, trained
from redone_data.mixture import Mixture
from redone_data.rng import stream, stream_seed

OBJECTIVE = "objective"
PROPOSAL, PRIOR, UNIFORM = "proposal", "prior", "uniform"
# A baseline replaces the found mixture only when it is better by more than this many standard errors.
STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Limits:
    """What the data allows: natural shares, tokens by domain, and the most weight each domain can carry."""

    tokens: dict[str, int]
    budget: int
    max_epochs: float

    @property
    def prior(self) -> Mixture:
        return Mixture.of(self.tokens)

    @property
    def max_weights(self) -> dict[str, float]:
        return {name: min(1.0, tokens * self.max_epochs / self.budget) for name, tokens in self.tokens.items()}

    def baselines(self) -> dict[str, Mixture]:
        """The prior and the uniform mixture as they can be trained: within the caps."""
        names = tuple(self.tokens)
        return {PRIOR: capped(self.prior, self.max_weights), UNIFORM: capped(Mixture.uniform(names), self.max_weights)}

    def epochs(self, mixture: Mixture) -> dict[str, float]:
        return {name: mixture[name] * self.budget / tokens if tokens else 0.0 for name, tokens in self.tokens.items()}


def design_runs(limits: Limits, config: MixConfig, seed: int) -> tuple[ProxyRun, ...]:
    """The swarm's runs: prior, uniform, and mixtures sampled around the prior."""
    mixtures = design(limits.prior, limits.max_weights, config.design, stream(seed, "design"))
    # torch and LightGBM take seeds of 31 bits.
    return tuple(
        ProxyRun(f"run-{i:04d}", stream_seed(seed, "proxy", i) >> 33, mixture) for i, mixture in enumerate(mixtures)
    )


def validation_runs(mixtures: Mapping[str, Mixture], num_seeds: int, seed: int) -> tuple[ProxyRun, ...]:
    """Each mixture with the same few fresh seeds, none of them the swarm's."""
    return tuple(
        ProxyRun(f"{name}-{k + 1}", stream_seed(seed, "validation proxy", k) >> 33, mixture)
        for name, mixture in mixtures.items()
        for k in range(num_seeds)
    )


def scale_of(swarm: SwarmConfig) -> str:
    return f"{swarm.proxy.size} parameters x {swarm.proxy.tokens / 1e6:g}M tokens"


def _fitted(swarm: Output, config: MixConfig, seed: int) -> Fit:
    return fit(trained(swarm.folder), config.fit, seed)


@dataclass(frozen=True)
class FitStep(Step):
    """Surrogates of every metric, judged on held-out runs. Writes fit.json and held_out.parquet."""

    name = "fit"
    VERSION = 1

    swarm: Output
    mix: MixConfig
    seed: int

    def config(self) -> Any:
        return {"fit": plain(self.mix.fit), "seed": self.seed}

    def inputs(self) -> dict[str, str]:
        return {"swarm": self.swarm.fingerprint}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        fitted = _fitted(self.swarm, self.mix, self.seed)
        rows = {"report": [asdict(row) for row in fitted.report], "compared": [asdict(row) for row in fitted.compared]}
        write_json(folder / "fit.json", rows)
        swarm = fitted.swarm
        frame = pl.DataFrame(
            {
                "run_id": [run for run in swarm.run_ids for _ in swarm.metrics],
                "metric": list(swarm.metrics) * len(swarm.run_ids),
                "measured": swarm.losses_RM.ravel(),
                "predicted": fitted.held_out_RM.ravel(),
            }
        )
        with atomic(folder / "held_out.parquet") as aside:
            frame.write_parquet(aside)
        return {"runs": len(swarm.run_ids), "skilled": sorted(row.metric for row in fitted.report if row.skilled)}


@dataclass(frozen=True)
class SearchStep(Step):
    """The best mixture under the caps, by the fitted surrogates. Writes search.json."""

    name = "search"
    VERSION = 1

    swarm: Output
    fitted: Output
    limits: Limits
    mix: MixConfig
    seed: int

    def config(self) -> Any:
        return {
            "search": plain(self.mix.search),
            "fit": plain(self.mix.fit),
            "design": plain(self.mix.design),
            "objective": self.mix.objective(tuple(self.limits.tokens)),
            "limits": plain(self.limits),
            "seed": self.seed,
        }

    def inputs(self) -> dict[str, str]:
        return {"swarm": self.swarm.fingerprint, "fit": self.fitted.fingerprint}

    def tasks(self) -> list[None]:
        return [None]

    def run(self, task: None, index: int, folder: Path) -> dict[str, Any]:
        fitted = _fitted(self.swarm, self.mix, self.seed)
        wanted = self.mix.objective(tuple(self.limits.tokens))
        skilled = {metric: weight for metric, weight in wanted.items() if fitted.has_skill([metric])}
        baselines = self.limits.baselines()
        found: dict[str, Any] = {"unskilled": sorted(set(wanted) - set(skilled))}
        if skilled:
            prior, caps = self.limits.prior, self.limits.max_weights
            objective = Objective(skilled)
            result = search(fitted, objective, prior, caps, self.mix.search, self.mix.design, self.seed)
            mixture = result.mixture
            found |= {"found_by": result.found_by, "binding_caps": list(result.binding_caps)}
            found["nearest_run_distance"] = result.nearest_run_distance
        else:
            mixture = baselines[PRIOR]
            found |= {"found_by": "no skill", "binding_caps": [], "nearest_run_distance": None}
        found["weights"] = dict(mixture)
        found["predicted"] = _predictions(fitted, {PROPOSAL: mixture, **baselines}, wanted)
        write_json(folder / "search.json", _rounded(found))
        return {"found_by": found["found_by"]}


def _rounded(value: Any) -> Any:
    """Twelve significant digits: beyond them lies only the order of additions."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _predictions(
    fitted: Fit, mixtures: Mapping[str, Mixture], wanted: Mapping[str, float]
) -> dict[str, dict[str, dict[str, float]]]:
    """mixture -> metric -> {predicted, low, high}; the objective's interval from the held-out errors of its sum."""
    names = list(mixtures)
    predictions = fitted.predict([mixtures[name] for name in names])
    table: dict[str, dict[str, dict[str, float]]] = {}
    total = sum(wanted.values())
    for i, name in enumerate(names):
        table[name] = {
            metric: {"predicted": float(p.prediction_C[i]), "low": float(p.low_C[i]), "high": float(p.high_C[i])}
            for metric, p in predictions.items()
        }
        # Half-widths add up as if errors were fully correlated: never too narrow.
        table[name][OBJECTIVE] = {
            key: sum(weight * table[name][metric][key] for metric, weight in wanted.items()) / total
            for key in ("predicted", "low", "high")
        }
    return table


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
