"""A lease: the file that names the one process that may write a corpus, model or run."""

import contextlib
import hashlib
import os
import re
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
from storage import checked_json
from storage.store import FileMissingError, Store, StoreError, StoreUnavailableError

RENEW_SECONDS = 15
# A holder on another machine counts as alive while the time of its last renewal is no more than this from ours.
DEAD_SECONDS = 120
# Otherwise the machines' clocks may differ, so its lease is watched for three renewals.
WATCH_SECONDS = 45
_WATCH_STEP_SECONDS = 5
# The files of a process that tries for a lease; it has them for a moment, where HDFS doesn't answer for five minutes.
_ATTEMPT = re.compile(r"\.?[a-z-]*lease\.json\..*\.(tmp|takeover)")
_ATTEMPT_SECONDS = 600


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
        return _is_lately(self.renewed)

    def is_known(self) -> bool:
        """Return whether the lease could be read."""
        return self.pid > 0

    def to_json(self) -> bytes:
        """Return the content of the lease's file."""
        return checked_json.encode(asdict(self))


@contextlib.contextmanager
def lease(store: Store, path: str, what: str) -> Iterator[Callable[[], None]]:
    """Hold the lease file ``path`` of ``store`` while the block runs; ``what`` names what is written, for messages.

    Gives the block a function that reads the file and raises `LeaseHeldError` unless this process still holds the lease:
    called before a write, it keeps a holder that was stopped for minutes from writing beside its successor.

    Raises `LeaseHeldError` when another process holds it and is alive: at once where it runs on this machine, or on another
    whose last renewal is at most two minutes from now by its clock. Otherwise the clocks may differ: the lease is
    watched for 45 s, with a note, and a holder that doesn't renew it is dead. So is that of a lease that can't be read.
    The lease of a dead holder is taken over. A process whose own lease is taken over (the machine slept, or could not
    reach the store) is interrupted, and the block ends with `LeaseHeldError`.
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
        folder = path.rpartition("/")[0]
        store.sync(folder)
        with contextlib.suppress(TinyTagsError):  # the work is done
            _remove_attempts(store, folder)


def _taken_over(what: str) -> LeaseHeldError:
    return LeaseHeldError(
        f"another process took over {what}, because this one had not renewed its lease for {DEAD_SECONDS} s; "
        "finished work is kept"
    )


def holder(store: Store, path: str) -> Holder | None:
    """Return who holds the lease ``path``, or None where no living process does. Never writes, never waits.

    A holder on another machine, whose clock may be wrong, is also alive where the file was written lately by the store's clock.
    """
    held = _read(store, path)
    if held is None or not held.is_known():
        return None
    if held.is_alive() or (not held.is_here() and _is_lately(_written(store, path))):
        return held
    return None


def _is_lately(at: float) -> bool:
    """Return whether a time of another clock is about now: one far ahead is as wrong as one far behind."""
    return abs(time.time() - at) < DEAD_SECONDS


def _written(store: Store, path: str) -> float:
    """Return when a file was written, by the store's clock; 0 where there is none."""
    folder, _, name = path.rpartition("/")
    return store.times(folder).get(name, 0.0)


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


def _is_renewed(store: Store, path: str, held: Holder, what: str) -> bool:
    """Return whether a holder on another machine, not alive by our clock, renews its lease while we watch."""
    if held.is_here():
        return False
    from conf.command import note  # imports click, which workers don't need

    by = (
        f"{held.user} on {held.host}"
        if held.is_known()
        else "a process that can't be named: its lease is damaged"
    )
    note(f"{what}: held by {by}; checking for up to {WATCH_SECONDS:g} s whether it is still running")
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
    """Return who holds or held the lease ``path``; None where there is no such file, an unknown holder for a damaged one."""
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
        record, _ = checked_json.decode(data)
        held = Holder(**{field.name: record[field.name] for field in fields(Holder)})
        int(held.pid), float(held.renewed)
    except (ValueError, KeyError, TypeError):  # after a power cut, or damaged by the disk
        token = hashlib.sha256(data).hexdigest()[:32]
        return Holder(token, user="?", host="?", pid=0, started=None, space="", since="?", renewed=0.0)
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
        if held.is_alive() or _is_renewed(store, path, held, what):
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
            store.sync(
                path.rpartition("/")[0]
            )  # or a power cut brings it back, and the next command waits for it


def _remove_attempts(store: Store, folder: str) -> None:
    """Remove what processes left that were killed while they tried for a lease in ``folder`` or renewed one."""
    times = store.times(folder) | store.temporary(folder)
    now = max(times.values(), default=0.0)  # by the store's clock: our own lease is renewed every 15 s
    for name, written in times.items():
        if _ATTEMPT.fullmatch(name):
            process = _read(store, f"{folder}/{name}")
            ended = process is not None and process.is_here() and not process.is_alive()
            # A temporary file that is empty or cut off is of a process that was killed, or writes it now: that one tries again.
            unreadable = process is not None and not process.is_known() and name.endswith(".tmp")
            if ended or unreadable or written < now - _ATTEMPT_SECONDS:
                store.remove(f"{folder}/{name}")


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
            if held and held.is_known() and held.token != mine.token:
                lost.set()
                # A script in the background ignores Ctrl-C; the command handles both signals alike.
                handled = callable(signal.getsignal(signal.SIGTERM))
                main = threading.main_thread().ident
                if main is not None:
                    signal.pthread_kill(main, signal.SIGTERM if handled else signal.SIGINT)
                return
            if held:
                store.write_bytes(path, replace(mine, renewed=time.time()).to_json())
