import threading

import pytest

from stages.compute.threads import cores, in_parts


@pytest.mark.parametrize("length", [0, 1, 2, 7, 1000])
@pytest.mark.parametrize("available", [1, 2, 16])
def test_parts_are_all_of_it_each_once(monkeypatch, length, available):
    monkeypatch.setattr("stages.compute.threads.cores", lambda: available)
    done, lock = [], threading.Lock()

    def work(start, stop):
        with lock:
            done.extend(range(start, stop))

    in_parts(work, length)
    assert sorted(done) == list(range(length))


def test_what_goes_wrong_in_a_part_is_told():
    with pytest.raises(ZeroDivisionError):
        in_parts(lambda start, stop: 1 // start, 10)


def test_there_is_a_core():
    assert cores() >= 1
