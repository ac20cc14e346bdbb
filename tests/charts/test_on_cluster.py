"""The charts on a real cluster by Helm alone: install, upgrade, uninstall, and what becomes of a study."""

import json
import secrets
import subprocess
import time
from pathlib import Path

import pytest

from clara_wf.chart.values import values_of
from clara_wf.engines.kubernetes.cluster import Cluster
from tests.clara_wf.engines.studies import Study
from tests.cluster import TAG, helms, own_namespace

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "clara-reference-workflows/charts/clara-workflow"
PLATFORM = ROOT / "clara-platform"
every_helm = pytest.mark.parametrize("helm", helms() or [pytest.param("", marks=pytest.mark.skip("no helm"))])


@pytest.fixture(scope="module")
def environ():
    with own_namespace() as environ:
        yield environ


@pytest.fixture(scope="module")
def cluster(environ):
    with Cluster.connect(environ) as cluster:
        yield cluster


class Release:
    """An installation of a chart by a Helm."""

    def __init__(self, helm, environ, chart, folder, name):
        self.helm, self.environ, self.chart, self.folder, self.name = helm, environ, chart, folder, name

    def __call__(self, what, values=None, *options):
        file = self.folder / "values.json"
        file.write_text(json.dumps(values or {}))
        chart = [] if what == "uninstall" else [str(self.chart), "--values", str(file)]
        command = [self.helm, what, self.name, *chart, "--namespace", self.environ["CLARA_NAMESPACE"]]
        done = subprocess.run([*command, *options], env=self.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def install(environ, tmp_path):
    made = []

    def install(helm, chart, name):
        made.append(Release(helm, environ, chart, tmp_path, name))
        return made[-1]

    yield install
    for release in made:
        command = [release.helm, "uninstall", release.name, "--namespace", environ["CLARA_NAMESPACE"]]
        subprocess.run(command, env=environ, capture_output=True)


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.3)
    return found


@pytest.fixture
def payloads(cluster):
    """Return a folder of one node with a job's input in it, made by a Pod, since no other storage is sure."""
    node = cluster.nodes()[0]["metadata"]["name"]
    path = f"/tmp/clara-test-{secrets.token_hex(3)}"
    script = (
        "mkdir -p /data/job/a/input /data/job/locks; echo 0 >/data/job/a/input/file;"
        "touch /data/job/locks/input.lock; chown -R 10001:10001 /data/job"
    )
    _run_as_root(cluster, node, path, script)
    yield {"node": node, "path": path}
    _run_as_root(cluster, node, path, "rm -rf /data/*")


def _run_as_root(cluster, node, path, script):
    name = f"files-{secrets.token_hex(3)}"
    container = {
        "name": "files",
        "image": f"clara/stages:{TAG}",
        "command": ["sh", "-c", script],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "nodeName": node,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "data", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}],
    }
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    state = until(lambda: cluster.pod(name)["status"] if _is_over(cluster.pod(name)) else None)
    cluster.delete_pod(name, grace_s=0)
    if state["phase"] != "Succeeded":
        pytest.skip("the cluster's nodes lack the image clara/stages, or lend no folder of theirs")


def _is_over(pod):
    waiting = [s["state"].get("waiting", {}) for s in pod["status"].get("containerStatuses", ())]
    return pod["status"]["phase"] in ("Succeeded", "Failed") or any(
        "Image" in w.get("reason", "") for w in waiting
    )


def values_for(tmp_path, payloads, **scripts):
    study = Study.__new__(Study)
    return {
        **values_of(study.workflow(**scripts)),
        "job": {"id": "job", "backoffLimit": 2},
        "payload": {"type": "hostPath", "hostPath": payloads["path"]},
        "carrier": {"image": {"tag": TAG}},
        "modelServer": {"address": ""},
        "nodeSelector": {"kubernetes.io/hostname": payloads["node"]},
    }


def pods_of(cluster, release):
    return cluster.pods({"app.kubernetes.io/instance": release})


def reasons(cluster, release):
    """Return the termination messages of the containers that failed."""
    statuses = [s for pod in pods_of(cluster, release) for s in pod["status"].get("containerStatuses", ())]
    ended = [(s["name"], s["state"].get("terminated") or {}) for s in statuses]
    return {(name, end["exitCode"], end.get("message")) for name, end in ended if end.get("exitCode")}


@every_helm
def test_a_study_that_failed_is_tried_again_and_goes_on_where_it_was(
    install, cluster, tmp_path, payloads, helm
):
    release = install(helm, CHART, "study")
    counts = "echo x >>/app/locks/tries-of-a; cp /app/input/file /app/output/"
    fails_first = (
        "test -e /app/locks/once || { touch /app/locks/once; exit 9; }; cp /app/input/file /app/output/"
    )
    shows = "wc -l </app/locks/tries-of-a >/dev/termination-log"
    values = values_for(tmp_path, payloads, a=counts, b=fails_first, c=shows)
    release("install", values, "--wait", "--wait-for-jobs", "--timeout", "120s")
    assert reasons(cluster, "study") == {
        ("b", 1, "sh ended with exit code 9"),
        ("c", 5, "upstream failed: b: sh ended with exit code 9"),
    }
    (last,) = [pod for pod in pods_of(cluster, "study") if pod["status"]["phase"] == "Succeeded"]
    said = {s["name"]: s["state"]["terminated"].get("message") for s in last["status"]["containerStatuses"]}
    assert said["c"].strip() == "1"  # a ran once
    (job,) = cluster.jobs({"app.kubernetes.io/instance": "study"})
    release("upgrade", {**values, "job": {"id": "job", "timeout": 99}}, "--wait", "--wait-for-jobs")
    (other,) = cluster.jobs({"app.kubernetes.io/instance": "study"})
    assert other["metadata"]["name"] != job["metadata"]["name"]
    release("uninstall")
    until(lambda: not cluster.jobs({"app.kubernetes.io/instance": "study"}))
    until(lambda: not pods_of(cluster, "study"))


@every_helm
def test_the_platform_serves_and_leaves_nothing(install, cluster, tmp_path, helm):
    values = {
        "storage": {"root": "/tmp/clara-test-io"},
        "triton": {
            "image": {"repository": "clara/model-server", "tag": "0.1.0"},
            "command": [],
            "gpus": 0,
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "2Gi"}},
            "sharedMemory": "256Mi",
        },
    }
    release = install(helm, PLATFORM, "platform")
    release("install", values, "--wait", "--timeout", "120s")
    assert cluster.has_service("triton")
    (pod,) = cluster.pods({"app.kubernetes.io/component": "triton"})
    assert pod["status"]["containerStatuses"][0]["ready"]
    release("upgrade", {**values, "networkPolicy": {"enabled": False}}, "--wait", "--timeout", "120s")
    assert [each["metadata"]["name"] for each in cluster.pods({"app.kubernetes.io/component": "triton"})] == [
        pod["metadata"]["name"]
    ]
    release("uninstall")
    until(lambda: not cluster.has_service("triton"))
    until(lambda: not cluster.pods({"app.kubernetes.io/component": "triton"}))


@pytest.fixture
def adapter_values(cluster):
    """Return values for an adapter alone, in a new folder of one node, and no configuration."""
    node, path = cluster.nodes()[0]["metadata"]["name"], f"/tmp/clara-test-{secrets.token_hex(3)}"
    yield {
        "storage": {"root": path},
        "triton": {"enabled": False},
        "adapter": {
            "enabled": True,
            "image": {"tag": TAG},
            "nodeSelector": {"kubernetes.io/hostname": node},
            "resources": {"requests": {"cpu": 0.01, "memory": 67108864}},
        },
    }
    _run_as_root(cluster, node, path, "rm -rf /data/*")


def test_the_adapter_is_ready_as_it_is_installed_and_an_upgrade_keeps_its_token(
    install, cluster, adapter_values
):
    from kubernetes.client import CoreV1Api

    def token():
        namespace = cluster.namespace
        return CoreV1Api(cluster.client).read_namespaced_secret("site-adapter-token", namespace).data["token"]

    release = install(helms()[0], PLATFORM, "site")
    release("install", adapter_values, "--wait", "--timeout", "120s")
    first, before = cluster.pods({"app.kubernetes.io/component": "adapter"})[0], token()
    release("upgrade", {**adapter_values, "labels": {"n": 1}}, "--wait", "--timeout", "120s")
    (pod,) = cluster.pods({"app.kubernetes.io/component": "adapter"})
    assert (pod["metadata"]["name"] != first["metadata"]["name"], token()) == (True, before)
    said = subprocess.run(
        [release.helm, "test", "site", "--logs", "--namespace", cluster.namespace],
        env=release.environ,
        capture_output=True,
        text=True,
    )
    assert "CT_AI at site-adapter:104, called by DCM4CHEE, answers" in said.stdout, said.stderr
