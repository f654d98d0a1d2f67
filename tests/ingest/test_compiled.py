"""What is compiled is compiled once, not once a process, wherever the package is.

A small kernel takes the place of the real one, which takes twenty times as long to compile.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ingest.compiled import compiled

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
KERNEL = """
from numba import njit, types

@njit(types.int64(types.int64), cache=True)
def double(number):
    return 2 * number
"""
# Prints how many functions were compiled, and where numba keeps them.
FIRST_USE = """
from ingest.compiled import compiled
module = compiled("small.kernel")
assert module.double(21) == 42
print(sum(module.double.stats.cache_misses.values()), module.double._cache.cache_path)
"""


@pytest.fixture
def package(tmp_path):
    """A folder with a package that has a kernel, and what it imports."""
    folder = tmp_path / "package"
    (folder / "small").mkdir(parents=True)
    (folder / "small" / "__init__.py").touch()
    (folder / "small" / "kernel.py").write_text(KERNEL)
    (folder / "ingest").mkdir()
    for name in ("__init__.py", "compiled.py"):
        shutil.copy(ROOT / "ingest" / name, folder / "ingest" / name)
    return folder


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return home


def zip_package(source, path):
    with zipfile.ZipFile(path, "w") as out:
        for file in sorted(source.rglob("*")):
            if file.suffix in (".py", ".nbi", ".nbc"):
                out.write(file, file.relative_to(source))
    return path


def environment(path, home):
    # Without -I: PYTHONPATH is how Spark's workers import --py-files.
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "PYTHON", "XDG_"))
    }
    return kept | {"PYTHONPATH": str(path), "HOME": str(home)}


def start_first_use(path, home, prefix=(), code=FIRST_USE):
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", code],
        env=environment(path, home),
        cwd=home.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    misses, cache = out.split()
    return int(misses), cache


def first_use(path, home, prefix=(), code=FIRST_USE):
    """Return how many functions the first use of the kernel compiled, and the folder of what is compiled."""
    return finish(start_first_use(path, home, prefix, code))


def test_out_of_a_zip_only_the_first_process_compiles_wherever_the_zip_lies_later(tmp_path, package, home):
    archive = zip_package(package, tmp_path / "first.zip")
    assert first_use(archive, home)[0] == 1
    misses, cache = first_use(archive.rename(tmp_path / "second.zip"), home)
    assert misses == 0 and cache.startswith(str(home / ".cache" / "tinytags" / "kernel-"))
    # A changed kernel is compiled again.
    (package / "small" / "kernel.py").write_text(KERNEL + "\n# changed\n")
    misses, other = first_use(zip_package(package, tmp_path / "third.zip"), home)
    assert misses == 1 and other != cache


def test_what_was_compiled_ahead_is_used_out_of_a_zip_and_in_a_read_only_folder(tmp_path, package, home):
    beside = str(package / "small" / "__pycache__")
    assert first_use(package, home) == (1, beside)
    assert first_use(package, home) == (0, beside)
    archive = zip_package(package, tmp_path / "package.zip")
    assert first_use(archive, home)[0] == 0
    shutil.rmtree(home / ".cache")
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may write anywhere")
    for path in [package, *package.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    # Root may write anywhere, unless it gives that up.
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    try:
        misses, cache = first_use(package, home, without)
    finally:
        for path in [package, *package.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
    assert misses == 0 and cache.startswith(str(home / ".cache" / "tinytags"))


def test_without_a_home_to_write_to_a_kernel_still_works(tmp_path, package, home):
    nowhere = tmp_path / "file"
    nowhere.touch()
    _, cache = first_use(zip_package(package, tmp_path / "package.zip"), nowhere)
    assert not Path(cache).exists()  # a temporary folder, removed with the process


def test_two_processes_may_be_the_first_at_once(tmp_path, package, home):
    archive = zip_package(package, tmp_path / "package.zip")
    for process in [start_first_use(archive, home) for _ in range(2)]:
        finish(process)
    assert first_use(archive, home)[0] == 0
    assert len(list((home / ".cache" / "tinytags").iterdir())) == 1


def test_the_forests_kernel_comes_compiled_in_the_zip_for_spark(tmp_path, home):
    compiled("tagging.forest.kernel")  # beside its source, where it isn't yet
    from jobs.archive import write_zip

    with open(tmp_path / "tinytags.zip", "wb") as file:
        write_zip(file)
    code = """
from ingest.compiled import compiled
module = compiled("tagging.forest.kernel")
print(sum(sum(walk.stats.cache_misses.values()) for walk in (module.walk_narrow, module.walk_wide)),
      module.walk_wide._cache.cache_path)
"""
    misses, cache = first_use(tmp_path / "tinytags.zip", home, code=code)
    assert misses == 0 and cache.startswith(str(home / ".cache" / "tinytags"))


def test_a_forest_is_imported_loaded_and_votes_on_few_images_without_numba():
    code = """
import sys, numpy as np
from tagging.forest import NUMPY_STEPS, Tree, load, pack
from tagging import models, quality, tags
forest = load(pack([Tree(*map(np.array, ([0], [0.0], [-1], [-1], [0])))], ["cat"]).save())
images = np.zeros((1000, 3072), np.uint8)
assert forest.votes(images).tolist() == [[1]] * 1000
assert not {"numba", "llvmlite", "pyspark", "sklearn", "pyarrow"} & set(sys.modules), sorted(sys.modules)
for _ in range(NUMPY_STEPS // 1000):
    forest.votes(images)
assert "numba" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], env=environment(ROOT, Path.home()), check=True)
