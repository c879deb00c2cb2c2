"""The notebooks as a reader opens them: in a real kernel on the stored results, and on a run that has next to nothing.

Committed notebooks hold no outputs: pictures are drawn anew from notebooks/results, so they cannot be of other data.
"""

import base64
import os
import re
import struct
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from small_run import SmallRecipe

from redone_data.mix.record import MixtureRecord

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
RESULTS = FOLDER / "results" / "quickstart"
NOTEBOOKS = ["mixture_analysis.ipynb", "swarm_diagnostics.ipynb"]  # of the mixture; others are tested beside their code
MAX_BYTES = 500_000
NOTHING = 60  # pixels; a picture this low is one line: "nothing to show"


def code_cells(name: str) -> list[Any]:
    return [cell for cell in nbformat.read(FOLDER / name, as_version=4).cells if cell.cell_type == "code"]


def height(png: str) -> int:
    return int(struct.unpack(">I", base64.b64decode(png)[20:24])[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_cell_runs_and_every_picture_shows_something(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDONE_RUN", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    book = nbformat.read(FOLDER / name, as_version=4)
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}).execute()
    pictures = 0
    for cell in (cell for cell in book.cells if cell.cell_type == "code"):
        said = [output for output in cell.outputs if output.get("name") == "stderr"]
        assert not said, said
        if "plots." in cell.source:
            (png,) = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
            assert height(png) > NOTHING, f"nothing is drawn by: {cell.source}"
            pictures += 1
    assert pictures >= 6


def test_a_run_without_targets_rounds_and_validation_opens_too(
    recipe: SmallRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm = {"proxy": {"size": "counts", "tokens": 5_000}}
    mix = {"design": {"runs": 12}, "fit": {"surrogates": ["linear"]}, "swarm": swarm}
    recipe.change(lambda values: values.update(mix=mix | {"rounds": {"max": 0}, "validate": {"seeds": 0}}))
    monkeypatch.setenv("REDONE_RUN", str(recipe.mixed(tmp_path / "out")))
    for name in NOTEBOOKS:
        names: dict[str, Any] = {}
        for cell in code_cells(name):
            *lines, last = [line for line in cell.source.splitlines() if not line.startswith("%")]
            exec("\n".join(lines), names)  # the repository's own cells
            shown = eval(last, names)
            assert isinstance(shown, Figure) == ("plots." in last)


def test_committed_notebooks_have_no_outputs_and_no_trace_of_a_machine() -> None:
    names = [path.name for path in FOLDER.glob("*.ipynb")]
    assert set(NOTEBOOKS) < set(names)
    for name in names:
        assert not [cell.outputs for cell in code_cells(name) if cell.outputs or cell.execution_count]
        assert set(nbformat.read(FOLDER / name, as_version=4).metadata) == {"kernelspec", "language_info"}


def test_stored_results_are_small_and_hold_neither_text_nor_paths() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MAX_BYTES
    assert {path.suffix for path in files} <= {".csv", ".json", ".parquet"}
    for path in files:
        assert not re.search(rb"/(home|root|tmp|work|Users|mnt|var)/", path.read_bytes()), path


def test_stored_results_are_of_a_whole_run() -> None:
    record = MixtureRecord.open(RESULTS)
    assert record.proposal is not None
    for name in (
        "proxies",
        "curves",
        "rounds",
        "held_out",
        "learning",
        "front",
        "effects",
        "weight_ranges",
        "finalists",
    ):
        assert getattr(record, name), f"{name} is empty: make the results again (notebooks/README.md)"
