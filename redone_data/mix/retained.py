"""Is general ability kept, as measured? The general loss of a trained mixture against that of the reference.

The search keeps to `mix.retention` by predictions; here the same limit is held against what proxies on fresh seeds
measured. A reference that is a mixture (the natural shares within the cap on epochs, or the recipe's own) is trained
on the same seeds, so the rise is a paired difference. The untouched checkpoint has one loss without noise, so there
the spread over seeds counts in full. A rise that noise explains is no reason to drop a mixture.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from redone_data.mix.front import CHECKPOINT, Retention
from redone_data.mix.limits import PRIOR, REFERENCE, Limits
from redone_data.mix.measured import Measurement
from redone_data.mix.paired import Noise, mean_difference, shared_seeds
from redone_data.mixture import Mixture


def base_mixture(retention: Retention, limits: Limits) -> Mixture | None:
    """The mixture that retention is told against; None: it is the checkpoint."""
    if retention.reference == CHECKPOINT:
        return None
    if not isinstance(retention.reference, dict):
        return limits.baselines()[PRIOR]
    return Mixture.of(retention.reference).on(tuple(limits.tokens))


@dataclass(frozen=True)
class Limit:
    """What retention allows at one scale.

    metrics: metric -> weight in the general loss. reference: the entrant that was trained; None: the checkpoint, whose
    losses are `untouched`.
    """

    metrics: Mapping[str, float]
    epsilon: float
    reference: str | None
    untouched: Mapping[str, float]
    measured: Measurement

    @property
    def against(self) -> str:
        return {None: "the checkpoint", REFERENCE: "the reference mixture"}.get(self.reference, f"the {self.reference}")

    def keeps(self, name: str) -> bool:
        """Whether the mixture's general loss rises by no more than is allowed and noise explains."""
        if name == self.reference:
            return True
        rise, noise = self._rise(name)
        return rise is not None and rise <= self.epsilon + (noise or 0.0)

    def words(self, name: str) -> str:
        rise, noise = self._rise(name)
        if rise is None:
            return f" General loss of {name} against {self.against}: no seed that both finished."
        known = "unknown (one seed)" if noise is None else f"{noise:.4f}"
        allowed = f"allowed {self.epsilon:+.4f}, noise {known}"
        return f" General loss of {name} against {self.against}: {rise:+.4f} ({allowed})."

    def _rise(self, name: str) -> tuple[float | None, float | None]:
        """The rise and the half-width of its interval; None: not known."""
        general = self.measured.weighted(self.metrics)
        if self.reference is None:
            losses = general.get(name, {})
            if not losses:
                return None, None
            total = sum(self.metrics.values())
            before = sum(weight * self.untouched[metric] for metric, weight in self.metrics.items()) / total
            noise = Noise.of_runs(general).half_width(len(losses), mixtures=1)
            return math.fsum(losses.values()) / len(losses) - before, noise
        if not {name, self.reference} <= set(general):
            return None, None
        seeds = len(shared_seeds(general, name, self.reference))
        if not seeds:
            return None, None
        return mean_difference(general, name, self.reference), Noise.of(general).half_width(seeds)
