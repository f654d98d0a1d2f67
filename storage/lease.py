"""A lease: the file that names the one process that may write a corpus, model or run."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime

from conf.errors import LeaseHeldError, TinyTagsError
from conf.settings import user_name
from storage.store import FileMissingError, Store, StoreError, StoreUnavailableError

RENEW_SECONDS = 15
# A holder on another machine counts as dead when it has not renewed its lease for so many seconds.
DEAD_SECONDS = 120
# The machines' clocks may differ, so its lease is watched for three renewals more.
WATCH_SECONDS = 45
_WATCH_STEP_SECONDS = 5


@dataclass(frozen=True)
class Holder:
    """The holder of a lease, as written in its file."""

    token: str  # of this one lease
    user: str
    host: str
    pid: int
    started: str | None  # the kernel's start time of the process
    space: str  # the boot and container in which the pid is unique
    since: str  # ISO 8601, UTC
    renewed: float  # seconds since 1970, by the holder's clock

    def is_here(self) -> bool:
        """Return whether this machine can check the holder's process: not without Linux's /proc."""
        return self.started is not None and self.space == _process_space()

    def is_alive(self) -> bool:
        """Return whether the holder's process runs (same machine) or has renewed its lease lately (another machine)."""
        if self.is_here():
            return _process_start(self.pid) == self.started
        return time.time() - self.renewed < DEAD_SECONDS

    def to_json(self) -> bytes:
        """Return the content of the lease's file."""
        return json.dumps(asdict(self)).encode()


@contextlib.contextmanager
def lease(store: Store, path: str, what: str) -> Iterator[Callable[[], None]]:
    """Hold the lease file ``path`` of ``store`` while the block runs; ``what`` names what is written, for messages.

    Gives the block a function that reads the file and raises `LeaseHeldError` unless this process still holds the lease:
    called before a write, it keeps a holder that was stopped for minutes from writing beside its successor.

    Raises `LeaseHeldError` at once when another process holds it and is alive. A holder is dead when its process has
    ended (same machine), or when it has not renewed its lease for two minutes and does not while it is watched (another
    machine); its lease is taken over. A process whose own lease is taken over (the machine slept, or could not reach
    the store) is interrupted, and the block ends with `LeaseHeldError`.
    """
    mine = _this_process()
    stop, lost = threading.Event(), threading.Event()
    renewal = threading.Thread(target=_renew, args=(store, path, mine, stop, lost), name="lease", daemon=True)
    with contextlib.ExitStack() as stack:
        # Before the lease is acquired, because an interruption may come at any moment.
        stack.callback(_release, store, path, mine)
        try:
            _acquire(store, path, what, mine)
        except TinyTagsError:
            stack.pop_all()
            raise
        renewal.start()
        stack.callback(renewal.join, timeout=5)
        stack.callback(stop.set)

        def check() -> None:
            held = _read(store, path)
            if held is None or held.token != mine.token:
                raise _taken_over(what)

        try:
            yield check
        except KeyboardInterrupt:
            if not lost.is_set():
                raise
            raise _taken_over(what) from None


def _taken_over(what: str) -> LeaseHeldError:
    return LeaseHeldError(
        f"another process took over {what}, because this one had not renewed its lease for {DEAD_SECONDS} s; "
        "finished work is kept"
    )


def holder(store: Store, path: str) -> Holder | None:
    """Return who holds the lease ``path``, or None where no living process does. Never writes."""
    held = _read(store, path)
    return held if held and held.is_alive() else None


def _this_process() -> Holder:
    return Holder(
        token=uuid.uuid4().hex,
        user=user_name(),
        host=socket.gethostname(),
        pid=os.getpid(),
        started=_process_start(os.getpid()),
        space=_process_space(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        renewed=time.time(),
    )


def _process_start(pid: int) -> str | None:
    """Return the kernel's start time of a process, which distinguishes it from a later one with the same number."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):  # a zombie: killed, and not yet waited for
        return None
    return fields[19].decode()


def _process_space() -> str:
    """Name the set of processes whose numbers we can check: this boot of this machine, in this container."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _is_renewed(store: Store, path: str, held: Holder) -> bool:
    """Return whether a holder on another machine, dead by our clock, renews its lease while we watch."""
    if held.is_here():
        return False
    until = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < until:
        time.sleep(min(WATCH_SECONDS, _WATCH_STEP_SECONDS))
        now = _read(store, path)
        if now is None or now.token != held.token:
            return False  # released or taken over
        if now.renewed != held.renewed:
            return True
    return False


def _read(store: Store, path: str) -> Holder | None:
    """Return who holds or held the lease ``path``; None where there is no such file."""
    data = b""
    for attempt in range(3):
        try:
            data = store.read_bytes(path)
            break
        except FileMissingError:
            return None
        except StoreUnavailableError:
            raise
        except StoreError:
            if attempt == 2:
                raise  # until then it may have been replaced while it was read
    try:
        record = json.loads(data)
        held = Holder(**{field.name: record[field.name] for field in fields(Holder)})
        int(held.pid), float(held.renewed)
    except (ValueError, KeyError, TypeError):
        raise TinyTagsError(f"{store.url(path)}: is not a lease; remove it if nothing is running") from None
    return held


def _acquire(store: Store, path: str, what: str, mine: Holder) -> None:
    for _ in range(3):
        if store.create_exclusive(path, mine.to_json()):
            return
        held = _read(store, path)
        if held is None:  # released meanwhile
            continue
        if held.token == mine.token:  # created by an attempt whose answer was lost
            return
        if held.is_alive() or _is_renewed(store, path, held):
            raise LeaseHeldError(
                f"{what} is being written by {held.user} on {held.host} (process {held.pid}) since {held.since}; "
                "wait for it or stop it"
            )
        if _take_over(store, path, held, mine):
            return
    raise LeaseHeldError(
        f"{what}: another process is taking the lease {store.url(path)} right now; try again"
    )


def _release(store: Store, path: str, mine: Holder) -> None:
    # An error here would hide the one that ended the block; the lease is then a dead holder's.
    with contextlib.suppress(TinyTagsError):
        held = _read(store, path)
        if held and held.token == mine.token:
            store.remove(path)


def _take_over(store: Store, path: str, dead: Holder, mine: Holder) -> bool:
    """Replace the lease of ``dead`` by ``mine``; of several that try, the one that creates the marker succeeds.

    A marker whose owner was killed is taken over in the same way; if it were removed instead, two processes could hold the lease.
    """
    marker = f"{path}.{dead.token[:12]}.takeover"
    if not store.create_exclusive(marker, mine.to_json()):
        other = _read(store, marker)
        if other is None:
            return False
        ours = other.token == mine.token  # created by an attempt whose answer was lost
        if not ours and (other.is_alive() or not _take_over(store, marker, other, mine)):
            return False
    try:
        held = _read(store, path)
        if held is None or held.token != dead.token:
            return False
        store.write_bytes(path, mine.to_json())
        return True
    finally:
        store.remove(marker)


def _renew(store: Store, path: str, mine: Holder, stop: threading.Event, lost: threading.Event) -> None:
    while not stop.wait(RENEW_SECONDS):
        with contextlib.suppress(TinyTagsError):
            held = _read(store, path)
            if held and held.token != mine.token:
                lost.set()
                # A script in the background ignores Ctrl-C; the command handles both signals alike.
                handled = callable(signal.getsignal(signal.SIGTERM))
                main = threading.main_thread().ident
                if main is not None:
                    signal.pthread_kill(main, signal.SIGTERM if handled else signal.SIGINT)
                return
            if held:
                store.write_bytes(path, replace(mine, renewed=time.time()).to_json())
