import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from redone_data.errors import RedoneError
from redone_data.proxy_shape import SIZES, ProxyShape, proxy_shape
from redone_train.proxy_model import ProxyModel


def make_model(seed: int = 0) -> ProxyModel:
    return ProxyModel(ProxyShape(layers=2, width=16, heads=2), vocab_size=50, context=40, seed=seed)


def make_tokens() -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(0, 50, (9, 41), generator=torch.Generator().manual_seed(0))
    return tokens[:, :-1], tokens[:, 1:]


def test_chunked_loss_and_gradients_are_those_of_torch() -> None:
    tokens, targets = make_tokens()
    chunked, plain = make_model().double(), make_model().double()
    loss = chunked.loss(tokens, targets)
    reference = F.cross_entropy(plain._hidden(tokens) @ plain.embedding.T, targets.reshape(-1))
    loss.backward()
    reference.backward()
    torch.testing.assert_close(loss, reference)
    for (name, got), wanted in zip(chunked.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, msg=name)
    assert chunked.total_nats(tokens, targets) == pytest.approx(float(reference.detach()) * targets.numel())


def test_no_token_sees_a_later_one() -> None:
    model = make_model()
    for parameter in model.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(1))
    tokens, _ = make_tokens()
    changed = tokens.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % 50
    before, after = (model._hidden(x).view(9, 40, 16) for x in (tokens, changed))
    torch.testing.assert_close(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 20:], after[:, 20:])


def test_initial_parameters_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = make_model(seed=3)
    torch.manual_seed(6)
    again, other = make_model(seed=3), make_model(seed=4)
    assert torch.equal(first.embedding, again.embedding)
    assert not torch.equal(first.embedding, other.embedding)


@pytest.mark.parametrize("name", SIZES)
def test_a_size_is_named_by_its_parameters(name: str) -> None:
    shape = proxy_shape(name)
    millions = shape.num_parameters(4096) / 1e6
    assert millions == pytest.approx(float(name.removesuffix("m")), rel=0.1)
    if millions < 2:
        model = ProxyModel(shape, 4096, 8, seed=0)
        assert sum(parameter.numel() for parameter in model.parameters()) == shape.num_parameters(4096)


def test_an_unknown_size_is_refused_with_the_nearest() -> None:
    with pytest.raises(RedoneError, match=r"unknown proxy size '3m'; did you mean"):
        proxy_shape("3m")


@pytest.mark.parametrize("shape", [(0, 16, 1), (1, 4, 1), (1, 24, 5)])
def test_an_impossible_shape_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(RedoneError, match="a proxy"):
        ProxyShape(*shape)
