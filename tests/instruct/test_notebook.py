"""notebooks/instruction_data.ipynb runs from top to bottom on a set and its pairs, and shows pictures."""

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib.figure import Figure
from small_set import write_small_set

from redone_data.instruct.pairs.recipe import load_pairs_recipe
from redone_data.instruct.pairs.set import PairSet
from redone_data.instruct.recipe import load_sft_recipe
from redone_data.instruct.set import InstructionSet

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "instruction_data.ipynb"
PAIRS = "structure: {moods: {conversations: [out/step1.jsonl, out/held_out.jsonl], tasks: [mood]}}\n"


def test_the_notebook_shows_a_set_and_its_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    InstructionSet(load_sft_recipe(write_small_set(tmp_path)), tmp_path / "out").run()
    (tmp_path / "pairs.yaml").write_text(PAIRS, encoding="utf-8")
    PairSet(load_pairs_recipe(tmp_path / "pairs.yaml"), tmp_path / "pairs").run()
    monkeypatch.setenv("REDONE_SFT", str(tmp_path / "out"))
    monkeypatch.setenv("REDONE_PAIRS", str(tmp_path / "pairs"))
    names: dict[str, Any] = {}
    shown = []
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        *before, last = ast.parse("\n".join(x for x in cell.source.splitlines() if not x.startswith("%"))).body
        exec(compile(ast.Module(before, []), str(NOTEBOOK), "exec"), names)  # the repository's own cells
        assert isinstance(last, ast.Expr), "a cell ends with what it shows"
        shown.append(eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names))
    assert sum(isinstance(value, Figure) for value in shown) == 3
    assert {"documents": 0, "prompts": 0} in [value for value in shown if isinstance(value, dict)]
    assert "[rejected]" in capsys.readouterr().out
