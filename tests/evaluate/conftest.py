"""The helpers of these tests lie beside them, in small_eval.py; the tiny model is that of the trainer's tests."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "train")]
