"""Waits between attempts."""

import itertools
import time

import pytest

from stages.runtime.retry import Backoff, attempts

STEADY = Backoff(first_s=1.0, longest_s=3.0, jitter=0.0)


@pytest.mark.parametrize(("tries", "wait_s"), [(0, 1.0), (1, 1.0), (2, 2.0), (3, 3.0), (1000, 3.0)])
def test_wait_doubles_up_to_the_longest(tries, wait_s):
    assert STEADY.wait_s(tries) == wait_s


@pytest.mark.parametrize(("chance", "wait_s"), [(0.0, 3.0), (0.5, 4.0), (1.0, 5.0)])
def test_chance_spreads_a_wait(chance, wait_s):
    assert Backoff(first_s=4.0, jitter=0.25).wait_s(1, chance=chance) == wait_s


def test_first_attempt_is_made_at_once_and_the_others_after_growing_waits():
    slept = []
    left = list(itertools.islice(attempts(STEADY, 100.0, sleep=slept.append), 4))
    assert slept == [1.0, 2.0, 3.0]
    assert left[0] == pytest.approx(100, abs=5)


def test_no_wait_goes_past_the_end_and_then_nothing_is_left():
    told = []
    tried = attempts(STEADY, 0.05, tries=1, on_wait=told.append)
    assert next(tried) == 0
    assert told == [pytest.approx(0.05, abs=0.04)]
    assert next(tried) == 0


def test_patience_may_have_begun_before():
    tried = attempts(STEADY, 10.0, since=time.monotonic() - 11, tries=3)
    assert next(tried) == 0
