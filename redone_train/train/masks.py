"""Document masks: the attention that keeps the documents of a row apart, and the proof that it does, at the start.

Transformers masks documents from one another where position ids start anew, but only if no attention_mask is given and
no cache kept; otherwise it says nothing and masks nothing (logits are off by 1.5).
"""

from typing import Any, Literal

import torch
from torch import Tensor

from redone_train.train.config import ModelConfig

Attention = Literal["flash_attention_2", "flex_attention", "sdpa", "eager"]


def attention_for(config: ModelConfig, device: torch.device) -> Attention:
    """The implementation to load the model with."""
    from transformers.utils.import_utils import is_flash_attn_2_available

    if config.attention != "auto":
        return config.attention
    if device.type != "cuda":
        return "sdpa"
    return "flash_attention_2" if is_flash_attn_2_available() else "flex_attention"


def model_inputs(batch: dict[str, Tensor], attention: Attention) -> dict[str, Any]:
    """What the model's forward takes of a batch (B x L `input_ids` and `position_ids`): the one form that masks."""
    names = ("input_ids", "position_ids")
    inputs: dict[str, Any] = {name: batch[name] for name in names}
    if attention == "flash_attention_2":
        # FlashAttention parts documents in a single row only; each row begins a document, so all rows are one.
        inputs = {name: values.reshape(1, -1) for name, values in inputs.items()}
    return {**inputs, "use_cache": False}
