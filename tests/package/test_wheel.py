"""The wheel, installed where there is no checkout: the main job, and a workspace of one's own."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from clara_wf.workspace import Places
from stages import __version__

ROOT = Path(__file__).parents[2]
LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"
JOB = "11111111-1111-1111-1111-111111111111"


def build(kind, folder, source=ROOT):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build("wheel", tmp_path_factory.mktemp("wheel"))


class Installation:
    """The wheel in an environment of its own that borrows the other packages of this one."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.home = folder / "home"
        self.python = folder / "env/bin/python"
        self.home.mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
        (self.site,) = (folder / "env/lib").glob("python3.*/site-packages")
        (self.site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "--no-deps", "--no-index"]
        subprocess.run([*pip, "--quiet", wheel], check=True)

    def run(self, *command, folder="/", **environ):
        """Run a command as somebody whose home is empty, but for the model server there is."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
        kept |= {
            "HOME": str(self.home),
            "CLARA_CACHE": str(Places.here(os.environ).cache),
            "CLARA_GPU": "off",
        }
        kept["PATH"] = f"{self.python.parent}:{kept['PATH']}"
        return subprocess.run(
            command, cwd=folder, env=kept | environ, capture_output=True, text=True, timeout=280
        )

    def files(self):
        return {path: path.stat().st_mtime_ns for path in self.site.rglob("*")}


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel):
    return Installation(tmp_path_factory.mktemp("installed"), wheel)


def test_the_source_distribution_builds_the_same_wheel(wheel, tmp_path):
    (tmp_path / "sdist").mkdir()
    with tarfile.open(build("sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = build("wheel", tmp_path / "wheel", source)
    assert again.read_bytes() == wheel.read_bytes()


def test_the_wheel_holds_only_what_belongs_to_the_project(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names}
    assert top == {
        "ai_livertumor", "clara_wf", "dicom_adapter", "dicom_files", "dicom_reader", "dicom_writer",
        "phantoms", "stages", f"clara_stages-{__version__}.dist-info",
    }  # fmt: skip
    assert [name for name in names if "__pycache__" in name or "/payloads/" in name] == []


@pytest.mark.triton
@pytest.mark.workflow
@pytest.mark.slow
def test_the_main_job_runs_from_the_installed_package_and_writes_nothing_into_it(installed):
    before = installed.files()
    done = installed.run("clara-wf", "test", "liver-seg")
    assert done.returncode == 0, done.stdout + done.stderr
    data = installed.home / ".local/share/clara-stages"
    assert len(list((data / "payloads" / JOB / "dicom-writer/output").glob("*.dcm"))) == 1
    assert (data / "test-data" / JOB / "dicom-reader/input").is_dir()
    assert installed.files() == before


def test_a_workspace_is_made_and_its_launcher_works(installed, tmp_path):
    before = installed.files()
    assert installed.run("clara-wf", "init", "w", folder=tmp_path).returncode == 0
    folder = tmp_path / "w/clara-reference-workflows"
    done = installed.run("./clara-wf", "cs", "user-ai", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "##BEGIN_user-ai##" in (folder / "charts/clara-workflow/values.yaml").read_text()
    away = installed.run(folder / "clara-wf", "new", "user-workflow", "--stages", "dicom-reader,user-ai")
    assert away.returncode == 0, away.stderr
    assert "user-workflow" in installed.run("clara-wf", "list", folder=folder).stdout
    assert "user-workflow" not in installed.run("clara-wf", "list").stdout
    assert "user-workflow" in installed.run("clara-wf", "list", CLARA_WORKSPACE=str(tmp_path / "w")).stdout
    assert installed.files() == before


@pytest.mark.parametrize(
    "command",
    [("cs", "user-ai"), ("new", "mine", "--stages", "dicom-reader"), ("models", "add", "/dev/null")],
)
def test_what_the_package_holds_is_not_changed(installed, command):
    before = installed.files()
    done = installed.run("clara-wf", *command)
    assert done.returncode == 2
    assert "make a workspace of your own with `clara-wf init DIR`" in done.stderr
    assert installed.files() == before


def test_doctor_says_which_workspace_is_used(installed, tmp_path):
    def said(folder):
        lines = installed.run("clara-wf", "doctor", folder=folder).stdout.splitlines()
        return next(line for line in lines if "workspace" in line)

    assert "clara_wf/workspace_files, of the installed package; `clara-wf init DIR`" in said("/")
    installed.run("clara-wf", "init", str(tmp_path / "w"))
    assert f"ok      workspace: {tmp_path}/w, of the current folder" in said(tmp_path / "w/models")


def test_env_puts_the_installed_command_on_path(installed):
    assert installed.run("clara-wf", "env").stdout == f'export PATH={installed.python.parent}:"$PATH"\n'


def test_the_version_is_said_in_one_place_and_found_everywhere(installed):
    code = "from importlib.metadata import version; print(version('clara-stages'))"
    assert installed.run(installed.python, "-c", code).stdout.strip() == __version__
    assert installed.run("clara-wf", "--version").stdout.strip() == f"clara-wf {__version__}"
    for chart in ROOT.glob("clara-*/**/Chart.yaml"):
        assert f'version: {__version__}\nappVersion: "{__version__}"\n' in chart.read_text()
