"""Tests of `conf.cached`: one call for all callers, and none of them waits for one that doesn't return."""

import threading
import time

import pytest

from conf.cached import Cached
from conf.errors import TinyTagsError


class Call:
    """A call that counts itself; it returns its number, fails, or waits until ``go`` is set."""

    def __init__(self):
        self.count, self.error, self.go = 0, None, threading.Event()
        self.go.set()

    def __call__(self):
        self.count += 1
        self.go.wait(20)
        if self.error:
            raise self.error
        return self.count


@pytest.fixture
def call():
    made = Call()
    yield made
    made.go.set()


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_callers_at_the_same_time_share_one_answer(call):
    cached, answers = Cached("it", call, 60), []
    call.go.clear()
    threads = [threading.Thread(target=lambda: answers.append(cached.get(10))) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_for(lambda: call.count)
    call.go.set()
    for thread in threads:
        thread.join()
    assert call.count == 1
    assert [(answer.value, answer.error) for answer in answers] == [(1, None)] * 20
    assert cached.get(10).value == 1 and call.count == 1, "so does a later one"


def test_an_answer_expires_after_its_seconds(call):
    cached = Cached("it", call, 60)
    assert [cached.get(5).value, cached.get(5).value] == [1, 1]
    cached._ended -= 60
    answer = cached.get(5)
    assert answer.value == 2
    assert time.time() - answer.at < 5


def test_a_caller_waits_no_longer_than_it_wants_to_and_later_ones_not_at_all(call):
    cached = Cached("the store", call, 0)
    assert cached.get(5).value == 1
    call.go.clear()
    began = time.monotonic()
    answer = cached.get(0.3)
    assert 0.25 < time.monotonic() - began < 10
    assert (answer.value, answer.error) == (1, "the store does not answer")
    seconds = []
    for _ in range(5):
        began = time.monotonic()
        assert cached.get(0.3).value == 1
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 0.2, "on a busy machine one may be held up"
    assert call.count == 2
    call.go.set()
    wait_for(lambda: cached._started is None)
    answer = cached.get(5)
    assert (answer.value, answer.error) == (3, None)


def test_a_failure_leaves_the_previous_answer_with_the_error(call):
    cached = Cached("it", call, 0)
    call.error = TinyTagsError("unavailable")
    assert (cached.get(5).value, cached.get(5).at, cached.get(5).error) == (None, None, "unavailable")
    call.error = None
    good = cached.get(5)
    call.error = TinyTagsError("unavailable")
    answer = cached.get(5)
    assert (answer.value, answer.at, answer.error) == (good.value, good.at, "unavailable")


def test_a_failure_is_cached_too(call):
    cached = Cached("it", call, 60)
    call.error = TinyTagsError("unavailable")
    for _ in range(5):
        assert cached.get(5).error == "unavailable"
    assert call.count == 1


def test_a_bug_is_raised_for_the_caller_and_the_next_call_runs(call):
    cached = Cached("it", call, 0)
    call.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        cached.get(5)
    call.error = None
    assert cached.get(5).value == 2


def test_with_forever_a_value_never_expires_but_a_failure_is_repeated(call):
    cached = Cached("it", call, 0)
    call.error = TinyTagsError("unavailable")
    assert cached.get(5, forever=True).error == "unavailable"
    call.error = None
    assert [cached.get(5, forever=True).value for _ in range(3)] == [2, 2, 2]
