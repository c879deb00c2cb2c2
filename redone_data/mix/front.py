"""The trade between gain in the targets and what is kept in general, and the limit on what may be lost."""

from dataclasses import dataclass, field

from redone_data.errors import RedoneError


@dataclass(frozen=True)
class Retention:
    """General ability is kept: the predicted general loss is at most that of the base mix + epsilon."""

    metrics: dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "domain -> weight of its loss in the general loss; default: the domains that are no target"},
    )
    epsilon: float = field(default=0.01, metadata={"help": "bits per byte that the general loss may rise"})
    reference: dict[str, float] | None = field(
        default=None, metadata={"help": "weights of the base mix; null: the natural shares within max_epochs"}
    )

    def __post_init__(self) -> None:
        if self.epsilon < 0:
            raise RedoneError(f"epsilon: {self.epsilon:g}; 0 or more")
        if any(weight <= 0 for weight in self.metrics.values()):
            raise RedoneError("metrics: weights are above 0; leave a domain out instead")
        if self.reference is not None and (
            any(weight < 0 for weight in self.reference.values()) or not sum(self.reference.values()) > 0
        ):
            raise RedoneError("reference: weights are 0 or more, and one of them above 0")
