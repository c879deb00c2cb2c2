"""Lets the tests of this folder import curation.py, which lies beside them (importlib mode does not), and compile."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
# The first example of a property may wait seconds for numba.
settings.register_profile("compiling", deadline=None)
settings.load_profile("compiling")
