"""The notebook of the documentation runs from its first cell to its last, and shows what it is stored with.

With ``--update-golden`` it is stored with what it shows.
"""

import copy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only  # the API has tests of its own in the other modes

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "notebook.ipynb"


def run(notebook):
    """Run a notebook from top to bottom, in its folder; what a run notes of time and Python is left out."""
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    options = {"kernel_name": "python3", "timeout": HANG_S, "resources": where, "record_timing": False}
    done = NotebookClient(copy.deepcopy(notebook), **options).execute()  # the Python that runs this
    done.metadata = notebook.metadata
    return done


def test_the_notebook_shows_what_it_is_stored_with(request):
    stored = nbformat.read(NOTEBOOK, as_version=4)
    done = run(stored)
    if request.config.getoption("--update-golden"):
        nbformat.write(done, NOTEBOOK)
        return
    outputs = [cell.get("outputs") for cell in done.cells]
    assert outputs == [cell.get("outputs") for cell in stored.cells]
    assert done.cells == stored.cells
    assert sum(map(bool, outputs)) > 5
