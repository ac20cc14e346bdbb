"""Who changes definitions at the same time waits for each other, and no edit is lost."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from clara_wf.files.edit_lock import sole_editor
from clara_wf.models.add import add_model
from stages.errors import InputError, SettingsError

ROOT = Path(__file__).parents[3]
VALUES = ROOT / "clara-reference-workflows/charts/clara-workflow/values.yaml"


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "clara_wf", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_eight_stages_that_are_added_at_once_are_all_there_and_comments_too(tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text(VALUES.read_text() + "\n# my own remark\n")
    adding = [started("cs", f"stage-{n}", "--values", values) for n in range(8)]
    for each in adding:
        assert each.wait(120) == 0, each.stderr.read()
        each.stderr.close()
    text = values.read_text()
    assert sorted(re.findall(r"##BEGIN_(stage-\d)##", text)) == [f"stage-{n}" for n in range(8)]
    assert sorted(re.findall(r"##END_(stage-\d)##", text)) == [f"stage-{n}" for n in range(8)]
    assert text.startswith(VALUES.read_text()[:200])
    assert "# my own remark" in text
    assert os.listdir(tmp_path) == ["values.yaml"]


def test_threads_of_editors_change_it_one_after_the_other(tmp_path):
    file = tmp_path / "counted"
    file.write_text("0")

    def count():
        for _ in range(20):
            with sole_editor(file):
                number = int(file.read_text())
                time.sleep(0.0005)
                file.write_text(str(number + 1))

    threads = [threading.Thread(target=count) for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert file.read_text() == "100"


def test_who_waits_too_long_is_told_for_whom(tmp_path):
    told = (
        rf"values\.yaml is being changed by process {os.getpid()} on .* since 20.*did not end within 0\.1 s"
    )
    with (
        sole_editor(tmp_path / "values.yaml"),
        pytest.raises(SettingsError, match=told),
        sole_editor(tmp_path / "values.yaml", wait_s=0.1),
    ):
        pass
    with sole_editor(tmp_path / "values.yaml", wait_s=0.1):
        pass


def test_an_editor_that_was_killed_holds_up_nobody(tmp_path):
    body = "import os, sys; from pathlib import Path; from clara_wf.files.edit_lock import sole_editor\n"
    body += "with sole_editor(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", body, tmp_path / "v"], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (tmp_path / ".v.lock").exists()
    with sole_editor(tmp_path / "v", wait_s=0.1):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_lock_that_is_another_name_of_a_file_is_refused_and_the_file_left_as_it_is(tmp_path, link):
    (tmp_path / "victim").write_text("precious")
    getattr(tmp_path / ".v.lock", link)(tmp_path / "victim")
    with pytest.raises(InputError, match=r"\.v\.lock"), sole_editor(tmp_path / "v"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_file_that_is_reached_by_a_link_has_one_lock(tmp_path):
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to("real")
    with (
        sole_editor(tmp_path / "link"),
        pytest.raises(SettingsError, match="is being changed"),
        sole_editor(tmp_path / "real", wait_s=0.05),
    ):
        pass


def test_publishing_and_unpublishing_at_once_leave_whole_versions_only(tmp_path):
    values, target = tmp_path / "values.yaml", tmp_path / "published"
    shutil.copy(VALUES, values)
    workflow = "1995f10e-ee14-4d67-b307-452051637dbb"
    publishing = [started("publish", workflow, f"Reader {n}", target, "--values", values) for n in range(3)]
    publishing.append(started("unpublish", workflow, target))
    assert {each.wait(120) for each in publishing} <= {0, 2}
    for each in publishing:
        each.stderr.close()
    folder = target / workflow
    versions = sorted(path.name for path in (folder / "versions").iterdir())
    assert versions == ["1", "2", "3"]
    assert all((folder / "versions" / each / "published.json").is_file() for each in versions)
    assert sorted(os.listdir(target)) == [workflow]


def test_a_model_that_somebody_else_adds_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("clara_wf.models.add.ADD_WAIT_S", 0.1)
    (tmp_path / "liver.onnx").touch()
    (tmp_path / "models").mkdir()
    with (
        sole_editor(tmp_path / "models/liver"),
        pytest.raises(SettingsError, match=r"models/liver is being changed by process"),
    ):
        add_model(tmp_path / "liver.onnx", tmp_path / "models", cache=tmp_path, print_line=print)
