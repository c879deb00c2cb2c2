"""Document masks: the attention that keeps the documents of a row apart, and the proof that it does, at the start.

Transformers masks documents from one another where position ids start anew, but only if no attention_mask is given and
no cache is kept, and with FlashAttention only in a batch of one row; otherwise it masks nothing and says nothing, and
training goes on with a lower loss. So there is one way to call the model (`model_inputs`), and a probe of two forward
passes of 384 tokens on the run's own model and rows: of their spread, packed logits are off from those of the documents
alone by 1e-7 (fp32) and .2 % (bf16), and by 30-140 % without masks.

Shapes in names: B rows, L positions, T = B x L tokens, V vocabulary.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from redone_data.errors import RedoneError
from redone_train.train.config import ModelConfig

Attention = Literal["flash_attention_2", "flex_attention", "sdpa", "eager"]
PROBE_ROWS, PROBE_TOKENS, PROBE_DOCUMENT = 2, 192, 50
# How far logits may be off, as a share of their spread, by what is computed in. Measured: see the head of this file.
ROUNDING: Mapping[torch.dtype, float] = {torch.float32: 1e-3, torch.bfloat16: 0.08}


def attention_for(config: ModelConfig, device: torch.device, precision: torch.dtype, architecture: Any) -> Attention:
    """The implementation to load the model with. architecture: the model's Transformers configuration."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.import_utils import is_flash_attn_2_available

    if config.attention != "auto":
        return config.attention
    models: Any = AutoModelForCausalLM._model_mapping
    model = models.get(type(architecture), None)
    if device.type == "cuda":
        half = precision in (torch.bfloat16, torch.float16)
        if half and is_flash_attn_2_available() and getattr(model, "_supports_flash_attn", False):
            return "flash_attention_2"
        if getattr(model, "_supports_flex_attn", False):
            return "flex_attention"
    return "sdpa" if getattr(model, "_supports_sdpa", True) else "eager"


def model_inputs(batch: Mapping[str, Tensor], attention: Attention) -> dict[str, Any]:
    """What the model's forward takes of a batch (`input_ids` and `position_ids`, B x L): the one form that masks.

    With FlashAttention the rows are end to end in one row (1 x T), and so are the logits.
    """
    input_ids, position_ids = batch["input_ids"], batch["position_ids"]
    if attention == "flash_attention_2":
        # It parts documents within a single row; each row begins a document, so that rows are parted too.
        input_ids, position_ids = input_ids.reshape(1, -1), position_ids.reshape(1, -1)
    return {"input_ids": input_ids, "position_ids": position_ids, "use_cache": False}


def check_masks(
    model: Any,
    batch: Mapping[str, Tensor],
    attention: Attention,
    precision: torch.dtype,
    read: Callable[[Any, dict[str, Any]], Tensor] = lambda model, inputs: model(**inputs).logits,
) -> float:
    """How far packed logits are from those of the same documents alone; RedoneError if by more than rounding.

    model: as it is trained, wrapped and on its device (call it on all ranks with the same batch: ZeRO-3 gathers).
    batch: rows of the run. Each row is turned so that its last document comes first, where causality alone keeps all
    others from it: with masks no logit changes. read: what is compared of a forward pass, B x L x V; of a head that
    gives no logits, V is 1: the next token's log-probability.
    """
    tokens_BL, position_BL = probe_rows(batch)
    turned = [int(starts[-1]) for starts in (row.eq(0).nonzero() for row in position_BL)]
    device = next(model.parameters()).device
    with torch.no_grad(), _evaluating(model):
        packed_TV = _logits(model, tokens_BL, position_BL, attention, device, read)
        tokens, positions = (_turned(values, turned) for values in (tokens_BL, position_BL))
        alone_TV = _logits(model, tokens, positions, attention, device, read)
    length = tokens_BL.shape[1]
    back = torch.stack([torch.arange(length).roll(start) + i * length for i, start in enumerate(turned)])
    alone_TV = alone_TV[back.reshape(-1).to(alone_TV.device)]
    means = packed_TV.mean(-1 if packed_TV.shape[-1] > 1 else 0, keepdim=True)
    off, spread = (packed_TV - alone_TV).norm(), (packed_TV - means).norm()
    difference = float(off / spread)
    allowed = ROUNDING.get(precision, ROUNDING[torch.bfloat16])
    if not difference <= allowed:  # NaN too
        raise RedoneError(
            f"model.attention: with {attention} the documents of a row see one another: logits are off by "
            f"{difference:.1%} of their spread, where rounding explains {allowed:.1%}; set model.attention: sdpa or "
            "eager; a model that keeps no attention masks needs data.layout: windows and document_masks: false"
        )
    return difference


def probe_rows(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The beginning of a few rows; a document of more than 50 tokens is cut into several, so that each row has some."""
    tokens_BL = batch["input_ids"][:PROBE_ROWS, :PROBE_TOKENS].cpu()
    longest = max(1, min(PROBE_DOCUMENT, tokens_BL.shape[1] // 3))
    return tokens_BL, batch["position_ids"][:PROBE_ROWS, :PROBE_TOKENS].cpu() % longest


def _turned(values_BL: Tensor, starts: list[int]) -> Tensor:
    return torch.stack([row.roll(-start) for row, start in zip(values_BL, starts, strict=True)])


def _logits(
    model: Any,
    tokens_BL: Tensor,
    position_BL: Tensor,
    attention: Attention,
    device: torch.device,
    read: Callable[[Any, dict[str, Any]], Tensor],
) -> Tensor:
    batch = {"input_ids": tokens_BL.to(device), "position_ids": position_BL.to(device)}
    return read(model, model_inputs(batch, attention)).float().flatten(0, -2)


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Dropout off."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
