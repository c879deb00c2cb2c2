import importlib.util
import sys
from pathlib import Path

# --import-mode=importlib puts no test folder on the path; register the folder's one shared module by file.
_SPEC = importlib.util.spec_from_file_location("example_runs", Path(__file__).with_name("example_runs.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
sys.modules.setdefault("example_runs", _MODULE)
_SPEC.loader.exec_module(sys.modules["example_runs"])
