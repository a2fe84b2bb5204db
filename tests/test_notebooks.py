import sys

import nbformat
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "notebooks"))
from execute import execute, read

SOURCES = sorted((ROOT / "notebooks").glob("[0-9]*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_notebook_runs_and_its_kept_version_has_the_same_cells(source):
    kept = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in read(source).cells]
    assert any(cell.get("outputs") for cell in kept.cells)
    outputs = [output for cell in execute(source).cells for output in cell.get("outputs", [])]
    assert outputs and all(output.output_type != "error" for output in outputs)
