"""What is recommended in the end: one of the mixtures that were trained, with what training it gave.

Entrants, the best measured run, prior and uniform weights are trained on the same few seeds. The lowest objective of
those that were found is chosen; then it, the baselines and, if asked for, its neighbours are trained on fresh seeds,
and only these figures say how good it is: the ones it was chosen on flatter it. When a baseline measured better by more
than the noise (paired.py), it is recommended instead, and the decision says so. With `validate.target` the same three
are trained once more at the target's scale, and that decides. It costs (finalists + 3) x seeds + 3 x fresh seeds
proxies: 21 with the defaults. Of 4 equal mixtures, the one chosen on 2 seeds would look 0.73 standard deviations of a
run better than it is (the least of four normal draws): that is what the fresh seeds take away.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redone_data.engine import Output
from redone_data.mix.config import ScaleConfig, ValidateConfig
from redone_data.mix.constraints import Constraints
from redone_data.mix.entrants import Entrant, distance, neighbours
from redone_data.mix.limits import OBJECTIVE, PRIOR, REFERENCE, UNIFORM
from redone_data.mix.measured import Measurement, scale_of
from redone_data.mix.paired import Losses, Noise, mean_difference, shared_seeds
from redone_data.mix.proposal import Candidate, Difference
from redone_data.mix.swarm import ProxyRun, SwarmConfig, SwarmStep, ValidationStep
from redone_data.mix.transfer import straight
from redone_data.mixture import Mixture
from redone_data.rng import stream_seed

Train = Callable[[type[SwarmStep], tuple[ProxyRun, ...], SwarmConfig], Output]

BASELINES = (PRIOR, UNIFORM)
FOUND = ("found", "run")  # kinds of entrants that one is chosen among
SAME = 1e-9  # of a weight
MIN_LINE = 4  # mixtures measured at a larger scale from which predictions are carried there
CHOOSING, FRESH, TARGET = "finalists", "validation", "target"


class ChoosingStep(SwarmStep):
    """Every finalist and baseline on the seeds that one is chosen on."""

    name = CHOOSING


class TargetStep(SwarmStep):
    """The chosen mixture and the baselines at the target's scale."""

    name = TARGET


def validation_runs(mixtures: Sequence[Entrant], stage: str, num_seeds: int, seed: int) -> tuple[ProxyRun, ...]:
    """Each mixture with the same few seeds; those of the two stages differ, and none of them is the swarm's."""
    drawn = "choosing proxy" if stage == CHOOSING else "validation proxy"
    return tuple(
        ProxyRun(f"{item.name}-{k + 1}", stream_seed(seed, drawn, k) >> 33, item.mixture)
        for item in mixtures
        for k in range(num_seeds)
    )


def at_scale(swarm: SwarmConfig, scale: ScaleConfig | None) -> SwarmConfig:
    """The swarm's configuration with another size and length of proxy; its learning rate by the rule of that size."""
    if scale is None:
        return swarm
    rate = swarm.proxy.learning_rate if scale.size == swarm.proxy.size else None
    return replace(swarm, proxy=replace(swarm.proxy, size=scale.size, tokens=scale.tokens, learning_rate=rate))


def chosen_of(entrants: Sequence[Entrant], choosing: Measurement | None) -> Entrant | None:
    """The found mixture or run with the lowest objective; None: there is none, or all its proxies diverged."""
    contenders = [item for item in entrants if item.kind in FOUND]
    if choosing is None:
        return contenders[0] if contenders else None
    losses = choosing.of(OBJECTIVE)
    contenders = [item for item in contenders if item.name in losses]
    if not contenders:
        return None
    # On the seeds that all of them finished: a seed explains a third of the spread.
    seeds = shared_seeds(losses, *(item.name for item in contenders))
    means = {
        item.name: sum(losses[item.name][seed] for seed in shared) / len(shared)
        for item in contenders
        for shared in [seeds or sorted(losses[item.name])]
    }
    return min(contenders, key=lambda item: means[item.name])


@dataclass(frozen=True)
class Evidence:
    """What was trained to be compared, and what it measured; `chosen` is a found mixture or a run.

    reference: the mixture that retention is told against, which may be the prior; None: there is none, or it is the
    checkpoint.
    """

    entrants: tuple[Entrant, ...]
    chosen: Entrant | None = None
    neighbours: tuple[Entrant, ...] = ()
    reference: Entrant | None = None
    seeds: tuple[int, ...] = ()
    choosing: Measurement | None = None
    fresh: Measurement | None = None
    target: Measurement | None = None
    swarm_scale: str = ""

    @property
    def deciding(self) -> Measurement | None:
        """The measurement at the largest scale on fresh seeds."""
        return self.target or self.fresh

    @property
    def contenders(self) -> list[Entrant]:
        """What was found, by search or among the runs."""
        return [item for item in self.entrants if item.kind in FOUND]

    def differences(self) -> tuple[Difference, ...]:
        """The chosen mixture against each baseline at every scale, and each neighbour against the chosen mixture."""
        if self.chosen is None:
            return ()
        rows: list[Difference] = []
        for measurement in (self.fresh, self.target):
            if measurement is None:
                continue
            same = [self.choosing] if self.choosing and self.choosing.scale == measurement.scale else []
            noise = Noise.of(*(table.of(OBJECTIVE) for table in (measurement, *same)))
            pairs = [(self.chosen.name, baseline) for baseline in BASELINES]
            pairs += [(item.name, self.chosen.name) for item in self.neighbours]
            losses = measurement.of(OBJECTIVE)
            for name, against in pairs:
                if {name, against} <= set(losses):
                    rows += _difference(losses, name, against, noise, measurement.scale)
        return tuple(rows)

    def candidate(self, item: Entrant) -> Candidate:
        """A mixture as the proposal holds it."""
        return Candidate(
            name=item.name,
            kind=item.kind,
            weights=dict(item.mixture),
            predicted={metric: values["predicted"] for metric, values in item.predicted.items()},
            carried=self._carried(item),
            choosing=self.choosing.record(item.name) if self.choosing else None,
            fresh=self.fresh.record(item.name) if self.fresh else None,
            target=self.target.record(item.name) if self.target else None,
        )

    def _carried(self, item: Entrant) -> dict[str, float]:
        """Its predictions at the scale of `choosing`, where that is another: a line a metric through all entrants."""
        if self.choosing is None or self.choosing.scale == self.swarm_scale:
            return {}
        carried = {}
        for metric, values in item.predicted.items():
            pairs = [
                (other.predicted[metric]["predicted"], statistics.fmean(losses))
                for other in self.entrants
                if metric in other.predicted and (losses := self.choosing.values(other.name, metric))
            ]
            if len(pairs) >= MIN_LINE:
                predicted_R, losses_R = (np.array(column) for column in zip(*pairs, strict=True))
                mean, middle, slope = straight(predicted_R, losses_R)
                carried[metric] = middle + slope * (values["predicted"] - mean)
        return carried

    @property
    def diverged(self) -> tuple[str, ...]:
        """Proxies that are left out, with the stage they ran in."""
        stages = ((CHOOSING, self.choosing), (FRESH, self.fresh), (TARGET, self.target))
        return tuple(f"{stage}/{run}" for stage, found in stages if found for run in found.diverged)


def _difference(losses: Losses, name: str, against: str, noise: Noise, scale: str) -> list[Difference]:
    """Nothing where no seed was finished by both."""
    seeds = shared_seeds(losses, name, against)
    if not seeds:
        return []
    return [
        Difference(
            name, against, mean_difference(losses, name, against), noise.half_width(len(seeds)), len(seeds), scale
        )
    ]


def measure(
    entrants: tuple[Entrant, ...],
    config: ValidateConfig,
    swarm: SwarmConfig,
    wanted: Mapping[str, float],
    allowed: Constraints,
    train: Train,
    seed: int,
    reference: Mixture | None = None,
) -> Evidence:
    """Train what is to be compared: to choose, then on fresh seeds, then at the target's scale.

    reference: the mixture that retention is told against; one that is no entrant is trained on the fresh seeds, too.
    """

    def measured(
        kind: type[SwarmStep], mixtures: Sequence[Entrant], seeds: int, scale: ScaleConfig | None
    ) -> Measurement:
        at = at_scale(swarm, scale)
        return Measurement.read(
            train(kind, validation_runs(mixtures, kind.name, seeds, seed), at).folder, scale_of(at), wanted
        )

    if not config.seeds:
        return Evidence(entrants)
    contenders = [item for item in entrants if item.kind in FOUND]
    choosing = measured(ChoosingStep, entrants, config.seeds, config.proxy) if len(contenders) > 1 else None
    chosen = chosen_of(entrants, choosing)
    compared = [item for item in entrants if item.kind == "baseline" or item is chosen]
    told_against = None
    if reference is not None and chosen is not None:
        base = Entrant(REFERENCE, "reference", reference)
        told_against = next((item for item in compared if distance(item.mixture, reference) <= SAME), base)
        compared += [base] if told_against is base else []
    near = () if chosen is None else neighbours(chosen.mixture, allowed, config.neighbours, seed)
    fresh = measured(ValidationStep, [*compared, *near], config.fresh_seeds, config.proxy)
    target = None if config.target is None else measured(TargetStep, compared, config.fresh_seeds, config.target)
    seeds = tuple(dict.fromkeys(run.seed for run in validation_runs(compared, FRESH, config.fresh_seeds, seed)))
    shown = entrants if told_against is None or told_against in entrants else (*entrants, told_against)
    return Evidence(shown, chosen, near, told_against, seeds, choosing, fresh, target, scale_of(swarm))
