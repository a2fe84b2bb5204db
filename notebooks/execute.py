"""Run the notebooks and keep their outputs: ``python notebooks/execute.py`` writes each NN_name.ipynb.

The text version (NN_name.py) is the source that is edited and reviewed.
"""

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def read(source: Path) -> nbformat.NotebookNode:
    """The notebook of a text version, its cells numbered so that two runs give the same file."""
    notebook = jupytext.read(source)
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
    return notebook


def execute(source: Path) -> nbformat.NotebookNode:
    """Run every cell; an exception in a cell is raised here."""
    notebook = read(source)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": HERE}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # clock times
    return notebook


def main() -> None:
    """Write the notebooks named on the command line, all by default."""
    for source in [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("[0-9]*.py")):
        nbformat.write(execute(source), source.with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
