"""Fixtures of the tests of whole runs, and of them alone: the helpers lie beside, in small_run.py."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_run import SmallRecipe, write_recipe

HERE = Path(__file__).parent
# Seconds of CPU, about: with `--dist loadfile` workers take files as they come, and a long one taken last is waited
# for. Curation's kernels are compiled once in a checkout, by the first; until then the other worker trains, or both
# would compile them.
LONGEST_FIRST = [
    "test_ablation.py",  # 30, and 70 of compilation
    "train/test_trainer.py",  # 55
    "train/test_resume.py",  # 40
    "test_tiny_way.py",  # 150
    "train/test_stages.py",  # 40
    "test_swarm_run.py",
    "train/test_pretrained.py",  # 40
    "test_cli.py",  # 60
    "train/test_swarm.py",  # 35
    "test_mix.py",
    "test_engine.py",
    "test_interruptions.py",  # 25
    "test_rounds_run.py",
    "test_standalone.py",
    "train/test_swarm_launch.py",
    "train/test_stacked_run.py",  # 14
    "train/test_generate.py",  # 10
    "mix/test_counting_run.py",
    "curate/test_curation.py",
    "curate/test_rules.py",
    "curate/test_contamination.py",
    "curate/test_formats.py",
    "report/test_chromium.py",
    "report/test_plots.py",
    "report/test_html.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {HERE / name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
    if "REDONE_SLOW" not in os.environ:
        for item in items:
            if item.get_closest_marker("on_demand"):
                item.add_marker(pytest.mark.skip(reason="takes a minute of two cores; REDONE_SLOW=1 runs it"))


@pytest.fixture
def recipe(tmp_path: Path) -> SmallRecipe:
    """The small recipe, with fixed weights."""
    return write_recipe(tmp_path / "in")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of the small recipe. Not to be changed."""
    folder = tmp_path_factory.mktemp("reference")
    finished = write_recipe(folder / "in").mix(folder / "out")
    assert finished.code == 0, finished.err
    return folder / "out"


@pytest.fixture
def one_core() -> Iterator[None]:
    """A swarm starts a process a core, each of which imports torch; for proxies of a second one is enough."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.sched_setaffinity(0, {cores[worker % len(cores)]})
    yield
    os.sched_setaffinity(0, cores)
