"""Notebooks run from top to bottom, and every .ipynb is what jupytext makes of its source."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
notebooks = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


@notebooks
def test_a_notebook_runs_on_a_small_model(source):
    settings = {"ZOO_NOTEBOOK": "small", "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, source], env=os.environ | settings, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr


@notebooks
def test_a_notebook_has_the_cells_of_its_source(source):
    text, end = source.read_text(), 0
    cells = json.loads(source.with_suffix(".ipynb").read_text())["cells"]
    assert len(cells) == text.count("\n# %%")
    for cell in cells:
        lines = "".join(cell["source"]).split("\n")
        if cell["cell_type"] == "markdown":
            lines = [f"# {line}".rstrip() for line in lines]
        begin = text.index("\n".join(lines), end)
        assert set(text[end:begin].split()) <= {"#", "%%", "[markdown]"} or not end
        end = begin + len("\n".join(lines))
    assert not text[end:].strip()
