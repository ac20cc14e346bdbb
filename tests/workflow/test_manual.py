"""The users' manual, typed from its first line to its last, in a copy of the checkout.

The commands stand as in print; only ``sudo`` is left out, and ``/clara-io`` is a folder of the test.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from ruamel.yaml import YAML

from clara_wf.definitions.lint import lint

ROOT = Path(__file__).parents[2]
JOB = "11111111-1111-1111-1111-111111111111"
USER_WORKFLOW = "7b413e24-d018-4689-8c41-73272f6649d4"
LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"

USER_AI = """
##BEGIN_user-ai## user-ai: image: repository: user-ai tag: latest mount: in: name: "input" out: name: "output"
stageName: "user-ai" appDir: "/app" inputLock: "/app/locks/input.lock" inputs: "input"
logName: "/app/logs/user-ai.log" outputs: "output" lockDir: "/app/locks" lockName: "user-ai.lock"
timeout: "300" publishPath: "/publish" ##END_user-ai##
"""

AI_LIVERTUMOR = """
##BEGIN_ai-livertumor## ai-livertumor: image: repository: clara/ai-livertumor tag: "0.1.0" mount: in:
name: "input" out: name: "output" stageName: "ai-livertumor" appDir: "/app"
inputLock: "/app/locks/input.lock" inputs: "input" logName: "/app/logs/ai-livertumor.log" outputs: "output"
lockDir: "/app/locks" lockName: "ai-livertumor.lock" timeout: "300" publishPath: "/publish"
##END_ai-livertumor##
"""

WORKFLOW = """
  7b413e24-d018-4689-8c41-73272f6649d4:
    name: "user-workflow"
    stages: ["dicom-reader", "user-ai", "dicom-writer"]
    waitLocks: ["", "dicom-reader.lock", "user-ai.lock"]
    ioFolders: ["dicom-reader/input", "dicom-reader/output", "user-ai/ output", "dicom-writer/output"]
    args: ["", ["-p", "foo"], ""]
"""

DEFAULT_WORKFLOW = """
fd3ee8bf-b9f3-4808-bd60-243f870ff9bd: name: "liver-seg"
stages: ["dicom-reader", "ai-livertumor", "dicom-writer"]
waitLocks: ["", "dicom-reader.lock", "ai-livertumor.lock"]
ioFolders: ["dicom-reader/input", "dicom-reader/output", "ai-livertumor/output", "dicom-writer/output"]
args: ["", "", ""]
"""


class Checkout:
    """A copy of the repository in which the manual is followed."""

    def payload_of(self, workflow):
        """Return the folder of the one job of a workflow."""
        records = (self.root / "clara-reference-workflows/payloads").glob("*/job.json")
        (found,) = [r for r in records if json.loads(r.read_text())["workflow"]["id"] == workflow]
        return found.parent

    def __init__(self, root: Path, clara_io: Path) -> None:
        self.root, self.clara_io = root, clara_io
        self.values = root / "clara-reference-workflow/charts/clara-workflow/values.yaml"

    def type(self, command: str, folder: str = "clara-reference-workflows") -> subprocess.CompletedProcess:
        """Run a line as the manual has it."""
        line = command.removeprefix("sudo ").replace("/clara-io", str(self.clara_io))
        done = subprocess.run(
            line, shell=True, cwd=self.root / folder, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, request):
    """Return a copy of everything that is in the repository."""
    root, clara_io = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("clara-io")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name, follow_symlinks=False)
    (clara_io / "models").mkdir()
    (clara_io / "clara-core/workflows").mkdir(parents=True)
    return Checkout(root, clara_io)


@pytest.fixture(scope="module")
def defined(checkout):
    """The checkout after the stage's model is there, and the stage and the workflow are in the chart."""
    checkout.type("cp -r ../examples/user_ai/models/body_fat ../models/")
    checkout.type("./clara-wf cs user-ai")
    text = checkout.values.read_text()
    checkout.values.write_text(text.replace("\nworkflows:\n", f"\nworkflows:{WORKFLOW}", 1))
    return checkout


def test_both_spellings_of_the_folder_lead_to_the_same_chart(checkout):
    plural = checkout.root / "clara-reference-workflows/charts/clara-workflow/values.yaml"
    assert plural.samefile(checkout.values)


def test_the_block_of_a_container_is_generated_as_printed(defined):
    assert words(USER_AI) in words(defined.values.read_text())


def test_the_reference_stage_and_workflow_are_defined_as_printed(defined):
    text = words(defined.values.read_text())
    assert words(AI_LIVERTUMOR) in text
    assert words(DEFAULT_WORKFLOW) in text


def test_the_workflow_as_printed_is_accepted_and_its_blank_is_told(defined):
    assert [f"{f.severity}: {f.message}" for f in lint(defined.values)] == [
        "warning: 'user-ai/ output' has a blank in it and is read as 'user-ai/output'"
    ]
    assert '["-p", "foo"]' in defined.values.read_text()
    assert "● user-ai -p foo" in words(defined.type("./clara-wf show user-workflow").stdout)


def test_the_adapters_file_takes_the_new_entries(checkout):
    file = checkout.root / "clara-platform/files/dicom-server-config.yaml"
    yaml = YAML()
    content = yaml.load(file)
    titles = content["dicom"]["scp"]["ae-titles"]
    known = {entry["ae-title"] for entry in titles}
    assert "CT_AI" in known
    assert "Nvidia.Clara.Dicom.Processors.JobProcessor,Nvidia.Clara.DicomServer" in str(
        titles[0]["processors"]
    )
    liver = next(entry for entry in content["workflows"] if entry["workflow"] == LIVER_SEG)
    assert set(liver) >= {"name", "clara-ae-title", "destination-name", "workflow"}
    assert liver["destination-name"] in {entry["name"] for entry in content["dicom"]["scu"]["destinations"]}


@pytest.mark.workflow
@pytest.mark.triton
@pytest.mark.slow
def test_the_reference_workflow_is_executed_as_printed(defined):
    done = defined.type(f"./clara-wf test {LIVER_SEG}")
    assert "Dice" in done.stdout


@pytest.mark.workflow
@pytest.mark.docker
def test_a_workflow_with_a_users_container_is_tested_as_printed(defined, images):
    series = defined.root / f"clara-reference-workflow/test-data/{JOB}/dicom-reader/input"
    if not series.exists():
        from clara_wf.run.demo import make_demo_job

        make_demo_job(series.parents[1], "dicom-reader/input")
    defined.type(f"./clara-wf test {USER_WORKFLOW} {JOB}")
    payload = defined.payload_of(USER_WORKFLOW)  # with a job ID that is the other workflow's, one of its own
    (result,) = (payload / "dicom-writer/output").rglob("*.dcm")
    assert pydicom.dcmread(result).Modality == "SEG"
    assert json.loads((payload / "job.json").read_text())["engine"] == "docker"
    assert "foo" in (payload / "logs/user-ai.log").read_text()


@pytest.mark.workflow
@pytest.mark.docker
def test_the_timeout_may_be_given_in_seconds(defined, images):
    defined.type(f"./clara-wf test {USER_WORKFLOW} {JOB} 300")


def test_a_model_is_copied_and_the_workflow_published_as_printed(defined):
    defined.type("sudo cp -r ../models/segmentation_liver_v1 /clara-io/models/")
    command = f'sudo ./clara-wf publish {USER_WORKFLOW} "User AI" /clara-io/clara-core/workflows/'
    done = defined.type(command)
    folder = defined.clara_io / "clara-core/workflows" / USER_WORKFLOW
    assert folder.is_dir(), done.stdout
    assert "User AI" in defined.type("./clara-wf list /clara-io/clara-core/workflows/").stdout
