"""Fixtures of the tests of whole runs, and of them alone: the helpers lie beside, in small_run.py."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_run import SmallRecipe, write_recipe


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
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
