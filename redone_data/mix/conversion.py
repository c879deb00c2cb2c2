"""Weights in the proxies' tokens from weights in the target's, and back, through bytes of text.

A weight is a share of the target tokenizer's tokens: that is what the large model is trained on and what a budget
counts. Proxies with another tokenizer (a small vocabulary, or that of the checkpoint they start from) see the same
*text* when domain j has a share of their tokens in proportion to

    weight_j x (bytes a target token)_j / (bytes a proxy token)_j.

Both rates are measured on the whole pool of the domain, end-of-document tokens included, so nothing is estimated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from redone_data.errors import RedoneError
from redone_data.mixture import Mixture
from redone_data.tokens.pool import Pool


@dataclass(frozen=True)
class Conversion:
    """How many tokens the same text takes, by domain: `target` and `proxy` tokens of the whole training pools."""

    target: dict[str, int]
    proxy: dict[str, int]

    def __post_init__(self) -> None:
        assert set(self.target) == set(self.proxy), "both pools hold the same domains"
        for name in sorted(self.target):
            if (self.target[name] > 0) != (self.proxy[name] > 0):
                raise RedoneError(
                    f"domain '{name}' has tokens in only one of the two tokenizers' pools; make them again"
                )

    @classmethod
    def between(cls, target: Mapping[str, Pool], proxy: Mapping[str, Pool]) -> "Conversion":
        """From the pools of one corpus under both tokenizers. Raises RedoneError if their text differs."""
        for name in sorted({*target, *proxy}):
            sizes = [pools[name].bytes if name in pools else None for pools in (target, proxy)]
            if sizes[0] != sizes[1]:
                raise RedoneError(f"domain '{name}': the two pools hold other text ({sizes[0]} and {sizes[1]} bytes)")
        return cls({name: pool.tokens for name, pool in target.items()}, {n: pool.tokens for n, pool in proxy.items()})

    def to_proxy(self, mixture: Mixture) -> Mixture:
        """Shares of proxy tokens that show the same text as these shares of target tokens."""
        return _reweighed(mixture, self.proxy, self.target)

    def to_target(self, mixture: Mixture) -> Mixture:
        """The inverse of :meth:`to_proxy`."""
        return _reweighed(mixture, self.target, self.proxy)

    def budget(self, target_tokens: int) -> int:
        """The real run's budget in proxy tokens, for the natural mixture; other mixtures differ by their own rates."""
        return max(1, round(target_tokens * sum(self.proxy.values()) / sum(self.target.values())))


def _reweighed(mixture: Mixture, to: Mapping[str, int], of: Mapping[str, int]) -> Mixture:
    # Both counts are of the same bytes, which cancel.
    return Mixture.of({name: weight * to[name] / of[name] if weight else 0.0 for name, weight in mixture.items()})
