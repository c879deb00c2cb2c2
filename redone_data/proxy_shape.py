"""How large a proxy is: layers, width and heads, and the shapes that have names.

The named shapes were chosen by measurement, for the loss reached after 0.2M tokens of real text (docs/swarm.md has the
sweep). They stand here because both sides need them: a recipe is refused early, and the trainer builds the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from redone_data.errors import RedoneError, did_you_mean


@dataclass(frozen=True)
class ProxyShape:
    """How wide and how deep; `heads` must divide `width` into even parts (rotary positions turn pairs)."""

    layers: int
    width: int
    heads: int

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 8 or self.heads < 1:
            raise RedoneError(f"a proxy needs layers >= 1, width >= 8 and heads >= 1, not {self}")
        if self.width % (2 * self.heads):
            raise RedoneError(
                f"a proxy's width must be a multiple of twice its heads; {self.width} and {self.heads} are not"
            )

    @property
    def mlp_width(self) -> int:
        """8/3 of the width, in eights: SwiGLU then has the parameters of a plain MLP of four times the width."""
        return int(8 * self.width / 3) // 8 * 8

    def num_parameters(self, vocab_size: int) -> int:
        """All parameters, the tied embedding counted once."""
        block = 4 * self.width**2 + 3 * self.width * self.mlp_width + 2 * self.width
        return vocab_size * self.width + self.layers * block + self.width


# Named by all parameters at a vocabulary of 4,096:        105,288 | 310,976 | 504,096 | 914,048 | 10,424,448
SIZES: Mapping[str, ProxyShape] = {
    "0.1m": ProxyShape(layers=1, width=24, heads=1),
    "0.3m": ProxyShape(layers=1, width=64, heads=2),
    "0.5m": ProxyShape(layers=1, width=96, heads=3),
    "1m": ProxyShape(layers=2, width=128, heads=4),
    "10m": ProxyShape(layers=5, width=384, heads=6),
    "50m": ProxyShape(layers=15, width=512, heads=8),
    "100m": ProxyShape(layers=14, width=768, heads=12),
}


def proxy_shape(size: str | ProxyShape) -> ProxyShape:
    """The shape behind a name.

    >>> proxy_shape("0.3m")
    ProxyShape(layers=1, width=64, heads=2)
    """
    if isinstance(size, ProxyShape):
        return size
    if size not in SIZES:
        raise RedoneError(f"unknown proxy size '{size}'; {did_you_mean(size, SIZES)}")
    return SIZES[size]
