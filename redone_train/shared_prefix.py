"""What all prompts of a task begin with (a system text, solved examples) goes through the model once, not with each.

Its keys and values are laid before the rest of every batch, each row moved right by its padding: column for column the
layout of plain generation padded at the left, so that positions, masks and sliding windows are the same, and so is what
the model says, but for the rounding of sums (benchmarks/generation.py). A row with a shorter rest reads the last shared
tokens again, where it would else read padding. Models that keep more of the past than keys and values (recurrent and
linear attention, attention by chunks) are not supported: they read each prompt whole.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, final

import torch

FEWEST = 16  # shared tokens that are worth it: all prompts begin with a special token or two


@final
class SharedPrefix:
    """The first tokens of every prompt of a set, and what attention keeps of them. model: a causal Transformers one."""

    def __init__(self, model: Any, tokens: Sequence[int]) -> None:
        self.model, self.tokens = model, tokens

    @classmethod
    def of(cls, model: Any, rows: Sequence[Sequence[int]]) -> "SharedPrefix | None":
        """None where too little is shared, or where the model keeps more than keys and values."""
        size = shared_length(rows)
        return cls(model, rows[0][:size]) if len(rows) > 1 and size >= FEWEST and _keeps_keys_alone(model) else None

    def cache(self, padding_B: torch.Tensor, size: int | None = None) -> Any:
        """The first `size` columns (all: as many as there are tokens) of a batch whose rows are padded at the left."""
        columns_C = torch.arange(size or len(self.tokens), device=padding_B.device)
        # What stands where the padding does is masked.
        tokens_BC = (columns_C - padding_B[:, None]).clamp(min=0)
        cache = _empty(self.model)
        for layer, kept in zip(cache.layers, self._kept.layers, strict=True):
            if kept.is_initialized:  # some layers share the keys of others
                layer.update(*(states[0][:, tokens_BC].transpose(0, 1) for states in (kept.keys, kept.values)))
        return cache

    @cached_property
    @torch.inference_mode()
    def _kept(self) -> Any:
        cache = _empty(self.model)
        for layer in cache.layers:
            if layer.is_sliding:
                layer.activate_past_recording()  # rows are moved: none begins where the window of this one does
        tokens = torch.tensor([list(self.tokens)], device=self.model.device)
        self.model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache


def shared_length(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows have in common; the last of the shortest is left to be read.

    >>> shared_length([[1, 2, 3], [1, 2, 4, 5]]), shared_length([[1, 2], [1, 2]]), shared_length([])
    (2, 1, 0)
    """
    if not rows:
        return 0
    least, most = min(rows), max(rows)  # what these two share, all do
    size = min(map(len, rows)) - 1
    return max(next((place for place in range(size) if least[place] != most[place]), size), 0)


def _empty(model: Any) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


def _keeps_keys_alone(model: Any) -> bool:
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    layers = _empty(model).layers
    return (
        kinds <= {"full_attention", "sliding_attention"}
        and bool(layers)
        and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    )
