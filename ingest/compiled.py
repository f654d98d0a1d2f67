"""Imports compiled modules from a folder where numba can keep what it compiled, even when their package is in a zip."""

import atexit
import functools
import hashlib
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
import types
from importlib import resources
from pathlib import Path

_importing = threading.Lock()


@functools.cache
def compiled(name: str) -> types.ModuleType:
    """Return the module ``name``, as "tagging.forest.kernel", compiled; imports numba.

    numba keeps compiled functions beside a source file that it can write beside. Where the package is in a zip (Spark's
    --py-files, under another temporary path each time) or in a read-only folder, the source and what was compiled along
    with it are copied to a folder of the user's once, and imported from there.
    """
    with _importing:
        if name not in sys.modules:
            package = resources.files(name.rpartition(".")[0])
            if not (isinstance(package, Path) and _writable(package)):
                _import_copy(package, name)
        return importlib.import_module(name)


def _writable(package: Path) -> bool:
    ahead = package / "__pycache__"
    return os.access(ahead if ahead.is_dir() else package, os.W_OK)


def _import_copy(package, name: str) -> None:
    short = name.rpartition(".")[2]
    source = (package / f"{short}.py").read_bytes()
    files = {f"{short}.py": source}
    ahead = package / "__pycache__"
    if ahead.is_dir():
        for file in ahead.iterdir():
            if file.name.startswith(f"{short}.") and file.name.endswith((".nbi", ".nbc")):
                files[f"__pycache__/{file.name}"] = file.read_bytes()

    folder = _user_folder() / f"{short}-{_key(source)}"
    if not folder.is_dir():
        _create(folder, files)
    spec = importlib.util.spec_from_file_location(name, folder / f"{short}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _key(source: bytes) -> str:
    import llvmlite.binding
    import numba

    # Homes are shared between machines: two that write each other's machine code into one folder must not meet.
    parts = [source.hex(), numba.__version__, sys.version, llvmlite.binding.get_host_cpu_name()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _user_folder() -> Path:
    """Return a folder of the user's own; one that lives as long as this process where there is no other."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tinytags")
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # Path.home() raises the latter for a user without a home
        pass
    folder = Path(tempfile.mkdtemp(prefix="tinytags-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _create(folder: Path, files: dict[str, bytes]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        for name, data in files.items():
            path = temporary / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first otherwise
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
