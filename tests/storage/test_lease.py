"""Tests of `storage.lease`: one writer at a time; exactly one takes over the lease of a dead one."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from conf.errors import LeaseHeldError
from storage import lease as leases
from storage.lease import DEAD_SECONDS, Holder, holder, lease
from storage.store import FileUnavailableError, StoreUnavailableError, open_store, temporary_path

PATH = "corpora/tiny/lease.json"
ELSEWHERE = {"space": "another boot/pid:[1]", "host": "elsewhere", "pid": 1, "token": "0" * 32}

# A process that holds the lease until its stdin is closed.
HOLD = """
import sys
from storage.lease import lease
from storage.store import open_store
with lease(open_store(sys.argv[1]), "corpora/tiny/lease.json", "corpus 'tiny'"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def local(tmp_path):
    """An empty local store, for what doesn't depend on the backend."""
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def other(local):
    """Another process that holds the lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, local.url()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def write_lease(store, **changes) -> Holder:
    """Write the lease of a holder that differs from this process in ``changes``."""
    held = replace(leases._this_process(), **changes)
    store.write_bytes(PATH, held.to_json())
    return held


def wait_for(condition) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_lease_exists_while_the_block_runs(store):
    with lease(store, PATH, "corpus 'tiny'"):
        held = holder(store, PATH)
        assert held.pid == os.getpid()
        assert held.since.startswith("20")
    assert not store.exists(PATH)
    assert holder(store, PATH) is None


def test_the_file_of_a_lease_is_that_of_earlier_versions(local):
    held = write_lease(local)
    assert list(local.read_json(PATH)) == [
        "token",
        "user",
        "host",
        "pid",
        "started",
        "space",
        "since",
        "renewed",
    ]
    local.write_json(PATH, asdict(held) | {"added": "by a later version"})
    assert holder(local, PATH) == held


def test_a_lease_is_released_when_the_block_fails(store):
    with pytest.raises(ZeroDivisionError), lease(store, PATH, "corpus 'tiny'"):
        raise ZeroDivisionError
    assert not store.exists(PATH)


def test_a_second_writer_gets_the_name_of_the_first_at_once(local, other):
    held = local.read_json(PATH)
    began = time.monotonic()
    with pytest.raises(LeaseHeldError) as error, lease(local, PATH, "corpus 'tiny'"):
        pass
    assert time.monotonic() - began < 30, "it isn't watched first"
    assert error.value.exit_code == 75
    assert str(error.value) == (
        f"corpus 'tiny' is being written by {held['user']} on {held['host']} (process {other.pid}) since {held['since']}; "
        "wait for it or stop it"
    )
    assert local.read_json(PATH) == held, "the holder keeps it"


@pytest.mark.parametrize("waited_for", [True, False])
def test_the_lease_of_a_killed_process_is_taken_over_at_once(local, other, waited_for):
    other.send_signal(signal.SIGKILL)
    if waited_for:
        other.wait()
    else:  # a zombie is as dead
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert holder(local, PATH) is None
    began = time.monotonic()
    with lease(local, PATH, "corpus 'tiny'"):
        assert holder(local, PATH).pid == os.getpid()
    assert time.monotonic() - began < 30, "it isn't watched first"
    assert local.list("corpora/tiny") == []


def test_a_later_process_with_the_same_number_does_not_keep_a_dead_ones_lease(store):
    write_lease(store, token="0" * 32, started="1")
    with lease(store, PATH, "corpus 'tiny'"):
        pass
    assert store.list("corpora/tiny") == []


def test_a_lease_from_another_machine_is_taken_over_only_when_it_is_stale(store, monkeypatch):
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.1)
    held = write_lease(store, **ELSEWHERE, renewed=time.time() - DEAD_SECONDS + 20)
    with pytest.raises(LeaseHeldError, match="on elsewhere"), lease(store, PATH, "corpus 'tiny'"):
        pass
    assert holder(store, PATH) == held
    write_lease(store, **ELSEWHERE, renewed=time.time() - DEAD_SECONDS - 1)
    with lease(store, PATH, "corpus 'tiny'"):
        pass


def test_without_proc_a_process_of_the_same_machine_is_alive_while_it_renews_its_lease(local):
    held = write_lease(local, started=None, token="0" * 32)
    with pytest.raises(LeaseHeldError), lease(local, PATH, "corpus 'tiny'"):
        pass
    assert holder(local, PATH) == held
    write_lease(local, started=None, renewed=time.time() - DEAD_SECONDS - 1)
    os.utime(local.url(PATH), times=(time.time() - DEAD_SECONDS - 1,) * 2)
    assert holder(local, PATH) is None


def test_a_lease_is_renewed_while_it_is_held(store, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.02)
    with lease(store, PATH, "corpus 'tiny'"):
        first = store.read_json(PATH)["renewed"]
        wait_for(lambda: store.read_json(PATH)["renewed"] != first)
    assert not store.exists(PATH), "the last renewal does not write it again"


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_a_holder_whose_clock_is_wrong_keeps_the_lease_while_it_renews_it(local, monkeypatch, capsys, ahead):
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.2)
    held = write_lease(local, **ELSEWHERE, renewed=time.time() + ahead)
    assert holder(local, PATH) == held, "by the time of its file"

    def sleep(_seconds):
        local.write_bytes(PATH, replace(held, renewed=held.renewed + 15).to_json())

    monkeypatch.setattr(
        leases, "time", SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=sleep)
    )
    with pytest.raises(LeaseHeldError, match="on elsewhere"), lease(local, PATH, "corpus 'tiny'"):
        pass
    assert (
        f"corpus 'tiny': held by {held.user} on elsewhere; checking for up to 0.2 s"
        in capsys.readouterr().err
    )


def test_a_lease_whose_clock_is_ahead_does_not_delay_a_takeover(local, monkeypatch):
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.05)
    write_lease(local, **ELSEWHERE, renewed=time.time() + 3600)
    os.utime(local.url(PATH), times=(time.time() - DEAD_SECONDS - 1,) * 2)
    assert holder(local, PATH) is None
    with lease(local, PATH, "corpus 'tiny'"):
        assert holder(local, PATH).pid == os.getpid()


def test_a_process_whose_lease_is_taken_over_is_interrupted_and_leaves_the_new_one(local, monkeypatch):
    threads = []
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr(signal, "pthread_kill", lambda thread, _: threads.append(thread))
    with (
        pytest.raises(LeaseHeldError, match="took over corpus 'tiny'"),
        lease(local, PATH, "corpus 'tiny'"),
    ):
        theirs = write_lease(local, token="0" * 32)
        wait_for(lambda: threads)
        assert threads == [threading.main_thread().ident]
        raise KeyboardInterrupt
    assert local.read_bytes(PATH) == theirs.to_json()


@pytest.mark.parametrize("released", [False, True])
def test_a_holder_that_was_stopped_finds_that_its_lease_is_taken_over(local, released):
    with lease(local, PATH, "corpus 'tiny'") as check:
        check()
        taken_over = json.loads(local.read_bytes(PATH)) | {"token": "another"}
        local.remove(PATH) if released else local.write_json(PATH, taken_over)
        with pytest.raises(LeaseHeldError):
            check()
    assert local.exists(PATH) is not released


def test_an_interruption_with_another_cause_stays_one(local):
    with pytest.raises(KeyboardInterrupt), lease(local, PATH, "corpus 'tiny'"):
        raise KeyboardInterrupt
    assert not local.exists(PATH)


@pytest.mark.parametrize("start", ["no lease", "a dead lease", "a dead lease and a dead marker"])
def test_of_many_that_want_a_lease_at_once_exactly_one_gets_it(store, start):
    rounds = 2 if "hdfs" in store.url() else 10
    for _ in range(rounds):
        if start != "no lease":
            dead = write_lease(store, token="0" * 32, started="1")
        if "marker" in start:
            marker = f"{PATH}.{dead.token[:12]}.takeover"
            store.write_bytes(marker, replace(dead, token="1" * 32).to_json())
        barrier, leave = threading.Barrier(6), threading.Event()
        winners, refused = [], []

        def want(i, barrier=barrier, leave=leave, winners=winners, refused=refused):
            barrier.wait()
            try:
                with lease(store, PATH, "corpus 'tiny'"):
                    winners.append(i)
                    leave.wait(60)
            except LeaseHeldError:
                refused.append(i)

        threads = [threading.Thread(target=want, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 60
        while len(winners) + len(refused) < 6 and time.monotonic() < until:
            time.sleep(0.002)
        assert len(winners) <= 1 and len(winners) + len(refused) == 6
        if "marker" not in start:  # with a dead marker in the way all may have to try again
            assert len(winners) == 1
        leave.set()
        for thread in threads:
            thread.join()
        with lease(store, PATH, "corpus 'tiny'"):
            pass
        assert store.list("corpora/tiny") == []


@pytest.mark.parametrize(
    "content", [b"", bytes(300), b"[]", json.dumps({"pid": 1}).encode(), b'{"pid": "x", "renewed": []}']
)
def test_a_lease_that_can_not_be_read_is_taken_over_after_it_was_watched(local, monkeypatch, capsys, content):
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.05)
    local.write_bytes(PATH, content)
    assert holder(local, PATH) is None
    began = time.monotonic()
    with lease(local, PATH, "corpus 'tiny'"):
        assert time.monotonic() - began >= 0.05
        assert holder(local, PATH).pid == os.getpid()
    assert "its lease is damaged" in capsys.readouterr().err
    assert local.list("corpora/tiny") == []


def test_a_flipped_byte_in_a_lease_never_gives_another_holder(local):
    held = write_lease(local)
    data = local.read_bytes(PATH)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 4
        Path(local.url(PATH)).write_bytes(flipped)
        assert not leases._read(local, PATH).is_known()
    Path(local.url(PATH)).write_bytes(data)
    assert holder(local, PATH) == held


def test_a_living_holder_writes_its_damaged_lease_again(local, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr(leases, "WATCH_SECONDS", 60)
    monkeypatch.setattr(leases, "_WATCH_STEP_SECONDS", 0.1)
    with lease(local, PATH, "corpus 'tiny'"):
        local.write_bytes(PATH, b"")
        with pytest.raises(LeaseHeldError), lease(local, PATH, "corpus 'tiny'"):
            pass
        assert holder(local, PATH).pid == os.getpid()


def test_what_killed_attempts_at_a_lease_left_is_removed_when_a_command_succeeds(local):
    held = write_lease(local)
    folder = Path(local.url(PATH)).parent
    killed, old, new, alive = (
        temporary_path(f"{folder}/{kind}lease.json") for kind in ("", "index-", "", "")
    )
    Path(killed).write_bytes(replace(held, started="1").to_json())
    Path(folder / "lease.json.0.takeover").write_bytes(replace(held, started="1").to_json())
    for path in (old, new):
        Path(path).write_bytes(b"")
    os.utime(old, times=(time.time() - 3600,) * 2)
    Path(alive).write_bytes(held.to_json())
    local.remove(PATH)
    with pytest.raises(ZeroDivisionError), lease(local, PATH, "corpus 'tiny'"):
        raise ZeroDivisionError
    assert len(list(folder.iterdir())) == 5
    with lease(local, PATH, "corpus 'tiny'"):
        pass
    assert set(folder.iterdir()) == {Path(alive)}


def test_a_process_whose_temporary_file_is_removed_while_it_tries_for_a_lease_tries_again(local, monkeypatch):
    removed = []

    def link(temporary, path):
        if not removed:
            removed.append(temporary)
            Path(temporary).unlink()
        real(temporary, path)

    real = os.link
    monkeypatch.setattr(os, "link", link)
    with lease(local, PATH, "corpus 'tiny'"):
        assert removed and holder(local, PATH).pid == os.getpid()


def test_a_lease_needs_no_hard_links(local, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")  # as exFAT and SMB answer

    monkeypatch.setattr(os, "link", link)
    with lease(local, PATH, "corpus 'tiny'"):
        assert not local.create_exclusive(PATH, b"another")
        assert holder(local, PATH).pid == os.getpid()
    assert list(Path(local.url(PATH)).parent.iterdir()) == []


def test_a_store_that_does_not_answer_is_no_broken_lease(local, monkeypatch):
    def read_bytes(self, path):
        raise StoreUnavailableError("no NameNode", path)

    write_lease(local)
    monkeypatch.setattr(type(local), "read_bytes", read_bytes)
    with pytest.raises(StoreUnavailableError):
        holder(local, PATH)


def answers(monkeypatch, store, *answers):
    """Let the first calls of `create_exclusive` return ``answers``, each after creating the file or not."""
    original, left = type(store).create_exclusive, list(answers)

    def create_exclusive(self, path, data):
        if not left:
            return original(self, path, data)
        create, answer = left.pop(0)
        if create:
            original(self, path, data)
        return answer

    monkeypatch.setattr(type(store), "create_exclusive", create_exclusive)


def test_a_lease_whose_creation_got_no_answer_is_held(local, monkeypatch):
    answers(monkeypatch, local, (True, False))
    with lease(local, PATH, "corpus 'tiny'"):
        assert holder(local, PATH).pid == os.getpid()
    assert not local.exists(PATH)


def test_a_dead_lease_whose_takeover_got_no_answer_is_taken_over(local, monkeypatch):
    write_lease(local, token="0" * 32, started="1")
    answers(monkeypatch, local, (False, False), (True, False))
    with lease(local, PATH, "corpus 'tiny'"):
        assert holder(local, PATH).pid == os.getpid()
    assert local.list("corpora/tiny") == []


def test_a_lease_released_meanwhile_is_acquired_and_one_that_can_never_be_read_is_an_error(
    local, monkeypatch
):
    answers(monkeypatch, local, (False, False))
    with lease(local, PATH, "corpus 'tiny'"):
        pass
    answers(monkeypatch, local, *[(False, False)] * 3)
    with pytest.raises(LeaseHeldError, match="try again"), lease(local, PATH, "corpus 'tiny'"):
        pass


def test_a_stale_lease_that_is_released_while_it_is_watched_is_acquired(local, monkeypatch):
    write_lease(local, **ELSEWHERE, renewed=time.time() - 3 * DEAD_SECONDS)
    monkeypatch.setattr(
        leases,
        "time",
        SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=lambda _: local.remove(PATH)),
    )
    with lease(local, PATH, "corpus 'tiny'"):
        assert holder(local, PATH).pid == os.getpid()


@pytest.mark.parametrize("failures", [2, 3])
def test_a_lease_replaced_while_it_is_read_is_read_again(local, monkeypatch, failures):
    held, original, left = write_lease(local), type(local).read_bytes, [None] * failures

    def read_bytes(self, path):
        if left:
            left.pop()
            raise FileUnavailableError("replaced", path)
        return original(self, path)

    monkeypatch.setattr(type(local), "read_bytes", read_bytes)
    if failures == 2:
        assert holder(local, PATH) == held
    else:
        with pytest.raises(FileUnavailableError):
            holder(local, PATH)
