"""A mixture: which share of the training tokens each domain gets.

Checked when it is made, so that no function downstream has to ask whether the weights sum to one.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from redone_data.errors import RedoneError, did_you_mean

SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=True)
class Mixture(Mapping[str, float]):
    """Domain name -> share of training tokens; shares are >= 0 and sum to one. Domains are kept in sorted order.

    >>> Mixture.of({"wiki": 1, "posts": 3})
    Mixture(posts=0.75, wiki=0.25)
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise RedoneError("a mixture needs at least one domain")
        if list(self.names) != sorted(set(self.names)) or len(self.names) != len(self.shares):
            raise ValueError(f"names must be sorted, unique and one a share: {self.names}")
        bad = [
            name for name, share in zip(self.names, self.shares, strict=True) if not math.isfinite(share) or share < 0
        ]
        if bad:
            raise RedoneError(f"the weight of domain '{bad[0]}' is {self[bad[0]]}; weights are finite numbers >= 0")
        if abs(sum(self.shares) - 1) > SUM_TOLERANCE:
            raise RedoneError(f"the weights sum to {sum(self.shares):.6g}, not to 1: {dict(self)}")

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> "Mixture":
        """Scale any weights >= 0 (token counts, hand-set numbers) to shares."""
        for name, weight in weights.items():
            if not math.isfinite(weight) or weight < 0:
                raise RedoneError(f"the weight of domain '{name}' is {weight}; weights are finite numbers >= 0")
        total = math.fsum(weights.values())
        if total <= 0:
            raise RedoneError(f"all weights are zero: {dict(weights)}; give at least one domain a positive weight")
        names = tuple(sorted(weights))
        return cls(names, tuple(weights[name] / total for name in names))

    @classmethod
    def uniform(cls, names: Iterator[str] | tuple[str, ...] | list[str]) -> "Mixture":
        return cls.of(dict.fromkeys(names, 1.0))

    def on(self, domains: list[str] | tuple[str, ...]) -> "Mixture":
        """The same shares over `domains`: absent ones get 0; a weight for an unknown domain is an error."""
        for name in self.names:
            if name not in domains:
                raise RedoneError(f"domain '{name}' is not in this corpus; {did_you_mean(name, domains)}")
        return Mixture.of({name: self.get(name, 0.0) for name in domains})

    def __getitem__(self, name: str) -> float:
        return dict(zip(self.names, self.shares, strict=True))[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Mixture({', '.join(f'{name}={share:.4g}' for name, share in self.items())})"
