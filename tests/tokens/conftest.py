"""Lets the tests of this folder import the tiny corpus that lies beside them (importlib mode does not)."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from redone_data.engine import Output

sys.path.insert(0, str(Path(__file__).parent))

from tiny_corpus import DOCUMENTS, Made, make


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("tokens"), DOCUMENTS)


@pytest.fixture
def digests() -> Callable[[Output], dict[str, str]]:
    return lambda output: {name: entry["sha256"] for name, entry in output.manifest["files"].items()}
