"""A lease: the file that keeps a corpus, model or run to one writer, and tells the second one who the first is."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

from conf.errors import LeaseHeldError, TinyTagsError
from conf.settings import user_name
from storage.store import StoreError, StoreUnavailableError

RENEW_SECONDS = 15
# A holder on another machine is taken for dead when it has missed this many seconds of renewals.
DEAD_SECONDS = 120
# By clocks that may differ; so one looks this long, three renewals, whether it renews after all.
WATCH_SECONDS = 45

_KEYS = {"token", "user", "host", "pid", "started", "space", "since", "renewed"}


@contextlib.contextmanager
def lease(store, path: str, what: str) -> Iterator[None]:
    """Hold the lease file ``path`` of ``store`` while the block runs; ``what`` names the thing written, for people.

    Raises `LeaseHeldError` at once when somebody alive holds it. A holder is dead when its process is gone (same
    machine) or has not renewed its lease for two minutes nor while one watches (another machine); its lease is taken
    over. Who finds its own taken over (a machine that slept, a store out of reach) is interrupted, and the block ends
    with `LeaseHeldError`.
    """
    mine = _identity()
    stop, lost = threading.Event(), threading.Event()
    renewal = threading.Thread(target=_renew, args=(store, path, mine, stop, lost), name="lease", daemon=True)
    with contextlib.ExitStack() as stack:
        # Before it is taken, for an interruption may come at any moment.
        stack.callback(_release, store, path, mine)
        try:
            _acquire(store, path, what, mine)
        except TinyTagsError:
            stack.pop_all()
            raise
        renewal.start()
        stack.callback(renewal.join, timeout=5)
        stack.callback(stop.set)
        try:
            yield
        except KeyboardInterrupt:
            if not lost.is_set():
                raise
            raise LeaseHeldError(
                f"{what} was taken over by somebody else, for this process had not renewed its lease for "
                f"{DEAD_SECONDS} s; what is done stays done"
            ) from None


def holder(store, path: str) -> dict | None:
    """Return who holds the lease ``path`` (user, host, pid, since), or None where nobody alive does. Never writes."""
    held = _read(store, path)
    return held if held and _alive(held) else None


def _identity() -> dict:
    return {
        "token": uuid.uuid4().hex,
        "user": user_name(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _process_start(os.getpid()),
        "space": _process_space(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "renewed": time.time(),
    }


def _process_start(pid: int) -> str | None:
    """Return the kernel's start time of a process, which tells a process from a later one of the same number."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):  # killed, only not yet waited for
        return None
    return fields[19].decode()


def _process_space() -> str:
    """Name the set of processes whose numbers we can check: this boot of this machine, in this container."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _alive(held: dict) -> bool:
    if held["space"] == _process_space():
        start = _process_start(held["pid"])
        return start is not None and start == held["started"]
    return time.time() - held["renewed"] < DEAD_SECONDS


def _renews(store, path: str, held: dict) -> bool:
    """Return whether a holder on another machine, dead by our clock, renews its lease while we watch."""
    if held["space"] == _process_space():
        return False
    until = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < until:
        time.sleep(min(WATCH_SECONDS, 5))
        now = _read(store, path)
        if now is None or now["token"] != held["token"]:
            return False  # released or taken over, as will be seen
        if now["renewed"] != held["renewed"]:
            return True
    return False


def _read(store, path: str) -> dict | None:
    for attempt in range(3):
        try:
            held = json.loads(store.read_bytes(path))
        except StoreUnavailableError:
            raise
        except StoreError:
            if not store.exists(path):
                return None
            if attempt == 2:
                raise
            continue  # it went between our two questions, and came again
        except ValueError:
            held = None
        break
    if not isinstance(held, dict) or not held.keys() >= _KEYS:
        raise TinyTagsError(f"{store.url(path)}: is not a lease; remove it if nothing is running")
    return held


def _acquire(store, path: str, what: str, mine: dict) -> None:
    data = json.dumps(mine).encode()
    for _ in range(3):
        if store.create_exclusive(path, data):
            return
        held = _read(store, path)
        if held is None:  # released since
            continue
        if held["token"] == mine["token"]:  # the answer to the first attempt was lost on its way
            return
        if _alive(held) or _renews(store, path, held):
            raise LeaseHeldError(
                f"{what} is being written by {held['user']} on {held['host']} (process {held['pid']}) since {held['since']}; "
                "wait for it or stop it"
            )
        if _take_over(store, path, held, data):
            return
    raise LeaseHeldError(f"{what}: somebody else is taking the lease {store.url(path)} right now; try again")


def _release(store, path: str, mine: dict) -> None:
    # A store that is gone must not hide why; the lease is then a dead one.
    with contextlib.suppress(TinyTagsError):
        held = _read(store, path)
        if held and held["token"] == mine["token"]:
            store.remove(path)


def _take_over(store, path: str, dead: dict, data: bytes) -> bool:
    """Replace the lease of ``dead`` by ``data``; of several who try, one succeeds: the one whose marker it is meanwhile.

    A marker whose owner was killed is taken over in the same way; removing it instead would let two in.
    """
    marker = f"{path}.{dead['token'][:12]}.takeover"
    if not store.create_exclusive(marker, data):
        other = _read(store, marker)
        if other is None or _alive(other) or not _take_over(store, marker, other, data):
            return False
    try:
        held = _read(store, path)
        if held is None or held["token"] != dead["token"]:
            return False
        store.write_bytes(path, data)
        return True
    finally:
        store.remove(marker)


def _renew(store, path: str, mine: dict, stop: threading.Event, lost: threading.Event) -> None:
    while not stop.wait(RENEW_SECONDS):
        with contextlib.suppress(TinyTagsError):
            held = _read(store, path)
            if held and held["token"] != mine["token"]:
                lost.set()
                # Ctrl-C is ignored by what a script started in the background; the command handles both alike.
                handled = callable(signal.getsignal(signal.SIGTERM))
                signal.pthread_kill(
                    threading.main_thread().ident, signal.SIGTERM if handled else signal.SIGINT
                )
                return
            if held:
                store.write_bytes(path, json.dumps(mine | {"renewed": time.time()}).encode())
