"""What a recipe says about the mixture."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from redone_data.errors import RedoneError, did_you_mean
from redone_data.mix.constraints import Bound, Group, Trust, parts_of
from redone_data.mix.design import DesignConfig
from redone_data.mix.fit import FitConfig
from redone_data.mix.front import Retention
from redone_data.mix.rounds import RoundsConfig
from redone_data.mix.search import SearchConfig
from redone_data.mix.swarm import SwarmConfig, check_size
from redone_data.mixture import Mixture
from redone_data.proxy_shape import ProxyShape


@dataclass(frozen=True)
class ScaleConfig:
    """A size of proxy and how long it is trained; the rest is as in the swarm."""

    size: str | ProxyShape = field(
        metadata={"help": "a name of redone-train's table of sizes, or {layers, width, heads}"}
    )
    tokens: int = field(metadata={"help": "training tokens a proxy"})

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise RedoneError(f"tokens: {self.tokens}; at least 1 is needed")


@dataclass(frozen=True)
class ValidateConfig:
    """Finalists, baselines and the best measured run, trained side by side: chosen on some seeds, judged on others."""

    finalists: int = field(default=3, metadata={"help": "mixtures of the search that are trained"})
    seeds: int = field(default=2, metadata={"help": "seeds a finalist is chosen on; 0 skips the measurement"})
    fresh_seeds: int = field(default=3, metadata={"help": "seeds that only the chosen one and the baselines see"})
    neighbours: int = field(default=0, metadata={"help": "mixtures near the chosen one, on the fresh seeds too"})
    proxy: ScaleConfig | None = field(
        default=None, metadata={"help": "size and tokens of these proxies; default: the swarm's"}
    )
    target: ScaleConfig | None = field(
        default=None, metadata={"help": "size and tokens at which the chosen one and the baselines are trained again"}
    )

    def __post_init__(self) -> None:
        if self.finalists < 1:
            raise RedoneError(f"finalists: {self.finalists}; at least 1 (seeds: 0 skips the measurement)")
        for key in ("seeds", "neighbours"):
            if getattr(self, key) < 0:
                raise RedoneError(f"{key}: {getattr(self, key)}; 0 or more")
        if self.fresh_seeds < 1:
            raise RedoneError(f"fresh_seeds: {self.fresh_seeds}; at least 1 (seeds: 0 skips the measurement)")


@dataclass(frozen=True)
class MixConfig:
    """How domain weights are found. `weights` or `proposal` set them; otherwise a swarm of proxies does."""

    weights: dict[str, float] | None = field(
        default=None, metadata={"help": "fixed by hand: domain -> share, scaled to sum to one"}
    )
    proposal: str | None = field(default=None, metadata={"help": "path of an earlier run's proposal.json"})
    targets: dict[str, float] = field(
        default_factory=dict, metadata={"help": "domain -> weight of its loss in the objective; default: all alike"}
    )
    reuse: tuple[str, ...] = field(
        default=(), metadata={"help": "folders of earlier runs, whose proxies are taken over where they still hold"}
    )
    max_epochs: float = field(default=4.0, metadata={"help": "no domain is repeated more often than this"})
    retention: Retention | None = field(
        default=None, metadata={"help": "general loss is kept: at most that of a reference mixture + epsilon"}
    )
    groups: dict[str, Group] = field(default_factory=dict, metadata={"help": "domains that are bounded together"})
    bounds: dict[str, Bound] = field(default_factory=dict, metadata={"help": "least and greatest share of a domain"})
    trust: Trust = field(default_factory=Trust)
    screen: bool = field(
        default=False,
        metadata={
            "help": "count n-grams too: the fit, and so later batches and the search, may use them (surrogate screened)"
        },
    )
    design: DesignConfig = field(default_factory=DesignConfig)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    swarm: SwarmConfig = field(default_factory=SwarmConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)

    def __post_init__(self) -> None:
        if self.weights is not None and self.proposal is not None:
            raise RedoneError("weights and proposal are both set; keep one")
        if self.weights is not None:
            Mixture.of(self.weights)
        if self.retention is not None and self.retention.reference == "checkpoint" and self.swarm.init is None:
            raise RedoneError("retention.reference: checkpoint needs swarm.init, the checkpoint that is meant")
        for key, scale in (("proxy", self.validate.proxy), ("target", self.validate.target)):
            if scale is not None and self.swarm.command is None:
                check_size(f"validate.{key}.size", scale.size)
        if self.max_epochs <= 0:
            raise RedoneError(f"max_epochs: {self.max_epochs}; above 0")
        if any(weight <= 0 for weight in self.targets.values()):
            raise RedoneError("targets: weights are above 0; leave a domain out instead")

    @property
    def needs_swarm(self) -> bool:
        return self.weights is None and self.proposal is None

    def check_domains(self, domains: tuple[str, ...], pools: tuple[str, ...] = ()) -> None:
        """Raise RedoneError when a weight or target names a domain that the recipe does not have.

        pools: domains that are split; what they hold is known only when they are read.
        """
        retention = self.retention or Retention()
        named: tuple[tuple[str, Iterable[str]], ...] = (
            ("weights", self.weights or {}),
            ("targets", self.targets),
            ("retention.metrics", retention.metrics),
            ("retention.reference", retention.reference if isinstance(retention.reference, dict) else {}),
            ("bounds", self.bounds),
            *((f"groups.{name}.domains", group.domains) for name, group in self.groups.items()),
        )
        for key, names in named:
            for name in names:
                if name not in domains and not any(name.startswith(f"{pool}/") for pool in pools):
                    raise RedoneError(f"mix.{key}: '{name}' is not a domain; {did_you_mean(name, domains)}")
        if self.needs_swarm and len(domains) < 2 and not pools:
            raise RedoneError("mix: one domain alone cannot be mixed; add a domain, or set mix.weights")

    def on_domains(self, natural: Mapping[str, float]) -> "MixConfig":
        """The same for the domains that there are: what names a pool is shared among its parts by their natural shares.

        natural: domain -> natural share. Raises RedoneError for a name that is no domain.
        """
        weights = None if self.weights is None else _shared(self.weights, natural, "weights")
        retention = self.retention
        if retention is not None:
            metrics = _shared(retention.metrics, natural, "retention.metrics")
            retention = replace(retention, metrics=metrics)
            if isinstance(retention.reference, dict):
                reference = _shared(retention.reference, natural, "retention.reference")
                retention = replace(retention, reference=reference)
        targets = _shared(self.targets, natural, "targets")
        return replace(self, weights=weights, targets=targets, retention=retention)

    def general(self, domains: tuple[str, ...]) -> dict[str, float]:
        """Metric -> weight of what is to be kept: `retention.metrics`; else the domains that are no target, alike."""
        if self.retention is not None and self.retention.metrics:
            return dict(sorted(self.retention.metrics.items()))
        return {name: 1.0 for name in domains if self.targets and name not in self.targets}

    def objective(self, domains: tuple[str, ...]) -> dict[str, float]:
        """Metric -> weight of the search objective."""
        return dict(sorted(self.targets.items())) or dict.fromkeys(domains, 1.0)


def _shared(values: Mapping[str, float], natural: Mapping[str, float], key: str) -> dict[str, float]:
    result: dict[str, float] = {}
    for name, value in values.items():
        parts = parts_of(name, natural, f"mix.{key}")
        total = sum(natural[part] for part in parts)
        for part in parts:
            result[part] = result.get(part, 0.0) + value * natural[part] / total
    return result
