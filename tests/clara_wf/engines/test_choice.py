"""Which engine runs a workflow, and what is said where none can."""

import pytest

from clara_wf.definitions.workflow import Workflow
from clara_wf.engines.choice import choose, require_docker
from stages.errors import SettingsError
from tests.clara_wf.run.test_show import step


def of(*names):
    return Workflow(
        id="w", name="w", input_folder="a/input", steps=tuple(map(step, names)), result_folders=("a/output",)
    )


def test_a_stage_with_nothing_but_its_image_needs_docker():
    assert choose(of("dicom-reader"), None) == "process"
    assert choose(of("dicom-reader", "only-image"), None) == "docker"


def test_every_way_out_is_told_at_once_where_there_is_no_docker(tmp_path):
    with pytest.raises(SettingsError) as error:
        require_docker(of("dicom-reader", "only-image", "other"), {"PATH": str(tmp_path)})
    first, *ways = str(error.value).split("\n  ")
    assert first.startswith("only-image, other can run neither as a process (no 'command' in the block")
    assert "there is no docker command on this machine). Do one of these:" in first
    assert [way.split(" ")[0] for way in ways] == ["add", "have", "have", "use"]
    assert "process" not in " ".join(ways[1:]), "--engine process is no way out"


def test_an_engine_is_named_that_was_nearly_typed():
    with pytest.raises(
        SettingsError, match=r"no engine 'dokcer' \(did you mean 'docker'\?\); choose from process"
    ):
        choose(of("dicom-reader"), "dokcer")
