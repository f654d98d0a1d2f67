"""What is compiled is compiled once, not once a process, wherever the package lies."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("conf", "ingest", "tagging")

# Prints how many seconds of the processor's time the first votes took once numba was up, how many functions were
# compiled for them, and where the kernel was imported from.
FIRST_USE = """
import sys, time
import numpy as np, numba
from numba.core import event
from numba.core.registry import cpu_target
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
compiled = []
class Listener(event.Listener):
    def on_start(self, e): compiled.append(e.data["dispatcher"].py_func.__name__)
    def on_end(self, e): pass
event.register("numba:compile", Listener())
import tagging
from tagging.forest import Tree, pack
forest = pack([Tree(*map(np.array, ([9, 0, 0], [99.0, 0, 0], [1, -1, -1], [2, -1, -1], [0, 3, 5])))], list("abcdef"))
images = np.zeros((1000, 3072), np.uint8)
start = time.process_time()
assert (forest.votes(images)[:, 3] == 1).all()
seconds = time.process_time() - start
assert tagging.__file__.startswith(sys.argv[1]), tagging.__file__
print(seconds, len(compiled), sys.modules["tagging.forest.kernel"].__file__)
"""


def copy_package(target):
    """Copy the packages to ``target`` without what was compiled."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def zip_package(source, path):
    with zipfile.ZipFile(path, "w") as out:
        for file in sorted(source.rglob("*")):
            if file.suffix in (".py", ".nbi", ".nbc"):
                out.write(file, file.relative_to(source))
    return path


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return home


def environment(path, home):
    # Without -I: PYTHONPATH is how Spark's workers get at --py-files.
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "PYTHON", "XDG_"))
    }
    return kept | {"PYTHONPATH": str(path), "HOME": str(home)}


def start_first_use(path, home, prefix=()):
    command = [*prefix, sys.executable, "-c", FIRST_USE, str(path)]
    return subprocess.Popen(
        command,
        env=environment(path, home),
        cwd=home.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    seconds, compiled, kernel = out.split()
    return float(seconds), int(compiled), kernel


def first_use(path, home, prefix=()):
    return finish(start_first_use(path, home, prefix))


def compile_ahead(path, home):
    subprocess.run(
        [sys.executable, "-m", "tagging.forest.kernel"],
        env=environment(path, home),
        cwd=home.parent,
        check=True,
    )


def test_compiling_ahead_leaves_nothing_to_compile(tmp_path, home):
    package = copy_package(tmp_path / "package")
    compile_ahead(package, home)
    seconds, compiled, kernel = first_use(package, home)
    assert compiled == 0 and seconds < 0.3
    assert kernel == str(package / "tagging" / "forest" / "kernel.py")


def test_a_second_process_has_nothing_to_compile_when_nothing_was_compiled_ahead(tmp_path, home):
    package = copy_package(tmp_path / "package")
    assert first_use(package, home)[1] > 0
    seconds, compiled, _ = first_use(package, home)
    assert compiled == 0 and seconds < 0.3


def test_out_of_a_zip_only_the_first_process_compiles_wherever_the_zip_lies_later(tmp_path, home):
    archive = zip_package(copy_package(tmp_path / "package"), tmp_path / "first.zip")
    assert first_use(archive, home)[1] > 0
    moved = archive.rename(tmp_path / "second.zip")
    seconds, compiled, kernel = first_use(moved, home)
    assert compiled == 0 and seconds < 0.3
    assert kernel.startswith(str(home / ".cache" / "tinytags"))


def test_a_zip_with_the_compiled_kernel_in_it_leaves_nothing_to_compile(tmp_path, home):
    package = copy_package(tmp_path / "package")
    compile_ahead(package, home)
    archive = zip_package(package, tmp_path / "package.zip")
    shutil.rmtree(package)
    seconds, compiled, _ = first_use(archive, home)
    assert compiled == 0 and seconds < 0.3


def test_a_changed_kernel_is_compiled_anew(tmp_path, home):
    package = copy_package(tmp_path / "package")
    first_use(zip_package(package, tmp_path / "first.zip"), home)
    kernel = package / "tagging" / "forest" / "kernel.py"
    kernel.write_text(kernel.read_text() + "\n# changed\n")
    assert first_use(zip_package(package, tmp_path / "second.zip"), home)[1] > 0


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write anywhere")
def test_in_a_read_only_folder_what_was_compiled_ahead_is_used(tmp_path, home):
    package = copy_package(tmp_path / "package")
    compile_ahead(package, home)
    for path in [package, *package.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    # Root may write anywhere, unless it gives that up.
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    try:
        seconds, compiled, kernel = first_use(package, home, without)
    finally:
        for path in [package, *package.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
    assert compiled == 0 and seconds < 0.3
    assert kernel.startswith(str(home / ".cache" / "tinytags"))


def test_without_a_home_to_write_to_votes_are_still_counted(tmp_path, home):
    archive = zip_package(copy_package(tmp_path / "package"), tmp_path / "package.zip")
    nowhere = tmp_path / "file"
    nowhere.touch()
    _, _, kernel = first_use(archive, nowhere)
    assert not Path(kernel).exists()  # a temporary folder, gone with the process


def test_four_processes_may_be_the_first_at_once(tmp_path, home):
    archive = zip_package(copy_package(tmp_path / "package"), tmp_path / "package.zip")
    for process in [start_first_use(archive, home) for _ in range(4)]:
        finish(process)
    assert first_use(archive, home)[1] == 0
    assert len(list((home / ".cache" / "tinytags").iterdir())) == 1


def test_what_reads_dumps_is_compiled_apart_from_what_tags(tmp_path, home):
    code = """
import sys
import numpy as np
from ingest.image import from_column_major
few, many = (np.arange(n * 3072, dtype=np.uint64).astype(np.uint8).reshape(n, 3072) for n in (63, 64))
from_column_major(few)
assert "numba" not in sys.modules, "a few images don't wait for numba"
assert (from_column_major(many)[:63] == from_column_major(few)).all()
module = sys.modules["ingest.transpose"]
print(module.__file__, sum(module.transpose.stats.cache_misses.values()))
"""
    archive = zip_package(copy_package(tmp_path / "package"), tmp_path / "package.zip")
    for compiled in (1, 0):
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env=environment(archive, home), cwd=home, check=True, capture_output=True, text=True
        )
        folder = home / ".cache" / "tinytags"
        assert done.stdout.startswith(f"{folder}/transpose-") and done.stdout.endswith(f".py {compiled}\n")


def test_a_forest_is_imported_and_loaded_without_numba():
    code = """
import sys, numpy as np
from tagging.forest import Tree, load, pack
from tagging import models, quality, tags
forest = load(pack([Tree(*map(np.array, ([0], [0.0], [-1], [-1], [0])))], ["cat"]).save())
assert not {"numba", "llvmlite", "pyspark", "sklearn", "pyarrow"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], env=environment(ROOT, Path.home()), check=True)
