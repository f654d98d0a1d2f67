"""Tests of `search_ui.cached`: one question for all who ask, and nobody waits for one that isn't answered."""

import threading
import time

import pytest

from conf.errors import TinyTagsError
from search_ui.cached import Cached


class Question:
    """A question that counts how often it is asked, and answers, fails or hangs as it is told."""

    def __init__(self):
        self.asked, self.fails, self.go = 0, None, threading.Event()
        self.go.set()

    def __call__(self):
        self.asked += 1
        self.go.wait(20)
        if self.fails:
            raise self.fails
        return self.asked


@pytest.fixture
def question():
    made = Question()
    yield made
    made.go.set()


def test_many_who_ask_at_once_get_one_answer(question):
    cached, found = Cached("it", question, 60), []
    question.go.clear()
    threads = [threading.Thread(target=lambda: found.append(cached.get(10))) for _ in range(20)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    question.go.set()
    for thread in threads:
        thread.join()
    assert question.asked == 1
    assert [(answer.value, answer.error) for answer in found] == [(1, None)] * 20
    assert cached.get(10).value == 1 and question.asked == 1, "and so does who comes later"


def test_an_answer_is_cached_for_a_moment_and_asked_for_anew_then(question):
    cached = Cached("it", question, 0.2)
    assert [cached.get(5).value, cached.get(5).value] == [1, 1]
    time.sleep(0.25)
    answer = cached.get(5)
    assert answer.value == 2
    assert time.time() - answer.at < 1


def test_nobody_waits_longer_than_they_want_to_and_those_who_come_later_not_at_all(question):
    cached = Cached("the store", question, 0)
    assert cached.get(5).value == 1
    question.go.clear()
    began = time.monotonic()
    answer = cached.get(0.5)
    assert 0.4 < time.monotonic() - began < 1
    assert (answer.value, answer.error) == (1, "the store does not answer")
    began = time.monotonic()
    assert cached.get(0.5).value == 1
    assert time.monotonic() - began < 0.1
    assert question.asked == 2
    question.go.set()
    time.sleep(0.1)
    answer = cached.get(5)
    assert (answer.value, answer.error) == (3, None)


def test_a_question_that_fails_leaves_the_answer_before_it_with_the_reason(question):
    cached = Cached("it", question, 0)
    question.fails = TinyTagsError("is away")
    assert (cached.get(5).value, cached.get(5).at, cached.get(5).error) == (None, None, "is away")
    question.fails = None
    good = cached.get(5)
    question.fails = TinyTagsError("is away")
    answer = cached.get(5)
    assert (answer.value, answer.at, answer.error) == (good.value, good.at, "is away")


def test_a_failure_too_is_cached_for_a_moment(question):
    cached = Cached("it", question, 60)
    question.fails = TinyTagsError("is away")
    for _ in range(5):
        assert cached.get(5).error == "is away"
    assert question.asked == 1


def test_a_mistake_is_raised_for_who_asked_and_the_next_question_is_asked(question):
    cached = Cached("it", question, 0)
    question.fails = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        cached.get(5)
    question.fails = None
    assert cached.get(5).value == 2


def test_what_never_grows_old_is_asked_once_but_again_after_a_failure(question):
    cached = Cached("it", question, 0)
    question.fails = TinyTagsError("is away")
    assert cached.get(5, forever=True).error == "is away"
    question.fails = None
    assert [cached.get(5, forever=True).value for _ in range(3)] == [2, 2, 2]
