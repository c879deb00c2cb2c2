"""The stacked model against the single one: same weights in, same losses and gradients out, set by set."""

import math

import pytest
import torch

from redone_data.proxy_shape import ProxyShape
from redone_train.proxy_model import ProxyModel
from redone_train.proxy_stack import ProxyStack

SHAPE, VOCAB, CONTEXT = ProxyShape(layers=2, width=16, heads=2), 50, 40
SEEDS = (3, 4, 5)
# The loss of a chunk on a GPU covers many sets, on a CPU one; several tokens_at_a_time leave a short last chunk.
CHUNKS = [(1, 128), (2, 100), (3, 1000)]


def make_batch(num_sets: int = len(SEEDS)) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(0, VOCAB, (num_sets, 9, CONTEXT + 1), generator=torch.Generator().manual_seed(0))
    return tokens[..., :-1], tokens[..., 1:]


def make_models() -> tuple[list[ProxyModel], ProxyStack]:
    """The same sets alone and stacked, with outputs of blocks that are no longer zero."""
    models = [ProxyModel(SHAPE, VOCAB, CONTEXT, seed) for seed in SEEDS]
    stack = ProxyStack(SHAPE, VOCAB, CONTEXT, SEEDS)
    for i, model in enumerate(models):
        generator = torch.Generator().manual_seed(i)
        stacked = dict(stack.named_parameters())
        for name, parameter in model.named_parameters():
            assert torch.equal(stacked[name.removesuffix(".weight")][i], parameter), name
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
            stacked[name.removesuffix(".weight")].data[i] = parameter.data
    return models, stack


@pytest.mark.parametrize("chunks", CHUNKS)
def test_a_stack_has_the_losses_and_gradients_of_its_models_alone(chunks: tuple[int, int]) -> None:
    models, stack = make_models()
    stack.sets_at_a_time, stack.tokens_at_a_time = chunks
    tokens, targets = make_batch()
    losses = stack.losses(tokens, targets)
    losses.sum().backward()
    stacked = dict(stack.named_parameters())
    for i, model in enumerate(models):
        loss = model.loss(tokens[i], targets[i])
        loss.backward()
        torch.testing.assert_close(losses[i], loss)
        for name, parameter in model.named_parameters():
            gradient = stacked[name.removesuffix(".weight")].grad
            torch.testing.assert_close(gradient[i], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_gradients_are_clipped_by_each_sets_own_norm() -> None:
    models, stack = make_models()
    tokens, targets = make_batch()
    factors = (1.0, 1e-3, 50.0)  # the second stays as it is
    (stack.losses(tokens, targets) * torch.tensor(factors)).sum().backward()
    stack.clip_gradients(0.1)
    stacked = dict(stack.named_parameters())
    for i, (model, factor) in enumerate(zip(models, factors, strict=True)):
        (model.loss(tokens[i], targets[i]) * factor).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        for name, parameter in model.named_parameters():
            gradient = stacked[name.removesuffix(".weight")].grad
            torch.testing.assert_close(gradient[i], parameter.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_a_set_that_is_nan_leaves_the_others_as_they_were() -> None:
    results = []
    for poison in (0.0, math.nan):
        _, stack = make_models()
        dict(stack.named_parameters())["blocks.0.gate_up"].data[1] += poison
        losses = stack.losses(*make_batch())
        losses.sum().backward()
        stack.clip_gradients(0.1)
        optimizer = torch.optim.AdamW(stack.parameter_groups(1e-2), lr=1e-2, fused=True)
        optimizer.step()
        assert math.isnan(losses[1].detach()) == math.isnan(poison)
        results.append([losses[0], losses[2], *(p[[0, 2]] for p in stack.parameters())])
    for clean, poisoned in zip(*results, strict=True):
        assert torch.equal(clean, poisoned)


def test_evaluation_of_a_stack_is_that_of_its_models() -> None:
    models, stack = make_models()
    tokens, targets = (x[0] for x in make_batch())
    assert stack.total_nats(tokens, targets).tolist() == pytest.approx(
        [model.total_nats(tokens, targets) for model in models], rel=1e-5
    )
