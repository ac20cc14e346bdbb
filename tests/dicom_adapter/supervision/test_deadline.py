import time

import pytest

from dicom_adapter.supervision.deadline import Deadline


def test_what_comes_in_pieces_does_not_start_a_deadline_anew():
    deadline = Deadline(0.05)
    assert 0 < deadline.require() <= 0.05
    while not deadline.is_over():
        deadline.left_s()
        time.sleep(0.01)
    assert deadline.left_s() == 0
    with pytest.raises(TimeoutError, match=r"longer than 0\.05 s"):
        deadline.require()
