"""What a person sees of the files of a job."""

import pytest

from clara_wf.display import _results


@pytest.mark.parametrize(
    ("count", "lines"), [(5, [f"/job/x.series/{n}.dcm" for n in range(5)]), (6, ["/job/x.series (6 files)"])]
)
def test_a_folder_of_many_results_is_one_line(count, lines):
    paths = ["/job/x.seg.dcm", *(f"/job/x.series/{n}.dcm" for n in range(count))]
    assert list(_results(paths)) == ["/job/x.seg.dcm", *lines]
