"""Which engine answers is read from the server's log, and two answers are told apart by scores and labels."""

import numpy as np
import pytest

from clara_wf.models.parity import OnnxEngine, Parity, parity_of

LOG = """I1127 01:00:00.000000 1 model_lifecycle.cc:472] "loading: liver:1"
model liver is not answered by openvino: input 'x' is TYPE_INT64
model liver is not answered by openvino: input 'x' is TYPE_INT64
model liver is answered by ONNX Runtime 1.32.0 on the CPU
model liver.2 is answered by OpenVINO 2026.4.1 on the CPU in bf16
"""


@pytest.mark.parametrize(
    ("model", "name", "others", "reference"),
    [
        (
            "liver",
            "ONNX Runtime 1.32.0 on the CPU",
            ("not answered by openvino: input 'x' is TYPE_INT64",),
            True,
        ),
        ("liver.2", "OpenVINO 2026.4.1 on the CPU in bf16", (), False),
    ],
)
def test_the_engine_is_that_of_the_log(tmp_path, model, name, others, reference):
    (tmp_path / "log").write_text(LOG)
    found = OnnxEngine.of_log(tmp_path / "log", model)
    assert found == OnnxEngine(name=name, others=others)
    assert found.is_reference == reference


def test_a_log_that_names_no_engine_tells_none(tmp_path):
    (tmp_path / "log").write_text(LOG)
    assert OnnxEngine.of_log(tmp_path / "log", "liverX2") is None


def test_scores_differ_by_the_largest_and_labels_by_the_share():
    wanted = np.zeros((1, 2, 1, 1, 4), np.float32)
    wanted[0, 1] = [-3, 1, 2, 0.25]
    found = wanted.copy()
    found[0, 1, 0, 0, 3] = -0.5
    assert parity_of("r", found, wanted, "bczyx") == Parity(
        reference="r", largest_difference=0.75, largest_value=3, labels_that_differ=0.25
    )


def test_labels_differ_by_the_share():
    found = np.uint8([[[[0, 1, 2, 2]]]])
    assert parity_of("r", found, np.uint8([[[[0, 1, 2, 1]]]]), "bzyx").labels_that_differ == 0.25


def test_an_answer_that_is_no_number_is_not_taken_for_the_same():
    wanted = np.ones((1, 2, 1, 1, 2), np.float32)
    found = wanted.copy()
    found[0, 0, 0, 0, 0] = np.nan
    assert parity_of("r", found, wanted, "bczyx").largest_difference == np.inf
