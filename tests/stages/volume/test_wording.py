import pytest

from stages.volume.wording import volume_text


@pytest.mark.parametrize(
    ("ml", "text"),
    [
        (0, "0.0 ml"),
        (1925.64, "1925.6 ml"),
        (1, "1.0 ml"),
        (0.44, "0.44 ml"),
        (0.0288, "0.029 ml"),
        (0.00003, "0.00003 ml"),  # one voxel of 0.3 mm
        (0.9999, "1.0 ml"),
    ],
)
def test_a_volume_that_is_there_is_never_written_as_nothing(ml, text):
    assert volume_text(ml) == text
