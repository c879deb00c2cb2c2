"""The proxy: a decoder-only transformer so small that a laptop trains hundreds of them.

Pre-norm blocks (RMSNorm, rotary positions, causal SDPA, SwiGLU), normalised tied embeddings. With a vocabulary of 4,096
most of the arithmetic is the output layer, so the models are wide and shallow, and the loss is computed 128 tokens at a
time, which keeps the logits in the cache and leaves their gradient behind: 24-27k tokens/s on one core of an AMD EPYC
for the 0.3m proxy, 20k with all logits at once (training alone, 1,024 tokens a step).

Shapes in names: B rows, L positions, T = B x L tokens, C width, V vocabulary, H heads, D width of a head.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its name everywhere

from redone_data.proxy_shape import ProxyShape
from redone_data.rng import stream_seed
from redone_train.proxy_rate import WEIGHT_DECAY, embedding_learning_rate

LOSS_CHUNK_TOKENS = 128
EMBEDDING_STD = 0.05
EPSILON = 1e-6
ROTARY_BASE = 10_000.0


class ProxyModel(nn.Module):
    """A language model whose parameters depend on (shape, vocabulary, seed) alone."""

    def __init__(self, shape: ProxyShape, vocab_size: int, context: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(stream_seed(seed, "proxy-init") % 2**63)
        self.shape = shape
        self.num_parameters = shape.num_parameters(vocab_size)
        self.embedding = nn.Parameter(torch.empty(vocab_size, shape.width))
        self.embedding.data.normal_(std=EMBEDDING_STD, generator=generator)
        self.blocks = nn.ModuleList(_Block(shape, generator) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=EPSILON)
        head_width = shape.width // shape.heads
        frequency = ROTARY_BASE ** (-torch.arange(0, head_width, 2) / head_width)
        angle_LD = (torch.arange(context)[:, None] * frequency).repeat(1, 2)
        self.cos_LD: Tensor
        self.sin_LD: Tensor
        self.register_buffer("cos_LD", angle_LD.cos(), persistent=False)
        self.register_buffer("sin_LD", angle_LD.sin(), persistent=False)

    def loss(self, tokens_BL: Tensor, targets_BL: Tensor) -> Tensor:
        """Mean cross-entropy in nats per token, to be differentiated."""
        hidden_TC, targets_T = self._hidden(tokens_BL), targets_BL.reshape(-1)
        loss: Tensor = _ChunkedCrossEntropy.apply(hidden_TC, self.embedding, targets_T)  # type: ignore[no-untyped-call]
        return loss

    @torch.no_grad()
    def total_nats(self, tokens_BL: Tensor, targets_BL: Tensor) -> float:
        """The sum of the cross-entropies of all targets, in nats."""
        hidden_TC, targets_T = self._hidden(tokens_BL), targets_BL.reshape(-1)
        total = 0.0
        for start in range(0, len(targets_T), LOSS_CHUNK_TOKENS):
            chunk = slice(start, start + LOSS_CHUNK_TOKENS)
            total += float(F.cross_entropy(hidden_TC[chunk] @ self.embedding.T, targets_T[chunk], reduction="sum"))
        return total

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """What AdamW needs: the embedding at its own rate and without decay, matrices decayed, gains not."""
        embedding_rate = embedding_learning_rate(self.shape, rate)
        others = [parameter for parameter in self.parameters() if parameter is not self.embedding]
        return [
            {"params": [self.embedding], "peak": embedding_rate, "weight_decay": 0.0},
            {"params": [p for p in others if p.dim() == 2], "peak": rate, "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in others if p.dim() == 1], "peak": rate, "weight_decay": 0.0},
        ]

    def _hidden(self, tokens_BL: Tensor) -> Tensor:
        length = tokens_BL.shape[1]
        x_BLC = F.rms_norm(F.embedding(tokens_BL, self.embedding), (self.shape.width,), eps=EPSILON)
        for block in self.blocks:
            x_BLC = block(x_BLC, self.cos_LD[:length], self.sin_LD[:length])
        hidden: Tensor = self.norm(x_BLC)
        return hidden.flatten(0, 1)


class _Block(nn.Module):
    def __init__(self, shape: ProxyShape, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attention_norm = nn.RMSNorm(shape.width, eps=EPSILON)
        self.query_key_value = nn.Parameter(torch.empty(3 * shape.width, shape.width))
        self.attention_out = nn.Parameter(torch.zeros(shape.width, shape.width))
        self.mlp_norm = nn.RMSNorm(shape.width, eps=EPSILON)
        self.gate_up = nn.Parameter(torch.empty(2 * shape.mlp_width, shape.width))
        self.down = nn.Parameter(torch.zeros(shape.width, shape.mlp_width))
        # Outputs start at zero, so that a block starts as the identity; inputs keep the scale of what they read.
        for matrix in (self.query_key_value, self.gate_up):
            matrix.data.normal_(std=0.5 / math.sqrt(shape.width), generator=generator)

    def forward(self, x_BLC: Tensor, cos_LD: Tensor, sin_LD: Tensor) -> Tensor:
        num_rows, length, width = x_BLC.shape
        heads = F.linear(self.attention_norm(x_BLC), self.query_key_value)
        heads = heads.view(num_rows, length, 3, self.heads, width // self.heads)
        query_BHLD, key_BHLD, value_BHLD = heads.permute(2, 0, 3, 1, 4)
        mixed_BHLD = F.scaled_dot_product_attention(
            rotate(query_BHLD, cos_LD, sin_LD), rotate(key_BHLD, cos_LD, sin_LD), value_BHLD, is_causal=True
        )
        x_BLC = x_BLC + F.linear(mixed_BHLD.transpose(1, 2).reshape(num_rows, length, width), self.attention_out)
        gate, up = F.linear(self.mlp_norm(x_BLC), self.gate_up).chunk(2, dim=-1)
        return x_BLC + F.linear(F.silu(gate) * up, self.down)


def rotate(x_BHLD: Tensor, cos_LD: Tensor, sin_LD: Tensor) -> Tensor:
    """Rotary positions: each pair of dimensions turned by an angle that grows with the position."""
    first, second = x_BHLD.chunk(2, dim=-1)
    return x_BHLD * cos_LD + torch.cat((-second, first), dim=-1) * sin_LD


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of softmax(hidden @ weight.T), its gradients computed on the way forward.

    The logits of a chunk (128 x 4,096 floats are 2 MB) become their own gradient while still in the cache; the logits
    of a whole batch never exist. A test compares it with torch's own.
    """

    @staticmethod
    def forward(ctx: Any, hidden_TC: Tensor, weight_VC: Tensor, targets_T: Tensor) -> Tensor:
        grad_hidden_TC = torch.empty_like(hidden_TC)
        grad_weight_VC = torch.zeros_like(weight_VC)
        total = hidden_TC.new_zeros(())
        for start in range(0, len(targets_T), LOSS_CHUNK_TOKENS):
            chunk = slice(start, start + LOSS_CHUNK_TOKENS)
            targets_T1 = targets_T[chunk, None]
            logits_TV = hidden_TC[chunk] @ weight_VC.T
            softmax_TV = torch.softmax(logits_TV, dim=-1)
            # The most likely token's probability is at least 1/V, so its logarithm is safe, and gives the normaliser.
            log_normaliser_T1 = logits_TV.amax(-1, keepdim=True) - softmax_TV.amax(-1, keepdim=True).log()
            total += (log_normaliser_T1 - logits_TV.gather(1, targets_T1)).sum()
            grad_logits_TV = softmax_TV.scatter_add_(1, targets_T1, softmax_TV.new_full(targets_T1.shape, -1.0))
            torch.mm(grad_logits_TV, weight_VC, out=grad_hidden_TC[chunk])
            grad_weight_VC.addmm_(grad_logits_TV.T, hidden_TC[chunk])
        mean = 1 / len(targets_T)
        ctx.save_for_backward(grad_hidden_TC.mul_(mean), grad_weight_VC.mul_(mean))
        return total * mean

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden_TC, grad_weight_VC = ctx.saved_tensors
        return grad_hidden_TC * grads[0], grad_weight_VC * grads[0], None
