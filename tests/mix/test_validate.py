import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redone_data.engine import Output
from redone_data.manifest import write_json
from redone_data.mix.config import MixConfig, ScaleConfig, ValidateConfig
from redone_data.mix.constraints import Constraints, Group
from redone_data.mix.decide import propose
from redone_data.mix.entrants import NEIGHBOUR_DISTANCE, Entrant, distance, entrants, neighbours
from redone_data.mix.found import Found
from redone_data.mix.front import Retention
from redone_data.mix.limits import OBJECTIVE, PRIOR, UNIFORM, Limits
from redone_data.mix.measured import Measurement
from redone_data.mix.paired import Noise, mean_difference
from redone_data.mix.proposal import Proposal
from redone_data.mix.retained import base_mixture
from redone_data.mix.swarm import ProxyConfig, ProxyRun, SwarmConfig, SwarmStep
from redone_data.mix.tables import Swarm
from redone_data.mix.validate import CHOOSING, FRESH, Evidence, at_scale, measure, validation_runs
from redone_data.mixture import Mixture
from redone_data.rng import stream

LIMITS = Limits({"notes": 100, "posts": 300, "wiki": 100}, budget=400, max_epochs=4)
MIX = MixConfig()
ALLOWED = Constraints.of(MIX, LIMITS)
WANTED = MIX.objective(tuple(LIMITS.tokens))
BASELINES = LIMITS.baselines()
GOOD, BETTER, RARE = (
    Mixture.of({"notes": 0.1, "posts": 0.8, "wiki": 0.1}),
    Mixture.of({"notes": 0.3, "posts": 0.2, "wiki": 0.5}),
    Mixture.of({"notes": 0.5, "posts": 0.5, "wiki": 0.0}),
)


def searched(*mixtures: Mixture, found_by: str = "descent") -> dict[str, object]:
    """search.json with these mixtures, the best first, and RARE as the run that measured best."""
    losses = {name: {"predicted": 2.0, "low": 1.9, "high": 2.1} for name in (*WANTED, OBJECTIVE)}
    names = ["best", "near-1", "near-2", "near-3"][: len(mixtures)]
    listed = [*zip(names, mixtures, strict=True), *([("best-measured", RARE)] if mixtures else [])]
    nothing = {"unskilled": [], "front": [], "uncapped": None, "optimism": 0.01, "noise": dict.fromkeys(WANTED, 0.1)}
    return nothing | {
        "found_by": found_by,
        "predicted": dict.fromkeys(("proposal", PRIOR, UNIFORM), losses),
        "finalists": [{"name": name, "weights": dict(mixture), "predicted": 2.5} for name, mixture in listed],
    }


def found(*mixtures: Mixture, found_by: str = "descent") -> Found:
    """What the stages before left; the swarm is the baselines and RARE."""
    runs = [*BASELINES.values(), RARE]
    weights_RD = np.array([mixture.shares for mixture in runs])
    ids = ("run-0", "run-1", "run-2")
    swarm = Swarm(ids, tuple(LIMITS.tokens), tuple(WANTED), weights_RD, np.full((3, 3), 2.0))
    return Found((swarm,), searched(*mixtures, found_by=found_by), (), {})


class Trainer:
    """Stands where the swarm command stands: a run's loss by its mixture's name and stage, alike for all domains."""

    def __init__(
        self,
        folder: Path,
        losses: dict[str, list[float]],
        diverged: tuple[str, ...] = (),
        wiki: dict[str, float] | None = None,
    ) -> None:
        self.folder, self.losses, self.diverged, self.wiki = folder, losses, diverged, wiki or {}
        self.asked: dict[str, tuple[tuple[ProxyRun, ...], SwarmConfig]] = {}

    def __call__(self, kind: type[SwarmStep], runs: tuple[ProxyRun, ...], swarm: SwarmConfig) -> Output:
        self.asked[kind.name] = (runs, swarm)
        folder = self.folder / kind.name
        (folder / "results").mkdir(parents=True)
        lines = {"runs": ["run_id,seed,notes,posts,wiki"], "metrics": ["run_id,notes,posts,wiki"]}
        for run in runs:
            name, _, seed = run.run_id.rpartition("-")
            lost = run.run_id in self.diverged or name in self.diverged
            write_json(
                folder / "results" / f"{run.run_id}.json",
                {"run_id": run.run_id, "status": "diverged" if lost else "ok"},
            )
            lines["runs"].append(f"{run.run_id},{run.seed}," + ",".join(map(repr, run.mixture.shares)))
            if not lost:
                losses = self.losses.get(f"{name}/{kind.name}", self.losses.get(name, [3.0]))
                loss = losses[(int(seed) - 1) % len(losses)]
                lines["metrics"].append(f"{run.run_id},{loss},{loss},{self.wiki.get(name, loss)}")
        for table, rows in lines.items():
            (folder / f"{table}.csv").write_text("\n".join(rows) + "\n")
        return Output(folder, {})


def validated(trainer: Trainer, config: ValidateConfig, left: Found) -> tuple[Evidence, Proposal]:
    compared = entrants(left.searched, BASELINES, config.finalists)
    evidence = measure(compared, config, MIX.swarm, WANTED, ALLOWED, trainer, seed=1)
    return evidence, propose(left, evidence, LIMITS, MIX, ALLOWED, seed=1)


NOISY = {PRIOR: [3.00, 3.02, 3.01], UNIFORM: [3.10, 3.12, 3.11], "best-measured": [3.0]}


def test_the_one_chosen_is_reported_by_seeds_that_it_was_not_chosen_on(tmp_path: Path) -> None:
    lucky = {"best/finalists": [2.5], "best/validation": [2.90, 2.92, 2.91], "near-1": [2.7]}
    trainer = Trainer(tmp_path, NOISY | lucky)
    evidence, proposal = validated(trainer, ValidateConfig(), found(GOOD, BETTER))
    assert (proposal.recommended, proposal.mixture) == ("best", GOOD)
    assert proposal.metrics[OBJECTIVE].measured == pytest.approx(2.91)
    assert "2.9100 against 3.0100 bits per byte (prior)" in proposal.decision
    assert "chosen among 3 on other seeds, 3 fresh seeds, 0.3m parameters x 0.2M tokens" in proposal.decision
    by_name = {item.name: item for item in proposal.finalists}
    assert set(by_name) == {"best", "near-1", "best-measured", PRIOR, UNIFORM}
    assert by_name["best"].choosing is not None
    assert by_name["best"].choosing.mean[OBJECTIVE] == 2.5
    assert by_name["near-1"].fresh is None, "only the chosen one and the baselines are trained again"
    assert by_name["best-measured"].predicted[OBJECTIVE] == 2.5, "of the other mixtures the objective is known"
    seeds = {stage: {run.seed for run in runs} for stage, (runs, _) in trainer.asked.items()}
    assert not seeds[CHOOSING] & seeds[FRESH]
    assert set(proposal.seeds) == seeds[FRESH]
    assert evidence.target is None


def test_the_best_measured_run_is_recommended_where_no_model_found_better(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, NOISY | {"best-measured": [2.6], "best": [2.8]})
    proposal = validated(trainer, ValidateConfig(), found(GOOD))[1]
    assert (proposal.recommended, proposal.mixture) == ("best-measured", RARE)
    assert proposal.nearest_run_distance == 0.0


def test_a_baseline_that_measured_better_by_more_than_the_noise_is_recommended(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, NOISY | {"best": [3.5, 3.52, 3.51], "best-measured": [3.6]})
    proposal = validated(trainer, ValidateConfig(), found(GOOD))[1]
    assert (proposal.recommended, proposal.weights) == (PRIOR, dict(BASELINES[PRIOR]))
    assert "measured worse than prior, so prior is proposed" in proposal.decision


def test_a_difference_under_the_noise_is_called_so(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, NOISY | {"best": [2.9, 3.1, 3.0], "best-measured": [3.6, 3.4]})
    proposal = validated(trainer, ValidateConfig(), found(GOOD))[1]
    assert proposal.recommended == "best"
    assert "is within the noise of the better baseline" in proposal.decision


def test_a_single_seed_of_all_is_never_called_better(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, NOISY | {"best": [1.0]})
    proposal = validated(trainer, ValidateConfig(seeds=1, fresh_seeds=1), found(GOOD))[1]
    assert "within the noise" in proposal.decision
    assert [row.noise for row in proposal.differences] == [None, None]


def test_a_finalist_that_always_diverged_is_left_out_by_name(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, NOISY | {"near-1": [2.5]}, diverged=("best", "prior-2"))
    proposal = validated(trainer, ValidateConfig(), found(GOOD, BETTER))[1]
    assert proposal.recommended == "near-1"
    assert "All proxies of best diverged: left out." in proposal.decision
    assert {"finalists/best-1", "finalists/best-2", "validation/prior-2"} <= set(proposal.diverged)
    assert {row.against: row.seeds for row in proposal.differences} == {PRIOR: 2, UNIFORM: 3}


def test_a_baseline_that_always_diverged_leaves_nothing_to_compare(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, NOISY | {"best": [2.5]}, diverged=(UNIFORM,))
    proposal = validated(trainer, ValidateConfig(), found(GOOD))[1]
    assert proposal.recommended == PRIOR
    assert "All proxies of uniform diverged" in proposal.decision


# --- Retention: `posts` is the target, the loss of `wiki` and `notes` is kept -----------------------------------------

KEPT = {"notes": 0.5, "wiki": 0.5}


def retained(
    tmp_path: Path, losses: dict[str, list[float]], reference: object, *, untouched: float | None = None
) -> tuple[Evidence, Proposal]:
    """Validated with an allowance of .05; in these swarms every domain has the objective's loss."""
    left = found(GOOD)
    left.searched["retention"] = {"most": 3.0, "metrics": KEPT, "epsilon": 0.05}
    left = replace(left, untouched=None if untouched is None else dict.fromkeys(WANTED, untouched))
    base = base_mixture(Retention(epsilon=0.05, reference=reference), LIMITS)  # type: ignore[arg-type]
    compared = entrants(left.searched, BASELINES, 3)
    trainer = Trainer(tmp_path, NOISY | losses)
    evidence = measure(compared, ValidateConfig(), MIX.swarm, WANTED, ALLOWED, trainer, 1, base)
    return evidence, propose(left, evidence, LIMITS, MIX, ALLOWED, seed=1)


def test_the_reference_mixture_of_retention_is_trained_on_the_same_seeds_and_decides(tmp_path: Path) -> None:
    reference, losses = dict(BETTER), {"best": [2.9], "best-measured": [3.5], "reference": [2.6, 2.61, 2.59]}
    evidence, proposal = retained(tmp_path / "worse", losses, reference)
    assert evidence.reference is not None
    assert evidence.reference.mixture == BETTER
    assert proposal.recommended == PRIOR
    assert "'best' costs more general ability than allowed" in proposal.decision
    assert "General loss of best against the reference mixture: +0.3000 (allowed +0.0500" in proposal.decision
    assert "So the prior does not keep it either." in proposal.decision
    by_name = {item.name: item for item in proposal.finalists}
    assert (by_name["reference"].kind, by_name["reference"].weights) == ("reference", dict(BETTER))
    assert by_name["reference"].choosing is None, "nothing is chosen among references"
    kept = retained(tmp_path / "kept", losses | {"reference": [2.88, 2.89, 2.87]}, reference)[1]
    assert kept.recommended == "best"
    assert "keeps general ability, which prior and uniform do not" in kept.decision


def test_a_reference_that_is_the_prior_is_not_trained_twice(tmp_path: Path) -> None:
    for number, reference in enumerate((None, dict(BASELINES[PRIOR]))):
        evidence, proposal = retained(tmp_path / str(number), {"best": [2.9], "best-measured": [3.5]}, reference)
        assert evidence.reference is not None
        assert evidence.reference.name == PRIOR
        assert "reference" not in {item.name for item in proposal.finalists}
        assert "General loss of best against the prior: -0.1100" in proposal.decision


def test_forgetting_is_told_against_the_untouched_checkpoint_with_the_noise_of_seeds(tmp_path: Path) -> None:
    losses = {"best": [2.90, 2.92, 2.91], "best-measured": [3.5]}
    evidence, proposal = retained(tmp_path / "worse", losses, "checkpoint", untouched=2.8)
    assert evidence.reference is None
    assert proposal.recommended == PRIOR
    assert "General loss of best against the checkpoint: +0.1100 (allowed +0.0500" in proposal.decision
    kept = retained(tmp_path / "kept", losses, "checkpoint", untouched=2.87)[1]
    assert kept.recommended == "best"


def test_a_baseline_that_forgets_too_much_is_not_recommended_for_its_lower_objective(tmp_path: Path) -> None:
    left = found(GOOD)
    left.searched["retention"] = {"most": 3.0, "metrics": {"wiki": 1.0}, "epsilon": 0.05}
    compared = entrants(left.searched, BASELINES, 3)
    only_posts = {"posts": 1.0}
    trainer = Trainer(tmp_path, NOISY | {"best": [3.0], "best-measured": [3.9], UNIFORM: [2.5]}, wiki={UNIFORM: 4.0})
    base = base_mixture(Retention(epsilon=0.05), LIMITS)
    evidence = measure(compared, ValidateConfig(), MIX.swarm, only_posts, ALLOWED, trainer, 1, base)
    proposal = propose(left, evidence, LIMITS, MIX, ALLOWED, seed=1)
    assert proposal.recommended == "best"
    assert "(prior)" in proposal.decision


# --- Baselines --------------------------------------------------------------------------------------------------------


def test_the_prior_that_is_recommended_in_the_end_obeys_the_groups_of_the_recipe(tmp_path: Path) -> None:
    mix = replace(MIX, groups={"licensed": Group(("posts",), max=0.3)})
    allowed = Constraints.of(mix, LIMITS)
    compared = entrants(searched(GOOD), allowed.baselines(LIMITS), 3)
    losses = NOISY | {"best": [3.5, 3.52, 3.51], "best-measured": [3.6]}
    evidence = measure(compared, ValidateConfig(), mix.swarm, WANTED, allowed, Trainer(tmp_path, losses), seed=1)
    proposal = propose(found(GOOD), evidence, LIMITS, mix, allowed, seed=1)
    assert proposal.recommended == PRIOR
    assert proposal.weights["posts"] == pytest.approx(0.3)
    assert "The prior mixture is compared within mix.groups.licensed.max: 30.0% of its tokens" in proposal.decision
    assert "The uniform mixture is compared within mix.groups.licensed.max: 3.3% of its tokens" in proposal.decision
    assert allowed.holds(np.array([list(proposal.uniform.values())]))[0]


def test_baselines_that_the_recipe_allows_are_trained_as_they_are_and_nothing_is_said(tmp_path: Path) -> None:
    assert ALLOWED.baselines(LIMITS) == BASELINES
    proposal = validated(Trainer(tmp_path, NOISY | {"best": [2.7]}), ValidateConfig(), found(GOOD))[1]
    assert "is compared within" not in proposal.decision
    scarce = Limits({"notes": 10, "posts": 300, "wiki": 100}, budget=400, max_epochs=4)
    few = Constraints.of(MIX, scarce)
    compared = entrants(searched(GOOD), few.baselines(scarce), 3)
    losses = NOISY | {"best": [2.7]}
    evidence = measure(compared, ValidateConfig(), MIX.swarm, WANTED, few, Trainer(tmp_path / "few", losses), seed=1)
    decision = propose(found(GOOD), evidence, scarce, MIX, few, seed=1).decision
    assert "The uniform mixture is compared within mix.max_epochs (notes): 23.3% of its tokens" in decision


def test_without_skill_nothing_but_the_baselines_is_trained(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, NOISY)
    proposal = validated(trainer, ValidateConfig(), found(found_by="no skill"))[1]
    assert proposal.recommended == PRIOR
    assert set(trainer.asked) == {FRESH}
    assert {item.name for item in proposal.finalists} == {PRIOR, UNIFORM}


def test_without_seeds_nothing_is_trained_and_it_is_said(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, {})
    proposal = validated(trainer, ValidateConfig(seeds=0), found(GOOD))[1]
    assert not trainer.asked
    assert (proposal.recommended, proposal.metrics[OBJECTIVE].measured) == ("best", None)
    assert "not measured" in proposal.decision


def test_neighbours_and_the_target_scale_are_measured_and_named(tmp_path: Path) -> None:
    config = ValidateConfig(neighbours=2, proxy=ScaleConfig("1m", 400_000), target=ScaleConfig("10m", 2_000_000))
    losses = NOISY | {"best": [2.7], "best/target": [2.2], "prior/target": [2.6], "uniform/target": [2.5]}
    trainer = Trainer(tmp_path, losses | {"neighbour-1": [2.3], "neighbour-2": [2.8]})
    evidence, proposal = validated(trainer, config, found(GOOD))
    assert [trainer.asked[stage][1].proxy.size for stage in (CHOOSING, FRESH, "target")] == ["1m", "1m", "10m"]
    assert "'neighbour-1' measured better by 0.4000, more than the noise" in proposal.decision
    assert "2.2000 against 2.5000 bits per byte (uniform)" in proposal.decision
    assert "10m parameters x 2M tokens" in proposal.decision
    assert {row.scale for row in proposal.differences} == {
        "1m parameters x 0.4M tokens",
        "10m parameters x 2M tokens",
    }
    assert all(distance(item.mixture, GOOD) == pytest.approx(NEIGHBOUR_DISTANCE) for item in evidence.neighbours)
    path = tmp_path / "proposal.json"
    path.write_text(proposal.to_json())
    assert Proposal.from_json(path) == proposal
    assert json.loads(proposal.to_json())["neighbours"][0]["fresh"]["scale"] == "1m parameters x 0.4M tokens"


def test_a_mixture_is_trained_once_even_if_it_was_found_twice() -> None:
    twin = Mixture.of({**GOOD, "posts": GOOD["posts"] + 0.001})
    chosen = entrants(searched(GOOD, twin, BASELINES[PRIOR], BETTER), BASELINES, 4)
    assert [item.name for item in chosen] == ["best", "near-3", "best-measured", PRIOR, UNIFORM]


def test_only_so_many_finalists_are_trained_and_the_best_measured_run_beside_them() -> None:
    chosen = entrants(searched(GOOD, BETTER), BASELINES, 1)
    assert [(item.name, item.kind) for item in chosen][:2] == [("best", "found"), ("best-measured", "run")]


def test_another_size_of_proxy_has_its_own_learning_rate() -> None:
    swarm = SwarmConfig(proxy=ProxyConfig("0.3m", learning_rate=0.01))
    assert at_scale(swarm, None) is swarm
    assert at_scale(swarm, ScaleConfig("0.3m", 9)).proxy.learning_rate == 0.01
    assert at_scale(swarm, ScaleConfig("1m", 9)).proxy.learning_rate is None


def test_all_mixtures_of_a_stage_share_their_seeds() -> None:
    runs = validation_runs([Entrant("a", "found", GOOD), Entrant("b", "found", RARE)], FRESH, 3, seed=1)
    of_name = {name: [run.seed for run in runs if run.run_id.startswith(name)] for name in "ab"}
    assert of_name["a"] == of_name["b"]
    assert len(set(of_name["a"])) == 3


# --- Noise -----------------------------------------------------------------------------------------------------------


def test_what_a_seed_does_to_all_mixtures_is_no_noise() -> None:
    table = {name: {1: base, 2: base + 0.5, 3: base - 0.2} for name, base in (("a", 2.0), ("b", 2.1))}
    noise = Noise.of(table)
    assert noise.freedom == 2
    assert noise.half_width(3) == pytest.approx(0, abs=1e-9)
    assert mean_difference(table, "a", "b") == pytest.approx(-0.1)


def test_noise_is_students_interval_of_the_mean_of_differences() -> None:
    """For two mixtures alone it is the paired t interval."""
    rng = stream(1, "losses")
    left, right = rng.normal(size=4), rng.normal(size=4)
    table = {"a": dict(enumerate(left)), "b": dict(enumerate(right))}
    error = np.std(left - right, ddof=1) / 2
    assert Noise.of(table).half_width(4) == pytest.approx(3.182446 * error, rel=1e-6)


def test_a_mean_that_is_compared_with_a_fixed_loss_has_the_noise_of_its_seeds() -> None:
    """For one mixture it is Student's interval of a mean; what a seed does to all mixtures counts here."""
    losses = stream(3, "losses").normal(size=4)
    noise = Noise.of_runs({"a": dict(enumerate(losses))})
    assert noise.half_width(4, mixtures=1) == pytest.approx(3.182446 * np.std(losses, ddof=1) / 2, rel=1e-6)
    shifted = {name: {1: base, 2: base + 0.5, 3: base - 0.2} for name, base in (("a", 2.0), ("b", 2.1))}
    assert (Noise.of_runs(shifted).half_width(3, mixtures=1) or 0.0) > 0.3


def test_a_seed_that_diverged_for_one_mixture_still_tells_of_the_others() -> None:
    table = {"a": {1: 1.0, 2: 1.2, 3: 1.1}, "b": {1: 2.0, 3: 2.3}, "c": {1: 3.1, 2: 3.2, 3: 3.0}}
    assert Noise.of(table).freedom == 3
    assert mean_difference(table, "b", "a") == pytest.approx((1.0 + 1.2) / 2)
    assert Noise.of(table, {"a": {1: 1.0}}).freedom == 3, "one run alone tells nothing"


def test_equal_mixtures_are_rarely_called_different() -> None:
    """Five in a hundred by design; with one of 12 runs six times noisier, no more."""
    rng = stream(2, "losses")
    called = 0
    for _ in range(400):
        fresh, choosing = (
            {name: dict(enumerate(rng.normal(size=seeds) * rng.choice([1, 6], size=seeds, p=[11 / 12, 1 / 12])))
             for name in names}
            for names, seeds in (("abc", 3), ("abcdef", 2))
        )  # fmt: skip
        half_width = Noise.of(fresh, choosing).half_width(3)
        assert half_width is not None
        called += abs(mean_difference(fresh, "a", "b")) > half_width
    assert called / 400 < 0.08


# --- Neighbours ------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(weights=st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4), seed=st.integers(0, 99))
def test_neighbours_lie_a_few_percent_away_and_obey_the_caps(weights: list[float], seed: int) -> None:
    names = ("a", "b", "c", "d")
    allowed = Constraints.caps(names, dict.fromkeys(names, 0.6))
    here = allowed.mixture(Mixture.of(dict(zip(names, weights, strict=True))))
    near = neighbours(here, allowed, 4, seed)
    assert len(near) == 4
    for item in near:
        assert distance(item.mixture, here) == pytest.approx(NEIGHBOUR_DISTANCE, abs=1e-6)
        assert max(item.mixture.shares) <= 0.6 + 1e-9


def test_a_measurement_keeps_means_and_spreads_of_what_finished() -> None:
    losses = {1: {"posts": 1.0, OBJECTIVE: 1.0}, 3: {"posts": 2.0, OBJECTIVE: 2.0}}
    table = {"a": losses, "b": {2: {"posts": 1.5, OBJECTIVE: 1.5}}}
    record, single = (Measurement("1m", table).record(name) for name in "ab")
    assert record is not None
    assert single is not None
    assert (record.seeds, record.mean["posts"], record.sd["posts"]) == (2, 1.5, pytest.approx(0.70710678))
    assert (single.seeds, single.sd["posts"]) == (1, None)
