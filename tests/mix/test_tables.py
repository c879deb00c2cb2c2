from pathlib import Path

import numpy as np
import polars as pl
import pytest
from planted import SHARED_DATA

from redone_data.errors import RedoneError
from redone_data.mix.tables import join_swarm, load_mixtures, load_swarm

RUNS = pl.DataFrame({"run_id": ["r1", "r2", "r3"], "seed": [0, 0, 1], "wiki": [0.5, 0.0, 1.0], "code": [0.5, 1.0, 0.0]})
METRICS = pl.DataFrame({"run_id": ["r3", "r1", "r2"], "loss": [3.0, 1.0, 2.0], "acc": [30.0, 10.0, 20.0]})


def test_tables_are_joined_by_run_id_and_not_by_position() -> None:
    swarm = join_swarm(RUNS, METRICS)
    assert swarm.run_ids == ("r1", "r2", "r3")
    assert swarm.domains == ("code", "wiki")
    assert swarm.losses("loss").tolist() == [1.0, 2.0, 3.0]


def test_shuffling_the_rows_of_either_table_changes_nothing() -> None:
    swarm = join_swarm(RUNS, METRICS)
    other = join_swarm(RUNS.reverse(), METRICS.sort("loss").select("acc", "run_id", "loss"))
    assert (swarm.run_ids, swarm.domains, swarm.metrics) == (other.run_ids, other.domains, other.metrics)
    assert np.array_equal(swarm.weights_RD, other.weights_RD)
    assert np.array_equal(swarm.losses_RM, other.losses_RM)


def test_the_seed_is_no_domain() -> None:
    assert "seed" not in join_swarm(RUNS, METRICS).domains


def test_all_faults_are_named_in_one_message() -> None:
    runs = pl.concat([RUNS, RUNS[:1], RUNS[:1].with_columns(run_id=pl.lit("r8"))])
    metrics = pl.concat([METRICS, pl.DataFrame({"run_id": ["r9"], "loss": [None], "acc": [float("nan")]})])
    with pytest.raises(RedoneError) as error:
        join_swarm(runs, metrics)
    message = str(error.value)
    for part in (
        "run id given twice: r1",
        "without a row in metrics: r8",
        "without a row in runs: r9",
        "r9 (loss), r9 (acc)",
    ):
        assert part in message


def test_weights_that_do_not_sum_to_one_are_an_error_and_rounded_ones_are_renormalised() -> None:
    with pytest.raises(RedoneError, match=r"do not sum to one in runs: r3 \(sum 0\.9\)"):
        join_swarm(RUNS.with_columns(wiki=pl.Series([0.5, 0.0, 0.9])), METRICS)
    swarm = join_swarm(RUNS.with_columns(wiki=pl.Series([0.5, 0.0, 0.997])), METRICS)
    assert np.allclose(swarm.weights_RD.sum(axis=1), 1, atol=1e-12)
    with pytest.raises(RedoneError, match="negative weights in runs: r2"):
        join_swarm(RUNS.with_columns(wiki=pl.Series([0.5, -0.1, 1.0]), code=pl.Series([0.5, 1.1, 0.0])), METRICS)


def write(folder: Path, runs: str, metrics: str) -> tuple[Path, Path]:
    (folder / "runs.csv").write_text(runs)
    (folder / "metrics.csv").write_text(metrics)
    return folder / "runs.csv", folder / "metrics.csv"


def test_a_csv_with_a_repeated_column_or_a_word_for_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RedoneError, match="column given twice: wiki"):
        load_swarm(*write(tmp_path, "run_id,wiki,wiki\na,1,0\n", "run_id,loss\na,1\n"))
    with pytest.raises(RedoneError, match=r"metrics missing or not finite in runs: a \(loss\)"):
        load_swarm(*write(tmp_path, "run_id,wiki\na,1\nb,1\n", "run_id,loss\na,high\nb,1\n"))
    with pytest.raises(RedoneError, match=r"metrics\.csv: no column of numbers; of words: loss"):
        load_swarm(*write(tmp_path, "run_id,wiki\na,1\n", "run_id,loss\na,high\n"))
    with pytest.raises(RedoneError, match="no column with the run id"):
        load_swarm(*write(tmp_path, "id,wiki\na,1\n", "run_id,loss\na,1\n"))
    with pytest.raises(RedoneError, match="there is no such file"):
        load_swarm(tmp_path / "none.csv", tmp_path / "metrics.csv")


def test_a_run_id_with_leading_zeros_stays_what_it_is(tmp_path: Path) -> None:
    swarm = load_swarm(*write(tmp_path, "run_id,a\n007,1\n7,1\n", "run_id,loss\n7,2\n007,1\n"))
    assert swarm.run_ids == ("007", "7")
    assert swarm.losses("loss").tolist() == [1.0, 2.0]


@pytest.mark.skipif(
    not (SHARED_DATA / "regmix").is_dir(), reason="the published RegMix tables are not beside the repository"
)
def test_the_published_regmix_tables_load_as_they_are() -> None:
    folder = SHARED_DATA / "regmix"
    train = load_swarm(folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv")
    test = load_swarm(folder / "test_mixture_1m.csv", folder / "test_pile_loss_1m.csv")
    assert (train.weights_RD.shape, train.losses_RM.shape) == ((512, 17), (512, 13))
    assert (test.weights_RD.shape, test.losses_RM.shape) == ((256, 17), (256, 13))
    assert train.domains == test.domains


@pytest.mark.skipif(
    not (SHARED_DATA / "olmix").is_dir(), reason="the published olmix swarm is not beside the repository"
)
def test_the_published_olmix_swarm_loads_as_it_is() -> None:
    swarm = load_swarm(SHARED_DATA / "olmix" / "dclm_ratios.csv", SHARED_DATA / "olmix" / "dclm_metrics.csv")
    assert swarm.weights_RD.shape == (127, 24)
    assert swarm.losses_RM.shape == (127, 110)
    assert {"adult_content", "travel_and_tourism"} <= set(swarm.domains)
    assert not {"index", "name", ""} & set(swarm.metrics)


def test_faults_of_both_files_come_in_one_message(tmp_path: Path) -> None:
    runs = "run_id,wiki,wiki,code\na,0.5,0.5,0.5\na,0.5,0.5,0.5\nb,0.5,0.5,0.1\nc,-0.5,0,1.5\nd,,0,1\n"
    metrics = "run_id,loss,loss\na,1,1\nb,nan,1\nc,1,1\ne,1,1\n"
    with pytest.raises(RedoneError) as error:
        load_swarm(*write(tmp_path, runs, metrics))
    for part in (
        "runs.csv: column given twice: wiki",
        "metrics.csv: column given twice: loss",
        "run id given twice: a",
        "b (sum 0.6)",
        "negative weights in runs: c",
        "d (wiki)",
        "b (loss)",
        "metrics.csv: d",
        "runs.csv: e",
    ):
        assert part in str(error.value), part
    assert "\n" not in str(error.value)


def test_a_column_of_words_is_neither_domain_nor_metric(tmp_path: Path) -> None:
    runs = "run_id,group,wiki,code\na,first,0.5,0.5\nb,second,0,1\n"
    swarm = load_swarm(*write(tmp_path, runs, "run_id,loss,remark\na,1,fine\nb,2,\n"))
    assert (swarm.domains, swarm.metrics) == (("code", "wiki"), ("loss",))


def test_mixtures_are_joined_by_domain_name_and_strangers_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mixtures.csv"
    path.write_text("wiki,index,code\n0.2,007,0.8\n1,8,0\n")
    table = load_mixtures(path, ("code", "wiki"))
    assert (table.id_column, table.ids, table.weights_CD.tolist()) == ("index", ("007", "8"), [[0.8, 0.2], [0, 1]])
    path.write_text("index,wiki,cod\n1,0.2,0.7\n")
    with pytest.raises(RedoneError) as error:
        load_mixtures(path, ("code", "wiki"))
    for part in ("1 (sum 0.9)", "without a column: code", "no domain of the swarm: cod", "code, wiki"):
        assert part in str(error.value)
