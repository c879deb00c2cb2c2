from pathlib import Path

import numpy as np
import pytest
from planted import Planted

from redone_data.mix.fit import FitConfig, fit
from redone_data.mix.fit_files import read_fit, write_fit
from redone_data.mix.tables import Swarm
from redone_data.mix.together import fit_together, together

LAW = FitConfig(surrogate="saturating")
PLANTED = Planted.draw(4, 3, seed=0)
WHOLE = PLANTED.swarm(40, noise=0.005, seed=0)


def some(rows: slice, metrics: list[int]) -> Swarm:
    return Swarm(
        WHOLE.run_ids[rows],
        WHOLE.domains,
        tuple(WHOLE.metrics[m] for m in metrics),
        WHOLE.weights_RD[rows],
        WHOLE.losses_RM[rows][:, metrics],
    )


def test_swarms_that_measured_all_are_one_swarm_in_whatever_order() -> None:
    parts = [some(slice(15, 40), [0, 1, 2]), some(slice(0, 15), [0, 1, 2])]
    joined = together(parts, WHOLE.metrics)
    assert joined.run_ids == WHOLE.run_ids
    assert np.array_equal(joined.losses_RM, WHOLE.losses_RM)
    assert fit_together(parts, LAW, 1).report == fit(WHOLE, LAW, 1).report


def test_a_metric_is_fitted_on_the_runs_that_measured_it() -> None:
    earlier, later = some(slice(0, 24), [0, 1]), some(slice(24, 40), [0, 1, 2])
    found = fit_together([earlier, later], LAW, 1)
    assert found.metrics == WHOLE.metrics
    assert found.swarm.run_ids == later.run_ids
    both = fit(some(slice(0, 40), [0, 1]), LAW, 1)
    alone = fit(some(slice(24, 40), [2]), LAW, 1)
    weights_CD = WHOLE.weights_RD[:5]
    for metric, expected in (("loss0", both), ("loss1", both), ("loss2", alone)):
        assert found.predict_weights(metric, weights_CD) == pytest.approx(expected.predict_weights(metric, weights_CD))
        assert found.row(metric) == expected.row(metric)
        assert found.noise[metric] == expected.noise[metric]
    assert found.held_out_RM[:, 0] == pytest.approx(both.held_out_RM[24:, 0])
    assert found.spread("loss2", weights_CD).shape == (5,)


def test_the_order_of_swarms_changes_nothing() -> None:
    earlier, later = some(slice(0, 24), [0, 1]), some(slice(24, 40), [0, 1, 2])
    one, other = fit_together([earlier, later], LAW, 1), fit_together([later, earlier], LAW, 1)
    assert one.report == other.report
    assert np.array_equal(one.held_out_RM, other.held_out_RM)


def test_a_search_that_reads_a_fit_sees_what_the_fit_saw_to_the_last_bit(tmp_path: Path) -> None:
    config = FitConfig(surrogates=("linear", "lightgbm", "law_gp"))
    swarms = [some(slice(0, 16), [0, 1]), some(slice(16, 40), [0, 1, 2])]
    made = fit_together(swarms, config, 1)
    write_fit(made, tmp_path)
    read = read_fit(tmp_path, swarms[::-1], config, 1)
    assert (read.report, read.compared, read.dropped, read.noise) == (
        made.report,
        made.compared,
        made.dropped,
        made.noise,
    )
    assert np.array_equal(read.held_out_RM, made.held_out_RM)
    assert read.swarm.run_ids == made.swarm.run_ids
    assert np.array_equal(read.swarm.weights_RD, made.swarm.weights_RD)
    for metric in made.metrics:
        for ask in ("predict_weights", "gradient", "half_width"):
            one, other = (getattr(found, ask)(metric, WHOLE.weights_RD) for found in (read, made))
            assert np.array_equal(one, other)
    keep_R = np.arange(24) % 2 == 0
    one, other = (found.on_runs(keep_R).predict_weights("loss1", WHOLE.weights_RD) for found in (read, made))
    assert np.array_equal(one, other)
