"""Tests of the notebooks: each runs from top to bottom on a small sample, and none is committed with its outputs."""

from pathlib import Path

import nbformat
import pytest
from jupyter_client import KernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
# The parameters with which each takes seconds.
SMALL = {
    "compare-classifiers": {"IMAGES": 150, "CLASSIFIERS": ["forest", "neighbours"]},
    "grid-search": {
        "IMAGES": 150, "TREES": 10, "DEPTHS": [3, 6], "LEAVES": [1, 5], "SPLITS": [2, 20], "FOLDS": 2, "MASTER": "processes[1]"
    },
    "how-trees-vote": {"IMAGES": 150, "TREES": [10, 30], "DEPTH": 6},
    "features": {"IMAGES": 150, "FEATURES": ["pixels", "harris"], "CLASSIFIERS": ["logistic-l2"]},
    "forest-or-network": {
        "IMAGES": 150,
        "MODELS": {
            "small": {"engine": "scikit-learn", "trees": 5, "depth": 5},
            "features": {"engine": "scikit-learn", "features": "harris", "trees": 10, "depth": 8},
            "network": {"engine": "keras", "recipe": "small", "epochs": 2},
        },
    },
    "fifty-labels": {"IMAGES": 150, "PER_CLASS": [2, 5], "FEATURES": {"pretrained": "linear", "pixels": "forest"}},
    "pipeline-on-spark": {"IMAGES": 150, "MASTER": "local[2]", "ENGINE": "scikit-learn"},
}  # fmt: skip
ON_SPARK, WITH_KERAS = {"pipeline-on-spark"}, "forest-or-network"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A running kernel, which all notebooks use one after another; without a port that others could connect to."""
    sockets = tmp_path_factory.mktemp("kernel") / "socket"
    manager = KernelManager(kernel_name="python3", transport="ipc", ip=str(sockets))
    manager.start_kernel(cwd=str(FOLDER))
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The store of all notebooks, so that the sample is made once."""
    return tmp_path_factory.mktemp("notebooks") / "store"


def run(name: str, kernel: KernelManager, parameters: dict) -> nbformat.NotebookNode:
    """Run a notebook with other parameters, in a namespace without the names of the one before; return it with its outputs."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    (place,) = [
        number for number, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])
    ]
    known = {line.partition(" = ")[0] for line in notebook.cells[place].source.splitlines()}
    assert parameters.keys() <= known
    lines = [f"{key} = {value!r}" for key, value in parameters.items()]
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    NotebookClient(notebook, km=kernel, timeout=240).execute()
    return notebook


def check(name: str, kernel: KernelManager, store: Path) -> nbformat.NotebookNode:
    """Run a notebook and return it, after checks that it draws and that no cell fails."""
    notebook = run(name, kernel, {"STORE": str(store), "MASTER": "processes[1]"} | SMALL[name])
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not [output for output in outputs if output.output_type == "error"]
    return notebook


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.spark if name in ON_SPARK else ())
        for name in NOTEBOOKS
        if name != WITH_KERAS
    ],
)
def test_a_notebook_runs_from_top_to_bottom_and_draws(name, kernel, store):
    check(name, kernel, store)


def test_the_notebook_that_compares_with_a_network_trains_one(keras, kernel, store):
    table = [
        output["data"]["text/plain"]
        for cell in check(WITH_KERAS, kernel, store).cells
        for output in cell.get("outputs", [])
        if "tagged_per_processor_second" in output.get("data", {}).get("text/plain", "")
    ]
    assert all(name in table[0] for name in SMALL[WITH_KERAS]["MODELS"])


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_without_outputs(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebook.cells[0].source.startswith("# ")
