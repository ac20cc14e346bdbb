"""Clusters and Helms that are missing, refuse, or do not answer: one line each that says what to do."""

import json
import os
import shutil
import socket
import stat
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clara_wf.chart.helm import Helm
from clara_wf.chart.values import narrowed, values_of
from clara_wf.definitions.lint import check
from clara_wf.definitions.workflow import load_workflows
from clara_wf.engines.kubernetes.cluster import Cluster, ClusterError, UnreachableError
from clara_wf.engines.kubernetes.study_job import StartLimits, StudyJob
from clara_wf.yaml.document import parsed
from stages.errors import SettingsError
from tests.clara_wf.engines.studies import ROOT, Study
from tests.cluster import helms

pytest.importorskip("kubernetes", reason="the Kubernetes client is not installed")

CHART = ROOT / "clara-reference-workflows/charts/clara-workflow"


@contextmanager
def api_that_answers(status, body):
    """Serve one and the same answer as an API server would, and give its port."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def environ_for(tmp_path):
    """Return a function that gives the environment for an API at a port of this machine."""

    def environ_for(port, namespace="studies"):
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
            "users": [{"name": "u", "user": {}}],
            "current-context": "c",
        }
        (tmp_path / "config").write_text(json.dumps(config))
        return {"KUBECONFIG": str(tmp_path / "config")}

    return environ_for


def test_the_namespace_is_that_of_the_context_unless_one_is_named(environ_for):
    with Cluster.connect(environ_for(1)) as cluster:
        assert (cluster.namespace, cluster.host) == ("studies", "127.0.0.1:1")
    with Cluster.connect({**environ_for(1), "CLARA_NAMESPACE": "mine"}) as cluster:
        assert cluster.namespace == "mine"


def test_a_cluster_that_does_not_answer_is_named(environ_for):
    with Cluster.connect(environ_for(1)) as cluster, pytest.raises(UnreachableError) as error:
        cluster.version()
    assert str(error.value) == (
        "the cluster at 127.0.0.1:1 does not answer ([Errno 111] Connection refused); "
        "check KUBECONFIG and the network"
    )


def refused(cluster):
    with pytest.raises(SettingsError) as error:
        cluster.create({"kind": "Job"})
    return str(error.value)


def test_a_right_that_is_missing_is_named(environ_for):
    answer = api_that_answers(403, {"message": 'jobs is forbidden: User "x"'})
    with answer as port, Cluster.connect(environ_for(port)) as cluster:
        error = refused(cluster)
    assert error == (
        f"this user may not create a Job in namespace studies of the cluster at 127.0.0.1:{port}; "
        'ask its administrator for that right (jobs is forbidden: User "x")'
    )


def test_what_the_cluster_refuses_is_told_in_its_words(environ_for):
    answer = api_that_answers(422, {"message": "spec is wrong"})
    with answer as port, Cluster.connect(environ_for(port)) as cluster:
        error = refused(cluster)
    assert error == "the cluster refused to create a Job: spec is wrong"


def test_a_body_that_the_client_refuses_is_one_line_that_names_the_key(environ_for):
    container = {"name": "a", "resources": {"limits": {"nvidia.com/gpu": 1}}}
    spec = {"template": {"spec": {"containers": [container]}}}
    with Cluster.connect(environ_for(1)) as cluster, pytest.raises(SettingsError) as error:
        cluster.create({"kind": "Job", "spec": spec})
    assert str(error.value) == (
        "cannot create a Job: spec.template.spec.containers.0.resources.limits.nvidia.com/gpu: "
        "Input should be a valid string, found 1"
    )


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (
            403,
            "jobs.batch is forbidden: exceeded quota: q",
            "the cluster cannot create a Job now: jobs.batch is",
        ),
        (503, "apiserver is shutting\ndown", "failed to create a Job (503): apiserver is shutting down; try"),
        (429, "slow down", "failed to create a Job (429): slow down; try again"),
    ],
)
def test_what_the_cluster_cannot_do_now_may_be_tried_again(environ_for, status, said, told):
    answer = api_that_answers(status, {"message": said})
    with answer as port, Cluster.connect(environ_for(port)) as cluster, pytest.raises(ClusterError) as error:
        cluster.create({"kind": "Job"})
    assert told in str(error.value)
    assert error.value.retryable


def test_a_node_that_does_not_answer_is_told_in_one_line(environ_for):
    """As the API server says it when a kubelet has stopped."""
    why = "error dialing backend: dial tcp 192.0.2.11:10250: connect: connection refused"
    answer = api_that_answers(500, {"kind": "Status", "message": why, "code": 500})
    with (
        answer as port,
        Cluster.connect(environ_for(port)) as cluster,
        pytest.raises(ConnectionError) as error,
    ):
        cluster.run_in("x-1", "receiver", ["true"])
    assert str(error.value) == f"cannot run a program in receiver of x-1: {why}"


def test_the_right_to_run_programs_in_pods_is_named_where_it_is_missing(environ_for):
    said = 'pods "x-1" is forbidden: User "weak" cannot create resource "pods/exec"'
    answer = api_that_answers(403, {"kind": "Status", "message": said, "code": 403})
    with answer as port, Cluster.connect(environ_for(port)) as cluster, pytest.raises(SettingsError) as error:
        cluster.run_in("x-1", "receiver", ["true"])
    assert str(error.value).endswith(f"the right to create and get pods/exec ({said})")


def test_a_node_that_never_answers_is_given_up(environ_for, monkeypatch):
    monkeypatch.setattr("clara_wf.engines.kubernetes.pod_exec._SILENCE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with Cluster.connect(environ_for(port)) as cluster, pytest.raises(ConnectionError) as error:
            cluster.run_in("x-1", "receiver", ["true"])
    assert str(error.value) == "cannot run a program in receiver of x-1: no answer within 0.3 s"


# The Job as it is put on the cluster


class Accepting:
    """A cluster that takes everything."""

    def __init__(self, *ready):
        self.ready, self.made = ready, []

    def create(self, manifest):
        self.made.append(manifest)
        return {"metadata": {**manifest["metadata"], "uid": "u"}}

    def nodes(self):
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        return [{"metadata": {"name": name}, "spec": {}, "status": ready} for name in self.ready]


def job(**spec):
    pod = {"containers": [{"name": "a", **spec.pop("container", {})}], **spec}
    metadata = {"name": "study"}
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "metadata": metadata,
        "spec": {"template": {"spec": pod}},
    }


def pod_of(cluster):
    return cluster.made[-1]["spec"]["template"]["spec"]


def test_a_job_is_created_anew_under_another_name_and_what_belongs_to_it_too():
    cluster = Accepting()
    study_job = StudyJob(cluster, [{"kind": "NetworkPolicy", "metadata": {"name": "study"}}, job()])
    assert [study_job.create(), study_job.create()] == ["study", "study-2"]
    assert [made["metadata"]["name"] for made in cluster.made] == ["study", "study", "study-2", "study-2"]
    assert cluster.made[1]["metadata"]["ownerReferences"][0]["name"] == "study"


def test_quantities_that_an_older_chart_left_as_numbers_become_text():
    cluster = Accepting()
    volumes = [{"name": "payload", "emptyDir": {"sizeLimit": 1000}}]
    container = {"resources": {"limits": {"nvidia.com/gpu": 1, "memory": 1e9}}}
    StudyJob(cluster, [job(container=container, volumes=volumes)]).create()
    (found,) = pod_of(cluster)["containers"]
    assert found["resources"]["limits"] == {"nvidia.com/gpu": "1", "memory": "1000000000.0"}
    assert pod_of(cluster)["volumes"][0]["emptyDir"]["sizeLimit"] == "1000"


@pytest.mark.parametrize(
    ("ready", "kind"),
    [
        (("n1", "n2"), "requiredDuringSchedulingIgnoredDuringExecution"),
        (("n1",), "preferredDuringSchedulingIgnoredDuringExecution"),
        ((), "preferredDuringSchedulingIgnoredDuringExecution"),
    ],
)
def test_a_node_that_has_lost_the_pod_gets_no_other_if_there_is_a_choice(ready, kind):
    cluster = Accepting(*ready)
    term = {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    StudyJob(cluster, [job(affinity={"nodeAffinity": required})]).create(lost=["n1"])
    others = [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]
    affinity = pod_of(cluster)["affinity"]["nodeAffinity"]
    if kind.startswith("required"):
        assert affinity[kind]["nodeSelectorTerms"] == [{**term, "matchFields": others}]
    else:
        assert affinity[kind] == [{"weight": 100, "preference": {"matchFields": others}}]


def test_a_chart_says_how_long_its_pod_may_take_to_begin():
    told = job()
    told["metadata"]["annotations"] = {"clara-workflow/scheduling-seconds": "60"}
    assert StudyJob(Accepting(), [told]).limits == StartLimits(scheduling_s=60, startup_s=600)
    assert StudyJob(Accepting(), [job()]).limits == StartLimits(scheduling_s=3600, startup_s=600)


def test_what_is_not_there_is_no_error_where_that_is_an_answer(environ_for):
    with (
        api_that_answers(404, {"message": "not found"}) as port,
        Cluster.connect(environ_for(port)) as cluster,
    ):
        assert cluster.pod("x") is None
        assert cluster.has_service("triton") is False
        cluster.delete_job("x")
        assert refused(cluster) == "the cluster refused to create a Job: not found"


def test_nodes_that_one_may_not_see_are_unknown(environ_for):
    with api_that_answers(403, {}) as port, Cluster.connect(environ_for(port)) as cluster:
        assert cluster.nodes() is None


@pytest.mark.parametrize("content", [None, "{", "apiVersion: v1\nkind: Config\n"])
def test_a_configuration_that_cannot_be_used_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "config").write_text(content)
    connection = Cluster.connect({"KUBECONFIG": str(tmp_path / "config")})
    with pytest.raises(SettingsError, match=r"no cluster to run on: .*/config cannot be used"), connection:
        pass


# Helm


def test_no_helm_is_told_with_what_to_do():
    with pytest.raises(SettingsError, match="helm was not found; install Helm 3 or 4 and put it on PATH"):
        Helm.find({"PATH": "/nonexistent"})
    with pytest.raises(SettingsError, match="HELM=/nowhere/helm is not there"):
        Helm.find({"PATH": os.defpath, "HELM": "/nowhere/helm"})


@pytest.mark.parametrize("program", helms() or [pytest.param("", marks=pytest.mark.skip("no helm"))])
def test_what_the_chart_refuses_comes_as_one_line(program):
    helm = Helm.find({**os.environ, "HELM": program})
    assert helm.version().startswith("v")
    with pytest.raises(SettingsError) as error:
        helm.template("x", CHART, {"workflow": "no-such", "job": {"id": "x"}})
    told = str(error.value)
    assert told.startswith('helm: workflow: there is no workflow "no-such"; the chart defines: ')
    assert "\n" not in told


def test_a_helm_that_fails_without_a_word_is_told(tmp_path):
    program = tmp_path / "helm"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(SettingsError, match="helm: ended with an error and said nothing"):
        Helm.find({"HELM": str(program)}).version()


# Values


def test_a_workflow_as_values_is_the_same_workflow_again(tmp_path):
    shutil.copy(CHART / "values.yaml", tmp_path / "values.yaml")
    for identifier, workflow in load_workflows(CHART / "values.yaml").items():
        (tmp_path / "values.yaml").write_text(narrowed({"spread": False}, workflow))
        assert load_workflows(tmp_path / "values.yaml") == {identifier: workflow}


def test_a_graph_with_every_optional_key_is_the_same_again(tmp_path):
    blocks = {
        "b": {
            "gpu": True,
            "env": {"true": "no", "A": "1"},
            "resources": {"limits": {"memory": "2Gi"}},
            "timeout": 1.5,
            "command": ["x", "-y"],
        }
    }
    waits = {"b": ["a"], "c": ["a"], "d": ["b", "c"]}
    workflow = Study(tmp_path, {}).workflow(waits=waits, blocks=blocks, a="1", b="2", c="3", d="4")
    values = values_of(workflow)
    assert values["workflows"][workflow.id]["waitLocks"] == ["", "a.lock", "a.lock", ["b.lock", "c.lock"]]
    assert values["workflows"][workflow.id]["ioFolders"][3:] == [["b/output", "c/output"], "d/output"]
    document = parsed(tmp_path / "values.yaml", narrowed({}, workflow))
    assert check(document).findings == ()
    (tmp_path / "values.yaml").write_text(document.text)
    assert load_workflows(tmp_path / "values.yaml") == {workflow.id: workflow}
