"""A toy backend: a store in memory, written as a new one would be, to prove that the contract is all there is to it."""

import contextlib
import io
import threading
import time
from dataclasses import dataclass

from storage.store import FileMissingError, Store, StoreError

_FILES: dict[str, dict[str, tuple[bytes, float]]] = {}
_FOLDER_TIMES: dict[str, dict[str, float]] = {}
_LOCK = threading.RLock()


def open_memory(url, address=None):
    """Return the store at ``url`` (``memory://NAME``); stores of one name share their files."""
    return MemoryStore(url.rstrip("/"))


@dataclass(frozen=True)
class MemoryStore(Store):
    """A store in the memory of this process."""

    root: str

    @property
    def files(self):
        return _FILES.setdefault(self.root, {})

    @property
    def folder_times(self):
        return _FOLDER_TIMES.setdefault(self.root, {})

    def url(self, path=""):
        return f"{self.root}/{path}".rstrip("/")

    def read_bytes(self, path, offset=0, length=None):
        if path not in self.files:
            raise FileMissingError(f"{self.url(path)}: no such file", path)
        data = self.files[path][0][offset:]
        return data if length is None else data[:length]

    def open_arrow(self, path):
        import pyarrow

        return pyarrow.BufferReader(self.read_bytes(path))

    open_ranged = open_arrow

    @contextlib.contextmanager
    def writer(self, path):
        buffer = io.BytesIO()
        yield buffer
        self.write_bytes(path, buffer.getvalue())

    def write_bytes(self, path, data):
        with _LOCK:
            parents = {path[:at] for at, letter in enumerate(path) if letter == "/"}
            if parents & self.files.keys():
                raise StoreError(f"{self.url(path)}: is below a file, not a folder", path)
            self.files[path] = bytes(data), time.time()
            self._touch(path)

    def write_in_steps(self, path, write):
        buffer = io.BytesIO()
        for _ in write(buffer):
            pass
        self.write_bytes(path, buffer.getvalue())
        return buffer.tell()

    def create_exclusive(self, path, data):
        with _LOCK:
            if path in self.files:
                return False
            self.write_bytes(path, data)
            return True

    def sync(self, path):
        pass

    def exists(self, path):
        return path in self.files or any(file.startswith(f"{path}/") for file in self.files)

    def size(self, path):
        return len(self.read_bytes(path))

    def names(self, folder):
        """Return all names in a folder, temporary files too."""
        prefix = f"{folder}/" if folder else ""
        return {file[len(prefix) :].partition("/")[0] for file in self.files if file.startswith(prefix)}

    def list(self, path):
        return sorted(name for name in self.names(path) if not name.startswith("."))

    def times(self, path):
        full = {name: f"{path}/{name}" for name in self.list(path)}
        return {
            name: self.files[file][1] if file in self.files else self.folder_times[file]
            for name, file in full.items()
        }

    def remove(self, path):
        if self.files.pop(path, None):
            self._touch(path)

    def remove_tree(self, path):
        for file in [file for file in self.files if file.startswith(f"{path}/")]:
            self.remove(file)

    def temporary(self, path):
        names = [name for name in self.names(path) if name.startswith(".") and name.endswith(".tmp")]
        return {name: self.files[f"{path}/{name}"][1] for name in names}

    def _touch(self, path):
        self.folder_times[path.rpartition("/")[0]] = time.time()
        self.folder_times.setdefault(path.partition("/")[0], time.time())
