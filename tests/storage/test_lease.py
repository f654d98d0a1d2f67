"""Tests of `storage.lease`: one writer at a time, the dead ones' leases taken over by exactly one."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from conf.errors import LeaseHeldError, TinyTagsError
from storage import lease as leases
from storage.lease import DEAD_SECONDS, holder, lease
from storage.store import open_store

PATH = "corpora/tiny/lease.json"

HOLD = """
import sys
from storage.lease import lease
from storage.store import open_store
with lease(open_store(*sys.argv[1:]), "corpora/tiny/lease.json", "corpus 'tiny'"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(store_address):
    return open_store(*store_address)


@pytest.fixture
def other(store_address):
    """Another process, that holds the lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *store_address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def held_by(store, **changed) -> dict:
    """Write the lease as somebody holds it who differs from this process in what is ``changed``."""
    held = leases._identity() | changed
    store.write_json(PATH, held)
    return held


def test_a_lease_is_there_while_the_block_runs_and_gone_after_it(store):
    with lease(store, PATH, "corpus 'tiny'"):
        found = holder(store, PATH)
        assert found["pid"] == os.getpid()
        assert found["since"].startswith("20")
    assert not store.exists(PATH)
    assert holder(store, PATH) is None


def test_a_lease_is_given_back_when_the_block_fails(store):
    with pytest.raises(ZeroDivisionError), lease(store, PATH, "corpus 'tiny'"):
        raise ZeroDivisionError
    assert not store.exists(PATH)


def test_the_second_writer_is_told_at_once_who_holds_it_since_when(store, other):
    held = store.read_json(PATH)
    began = time.monotonic()
    with pytest.raises(LeaseHeldError) as told, lease(store, PATH, "corpus 'tiny'"):
        pass
    assert time.monotonic() - began < 5
    assert told.value.exit_code == 75
    assert str(told.value) == (
        f"corpus 'tiny' is being written by {held['user']} on {held['host']} (process {other.pid}) since {held['since']}; "
        "wait for it or stop it"
    )
    assert store.read_json(PATH) == held, "the holder keeps it"


@pytest.mark.parametrize("waited_for", [True, False])
def test_a_lease_of_a_killed_process_is_taken_over_at_once(store, other, waited_for):
    other.send_signal(signal.SIGKILL)
    if waited_for:
        other.wait()
    else:  # a zombie is as dead
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert holder(store, PATH) is None
    began = time.monotonic()
    with lease(store, PATH, "corpus 'tiny'"):
        assert holder(store, PATH)["pid"] == os.getpid()
    assert time.monotonic() - began < 10
    assert store.list("corpora/tiny") == []


def test_a_later_process_of_the_same_number_does_not_keep_a_dead_ones_lease(store):
    held_by(store, token="0" * 32, started="1")
    with lease(store, PATH, "corpus 'tiny'"):
        pass


def test_a_lease_from_another_machine_is_taken_over_only_when_it_is_stale(store, monkeypatch):
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.2)
    elsewhere = {"space": "another boot/pid:[1]", "host": "elsewhere", "pid": 1, "token": "0" * 32}
    held_by(store, **elsewhere, renewed=time.time() - DEAD_SECONDS + 20)
    with pytest.raises(LeaseHeldError, match="on elsewhere"), lease(store, PATH, "corpus 'tiny'"):
        pass
    held_by(store, **elsewhere, renewed=time.time() - DEAD_SECONDS - 1)
    with lease(store, PATH, "corpus 'tiny'"):
        pass


def test_a_lease_is_renewed_while_it_is_held(store, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    with lease(store, PATH, "corpus 'tiny'"):
        first = store.read_json(PATH)["renewed"]
        until = time.monotonic() + 20
        while store.read_json(PATH)["renewed"] == first:
            assert time.monotonic() < until
    assert not store.exists(PATH), "the last renewal does not bring it back"


def test_who_renews_by_a_clock_that_is_late_keeps_the_lease(store, monkeypatch):
    monkeypatch.setattr(leases, "WATCH_SECONDS", 0.2)
    held = held_by(
        store, space="another boot/pid:[1]", host="elsewhere", renewed=time.time() - 3 * DEAD_SECONDS
    )

    def sleep(_seconds):
        store.write_json(PATH, held | {"renewed": held["renewed"] + 15})

    monkeypatch.setattr(
        leases, "time", SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=sleep)
    )
    with pytest.raises(LeaseHeldError, match="on elsewhere"), lease(store, PATH, "corpus 'tiny'"):
        pass


def test_who_finds_the_lease_taken_over_is_interrupted_and_leaves_it_to_the_other(store, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(signal, "pthread_kill", lambda thread, _: asked.append(thread))
    asked = []
    with (
        pytest.raises(LeaseHeldError, match="corpus 'tiny' was taken over"),
        lease(store, PATH, "corpus 'tiny'"),
    ):
        theirs = held_by(store, token="0" * 32)
        until = time.monotonic() + 20
        while not asked:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert asked == [threading.main_thread().ident]
        raise KeyboardInterrupt
    assert store.read_json(PATH) == theirs


def test_an_interruption_that_no_lease_caused_stays_one(store):
    with pytest.raises(KeyboardInterrupt), lease(store, PATH, "corpus 'tiny'"):
        raise KeyboardInterrupt
    assert not store.exists(PATH)


@pytest.mark.parametrize("start", ["no lease", "a dead one's", "a dead one's, and a dead taker's"])
def test_of_many_who_want_it_at_once_exactly_one_gets_it(store, start):
    rounds = 10 if "hdfs" not in store.url() else 3
    for _ in range(rounds):
        if start != "no lease":
            dead = held_by(store, token="0" * 32, started="1")
        if "taker" in start:
            store.write_json(f"{PATH}.{dead['token'][:12]}.takeover", dead | {"token": "1" * 32})
        barrier, leave = threading.Barrier(6), threading.Event()
        got, refused = [], []

        def want(i, barrier=barrier, leave=leave, got=got, refused=refused):
            barrier.wait()
            try:
                with lease(store, PATH, "corpus 'tiny'"):
                    got.append(i)
                    leave.wait(60)
            except LeaseHeldError:
                refused.append(i)

        threads = [threading.Thread(target=want, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 60
        while len(got) + len(refused) < 6 and time.monotonic() < until:
            time.sleep(0.005)
        assert len(got) <= 1 and len(got) + len(refused) == 6
        if "taker" not in start:  # with a dead taker in the way all may be told to try again
            assert len(got) == 1
        leave.set()
        for thread in threads:
            thread.join()
        with lease(store, PATH, "corpus 'tiny'"):
            pass
        assert store.list("corpora/tiny") == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", json.dumps({"pid": 1}).encode()])
def test_a_file_that_is_no_lease_is_named(store, content):
    store.write_bytes(PATH, content)
    for action in (lambda: holder(store, PATH), lambda: lease(store, PATH, "corpus 'tiny'").__enter__()):
        with pytest.raises(TinyTagsError) as told:
            action()
        assert str(told.value) == f"{store.url(PATH)}: is not a lease; remove it if nothing is running"
