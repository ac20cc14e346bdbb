"""The chart of the workflows: what its schema and its templates refuse, and the Job it makes."""

import copy
import json
import re
import subprocess
from functools import cache, partial
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from clara_wf.definitions.lint import lint
from clara_wf.definitions.workflow import load_workflows
from clara_wf.engines.kubernetes.engine import KubernetesEngine
from clara_wf.run.show import plan
from clara_wf.workspace import Places, Workspace
from clara_wf.yaml.findings import errors_of
from stages.volume.labels_file import labels_from_json
from tests.charts import rendering
from tests.charts.rendering import CURRENT_API, every_helm, validate

CHART = Path(__file__).parents[2] / "clara-reference-workflows/charts/clara-workflow"
LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"
ID = "7b413e24-d018-4689-8c41-73272f6649d4"
RUN = {"workflow": "liver-seg", "job": {"id": "job-1"}}

PLACES = {
    "claim": {},
    "host path": {
        "payload": {"type": "hostPath", "hostPath": "/data"},
        "modelServer": {"address": "10.1.2.3:8001"},
    },
    "carried": {
        "payload": {"type": "emptyDir", "sizeLimit": "1Gi"},
        "carrier": {"enabled": True},
        "modelServer": {"embedded": {"enabled": True}},
    },
}


@pytest.fixture(scope="module")
def schema():
    pytest.importorskip("jsonschema")
    from jsonschema import Draft7Validator

    content = json.loads((CHART / "values.schema.json").read_text())
    Draft7Validator.check_schema(content)
    return Draft7Validator(content)


@cache
def shipped():
    """Return the chart's values; a test that changes them works on a copy."""
    return YAML(typ="safe").load(CHART / "values.yaml")


def block(name):
    values = shipped()["stages"]["dicom-reader"]
    return json.loads(json.dumps(values).replace("dicom-reader", name))


def good():
    """Return values with two stages and a workflow."""
    return {
        "stages": {"a": block("a"), "b": block("b")},
        "workflows": {
            ID: {
                "name": "two",
                "stages": ["a", "b"],
                "waitLocks": ["", "a.lock"],
                "ioFolders": ["a/input", "a/output", "b/output"],
                "args": ["", ["-p", "foo"]],
            }
        },
    }


def changed(path, value):
    """Return good values with one of them replaced; `...` takes it away."""
    values = copy.deepcopy(good())
    *above, last = path
    place = values
    for part in above:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return values


def lint_errors(values, folder):
    file = folder / "values.yaml"
    file.write_text(json.dumps(values))
    return errors_of(lint(file))


W = ("workflows", ID)
A = ("stages", "a")
SPLEEN = {"value": 5, "name": "Spleen", "type": {"value": 78961009, "meaning": "Spleen"}, "rgb": "#9d6ca2"}
BY_SCHEMA = [
    ((*W, "labels"), {"5": SPLEEN}),
    *(
        ((*W, "labels"), [{**SPLEEN, **wrong}])
        for wrong in (
            *(
                {"value": 0},
                {"value": 256},
                {"name": ""},
                {"name": " x"},
                {"name": "Milz\\"},
                {"name": "M\u00fcller"},
            ),
            *(
                {"name": "x" * 65},
                {"type": "Spleen"},
                {"type": {"value": "1"}},
                {"rgb": [1, 2]},
                {"rgb": "red"},
            ),
            *({"rgb": [1, 2, 256]}, {"colour": 1}, {"region": {"value": "1" * 17, "meaning": "x"}}),
        )
    ),
    ((*A, "image", "tag"), ...),
    ((*A, "image", "tag"), 1.1),
    ((*A, "image", "tag"), ""),
    ((*A, "timout"), "300"),
    ((*A, "timeout"), "soon"),
    ((*A, "timeout"), 0),
    ((*A, "timeout"), "0.0"),
    ((*A, "timeout"), -1),
    ((*A, "timeout"), True),
    ((*A, "gpu"), "true"),
    ((*A, "resources"), {"limits": {"memory": "2 GB"}}),
    ((*A, "resources"), {"limit": {"memory": "2Gi"}}),
    ((*A, "env"), {"OMP_NUM_THREADS": 1}),
    ((*A, "env"), {"OMP-THREADS": "1"}),
    ((*A, "env"), {"1ST": "1"}),
    ((*A, "command"), ["b", 1]),
    ((*A, "appDir"), "app"),
    ((*A, "lockDir"), "/app/../etc"),
    ((*A, "inputs"), "/input"),
    ((*A, "outputs"), "../output"),
    ((*A, "inputs"), ""),
    ((*A, "lockName"), "A.lock"),
    ((*A, "mount"), {"in": {"name": "input"}}),
    (("stages", "A_1"), block("A_1")),
    (("stages", "x" * 64), block("x" * 64)),
    (("stages", "carrier"), block("carrier")),
    (("stages", "input"), block("input")),
    (("workflows", "not-a-uuid"), good()["workflows"][ID]),
    (("workflows", ID.upper()), good()["workflows"][ID]),
    ((*W, "name"), ...),
    ((*W, "name"), ""),
    ((*W, "stages"), []),
    ((*W, "stages"), "a"),
    ((*W, "stages"), ["a", "a"]),
    ((*W, "waitLocks"), ["", "../a.lock"]),
    ((*W, "waitLocks"), ["", "a"]),
    ((*W, "ioFolders"), ["a/input", "../output", "b/output"]),
    ((*W, "ioFolders"), ["a/input", "/etc/output", "b/output"]),
    ((*W, "ioFolders"), ["a/input", "a/results", "b/output"]),
    ((*W, "ioFolders"), ["a/input", [], "b/output"]),
    ((*W, "args"), ["", [1]]),
    ((*W, "args"), ["", None]),
    ((*W, "extra"), 1),
    (("workflows",), ...),
]
BY_TEMPLATES = [
    ((*A, "stageName"), "b", 'stages.a.stageName: found "b"; write "a"'),
    ((*A, "lockName"), "b.lock", 'stages.a.lockName: found "b.lock"; write "a.lock"'),
    ((*A, "inputLock"), "/locks/input.lock", "is not input.lock in lockDir"),
    ((*A, "publishPath"), "/app/output/publish", "lie in one another"),
    ((*A, "outputs"), "source", "lie in one another"),
    ((*W, "stages"), ["a", "c"], 'no stage "c" is defined'),
    ((*W, "stages"), ["a"], "waitLocks has 2 entries, expected 1|args has 2|ioFolders has 3"),
    ((*W, "waitLocks"), [""], "waitLocks has 1 entries, expected 2 for 2 stages"),
    ((*W, "ioFolders"), ["a/input", "a/output"], "ioFolders has 2 entries, expected 3 for 2 stages"),
    ((*W, "args"), [""], "args has 1 entries, expected 2"),
    ((*W, "waitLocks"), ["", "c.lock"], "b waits for c.lock, which no stage of it publishes"),
    ((*W, "waitLocks"), ["b.lock", "a.lock"], "waits for itself"),
    ((*W, "waitLocks"), ["", "b.lock"], "waits for itself"),
    ((*W, "waitLocks"), ["", ""], "b reads \\\\?\"a/output\\\\?\" but does not wait for a"),
    ((*W, "ioFolders"), ["a/input", "c/output", "b/output"], "nobody writes"),
    ((*W, "ioFolders"), ["b/input", "a/output", "b/output"], "nobody writes"),
    ((*W, "ioFolders"), ["a/input", "a/output", "a/input"], "the result is a folder that a stage writes"),
]  # fmt: skip
RIGHT = [
    ((*W, "labels"), []),
    ((*W, "labels"), [SPLEEN, {**SPLEEN, "value": 255, "name": "B", "description": "", "rgb": [0, 0, 255]}]),
    ((*W, "waitLocks"), [[""], ["a.lock", "input.lock"]]),
    ((*W, "ioFolders"), ["a/input", ["a/output", "a/input"], ["b/output", "a/output"]]),
    ((*W, "ioFolders"), ["a/input", "a/ output", "b/output"]),
    ((*W, "args"), ["", "one"]),
    ((*A, "timeout"), 1.5),
    ((*A, "timeout"), " 1e3 "),
    ((*A, "resources"), {"limits": {"memory": "2Gi", "cpu": 0.5, "nvidia.com/gpu": 2}}),
    ((*A, "gpu"), True),
    ((*A, "command"), "python stage.py"),
    ((*A, "env"), {"OMP_NUM_THREADS": "1"}),
]  # fmt: skip


template = partial(rendering.template, chart=CHART)


def job_of(manifests):
    return next(each for each in manifests if each and each["kind"] == "Job")


def one_workflow(values):
    """Return the values with the chart's own stages and workflows taken away."""
    nothing = {key: dict.fromkeys(shipped()[key]) for key in ("stages", "workflows")}
    return {key: {**nothing[key], **values.get(key, {})} for key in nothing}


# What is refused


def test_the_shipped_values_are_right(schema, tmp_path):
    assert [error.message for error in schema.iter_errors(shipped())] == []
    assert lint(CHART / "values.yaml") == []


def test_what_clara_wf_takes_from_the_chart_the_schema_takes_as_well(schema):
    assert [error.message for error in schema.iter_errors(good())] == []


@pytest.mark.parametrize(("path", "value"), BY_SCHEMA, ids=lambda part: str(part)[:60])
def test_the_schema_refuses_what_lint_refuses(schema, tmp_path, path, value):
    values = changed(path, value)
    assert not schema.is_valid(values)
    assert lint_errors(values, tmp_path)


@pytest.mark.parametrize(("path", "value"), RIGHT, ids=lambda part: str(part)[:60])
def test_the_schema_takes_what_lint_takes(schema, tmp_path, path, value):
    values = changed(path, value)
    assert [error.message for error in schema.iter_errors(values)] == []
    assert lint_errors(values, tmp_path) == []


@every_helm
@pytest.mark.parametrize(("path", "value", "words"), BY_TEMPLATES, ids=lambda part: str(part)[:60])
def test_the_templates_refuse_what_only_lint_can_see(helm, tmp_path, path, value, words):
    values = changed(path, value)
    code, _, errors = template(helm, one_workflow(values), tmp_path)
    assert code != 0
    assert re.search(words, errors), errors
    assert lint_errors(values, tmp_path)


@every_helm
def test_helm_names_the_key_that_the_schema_refuses(helm, tmp_path):
    code, _, errors = template(helm, {"stages": {"dicom-reader": {"gpu": "yes"}}}, tmp_path)
    assert code != 0
    assert "gpu" in errors


BY_HELM = [
    ("backoffLimit: 2", "backofLimit: 2"),
    ("networkPolicy:", "networkPolicies:"),
    ("leaseSeconds: 60", "leaseSeconds: sixty"),
    ("pullPolicy: IfNotPresent", "pullPolicy: ifnotpresent"),
    ("clara/model-server", "clara/Model-Server"),
    ("clara/dicom-reader", "Clara/Dicom-Reader"),
    ('registry: ""', 'registry: "https://lab.local"'),
    ("labels: {}", "labels: {urgent: yes}"),
    ('name: "liver-seg"', "name: on"),
    ('args: ["", "", ""]', 'args: [["--a", 0b1], "", ""]'),
    ("  id: 10001", "  id: 00"),
    ("workflows:", "on: 1\nworkflows:"),
]


@every_helm
@pytest.mark.parametrize(("old", "new"), BY_HELM, ids=[new for _, new in BY_HELM])
def test_lint_refuses_what_helm_refuses_in_a_file_that_somebody_edited(helm, tmp_path, old, new):
    file = tmp_path / "values.yaml"
    file.write_text((CHART / "values.yaml").read_text().replace(old, new, 1))
    done = subprocess.run(
        [helm, "template", "study", CHART, "--values", file], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert len(errors_of(lint(file))) == 1


@every_helm
def test_helm_lint_finds_nothing(helm):
    done = subprocess.run([helm, "lint", "--strict", str(CHART)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout + done.stderr


@every_helm
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"workflow": "no-such", "job": {"id": "x"}},
            "there is no workflow .*the chart defines: .*liver-seg",
        ),
        ({"job": {"id": "x"}}, "workflow: name the one that is run"),
        ({"workflow": "liver-seg", "job": {"id": "../x"}}, "job"),
        ({**RUN, "payload": {"type": "emptyDir"}}, "need carrier.enabled"),
        ({**RUN, "payload": {"claimName": ""}}, "name the claim"),
        ({**RUN, "job": {"id": "x", "stages": ["ai"]}}, "is no stage of the workflow"),
        ({**RUN, "user": {"id": 0}}, "user"),
    ],
)
def test_settings_that_cannot_work_are_refused(helm, tmp_path, values, words):
    code, _, errors = template(helm, values, tmp_path)
    assert code != 0
    assert re.search(words, errors), errors


@every_helm
def test_without_a_study_nothing_is_installed(helm, tmp_path):
    assert template(helm, {}, tmp_path)[:2] == (0, [])
    assert template(helm, {"workflow": "liver-seg"}, tmp_path)[:2] == (0, [])


# The Job


@every_helm
def test_each_stage_is_a_container_with_its_folders_of_the_payload(helm, tmp_path):
    code, manifests, errors = template(helm, RUN, tmp_path)
    assert code == 0, errors
    pod = job_of(manifests)["spec"]["template"]["spec"]
    assert [each["name"] for each in pod["containers"]] == ["dicom-reader", "ai-livertumor", "dicom-writer"]
    writer = pod["containers"][2]
    mounts = {m["mountPath"]: (m.get("subPath"), m.get("readOnly", False)) for m in writer["volumeMounts"]}
    assert mounts == {
        "/app/input": ("job-1/ai-livertumor/output", True),
        "/app/source": ("job-1/dicom-reader/input", True),
        "/app/output": ("job-1/dicom-writer/output", False),
        "/app/locks": ("job-1/locks", False),
        "/app/logs": ("job-1/logs", False),
        "/publish": ("job-1/publish/dicom-writer", False),
        "/tmp": ("dicom-writer", False),
    }


def told_by_the_engine(values, stage):
    """Return what the process and docker engines would tell a stage, for the chart's own folders."""
    from clara_wf.definitions.workflow import find_workflow, load_workflows
    from clara_wf.engines.engine import JobRun
    from clara_wf.engines.environment import container_folders, settings_for
    from clara_wf.payload import Payload

    workflow = find_workflow(load_workflows(values), LIVER_SEG)
    step = next(step for step in workflow.steps if step.name == stage)
    run = JobRun(
        workflow=workflow,
        payload=Payload(root=Path("/payloads/job-1"), job_id="job-1"),
        to_run={},
        triton_url=None,
        timeout_s=None,
        environ={},
    )
    return settings_for(step, run, container_folders(step), triton_url="triton:8001")


@every_helm
@pytest.mark.parametrize("stage", ["dicom-reader", "ai-livertumor", "dicom-writer"])
def test_a_stage_is_told_the_same_as_by_the_other_engines(helm, tmp_path, stage):
    _, manifests, _ = template(helm, RUN, tmp_path)
    containers = job_of(manifests)["spec"]["template"]["spec"]["containers"]
    container = next(each for each in containers if each["name"] == stage)
    environ = {each["name"]: each["value"] for each in container["env"]}
    assert environ.pop("NVIDIA_CLARA_TERMINATIONLOG") == "/dev/termination-log"
    assert environ.pop("CLARA_CONTAINER") == stage
    assert environ == told_by_the_engine(CHART / "values.yaml", stage)


@every_helm
def test_stages_are_told_what_the_workflow_says_of_labels(helm, tmp_path):
    values = copy.deepcopy(shipped())
    values["workflows"][LIVER_SEG]["labels"] = [SPLEEN]
    code, manifests, errors = template(helm, {**values, **RUN}, tmp_path)
    assert code == 0, errors
    containers = job_of(manifests)["spec"]["template"]["spec"]["containers"]
    told = [each["value"] for c in containers for each in c["env"] if each["name"] == "NVIDIA_CLARA_LABELS"]
    assert len(told) == 3
    assert all(labels_from_json(text, "")[0].name == "Spleen" for text in told)
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    same = told_by_the_engine(tmp_path / "values.yaml", "dicom-writer")["NVIDIA_CLARA_LABELS"]
    assert labels_from_json(same, "") == labels_from_json(told[0], "")


@every_helm
def test_containers_may_do_nothing_but_their_work(helm, tmp_path):
    for extra in PLACES.values():
        code, manifests, errors = template(helm, {**RUN, **extra}, tmp_path)
        assert code == 0, errors
        pod = job_of(manifests)["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["containers"], *pod["initContainers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@every_helm
def test_gpu_arguments_limits_and_deadline_come_from_the_block(helm, tmp_path):
    values = changed((*A, "gpu"), True)
    values["stages"]["a"]["resources"] = {"limits": {"memory": "2Gi"}}
    values["stages"]["a"]["timeout"] = "100"
    values["workflows"][ID]["args"][0] = ["$(x)", 'say "hi"', "a b"]
    limits = {"schedulingSeconds": 1000, "startupSeconds": 10, "backoffLimit": 1}
    run = {"workflow": ID, "job": {"id": "x", **limits}}
    code, manifests, errors = template(helm, {**one_workflow(values), **run}, tmp_path)
    assert code == 0, errors
    job = job_of(manifests)
    a, b = job["spec"]["template"]["spec"]["containers"]
    assert a["resources"] == {"limits": {"memory": "2Gi", "nvidia.com/gpu": "1"}}
    assert a["args"] == ["$$(x)", 'say "hi"', "a b"]  # Kubernetes reads $$ as $
    assert (b["resources"], b["args"]) == ({}, ["-p", "foo"])
    of_a_pod = 10 + 100 + 30 + 300 + 30  # from its start on a node
    assert job["spec"]["template"]["spec"]["activeDeadlineSeconds"] == of_a_pod
    assert job["spec"]["activeDeadlineSeconds"] == 2 * (1000 + of_a_pod)
    told = job["metadata"]["annotations"]
    assert told["clara-workflow/scheduling-seconds"] == "1000"
    assert told["clara-workflow/startup-seconds"] == "10"


@every_helm
def test_quantities_become_text_however_they_are_written(helm, tmp_path):
    values = changed((*A, "gpu"), True)
    values["stages"]["a"]["resources"] = {"limits": {"cpu": 2}, "requests": {"cpu": 0.5, "memory": 1.5e9}}
    embedded = {"gpu": True, "enabled": True, "resources": {"limits": {"memory": 2**31}}, "sharedMemory": 1e9}
    carrier = {"enabled": True, "resources": {"limits": {"cpu": 1}}}
    run = {"workflow": ID, "job": {"id": "x"}, "carrier": carrier, "modelServer": {"embedded": embedded}}
    code, manifests, errors = template(helm, {**one_workflow(values), **run}, tmp_path)
    assert code == 0, errors
    pod = job_of(manifests)["spec"]["template"]["spec"]
    found = {each["name"]: each["resources"] for each in pod["containers"]}
    assert found["a"] == {
        "limits": {"cpu": "2", "nvidia.com/gpu": "1"},
        "requests": {"cpu": "0.5", "memory": "1.5e+09"},
    }
    assert found["carrier"]["limits"]["cpu"] == "1"
    assert found["model-server"]["limits"] == {"memory": "2.147483648e+09", "nvidia.com/gpu": "1"}
    assert pod["volumes"][-1]["emptyDir"]["sizeLimit"] == "1e+09"


@every_helm
def test_an_upgrade_that_changes_what_runs_makes_another_job(helm, tmp_path):
    def name(values):
        return job_of(template(helm, values, tmp_path)[1])["metadata"]["name"]

    assert name(RUN) == name(RUN)
    assert name(RUN) != name({**RUN, "job": {"id": "job-1", "timeout": 10}})


@every_helm
def test_old_clusters_get_no_field_they_do_not_know(helm, tmp_path):
    _, old, _ = template(helm, RUN, tmp_path, "--kube-version", "1.20.2")
    _, new, _ = template(helm, RUN, tmp_path, "--kube-version", CURRENT_API)
    assert "podFailurePolicy" not in job_of(old)["spec"]
    rules = job_of(new)["spec"]["podFailurePolicy"]["rules"]
    assert [(rule["action"], rule.get("onExitCodes", {}).get("values")) for rule in rules] == [
        ("Ignore", None),
        ("FailJob", [2, 3]),
    ]


# Current API versions


@every_helm
@pytest.mark.parametrize("workflow", [each["name"] for each in shipped()["workflows"].values()])
@pytest.mark.parametrize("place", PLACES)
def test_manifests_are_valid_for_the_current_api(helm, tmp_path, workflow, place):
    values = {"workflow": workflow, "job": {"id": "x"}, **PLACES[place]}
    code, manifests, errors = template(helm, values, tmp_path, "--kube-version", CURRENT_API)
    assert code == 0, errors
    validate(manifests)


@every_helm
def test_the_plan_for_a_cluster_is_a_line_that_makes_one_job(helm, tmp_path):
    workflow = load_workflows(CHART / "values.yaml")[LIVER_SEG]
    engine = KubernetesEngine(values=CHART / "values.yaml")
    places = Places.of(Workspace(root=tmp_path, chosen_by="of the test"), {"CLARA_CACHE": str(tmp_path)})
    (line,) = plan(workflow, "job-7", places, {}, [engine])["kubernetes"]
    command = line.replace("helm install", f"{helm} template", 1)
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    jobs = [each for each in YAML(typ="safe").load_all(done.stdout) if each and each["kind"] == "Job"]
    assert [job["metadata"]["labels"]["clara-workflow/job-id"] for job in jobs] == ["job-7"]
    containers = jobs[0]["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in containers] == ["dicom-reader", "ai-livertumor", "dicom-writer"]
