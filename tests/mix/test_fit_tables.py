"""`redone-data fit RUNS.csv METRICS.csv`: a swarm of one's own, as two tables."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from planted import Planted
from small_run import redone, redone_here

from redone_data.mix.tables import Swarm
from redone_data.rng import stream

RUNS = 24


def write(folder: Path, swarm: Swarm, *, reverse: str = "") -> tuple[Path, Path]:
    """The swarm as RUNS.csv and METRICS.csv; reverse: the table whose rows are turned round."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "runs.csv", folder / "metrics.csv"
    for path, names, values in (
        (paths[0], swarm.domains, swarm.weights_RD),
        (paths[1], swarm.metrics, swarm.losses_RM),
    ):
        frame = pl.DataFrame({"run_id": swarm.run_ids} | dict(zip(names, values.T, strict=True)))
        (frame.reverse() if path.stem == reverse else frame).write_csv(path)
    return paths


@pytest.fixture
def planted() -> Planted:
    return Planted.draw(4, 2, seed=0)


def test_predictions_have_a_row_a_mixture_and_metric_under_the_files_own_id(planted: Planted, tmp_path: Path) -> None:
    swarm = planted.swarm(RUNS, noise=0.01, seed=0)
    mixtures = tmp_path / "mixtures.csv"
    columns = dict(zip(swarm.domains[::-1], swarm.weights_RD[:3, ::-1].T, strict=True))
    pl.DataFrame({**columns, "index": ["7", "007", "x"]}).write_csv(mixtures)
    out = tmp_path / "out"
    finished = redone("fit", *write(tmp_path, swarm), "--surrogate", "saturating", "--predict", mixtures, "--out", out)
    assert finished.code == 0, finished.err
    assert "saturating" in finished.out
    table = pl.read_csv(out / "predictions.csv", schema_overrides={"index": pl.String})
    assert table.columns == ["index", "metric", "prediction", "low", "high"]
    assert table["index"].to_list() == ["7", "7", "007", "007", "x", "x"]
    assert ((table["low"] < table["prediction"]) & (table["prediction"] < table["high"])).all()
    assert table["prediction"].to_numpy() == pytest.approx(planted.losses(swarm.weights_RD[:3]).ravel(), abs=0.05)
    assert pl.read_parquet(out / "held_out.parquet").height == RUNS * 2
    assert {row["metric"] for row in json.loads((out / "fit.json").read_text())["report"]} == {"loss0", "loss1"}


def test_shuffled_rows_of_either_table_give_the_same_bytes(planted: Planted, tmp_path: Path) -> None:
    swarm = planted.swarm(RUNS, noise=0.01, seed=0)
    printed = [
        redone_here("fit", *write(tmp_path / name, swarm, reverse=name), "--surrogate", "law_gp", "--json").out
        for name in ("", "runs", "metrics")
    ]
    assert len(set(printed)) == 1
    assert json.loads(printed[0])["report"][0]["skilled"]


def test_shuffled_labels_are_refused_and_nothing_is_predicted(planted: Planted, tmp_path: Path) -> None:
    swarm = planted.swarm(RUNS, noise=0.01, seed=0)
    mixed_up = Swarm(
        swarm.run_ids,
        swarm.domains,
        swarm.metrics,
        swarm.weights_RD,
        stream(1, "labels").permutation(swarm.losses_RM),
    )
    tables = write(tmp_path, mixed_up)
    finished = redone_here("fit", *tables, "--predict", tables[0], "--out", tmp_path / "out")
    assert finished.code == 2
    assert "no metric has out-of-fold skill" in finished.err
    assert not (tmp_path / "out" / "predictions.csv").exists()
    ranks = [row["spearman"] for row in json.loads((tmp_path / "out" / "fit.json").read_text())["report"]]
    assert max(ranks) < 0.4


def test_target_runs_carry_predictions_to_their_scale_by_name(planted: Planted, tmp_path: Path) -> None:
    swarm = planted.swarm(RUNS, noise=0.01, seed=0)
    large = planted.swarm(8, noise=0.0, seed=5)
    large = Swarm(large.run_ids, large.domains, large.metrics, large.weights_RD, 0.6 * large.losses_RM)
    tables, target = write(tmp_path, swarm), write(tmp_path / "large", large)
    out = tmp_path / "out"
    arguments = (
        "--predict",
        target[0],
        "--target",
        *target,
        "--scale",
        "1b",
        "--surrogate",
        "saturating",
        "--out",
        out,
    )
    finished = redone_here("fit", *tables, *arguments)
    assert finished.code == 0, finished.err
    assert "Carried to 1b by 8 runs there" in finished.out
    table = pl.read_csv(out / "predictions.csv")
    assert set(table["scale"]) == {"1b"}
    errors = table["prediction"].to_numpy() - large.losses_RM.ravel()
    assert np.abs(errors).mean() < 0.02  # the proxies' own predictions are off by more than half a nat


def test_what_does_not_go_together_is_said_in_one_line(tmp_path: Path) -> None:
    for arguments, message in (
        (("a.yaml", "--predict", "m.csv"), "--predict goes with two tables"),
        (("a", "b", "c"), "3 files; give one RECIPE, or RUNS.csv and METRICS.csv"),
        (("a.csv", "b.csv", "--predict", "m.csv"), "--predict needs --out DIR"),
        (("a.csv", "b.csv", "--set", "seed=1", "--emit", "text"), "--set, --emit goes with a RECIPE, not with"),
        (("a.csv", "b.csv", "--surrogate", "forest"), "there is no surrogate 'forest'"),
        (("a.csv", "b.csv"), "a.csv: there is no such file"),
    ):
        finished = redone_here("fit", *arguments)
        assert (finished.code, finished.err.count("\n")) == (2, 1)
        assert message in finished.err
