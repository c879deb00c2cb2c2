import json
import re

import numpy as np
import pytest
from planted import Planted

from redone_data.config import read_config
from redone_data.errors import RedoneError
from redone_data.mix.config import MixConfig
from redone_data.mix.constraints import Constraints
from redone_data.mix.fit import Fit, FitConfig, fit
from redone_data.mix.limits import Limits
from redone_data.mix.searching import searched
from redone_data.mix.tables import Swarm
from redone_data.rng import stream

LIMITS = Limits({f"domain{d:02d}": 20_000 * (d + 1) for d in range(6)}, budget=100_000, max_epochs=1.5)
NAMES = tuple(LIMITS.tokens)
FIT = FitConfig(surrogates=("linear", "saturating"))


def six_domains(seed: int = 0, noise: float = 0.003, surrogates: FitConfig = FIT) -> Fit:
    """Each domain's text helps its own loss most, so that targets and the rest pull apart."""
    planted = Planted.draw(6, 6, seed)
    swarm = planted.swarm(40, noise, seed)
    return fit(Swarm(swarm.run_ids, NAMES, NAMES, swarm.weights_RD, swarm.losses_RM), surrogates, seed)


FITTED = six_domains()


def mix_of(**keys: object) -> MixConfig:
    keys = {"search": {"candidates": 3000, "top": 32}, **keys}
    return read_config(MixConfig, keys, where="recipe.yaml", path="mix").on_domains(LIMITS.tokens)


def found(**keys: object) -> dict:
    return searched(FITTED, mix_of(**keys), LIMITS, 0)


TARGETS = {"domain00": 1.0, "domain01": 1.0}
RETENTION = {"metrics": dict.fromkeys(NAMES[3:], 1.0), "epsilon": 0.002}


def general_loss(weights: dict[str, float]) -> float:
    row_1D = np.array([[weights[name] for name in NAMES]])
    return float(np.mean([FITTED.predict_weights(name, row_1D)[0] for name in NAMES[3:]]))


def test_retention_holds_the_general_loss_at_the_base_mix_and_costs_some_gain() -> None:
    free, held = found(targets=TARGETS), found(targets=TARGETS, retention=RETENTION)
    most = general_loss(dict(LIMITS.baselines()["prior"])) + 0.002
    assert general_loss(free["weights"]) > most + 0.01
    assert general_loss(held["weights"]) <= most + 1e-6
    (at_free,), (at_held,) = ([p["objective"] for p in result["front"] if p["chosen"]] for result in (free, held))
    assert at_free < at_held < held["predicted"]["prior"]["objective"]["predicted"]
    assert held["retention"]["most"] == pytest.approx(most)


def test_what_cannot_be_kept_is_said_with_the_epsilon_that_would_do() -> None:
    keys = {"targets": TARGETS, "bounds": {"domain00": {"min": 0.25}, "domain01": {"min": 0.5}}}
    with pytest.raises(RedoneError, match=r"mix.retention.epsilon: no allowed mixture") as caught:
        found(**keys, retention=RETENTION)
    more = float(re.search(r"; ([\d.]+) more would do", str(caught.value))[1])
    result = found(**keys, retention={**RETENTION, "epsilon": 0.002 + more})
    assert result["weights"]["domain01"] >= 0.5 - 1e-6


def test_the_proposal_obeys_groups_bounds_and_trust_region() -> None:
    keys = {
        "groups": {
            "licensed": {"domains": ["domain00", "domain01"], "max": 0.3},
            "own": {"domains": ["domain04", "domain05"], "fixed": True},
        },
        "bounds": {"domain02": {"min": 0.1}},
        "trust": {"max_distance": 0.4},
    }
    result = found(targets=TARGETS, **keys)
    row_1D = np.array([[result["weights"][name] for name in NAMES]])
    assert Constraints.of(mix_of(**keys), LIMITS).holds(row_1D)[0]
    assert "mix.groups.licensed.max" in result["binding"]
    assert result["weights"]["domain04"] / result["weights"]["domain05"] == pytest.approx(5 / 6, rel=1e-4)


def test_the_front_rises_on_one_side_as_it_falls_on_the_other_and_holds_the_proposal() -> None:
    result = found(targets=TARGETS, retention=RETENTION)
    front = result["front"]
    retention, objective = [p["retention"] for p in front], [p["objective"] for p in front]
    assert len(front) >= 10
    assert retention == sorted(retention)
    assert objective == sorted(objective, reverse=True)
    (chosen,) = [p for p in front if p["chosen"]]
    assert chosen["weights"] == result["weights"]
    # No simulated mixture is better than the front in both.
    rows_CD = Constraints.of(mix_of(), LIMITS).project(stream(0, "rows").dirichlet(np.full(6, 0.7), size=500))
    kept_C = np.mean([FITTED.predict_weights(name, rows_CD) for name in NAMES[3:]], axis=0)
    gain_C = np.mean([FITTED.predict_weights(name, rows_CD) for name in TARGETS], axis=0)
    near_C = np.abs(rows_CD[:, None] - FITTED.swarm.weights_RD).sum(axis=2).min(axis=1) / 2 < 0.1
    for kept, gain in zip(kept_C[near_C], gain_C[near_C], strict=True):
        assert not all(kept < r - 0.005 and gain < o - 0.005 for r, o in zip(retention, objective, strict=True))


def test_without_retention_the_front_is_against_the_domains_that_are_no_target() -> None:
    assert len(found(targets=TARGETS)["front"]) > 5
    assert found()["front"] == []


def test_without_caps_the_optimum_is_at_least_as_good_and_its_epochs_are_shown() -> None:
    result = found(targets=TARGETS)
    capped = result["predicted"]["proposal"]["objective"]["predicted"] - max(result["optimism"], 0)
    assert result["uncapped"]["predicted"] <= capped + 1e-9
    epochs, weights = result["uncapped"]["epochs"], result["uncapped"]["weights"]
    assert max(epochs.values()) > LIMITS.max_epochs
    assert epochs["domain00"] == pytest.approx(weights["domain00"] * 5)
    assert result["binding_caps"] == [name[16:-1] for name in result["binding"]]
    assert "domain00" in result["binding_caps"]


def test_finalists_are_different_nearly_as_good_and_one_of_them_was_measured() -> None:
    result = found(targets=TARGETS)
    names = [item["name"] for item in result["finalists"]]
    rows_FD = np.array([[item["weights"][name] for name in NAMES] for item in result["finalists"]])
    apart_FF = np.abs(rows_FD[:, None] - rows_FD).sum(axis=2) / 2 + np.eye(len(rows_FD))
    assert names[0] == "best"
    assert names[-1] == "best-measured"
    assert len(names) <= 8
    assert apart_FF[:-1, :-1].min() >= 0.1 - 1e-9
    assert result["finalists"][0]["weights"] == result["weights"]
    assert np.abs(FITTED.swarm.weights_RD - rows_FD[-1]).max(axis=1).min() < 1e-6


def test_where_no_metric_is_predictable_the_prior_is_proposed() -> None:
    swarm = FITTED.swarm
    losses_RM = stream(0, "noise").normal(size=swarm.losses_RM.shape)
    shuffled = fit(Swarm(swarm.run_ids, NAMES, NAMES, swarm.weights_RD, losses_RM), FIT, 0)
    result = searched(shuffled, mix_of(targets=TARGETS), LIMITS, 0)
    assert result["found_by"] == "no skill"
    assert result["weights"] == pytest.approx(dict(LIMITS.baselines()["prior"]))


def test_trees_have_no_slopes_and_are_searched_inside_the_constraints_all_the_same() -> None:
    trees = six_domains(surrogates=FitConfig(surrogate="lightgbm"))
    groups = {"own": {"domains": list(NAMES[:2]), "fixed": True, "max": 0.4}}
    result = searched(trees, mix_of(targets=TARGETS, groups=groups, search={"candidates": 200, "top": 16}), LIMITS, 0)
    assert result["weights"]["domain00"] / result["weights"]["domain01"] == pytest.approx(1 / 2, rel=1e-3)
    assert result["weights"]["domain00"] + result["weights"]["domain01"] <= 0.4 + 1e-6


def test_the_same_swarm_gives_the_same_search_to_the_last_digit_written() -> None:
    first, second = (json.dumps(found(targets=TARGETS, retention=RETENTION)) for _ in range(2))
    assert first == second
