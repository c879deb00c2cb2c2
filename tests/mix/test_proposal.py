import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redone_data.errors import RedoneError
from redone_data.mix.fit import FitRow
from redone_data.mix.proposal import (
    Candidate,
    Difference,
    FrontPoint,
    Kind,
    Measured,
    MetricRecord,
    Proposal,
    Uncapped,
)
from redone_data.mixture import Mixture

NUMBERS = st.floats(-1e6, 1e6)
NAMES = st.text(min_size=1, max_size=6)


@st.composite
def proposals(draw: st.DrawFn) -> Proposal:
    domains = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))

    def shares() -> dict[str, float]:
        return dict(Mixture.of({name: draw(st.floats(1e-3, 1.0)) for name in domains}))

    metrics = draw(st.lists(NAMES, max_size=3, unique=True))

    def candidate() -> Candidate:
        losses = {name: draw(NUMBERS) for name in metrics}
        measured = Measured("1m", draw(st.integers(1, 9)), losses, {name: draw(st.none() | NUMBERS) for name in losses})
        kind: Kind = draw(st.sampled_from(get_args(Kind)))
        return Candidate(draw(NAMES), kind, shares(), losses, losses, draw(st.none() | st.just(measured)), measured)

    rows = [FitRow(name, "linear", *(draw(NUMBERS) for _ in range(5)), skilled=draw(st.booleans())) for name in metrics]
    return Proposal(
        weights=shares(),
        prior=shares(),
        uniform=shares(),
        epochs={name: draw(st.floats(0, 100)) for name in domains},
        seed=draw(st.integers(0, 2**40)),
        decision=draw(st.text(max_size=20)),
        metrics={name: MetricRecord(*(draw(st.none() | NUMBERS) for _ in range(11))) for name in metrics},
        surrogates={name: draw(st.sampled_from(["linear", "saturating"])) for name in metrics},
        skill=tuple(rows),
        objective=dict.fromkeys(metrics, 1.0),
        nearest_run_distance=draw(st.none() | st.floats(0, 1)),
        binding_caps=tuple(draw(st.lists(st.sampled_from(domains), unique=True))),
        scale=draw(st.text(max_size=10)),
        seeds=tuple(draw(st.lists(st.integers(0, 9)))),
        recommended=draw(st.none() | NAMES),
        finalists=(candidate(), candidate()),
        neighbours=(candidate(),),
        differences=(Difference("best", "prior", draw(NUMBERS), draw(st.none() | NUMBERS), 3, "1m"),),
        front=(FrontPoint(shares(), draw(NUMBERS), draw(st.none() | NUMBERS), chosen=draw(st.booleans())),),
        uncapped=draw(st.none() | st.just(Uncapped(shares(), shares(), draw(NUMBERS)))),
        optimism=draw(st.none() | NUMBERS),
        noise={name: draw(st.none() | NUMBERS) for name in metrics},
        rounds={"stopped": draw(st.text(max_size=5)), "trace": [{"runs": 8, "best": draw(NUMBERS)}]},
        reused=tuple(draw(st.lists(NAMES))),
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(proposal=proposals())
def test_a_proposal_round_trips_to_the_same_object_and_bytes(proposal: Proposal, tmp_path: Path) -> None:
    path = tmp_path / "proposal.json"
    path.write_text(proposal.to_json(), encoding="utf-8")
    again = Proposal.from_json(path)
    assert again == proposal
    assert again.to_json() == proposal.to_json()


def example() -> Proposal:
    weights = {"wiki": 0.25, "notes": 0.75}
    return Proposal(weights, weights, weights, {"wiki": 1.0}, 0, "searched", {"a": MetricRecord(1.0)}, {"a": "linear"})


def test_the_file_says_its_version_its_domains_and_its_surrogate() -> None:
    record = json.loads(example().to_json())
    assert (record["schema_version"], record["domains"], record["surrogate"]) == (2, ["notes", "wiki"], "linear")
    assert record["metrics"]["a"]["measured_prior_sd"] is None
    assert example().to_json().endswith("}\n")


def test_two_kinds_of_surrogate_are_called_mixed() -> None:
    weights = {"a": 1.0}
    proposal = Proposal(weights, weights, weights, {}, 0, "x", surrogates={"p": "linear", "q": "saturating"})
    assert proposal.surrogate == "mixed"
    assert Proposal(weights, weights, weights, {}, 0, "fixed by recipe").surrogate is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 1}, "schema_version is 1, this version reads 2; make the proposal again"),
        ({"decisions": ""}, "unknown key 'decisions'; did you mean 'decision'"),
        ({"prior": {"wiki": 1.0}}, "'prior' has domains"),
        ({"weights": {"wiki": 0.5, "notes": 0.6}}, "sum to 1.1"),
        ({"metrics": {"a": {"predicted": 1.0}}}, "metrics.a: missing high"),
        ({"domains": ["wiki"]}, "'domains' is"),
        ({"weights": "all"}, "weights: expected a mapping of names"),
        ({"seed": "two"}, "seed: expected a whole number"),
        ({"finalists": [{"name": "best"}]}, r"finalists\[0\]: missing carried, choosing"),
        ({"uncapped": {"weights": {}}}, "uncapped: missing epochs, predicted"),
    ],
)
def test_a_proposal_that_was_edited_wrongly_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "proposal.json"
    path.write_text(json.dumps(json.loads(example().to_json()) | change))
    with pytest.raises(RedoneError, match=message) as error:
        Proposal.from_json(path)
    assert str(error.value).startswith(str(path))


def test_every_key_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "proposal.json"
    whole = json.loads(example().to_json())
    for key in whole:
        path.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        with pytest.raises(RedoneError, match=key):
            Proposal.from_json(path)


def test_a_file_that_is_no_proposal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "proposal.json"
    with pytest.raises(RedoneError, match="there is no such file"):
        Proposal.from_json(path)
    path.write_text("{")
    with pytest.raises(RedoneError, match="not JSON"):
        Proposal.from_json(path)
    path.write_text("[]")
    with pytest.raises(RedoneError, match="JSON object"):
        Proposal.from_json(path)


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(RedoneError, match="finite"):
        MetricRecord(float("nan"))
