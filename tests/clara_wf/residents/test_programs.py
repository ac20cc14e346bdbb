"""Which commands are kept ready: programs that wait for orders, and none that would begin to work at once."""

import sys

import pytest

from clara_wf.residents.programs import is_driven

USES_MAIN = {
    "from stages import Job, main": True,
    "from stages import (\n    Job,\n    main,\n)": True,
    "from stages import main as run_stage": True,
    "import stages\nstages.main(print, [], {})": True,
    "from stages.lifecycle.driver import main": True,
    "def go():\n    from stages import main": True,
    "from stages import Volume, read_volume\nprint(read_volume)": False,
    "import stages.volume.io": False,
    "from stages import Volume\ndef main(): ...": False,
    "from other.stages import main": False,
    "'from stages import main'": False,
    "print('no toolkit')": False,
    "from stages import main\nthis is no Python": False,
    "\0": False,
}


@pytest.mark.parametrize(("text", "expected"), USES_MAIN.items())
def test_a_program_is_kept_if_it_uses_main(tmp_path, text, expected):
    file = tmp_path / "stage.py"
    file.write_text(text)
    assert is_driven([sys.executable, str(file)]) is expected


@pytest.mark.parametrize("module", ["dicom_reader", "ai_livertumor", "dicom_writer"])
def test_the_stages_that_ship_are_kept(module):
    assert is_driven([sys.executable, "-m", module])


@pytest.mark.parametrize(
    "command",
    [
        ["/bin/sh", "-c", "python -m dicom_reader"],
        [sys.executable],
        [sys.executable, "-m"],
        [sys.executable, "-m", "no_such_module"],
        [sys.executable, "-m", "stages", "wrap", "--", "program"],
        [sys.executable, "/no/such/stage.py"],
    ],
)
def test_what_is_no_program_of_a_stage_is_not_kept(command):
    assert not is_driven(command)
