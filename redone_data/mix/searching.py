"""All that a search says, as search.json holds it: the proposal with its interval and optimism, the optimum without
caps, the front between targets and general loss, and which mixtures are worth measuring.

A metric that held-out runs do not bear out is not searched for, and not kept by retention; it is named. Where none is
left, on either side that the recipe asks for, the prior is proposed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redone_data.errors import RedoneError
from redone_data.mix.config import MixConfig
from redone_data.mix.constraints import CAPS, Constraints
from redone_data.mix.design import mixture_of
from redone_data.mix.finalists import finalists
from redone_data.mix.fit import Fit
from redone_data.mix.front import general_objective, pareto_front
from redone_data.mix.limits import OBJECTIVE, PRIOR, PROPOSAL, Limits
from redone_data.mix.optimism import optimism
from redone_data.mix.retained import base_mixture
from redone_data.mix.search import Keep, Objective, search
from redone_data.mix.stability import weight_ranges
from redone_data.mixture import Mixture

Floats = NDArray[np.float64]


def searched(
    fit: Fit, mix: MixConfig, limits: Limits, seed: int, untouched: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """The content of search.json. untouched: losses of the checkpoint that proxies went on from, by metric."""
    domains, constraints = fit.domains, Constraints.of(mix, limits)
    baselines = constraints.baselines(limits)
    wanted, kept = mix.objective(tuple(limits.tokens)), mix.general(tuple(limits.tokens))
    skilled = {metric: weight for metric, weight in wanted.items() if fit.has_skill([metric])}
    general = general_objective(kept, {metric: 1.0 for metric in kept if fit.has_skill([metric])})
    unkept = sorted(metric for metric in kept if not fit.has_skill([metric])) if mix.retention else []
    found: dict[str, Any] = {
        "unskilled": sorted({*wanted, *unkept} - {*skilled, *(general.metrics if general else ())}),
        "noise": {metric: fit.noise[metric] for metric in sorted(fit.metrics)},
    }
    if not skilled or (mix.retention and kept and general is None):
        prior = baselines[PRIOR]
        nothing: dict[str, Any] = {"front": [], "finalists": [], "uncapped": None, "optimism": None, "retention": None}
        found |= {"found_by": "no skill", "binding_caps": [], "binding": [], "nearest_run_distance": None, **nothing}
        return found | {"weights": dict(prior), "predicted": predictions(fit, {PROPOSAL: prior, **baselines}, wanted)}

    objective, keep = Objective(skilled), None
    if mix.retention is not None and general is not None:
        base = base_mixture(mix.retention, limits)
        if base is None:
            before = _of_checkpoint(general, untouched)
        else:
            before = float(general.predict(fit, fit.weights_of([base]))[0])
        keep = Keep(general, before + mix.retention.epsilon)

    def best(within: Constraints) -> Any:
        return search(fit, objective, within, limits.prior, mix.search, mix.design, seed, keep=keep)

    result, uncapped = best(constraints), best(constraints.without_caps())
    weights_D = np.array(result.mixture.shares)  # of the same domains in the same order, and not scaled again
    listed = finalists(result, weights_D)
    others = {item.name: mixture_of(domains, item.weights_D) for item in listed if item.name != "best"}
    flattered = optimism(fit, objective, constraints, limits.prior, mix.design, seed)
    front = [] if general is None else pareto_front(result.space, general, result.pool_CD, weights_D)
    at_proposal = {} if general is None else {"predicted": float(general.predict(fit, weights_D[None])[0])}
    return found | {
        "found_by": result.found_by,
        "weights": dict(result.mixture),
        "predicted": predictions(fit, {PROPOSAL: result.mixture, **baselines, **others}, wanted, flattered),
        "binding": list(result.binding),
        "binding_caps": [name[len(CAPS) + 2 : -1] for name in result.binding if name.startswith(f"{CAPS} (")],
        "nearest_run_distance": result.nearest_run_distance,
        "optimism": flattered,
        "uncapped": {
            "weights": dict(uncapped.mixture),
            "epochs": limits.epochs(uncapped.mixture),
            "predicted": uncapped.predicted,
        },
        "weight_ranges": weight_ranges(fit, objective, constraints, limits.prior, mix.design, seed, keep),
        "retention": None
        if keep is None or mix.retention is None
        else {**at_proposal, "most": keep.most, "metrics": keep.general.weights, "epsilon": mix.retention.epsilon},
        "front": [
            {
                "weights": dict(zip(domains, point.weights_D.tolist(), strict=True)),
                "objective": point.objective,
                "retention": point.retention,
                "chosen": point.chosen,
            }
            for point in front
        ],
        "finalists": [
            {
                "name": item.name,
                "weights": dict(zip(domains, item.weights_D.tolist(), strict=True)),
                "predicted": item.predicted,
            }
            for item in listed
        ],
    }


def _of_checkpoint(general: Objective, untouched: Mapping[str, float] | None) -> float:
    missing = sorted(set(general.metrics) - set(untouched or ()))
    if untouched is None or missing:
        raise RedoneError(
            "mix.retention.reference: checkpoint needs the checkpoint's own losses, and the swarm's base.json does not "
            f"have {', '.join(missing) or 'any'}; a trainer of your own writes it (docs/swarm.md), or name a base mix"
        )
    return sum(weight * untouched[metric] for metric, weight in general.weights.items())


def predictions(
    fit: Fit, mixtures: Mapping[str, Mixture], wanted: Mapping[str, float], optimism: float | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """mixture -> metric -> {predicted, low, high}; the objective among them, the proposal's raised by its optimism."""
    names = list(mixtures)
    predicted = fit.predict([mixtures[name] for name in names])
    table: dict[str, dict[str, dict[str, float]]] = {}
    total = sum(wanted.values())
    for i, name in enumerate(names):
        table[name] = {
            metric: {"predicted": float(p.prediction_C[i]), "low": float(p.low_C[i]), "high": float(p.high_C[i])}
            for metric, p in predicted.items()
        }
        raised = max(optimism or 0.0, 0.0) if name == PROPOSAL else 0.0
        # Half-widths add up as if errors were fully correlated: never too narrow.
        table[name][OBJECTIVE] = {
            key: sum(weight * table[name][metric][key] for metric, weight in wanted.items()) / total + raised
            for key in ("predicted", "low", "high")
        }
    return table
