"""Many proxies as one model: K sets of weights in front, batched matrix products, every set with its own rows and loss.

A GPU is far too large for one proxy; a stack of K fills it with the same arithmetic. Nothing is summed over the sets
on the way to a gradient, so a set does not see its neighbours, not even one that has become NaN: gradients are clipped
by each set's own norm, AdamW is elementwise. A set starts from the parameters of :class:`ProxyModel` with its seed and
follows it to rounding (tests/train/test_stacked.py). On a CPU a stack of eight 0.3m proxies costs what eight runs one
after another cost, no less (docs/swarm.md), so there it is used only when asked for.

On a GPU matrix products are bfloat16; weights, moments, norms and the softmax stay float32.

Shapes in names: K sets, B rows of a set, L positions, T = B x L tokens of a set, C width, V vocabulary, H heads,
D width of a head.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from redone_data.proxy_shape import ProxyShape
from redone_train.proxy_model import EPSILON, LOSS_CHUNK_TOKENS, ProxyModel, rotate
from redone_train.proxy_rate import WEIGHT_DECAY, embedding_learning_rate

# Elements of the logits that exist at a time on a GPU: 1 GiB as float32, and about twice that beside them.
GPU_LOGITS = 1 << 28


class ProxyStack(nn.Module):
    """K proxies of one shape, a seed each; their parameters are those of :class:`ProxyModel`, stacked."""

    def __init__(
        self, shape: ProxyShape, vocab_size: int, context: int, seeds: Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()
        models = [ProxyModel(shape, vocab_size, context, seed) for seed in seeds]
        self.shape, self.num_sets, self.vocab_size = shape, len(models), vocab_size
        self.embedding = _stacked([model.embedding for model in models])
        self.blocks = nn.ModuleList(
            _StackedBlock([model.blocks[i] for model in models], shape.heads) for i in range(shape.layers)
        )
        self.norm = _stacked([model.norm.weight for model in models])
        self.cos_LD: Tensor
        self.sin_LD: Tensor
        self.first_row_K11: Tensor
        self.register_buffer("cos_LD", models[0].cos_LD, persistent=False)
        self.register_buffer("sin_LD", models[0].sin_LD, persistent=False)
        self.register_buffer("first_row_K11", torch.arange(self.num_sets)[:, None, None] * vocab_size, persistent=False)
        self.to(device)
        on_gpu = self.embedding.is_cuda
        self.dtype = torch.bfloat16 if on_gpu else torch.float32
        # On a CPU the logits of one set at a time stay in the cache; a GPU wants all sets at once.
        self.sets_at_a_time = self.num_sets if on_gpu else 1
        self.tokens_at_a_time = (
            max(LOSS_CHUNK_TOKENS, GPU_LOGITS // (self.num_sets * vocab_size)) if on_gpu else LOSS_CHUNK_TOKENS
        )

    def losses(self, tokens_KBL: Tensor, targets_KBL: Tensor) -> Tensor:
        """Each set's mean cross-entropy in nats per token; their sum is to be differentiated."""
        losses_K: Tensor = _ChunkedCrossEntropies.apply(  # type: ignore[no-untyped-call]
            self._hidden(tokens_KBL), self.embedding, targets_KBL.flatten(1), *self._chunks()
        )
        return losses_K

    @torch.no_grad()
    def total_nats(self, tokens_BL: Tensor, targets_BL: Tensor) -> Tensor:
        """The sum of each set's cross-entropies over the same rows, in nats."""
        tokens_KBL = tokens_BL.expand(self.num_sets, *tokens_BL.shape)
        targets_KT = targets_BL.flatten().expand(self.num_sets, -1)
        losses_K, _, _ = _cross_entropies(
            self._hidden(tokens_KBL), self.embedding, targets_KT, *self._chunks(), gradients=None
        )
        return losses_K

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """As :meth:`ProxyModel.parameter_groups`: embeddings at their own rate, matrices decayed, gains not."""
        others = [parameter for parameter in self.parameters() if parameter is not self.embedding]
        embedding_rate = embedding_learning_rate(self.shape, rate)
        return [
            {"params": [self.embedding], "peak": embedding_rate, "weight_decay": 0.0},
            {"params": [p for p in others if p.dim() == 3], "peak": rate, "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in others if p.dim() == 2], "peak": rate, "weight_decay": 0.0},
        ]

    @torch.no_grad()
    def clip_gradients(self, largest: float) -> None:
        """Scale each set's gradients so that their norm is at most `largest`, as clip_grad_norm_ does for one model."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        norm_K = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0).sqrt()
        scale_K = (largest / (norm_K + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale_K.view(-1, *[1] * (gradient.dim() - 1)))

    def _chunks(self) -> tuple[torch.dtype, int, int]:
        return self.dtype, self.sets_at_a_time, self.tokens_at_a_time

    def _hidden(self, tokens_KBL: Tensor) -> Tensor:
        _, num_rows, length = tokens_KBL.shape
        with torch.autocast(tokens_KBL.device.type, dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16):
            # One table of K x V rows, so that one gather serves every set.
            table = self.embedding.flatten(0, 1)
            x_KTC = F.embedding(tokens_KBL + self.first_row_K11, table).flatten(1, 2)
            x_KTC = F.rms_norm(x_KTC, (self.shape.width,), eps=EPSILON)
            for block in self.blocks:
                x_KTC = block(x_KTC, self.cos_LD[:length], self.sin_LD[:length], num_rows)
            return _norm(x_KTC, self.norm)


class _StackedBlock(nn.Module):
    def __init__(self, blocks: Sequence[Any], heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = _stacked([block.attention_norm.weight for block in blocks])
        self.query_key_value = _stacked([block.query_key_value for block in blocks])
        self.attention_out = _stacked([block.attention_out for block in blocks])
        self.mlp_norm = _stacked([block.mlp_norm.weight for block in blocks])
        self.gate_up = _stacked([block.gate_up for block in blocks])
        self.down = _stacked([block.down for block in blocks])

    def forward(self, x_KTC: Tensor, cos_LD: Tensor, sin_LD: Tensor, num_rows: int) -> Tensor:
        num_sets, num_tokens, width = x_KTC.shape
        heads = torch.bmm(_norm(x_KTC, self.attention_norm), self.query_key_value.mT)
        # Attention does not care which set a row belongs to: K x B rows.
        heads = heads.view(num_sets * num_rows, num_tokens // num_rows, 3, self.heads, width // self.heads)
        query_BHLD, key_BHLD, value_BHLD = heads.permute(2, 0, 3, 1, 4)
        query_BHLD, key_BHLD = (rotate(x, cos_LD, sin_LD).to(value_BHLD.dtype) for x in (query_BHLD, key_BHLD))
        mixed_BHLD = F.scaled_dot_product_attention(query_BHLD, key_BHLD, value_BHLD, is_causal=True)
        mixed_KTC = mixed_BHLD.transpose(1, 2).reshape(num_sets, num_tokens, width)
        x_KTC = x_KTC + torch.bmm(mixed_KTC, self.attention_out.mT)
        gate, up = torch.bmm(_norm(x_KTC, self.mlp_norm), self.gate_up.mT).chunk(2, dim=-1)
        return x_KTC + torch.bmm(F.silu(gate) * up, self.down.mT)


def _stacked(parameters: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.stack([parameter.detach() for parameter in parameters]))


def _norm(x_KTC: Tensor, gain_KC: Tensor) -> Tensor:
    return F.rms_norm(x_KTC, x_KTC.shape[-1:], eps=EPSILON) * gain_KC[:, None]


class _ChunkedCrossEntropies(torch.autograd.Function):
    """Mean cross-entropy of each set, its gradients computed on the way forward, as proxy_model does for one model."""

    @staticmethod
    def forward(
        ctx: Any, hidden_KTC: Tensor, weight_KVC: Tensor, targets_KT: Tensor, dtype: torch.dtype, sets: int, tokens: int
    ) -> Tensor:
        mean = 1 / targets_KT.shape[1]
        losses_K, *gradients = _cross_entropies(hidden_KTC, weight_KVC, targets_KT, dtype, sets, tokens, gradients=mean)
        ctx.save_for_backward(*gradients)
        return losses_K * mean

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden_KTC, grad_weight_KVC = ctx.saved_tensors
        scale_K11 = grads[0][:, None, None]
        return grad_hidden_KTC * scale_K11, grad_weight_KVC * scale_K11, None, None, None, None


def _cross_entropies(
    hidden_KTC: Tensor,
    weight_KVC: Tensor,
    targets_KT: Tensor,
    dtype: torch.dtype,
    sets_at_a_time: int,
    tokens_at_a_time: int,
    *,
    gradients: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over each set's targets; their gradients times `gradients`, or empty tensors for None."""
    num_sets, num_tokens = targets_KT.shape
    losses_K = hidden_KTC.new_zeros(num_sets, dtype=torch.float32)
    grad_hidden_KTC = torch.empty_like(hidden_KTC) if gradients else hidden_KTC.new_empty(0)
    grad_weight_KVC = torch.zeros_like(weight_KVC) if gradients else hidden_KTC.new_empty(0)
    hidden_KTC, weight_KVC = hidden_KTC.to(dtype), weight_KVC.to(dtype)
    for first in range(0, num_sets, sets_at_a_time):
        sets = slice(first, first + sets_at_a_time)
        for start in range(0, num_tokens, tokens_at_a_time):
            here = (sets, slice(start, start + tokens_at_a_time))
            targets_KT1 = targets_KT[here][..., None]
            logits_KTV = torch.bmm(hidden_KTC[here], weight_KVC[sets].mT).float()
            softmax_KTV = torch.softmax(logits_KTV, dim=-1)
            # The most likely token's probability is at least 1/V, so its logarithm is safe, and gives the normaliser.
            log_normaliser_KT1 = logits_KTV.amax(-1, keepdim=True) - softmax_KTV.amax(-1, keepdim=True).log()
            losses_K[sets] += (log_normaliser_KT1 - logits_KTV.gather(2, targets_KT1)).sum((1, 2))
            if gradients:
                softmax_KTV.scatter_add_(2, targets_KT1, softmax_KTV.new_full((), -1.0).expand(targets_KT1.shape))
                grad_logits_KTV = softmax_KTV.to(dtype)
                grad_hidden_KTC[here] = torch.bmm(grad_logits_KTV, weight_KVC[sets]).to(grad_hidden_KTC.dtype)
                _add_product(grad_weight_KVC[sets], grad_logits_KTV.mT, hidden_KTC[here])
    if gradients:
        grad_hidden_KTC.mul_(gradients)
        grad_weight_KVC.mul_(gradients)
    return losses_K, grad_hidden_KTC, grad_weight_KVC


def _add_product(total_KVC: Tensor, left_KVT: Tensor, right_KTC: Tensor) -> None:
    if total_KVC.dtype is left_KVT.dtype:
        total_KVC.baddbmm_(left_KVT, right_KTC)
    else:
        total_KVC.add_(torch.bmm(left_KVT, right_KTC))
