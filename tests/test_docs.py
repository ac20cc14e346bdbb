"""The documentation cannot drift from the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/**/*.md")])


def test_the_reference_of_the_command_line_is_what_help_prints():
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts/cli_reference.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    written = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert written == printed.stdout, "run scripts/cli_reference.py > docs/reference/cli.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page):
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def test_every_exit_code_of_the_tree_is_in_the_reference():
    from stages import errors

    page = (ROOT / "docs/reference/stage.md").read_text(encoding="utf-8")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(f"| {kind.exit_code} |" in page for kind in kinds if issubclass(kind, errors.StageError))


def test_every_parameter_of_a_model_is_in_the_reference():
    from ai_livertumor import ModelDescription

    page = (ROOT / "docs/reference/model.md").read_text(encoding="utf-8")
    assert [name for name in ModelDescription.model_fields if f"| `{name}` |" not in page] == []


def test_every_setting_of_a_stage_is_in_the_reference():
    page = (ROOT / "docs/reference/stage.md").read_text(encoding="utf-8")
    code = (ROOT / "stages/settings.py").read_text(encoding="utf-8")
    keys = set(re.findall(r'given\("([A-Z]+)"', code))
    assert len(keys) == 16
    assert [key for key in keys if f"`NVIDIA_CLARA_{key}`" not in page] == []


def test_the_stage_of_the_tutorial_runs_as_it_is_written(tmp_path):
    import numpy as np

    from stages import Origin, Volume, find_volumes, read_volume, write_volume

    page = (ROOT / "docs/tutorial/first-stage.md").read_text(encoding="utf-8")
    (tmp_path / "dense.py").write_text(re.search(r"```python\n(# dense\.py.*?)```", page, re.DOTALL).group(1))
    ct = np.array([[[0, 300, 301]]], dtype=np.int16)
    write_volume(
        Volume(array=ct, affine=np.eye(4), origin=Origin(series_instance_uid="1.2")), tmp_path / "in"
    )
    done = subprocess.run(
        [sys.executable, "dense.py", "--input", "in", "--output", "out"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert read_volume(find_volumes(tmp_path / "out")[0]).array.tolist() == [[[0, 0, 1]]]
