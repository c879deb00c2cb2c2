import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redone_data.config import read_config
from redone_data.errors import RedoneError
from redone_data.mix.config import MixConfig
from redone_data.mix.constraints import Constraints
from redone_data.mix.design import capped_rows
from redone_data.mix.limits import Limits
from redone_data.mixture import Mixture
from redone_data.rng import stream

TOKENS = {"code": 10_000, "posts/en": 60_000, "posts/zh": 30_000, "web": 80_000, "wiki": 20_000}
LIMITS = Limits(TOKENS, budget=100_000, max_epochs=2.0)


def mix_of(**keys: object) -> MixConfig:
    return read_config(MixConfig, keys, where="recipe.yaml", path="mix")


def constraints(limits: Limits = LIMITS, **keys: object) -> Constraints:
    return Constraints.of(mix_of(**keys), limits)


EVERYTHING = {
    "groups": {
        "licensed": {"domains": ["web", "wiki"], "max": 0.5},
        "own": {"domains": ["posts"], "min": 0.2, "fixed": True},
    },
    "bounds": {"code": {"min": 0.05, "max": 0.15}},
    "trust": {"max_distance": 0.5},
}


def drawn(count: int, seed: int = 0) -> np.ndarray:
    return stream(seed, "rows").dirichlet(np.full(len(TOKENS), 0.5), size=count)


def test_without_further_constraints_mixtures_are_capped_as_the_design_does() -> None:
    caps_D = np.array([LIMITS.max_weights[name] for name in TOKENS])
    np.testing.assert_array_equal(constraints().project(drawn(50)), capped_rows(drawn(50), caps_D))


def test_projected_mixtures_obey_every_constraint_and_stay_different() -> None:
    allowed = constraints(**EVERYTHING)
    rows_CD = allowed.project(drawn(300))
    assert allowed.holds(rows_CD).all()
    named = dict(zip(TOKENS, rows_CD.T, strict=True))
    np.testing.assert_allclose(rows_CD.sum(axis=1), 1, atol=1e-9)
    assert (named["web"] + named["wiki"]).max() <= 0.5 + 1e-6
    assert (named["posts/en"] + named["posts/zh"]).min() >= 0.2 - 1e-6
    np.testing.assert_allclose(named["posts/en"], 2 * named["posts/zh"], atol=1e-6)
    assert 0.05 - 1e-6 <= named["code"].min() <= named["code"].max() <= 0.15 + 1e-6
    prior = LIMITS.baselines()["prior"]
    assert (np.abs(rows_CD - np.array(prior.shares)).sum(axis=1) / 2).max() <= 0.5 + 1e-6
    assert len(np.unique(rows_CD.round(6), axis=0)) > 250


def test_a_mixture_that_is_allowed_stays_as_it_is() -> None:
    allowed = constraints(**EVERYTHING)
    once_CD = allowed.project(drawn(100))
    np.testing.assert_allclose(allowed.project(once_CD), once_CD, atol=1e-12)


def test_a_share_fixed_to_one_value_leaves_the_others_free() -> None:
    allowed = constraints(groups={"own": {"domains": ["posts"], "min": 0.3, "max": 0.3}})
    rows_CD = allowed.project(drawn(200))
    assert allowed.holds(rows_CD).all()
    np.testing.assert_allclose(rows_CD[:, 1] + rows_CD[:, 2], 0.3, atol=1e-6)
    assert np.ptp(rows_CD[:, 3]) > 0.2


@given(st.integers(0, 10_000), st.floats(0.15, 1.0), st.floats(0.0, 0.6), st.floats(0.05, 1.0))
@settings(max_examples=40, deadline=None)
def test_whatever_the_constraints_a_projected_mixture_obeys_them_or_there_is_a_message(
    seed: int, most: float, least: float, distance: float
) -> None:
    keys = {
        "groups": {"a": {"domains": ["web", "code"], "max": most}, "b": {"domains": ["posts"], "min": least}},
        "bounds": {"wiki": {"max": 0.3}},
        "trust": {"max_distance": distance},
    }
    try:
        allowed = constraints(**keys)
    except RedoneError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert "the smallest change that would do" in message
        return
    assert allowed.holds(allowed.project(drawn(20, seed))).all()


def test_an_impossible_recipe_is_told_which_keys_conflict_and_what_would_do() -> None:
    keys = {"groups": {"licensed": {"domains": ["web", "posts"], "max": 0.3}}, "bounds": {"wiki": {"max": 0.9}}}
    with pytest.raises(RedoneError) as caught:
        constraints(**keys)
    message = str(caught.value)
    # code and wiki hold .2 and .4 at two epochs, and the group .3: a tenth is missing.
    assert "mix.max_epochs (2) and mix.groups.licensed.max (0.3)" in message
    assert "mix.bounds.wiki" not in message
    assert "mix.groups.licensed.max 0.4 instead of 0.3" in message
    epochs = float(re.search(r"mix.max_epochs ([\d.]+) instead of 2", message)[1])
    assert epochs == pytest.approx(2 * 0.7 / 0.6, rel=1e-3)


@pytest.mark.parametrize("remedy", [{"mix.max_epochs": 2.334}, {"mix.groups.licensed.max": 0.4}])
def test_the_advised_change_alone_makes_the_recipe_possible(remedy: dict[str, float]) -> None:
    limits = Limits(TOKENS, 100_000, remedy.get("mix.max_epochs", 2.0))
    most = remedy.get("mix.groups.licensed.max", 0.3)
    allowed = constraints(limits, groups={"licensed": {"domains": ["web", "posts"], "max": most}})
    assert allowed.holds(allowed.project(drawn(20, 1))).all()


def test_two_conflicts_at_once_are_answered_with_a_change_that_mends_both() -> None:
    # At one epoch code can hold .1 and wiki .2.
    keys = {"bounds": {"code": {"min": 0.4}, "wiki": {"min": 0.5}}}
    limits = Limits(TOKENS, 100_000, 1.0)
    with pytest.raises(RedoneError, match=r"mix.max_epochs 4 instead of 1"):
        constraints(limits, **keys)
    keys = {"bounds": {"code": {"min": 0.7}, "wiki": {"max": 0.1}}, "groups": {"x": {"domains": ["code"], "max": 0.1}}}
    with pytest.raises(RedoneError, match=r"mix.bounds.code.min"):
        constraints(Limits(TOKENS, 100_000, 8.0), **keys)


def test_too_few_tokens_are_named_as_such() -> None:
    with pytest.raises(RedoneError, match="hold tokens for only"):
        constraints(Limits(TOKENS, 1_000_000, 1.0))


def test_binding_constraints_are_named_as_in_the_recipe() -> None:
    allowed = constraints(groups={"licensed": {"domains": ["web"], "max": 0.3}})
    assert allowed.binding(np.array([0.2, 0.3, 0.1, 0.3, 0.1])) == (
        "mix.max_epochs (code)",
        "mix.groups.licensed.max",
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bounds": {"wikis": {"max": 0.1}}}, "mix.bounds: 'wikis' is not a domain"),
        ({"groups": {"g": {"domains": ["cod"], "max": 0.1}}}, "mix.groups.g.domains: 'cod' is not a domain"),
        (
            {"groups": {name: {"domains": ["web", "wiki"], "fixed": True} for name in "ab"}},
            "mix.groups.b: 'web' is fixed by mix.groups.a too",
        ),
    ],
)
def test_a_constraint_on_what_is_not_there_is_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(RedoneError, match=re.escape(message)):
        constraints(**keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bounds": {"web": {}}}, "mix.bounds.web: says nothing"),
        ({"bounds": {"web": {"min": 0.5, "max": 0.2}}}, "min 0.5 and max 0.2"),
        ({"groups": {"g": {"domains": []}}}, "mix.groups.g: domains: empty"),
        ({"groups": {"g": {"domains": ["web"]}}}, "set max, min or fixed"),
        ({"trust": {"max_distance": 0}}, "above 0 and at most 1"),
        ({"retention": {"epsilon": -1}}, "mix.retention: epsilon"),
    ],
)
def test_a_constraint_that_says_nothing_is_refused_when_the_recipe_is_read(
    keys: dict[str, object], message: str
) -> None:
    with pytest.raises(RedoneError, match=re.escape(message)):
        mix_of(**keys)


def test_a_pool_in_retention_stands_for_its_parts() -> None:
    mix = mix_of(targets={"code": 1}, retention={"metrics": {"posts": 1, "web": 1}, "reference": {"posts": 3}})
    there = mix.on_domains(LIMITS.tokens)
    assert there.general(tuple(TOKENS)) == pytest.approx({"posts/en": 2 / 3, "posts/zh": 1 / 3, "web": 1})
    assert there.retention is not None
    assert there.retention.reference == pytest.approx({"posts/en": 2, "posts/zh": 1})
    mix_of(bounds={"posts": {"max": 0.2}}).check_domains(("code", "posts", "web"), ("posts",))
    with pytest.raises(RedoneError, match=r"mix.bounds: 'nowhere'"):
        mix_of(bounds={"nowhere": {"max": 0.2}}).check_domains(("code", "web"))


def test_one_mixture_is_brought_inside() -> None:
    inside = constraints(**EVERYTHING).mixture(Mixture.of({"web": 1}))
    assert inside["web"] <= 0.5 + 1e-6
    assert inside["code"] >= 0.05 - 1e-6
