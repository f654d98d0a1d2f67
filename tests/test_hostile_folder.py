"""Tests that modules of the user's with the names of ours, in the current folder and on PYTHONPATH, are never executed."""

import pytest
from small_world import MASTER, run_process, write_cifar, write_hostile, write_tiny_images

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("master", ["processes[2]", pytest.param(MASTER, marks=pytest.mark.spark)])
def test_the_chain_runs_in_a_folder_with_a_conf_py(tmp_path, master):
    folder = tmp_path / "sphinx"
    marker = write_hostile(folder)
    cifar = write_cifar(tmp_path / "cifar", 60, 20)
    tiny = write_tiny_images(tmp_path / "tiny_images.bin", 60)
    here = {
        "cwd": folder, "PYTHONPATH": str(folder), "TINYTAGS_MASTER": "processes", "TINYTAGS_SOLR": "http://127.0.0.1:1/solr"
    }  # fmt: skip
    run_process("ingest", cifar, "--corpus", "cifar", **here)
    run_process(
        "train", "--corpus", "cifar", "--model", "forest", "--engine", "scikit-learn", "--trees", 2, **here
    )
    run_process("ingest", tiny, "--corpus", "tiny", "--partition-images", 20, **here)
    out, _ = run_process("tag", "--corpus", "tiny", "--model", "forest", "--master", master, **here)
    assert "3 partitions tagged now" in out
    run_process("evaluate", "--corpus", "cifar", "--model", "forest", **here)
    assert "tag 3 of 3 partitions done" in run_process("status", **here)[0]
    assert not marker.exists(), marker.read_text()
