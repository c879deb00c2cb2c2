"""What the data allows: natural shares, tokens by domain, and the most weight each domain can carry."""

from dataclasses import dataclass

from redone_data.mix.design import capped
from redone_data.mixture import Mixture

OBJECTIVE = "objective"
BINDING_TOLERANCE = 1e-6
PROPOSAL, PRIOR, UNIFORM, REFERENCE = "proposal", "prior", "uniform", "reference"


@dataclass(frozen=True)
class Limits:
    """The natural shares and the caps of a run: available tokens x epochs / budget."""

    tokens: dict[str, int]
    budget: int
    max_epochs: float

    @property
    def prior(self) -> Mixture:
        return Mixture.of(self.tokens)

    @property
    def max_weights(self) -> dict[str, float]:
        return {name: min(1.0, tokens * self.max_epochs / self.budget) for name, tokens in self.tokens.items()}

    @property
    def epochs_at_one(self) -> dict[str, float]:
        """Passes over each domain if it had the whole budget; times a weight, the epochs of that weight."""
        return {name: self.budget / tokens if tokens else 0.0 for name, tokens in self.tokens.items()}

    def baselines(self) -> dict[str, Mixture]:
        """The prior and the uniform mixture as they can be trained: within the caps."""
        names = tuple(self.tokens)
        return {PRIOR: capped(self.prior, self.max_weights), UNIFORM: capped(Mixture.uniform(names), self.max_weights)}

    def binding(self, mixture: Mixture) -> tuple[str, ...]:
        """Domains that would have more weight if there were more of them."""
        caps = self.max_weights
        return tuple(name for name, cap in caps.items() if 0 < cap < 1 and mixture[name] >= cap - BINDING_TOLERANCE)

    def epochs(self, mixture: Mixture) -> dict[str, float]:
        return {name: mixture[name] * epochs for name, epochs in self.epochs_at_one.items()}
