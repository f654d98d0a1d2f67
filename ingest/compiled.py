"""Imports modules that numba compiles so that they are compiled once, even when their package is in a zip or read-only.

Of numba's own cache locators, the one for zips uses the path of the zip in its key, which is another one for each Spark
application, and none uses what was compiled ahead in a read-only folder or a zip.
"""

import atexit
import functools
import hashlib
import importlib
import os
import shutil
import sys
import tempfile
import threading
import types
from importlib import resources
from pathlib import Path
from typing import Any, Self

from conf.garbage import no_collection

_importing = threading.Lock()
_LOCATORS = "UserProvidedCacheLocator,InTreeCacheLocator,ingest.compiled.KernelLocator"


@functools.cache
def compiled(name: str) -> types.ModuleType:
    """Return the module ``name``, as "tagging.forest.kernel", compiled; imports numba."""
    # The collector takes up to a third of the time of this import.
    with _importing, no_collection():
        import numba

        config: Any = numba.config
        before = config.CACHE_LOCATOR_CLASSES
        config.CACHE_LOCATOR_CLASSES = before or _LOCATORS
        try:
            return importlib.import_module(name)
        finally:
            config.CACHE_LOCATOR_CLASSES = before


class KernelLocator:
    """A cache locator as numba documents it: a folder of the user's, named by the content of the module.

    The folder begins with what was compiled ahead beside the module.
    """

    def __init__(self, function: types.FunctionType, file: str) -> None:
        self._line = function.__code__.co_firstlineno
        package = resources.files(function.__module__.rpartition(".")[0])
        short = Path(file).stem
        self._source = (package / f"{short}.py").read_bytes()
        self._folder = _user_folder() / f"{short}-{_key(self._source)}"
        self._folder.mkdir(exist_ok=True)
        ahead = package / "__pycache__"
        for compiled_file in ahead.iterdir() if ahead.is_dir() else ():
            name = compiled_file.name
            if name.startswith(f"{short}.") and name.endswith((".nbi", ".nbc")):
                _copy(compiled_file.read_bytes(), self._folder / name)

    @classmethod
    def from_function(cls, function: types.FunctionType, file: str) -> Self:
        return cls(function, file)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(exist_ok=True)

    def get_source_stamp(self) -> bytes:
        # The same as numba's for a file, so that what was compiled ahead is valid.
        return hashlib.sha256(self._source).digest()

    def get_disambiguator(self) -> str:
        return str(self._line)


def _copy(data: bytes, target: Path) -> None:
    if target.exists():
        return
    handle, temporary = tempfile.mkstemp(dir=target.parent)
    with open(handle, "wb") as file:
        file.write(data)
    os.replace(temporary, target)


def _key(source: bytes) -> str:
    import llvmlite.binding
    import numba

    # Home folders are shared between machines: different processors must not write machine code into one folder.
    parts: list[Any] = [source.hex(), numba.__version__, sys.version, llvmlite.binding.get_host_cpu_name()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@functools.cache
def _user_folder() -> Path:
    """Return a folder of the user's own, or one that is removed with this process where there is no other."""
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
