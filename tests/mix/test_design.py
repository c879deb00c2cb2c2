import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redone_data.errors import RedoneError
from redone_data.mix.design import DesignConfig, capped, corners, design, sample_weights
from redone_data.mixture import Mixture
from redone_data.rng import stream

PRIOR = Mixture.of({"books": 5, "code": 1, "notes": 60, "qa": 4, "wiki": 30})


@st.composite
def mixtures_and_caps(draw: st.DrawFn) -> tuple[Mixture, dict[str, float]]:
    size = draw(st.integers(1, 8))
    weights = draw(st.lists(st.one_of(st.just(0.0), st.floats(1e-4, 1.0)), min_size=size, max_size=size))
    caps = draw(st.lists(st.floats(0.0, 1.0), min_size=size, max_size=size))
    weights[draw(st.integers(0, size - 1))] = 0.5
    short = max(0.0, 1.0 - sum(caps)) / size
    names = [f"d{j}" for j in range(size)]
    feasible = {name: cap + short for name, cap in zip(names, caps, strict=True)}
    return Mixture.of(dict(zip(names, weights, strict=True))), feasible


@given(mixtures_and_caps())
def test_capping_keeps_to_the_caps_and_the_proportions(case: tuple[Mixture, dict[str, float]]) -> None:
    mixture, caps = case
    result = capped(mixture, caps)
    assert sum(result.values()) == pytest.approx(1)
    assert all(result[name] <= caps[name] + 1e-7 for name in mixture)
    free = [name for name in mixture if result[name] < min(caps[name], 1) - 1e-6 and mixture[name] > 0]
    scales = [result[name] / mixture[name] for name in free]
    assert np.ptp(scales) <= 1e-6 * max(scales) if scales else True
    # What is at its cap would have had at least as much without it.
    assert all(result[name] <= mixture[name] * max(scales) + 1e-6 for name in mixture if mixture[name] > 0 and scales)


@given(mixtures_and_caps())
def test_capping_twice_is_capping_once(case: tuple[Mixture, dict[str, float]]) -> None:
    mixture, caps = case
    once = capped(mixture, caps)
    assert np.allclose(capped(once, caps).shares, once.shares, atol=1e-9)


def test_a_mixture_within_its_caps_is_left_alone() -> None:
    assert np.allclose(capped(PRIOR, {"notes": 0.7}).shares, PRIOR.shares)


def test_caps_that_leave_budget_unfilled_name_the_remedy_and_the_factor() -> None:
    with pytest.raises(
        RedoneError, match=r"50\.0% of the budget.*raise the epochs or the tokens by a factor of 2\.000"
    ):
        capped(PRIOR, dict.fromkeys(PRIOR, 0.1))
    with pytest.raises(RedoneError, match="did you mean 'wiki'"):
        capped(PRIOR, {"wikii": 0.5})
    with pytest.raises(RedoneError, match="there are no tokens"):
        capped(PRIOR, dict.fromkeys(PRIOR, 0.0))


def test_the_relaxation_factor_that_an_error_names_is_enough() -> None:
    caps = {"books": 0.3, "code": 0.07, "notes": 0.21, "qa": 0.1, "wiki": 0.05}
    with pytest.raises(RedoneError, match=r"factor of 1\.370"):
        capped(PRIOR, caps)
    capped(PRIOR, {name: 1.370 * cap for name, cap in caps.items()})


def test_the_prior_and_the_uniform_mixture_are_always_the_first_runs() -> None:
    caps = {"notes": 0.3, "code": 0.1}
    runs = design(PRIOR, caps, DesignConfig(runs=24), stream(0, "design"))
    assert runs[0] == capped(PRIOR, caps)
    assert runs[1] == capped(Mixture.uniform(PRIOR.names), caps)
    assert len(runs) == len({run.shares for run in runs}) == 24


def test_each_target_has_its_corner_as_far_as_its_cap_allows() -> None:
    caps, targets = {"notes": 0.3, "wiki": 0.6}, {"wiki": 1.0, "code": 2.0}
    runs = design(PRIOR, caps, DesignConfig(runs=24), stream(0, "design"), targets)
    code, wiki = runs[2:4]
    assert code["code"] == pytest.approx(15 * PRIOR["code"])  # max_ratio times its share
    assert wiki["wiki"] == pytest.approx(0.6)
    assert wiki["notes"] == pytest.approx(0.3)
    assert wiki["books"] / wiki["qa"] == pytest.approx(PRIOR["books"] / PRIOR["qa"])
    assert len(runs) == len({run.shares for run in runs}) == 24


def test_corners_of_many_targets_leave_most_runs_to_samples() -> None:
    targets = dict.fromkeys(PRIOR, 1.0) | {"qa": 2.0}
    few = corners(PRIOR, {}, DesignConfig(runs=12), targets)
    assert len(few) == 3
    assert max(few[0], key=few[0].__getitem__) == "qa"


def test_a_domain_that_cannot_have_more_than_the_prior_has_no_corner() -> None:
    assert corners(PRIOR, {"notes": 0.5}, DesignConfig(runs=24), {"notes": 1.0, "elsewhere": 1.0}) == []


@example((Mixture(("d0", "d1", "d2"), (1.0, 0.0, 0.0)), {"d0": 0.0, "d1": 1.0, "d2": 5e-324}))
@given(mixtures_and_caps())
def test_corners_keep_to_the_caps(case: tuple[Mixture, dict[str, float]]) -> None:
    mixture, caps = case
    for corner in corners(mixture, caps, DesignConfig(runs=40), dict.fromkeys(mixture, 1.0)):
        assert sum(corner.values()) == pytest.approx(1)
        assert all(corner[name] <= caps[name] + 1e-7 for name in mixture)


def test_no_run_breaks_a_cap_or_holds_a_sliver() -> None:
    caps = {"notes": 0.3, "code": 0.1, "qa": 0.05}
    for run in design(PRIOR, caps, DesignConfig(runs=200), stream(1, "design")):
        assert all(run[name] <= cap + 1e-9 for name, cap in caps.items())
        assert all(share == 0 or share >= 1e-4 for share in run.values())


def test_a_rare_domain_is_not_sampled_above_its_ratio() -> None:
    prior = Mixture.of({"rare": 1, "a": 500, "b": 499})
    weights = sample_weights(prior, {}, DesignConfig(), stream(0, "x"), count=2000)
    assert weights[:, prior.names.index("rare")].max() <= 15 * prior["rare"] + 1e-3


@pytest.mark.parametrize("prior", [{"a": 1}, {"a": 99, "b": 1}, {"a": 1, "b": 1}, {"a": 1e6, "b": 1, "c": 1, "d": 0}])
def test_few_domains_with_large_shares_still_get_a_design(prior: dict[str, float]) -> None:
    runs = design(Mixture.of(prior), {}, DesignConfig(runs=12, max_ratio=1.0), stream(0, "design"))
    assert 1 <= len(runs) <= 12
    runs = design(Mixture.of(prior), {}, DesignConfig(runs=12), stream(0, "design"))
    assert len(runs) == (1 if len(prior) == 1 else 12)


def test_caps_that_sum_to_one_leave_one_mixture() -> None:
    caps = dict.fromkeys(PRIOR, 0.2)
    (only,) = design(PRIOR, caps, DesignConfig(), stream(0, "design"))
    assert only.shares == pytest.approx((0.2,) * 5)


def test_a_design_depends_on_the_seed_alone() -> None:
    def first(seed: int) -> list[Mixture]:
        return design(PRIOR, {}, DesignConfig(), stream(seed, "design"))

    assert first(3) == first(3)
    assert first(3) != first(4)


def test_a_bad_setting_is_refused_with_its_name() -> None:
    with pytest.raises(RedoneError, match=r"design\.runs is 1"):
        DesignConfig(runs=1)
    with pytest.raises(RedoneError, match=r"design\.replicates is -1"):
        DesignConfig(replicates=-1)
    with pytest.raises(RedoneError, match=r"design\.max_ratio is 0\.5"):
        DesignConfig(max_ratio=0.5)
