"""Weights from one tokenizer's tokens to another's, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redone_data.errors import RedoneError
from redone_data.mix.conversion import Conversion
from redone_data.mixture import Mixture

TOKENS = st.integers(1, 10**9)
WEIGHTS = st.lists(st.tuples(st.floats(0, 1), TOKENS, TOKENS), min_size=1, max_size=6)


@given(WEIGHTS)
def test_to_proxy_tokens_and_back_is_where_it_began(rows: list[tuple[float, int, int]]) -> None:
    names = [f"d{i}" for i in range(len(rows))]
    weights = {name: row[0] + (1e-3 if i == 0 else 0) for i, (name, row) in enumerate(zip(names, rows, strict=True))}
    conversion = Conversion(
        {name: row[1] for name, row in zip(names, rows, strict=True)},
        {name: row[2] for name, row in zip(names, rows, strict=True)},
    )
    mixture = Mixture.of(weights)
    back = conversion.to_target(conversion.to_proxy(mixture))
    for name in names:
        assert back[name] == pytest.approx(mixture[name], rel=1e-9, abs=1e-12)


def test_the_natural_mixture_of_one_is_the_natural_mixture_of_the_other() -> None:
    conversion = Conversion({"en": 300, "zh": 100}, {"en": 450, "zh": 350})
    natural = conversion.to_proxy(Mixture.of({"en": 300, "zh": 100}))
    assert dict(natural) == pytest.approx(dict(Mixture.of({"en": 450, "zh": 350})))
    assert conversion.budget(400) == 800


def test_a_domain_that_takes_more_proxy_tokens_for_its_text_gets_a_larger_share_of_them() -> None:
    conversion = Conversion({"en": 100, "zh": 100}, {"en": 100, "zh": 300})
    assert dict(conversion.to_proxy(Mixture.of({"en": 1, "zh": 1}))) == {"en": 0.25, "zh": 0.75}


def test_a_domain_with_tokens_in_one_pool_alone_is_refused() -> None:
    with pytest.raises(RedoneError, match="'zh' has tokens in only one of the two"):
        Conversion({"en": 1, "zh": 1}, {"en": 1, "zh": 0})
