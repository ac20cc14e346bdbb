"""The kubernetes engine on a real cluster: small stages of the toolkit's own image, and the whole road."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from clara_wf.engines.engine import JobRun
from clara_wf.engines.kubernetes.cluster import Cluster
from clara_wf.engines.kubernetes.engine import KubernetesEngine
from clara_wf.engines.process import ProcessEngine
from clara_wf.payload import steps_to_run
from stages.errors import SettingsError, StageError, StageTimeoutError
from tests.clara_wf.engines.studies import COPY, ROOT, Study, states, when
from tests.cluster import engine_environ

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    """Return the environment of a namespace on a cluster whose nodes have the toolkit's image."""
    folder = tmp_path_factory.mktemp("first")
    with engine_environ(folder) as environ:
        try:
            outcome = Study(folder, environ).run(a="true")
        except StageError as error:
            pytest.skip(f"the cluster cannot run the images of the stages: {error}")
        assert outcome.exit_code == 0, outcome.statuses
        yield environ


@pytest.fixture(scope="module")
def cluster(environ):
    with Cluster.connect(environ) as cluster:
        yield cluster


@pytest.fixture
def study(tmp_path, environ):
    return Study(tmp_path, environ)


def pods_of(cluster):
    return [pod for pod in cluster.pods({}) if "job-name" in pod["metadata"]["labels"]]


# What works


def test_each_stage_reads_what_the_one_before_wrote_and_all_of_it_comes_back(study):
    (study.source / "with blank").write_text("x\n")
    publishes = "; echo picture >/publish/picture.txt; mkdir /app/output/deep; echo 1 >/app/output/deep/one"
    outcome = study.run(a=COPY.format("a"), b=COPY.format("b") + publishes)
    assert (outcome.exit_code, outcome.engine) == (0, "kubernetes")
    assert study.result("b") == "0ab\n"
    assert study.result("b", "with blank") == "xab\n"
    assert study.result("b", "deep/one") == "1\n"
    assert (study.payload.publish_dir / "b/picture.txt").read_text() == "picture\n"
    assert "done in" in study.payload.log("b").read_text()
    assert set(outcome.images) == {"a", "b"}
    assert all("@sha256:" in image for image in outcome.images.values())
    assert steps_to_run(study.payload, study.workflow(a=COPY.format("a")), fresh=False) == {}


def test_arguments_arrive_as_they_are_written(study):
    arguments = ("-p", "foo bar", "$HOME $(HOME) $$", "'\"{{ x }}", "", "ü\n")
    outcome = study.run(a='printf "%s|" "$@" >/app/output/file', arguments=arguments)
    assert outcome.exit_code == 0
    assert study.result("a") == "".join(f"{each}|" for each in arguments)


def test_a_stage_gets_its_settings_and_may_write_only_what_is_its_own(study):
    script = """
        cd /app/output
        env | grep ^NVIDIA_CLARA_ | sort >settings
        for f in /app/input /app/source /etc /app; do touch $f/x 2>/dev/null && echo $f; done >written
        id -u >user; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status >rights
        ls /var/run/secrets/kubernetes.io 2>&1 >/dev/null || echo none >account
        """
    blocks = {"a": {"env": {"COLOUR": "red"}}}
    outcome = study.run(a=textwrap.dedent(script) + "echo $COLOUR >colour", blocks=blocks)
    assert outcome.exit_code == 0
    told = dict(line.split("=", 1) for line in study.result("a", "settings").splitlines())
    assert told["NVIDIA_CLARA_JOBID"] == "job"
    assert told["NVIDIA_CLARA_STAGENAME"] == "a"
    assert told["NVIDIA_CLARA_INPUT"] == "/app/input"
    assert told["NVIDIA_CLARA_WAITLOCKS"] == "input.lock"
    assert told["NVIDIA_CLARA_TIMEOUT"] == "60"
    assert study.result("a", "written") == ""
    assert study.result("a", "user").strip() == str(os.getuid() or 10001)
    rights = dict(line.split(":") for line in study.result("a", "rights").splitlines())
    assert int(rights["CapEff"], 16) == 0
    assert rights["NoNewPrivs"].strip() == "1"
    assert study.result("a", "account") == "none\n"
    assert study.result("a", "colour") == "red\n"


def test_branches_of_a_graph_meet_and_each_input_has_its_folder(study):
    waits = {"b": ["a"], "c": ["a"], "d": ["b", "c"]}
    outcome = study.run(
        a=COPY.format("a"),
        b=COPY.format("b"),
        c=COPY.format("c"),
        d="cat /app/input/file /app/input-2/file >/app/output/file",
        waits=waits,
    )
    assert outcome.exit_code == 0
    assert study.result("d") == "0ab\n0ac\n"


def test_six_studies_three_at_a_time_share_the_nodes(tmp_path, environ, cluster):
    studies = [Study(tmp_path, environ, job=f"job-{n}") for n in range(6)]
    nodes, most, ended = set(), 0, threading.Event()

    def look():
        nonlocal most
        while not ended.wait(0.2):
            pods = [pod for pod in pods_of(cluster) if pod["status"]["phase"] == "Running"]
            nodes.update(pod["spec"]["nodeName"] for pod in pods)
            most = max(most, len([p for p in pods if not p["metadata"].get("deletionTimestamp")]))

    watcher = threading.Thread(target=look)
    watcher.start()
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(
            pool.map(lambda s: s.run(a=COPY.format("a"), b="sleep 2;" + COPY.format("b")), studies)
        )
    ended.set()
    watcher.join()
    assert [outcome.exit_code for outcome in outcomes] == [0] * 6
    assert [study.result("b") for study in studies] == ["0ab\n"] * 6
    assert most <= 3
    assert len(nodes) == min(2, len(cluster.nodes()))


def test_where_the_nodes_see_the_payloads_nothing_travels(study, tmp_path):
    study.environ = {**study.environ, "CLARA_PAYLOAD_HOSTPATH": str(tmp_path)}
    try:
        outcome = study.run(a=COPY.format("a"), b=COPY.format("b"))
    except SettingsError as error:
        pytest.skip(f"the nodes do not see this machine's folders: {error}")
    assert outcome.exit_code == 0
    assert study.result("b") == "0ab\n"
    assert states(study.run(a=COPY.format("a"), b="exit 5")) == [("a", "kept"), ("b", "failed")]


# What fails ends as it does with processes

DRIVER = "read -r _ _ _ driver _ < /proc/$PPID/stat"  # above the process that waits for all children


@pytest.mark.parametrize(
    ("script", "timeout_s", "code", "message"),
    [
        ("echo oh >&2; exit 7", None, 1, "sh ended with exit code 7"),
        ("sleep 100", 1, 4, "the work took longer than the stage's timeout of 1 s"),
        (f"{DRIVER}; kill -9 $driver", None, 1, "b was ended by SIGKILL before it could say why"),
    ],
    ids=["fails", "hangs", "its container is killed"],
)
def test_a_stage_that_fails_ends_the_same_way_as_a_process_and_resumes(
    tmp_path, environ, script, timeout_s, code, message
):
    def run(engine, folder):
        folder.mkdir()
        study = Study(folder, environ)
        outcome = study.run(engine=engine, timeout_s=timeout_s, a="true", b=script, c="true")
        failure = json.loads((study.payload.lock_dir / "b.failed").read_text())
        kept = ("stage", "error", "exit_code", "message", "retryable", "root_stage", "root_message")
        return study, outcome, {key: failure[key] for key in kept}

    study, outcome, failure = run(KubernetesEngine(), tmp_path / "cluster")
    assert (outcome.exit_code, outcome.culprit.name, outcome.culprit.message) == (code, "b", message)
    assert states(outcome) == [("a", "done"), ("b", "failed"), ("c", "failed")]
    _, same, same_failure = run(ProcessEngine(), tmp_path / "process")
    assert (same.exit_code, same.culprit.message, failure) == (code, message, same_failure)
    if failure["retryable"]:
        again = study.run(a="true", b="true", c="true")
        assert states(again) == [("a", "kept"), ("b", "done"), ("c", "done")]


def test_a_stage_that_heeds_nothing_is_ended(study):
    outcome = study.run(timeout_s=1, a=f"{DRIVER}; kill -STOP $driver; sleep 100")
    assert outcome.exit_code == 4
    assert outcome.culprit.message == "a was ended by SIGKILL before it could say why"


def test_a_stage_out_of_memory_names_its_limit(study):
    blocks = {"a": {"resources": {"limits": {"memory": "96Mi"}}}}
    outcome = study.run(a=f'python -c "x = bytearray(10**9)"; {DRIVER}; kill -9 $driver', blocks=blocks)
    assert outcome.exit_code == 1
    assert outcome.culprit.message.startswith(
        "a was killed: out of memory, limit 96Mi; raise resources.limits"
    )


def test_a_pod_that_is_deleted_is_told_and_the_next_run_goes_on(study, cluster):
    def delete():
        (pod,) = [p for p in pods_of(cluster) if not p["metadata"].get("deletionTimestamp")]
        cluster.delete_pod(pod["metadata"]["name"], grace_s=15)

    outcome = study.run(a="true", b="sleep 60", on_progress=when("b", "working", delete))
    assert (outcome.exit_code, outcome.culprit.name) == (1, "b")
    assert outcome.culprit.message in (
        "stopped by SIGTERM (its Pod was deleted)",
        "b was killed: its Pod was deleted",
    )
    assert states(study.run(a="true", b="true")) == [("a", "kept"), ("b", "done")]


# What cannot run says so in one line


def test_an_image_that_is_nowhere_is_named(study, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text("image: {pullPolicy: Never}")
    study.environ = {**study.environ, "CLARA_CHART_VALUES": f"{study.environ['CLARA_CHART_VALUES']}:{values}"}
    blocks = {"a": {"image": {"repository": "clara/not-there", "tag": "1"}}}
    with pytest.raises(
        SettingsError, match=r"the image clara/not-there:1 of a is not on node .* cannot be pulled"
    ):
        study.run(a="true", blocks=blocks)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        (
            "CLARA_PAYLOAD_CLAIM",
            "no-such-claim",
            r'"no-such-claim" not found.*; name a claim of the namespace',
        ),
        ("CLARA_PAYLOAD_HOSTPATH", "/no/such/folder", "the Pod of the study cannot have its storage: "),
    ],
)
def test_storage_that_is_not_there_is_named(study, monkeypatch, variable, value, words):
    monkeypatch.setattr("clara_wf.engines.kubernetes.pod_startup._MOUNT_S", 0.0)
    study.environ = {**study.environ, variable: value}
    with pytest.raises(SettingsError, match=words):
        study.run(a="true")


def test_a_gpu_that_no_node_has_is_waited_for_in_vain_and_named(study, tmp_path):
    study.environ = with_values(study, tmp_path, job={"schedulingSeconds": 3})
    told = set()
    with pytest.raises(StageTimeoutError, match=r"ask for 64 nvidia.com/gpu, and no node has more than"):
        study.run(
            a="true",
            blocks={"a": {"resources": {"limits": {"nvidia.com/gpu": 64}}}},
            on_progress=lambda statuses: told.add((statuses[0].state, study.payload.pending)),
        )
    assert any(state == "pending" and "Insufficient nvidia.com/gpu" in why for state, why in told)
    assert study.payload.pending == ""


def test_studies_that_queue_for_the_only_gpu_wait_without_their_timeout_and_then_run(
    tmp_path, environ, one_gpu
):
    """Each works for 5 s and may take 9; the second waits at least as long as the first works."""
    studies = [Study(tmp_path, environ, job=f"gpu-{n}") for n in range(2)]
    waited = set()

    def run(study):
        def on_progress(statuses):
            if "Insufficient nvidia.com/gpu" in statuses[0].message:
                waited.add(study)

        gpu = {"a": {"gpu": True, "resources": {"limits": {"cpu": 1}, "requests": {"cpu": 0.1}}}}
        return study.run(
            a="sleep 5; hostname >/app/output/file", blocks=gpu, timeout_s=9, on_progress=on_progress
        )

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(run, studies))
    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    assert len(waited) == 1


@pytest.fixture
def one_gpu(cluster):
    """Have a node of the cluster claim a GPU; skip where there are real ones, or the right is missing."""
    from kubernetes.client import CoreV1Api
    from kubernetes.client.exceptions import ApiException

    api, path = CoreV1Api(cluster.client), "/status/capacity/nvidia.com~1gpu"
    nodes = cluster.nodes() or []
    if not nodes or any("nvidia.com/gpu" in node["status"]["allocatable"] for node in nodes):
        pytest.skip("no node can be made to claim the cluster's only GPU")
    name = nodes[-1]["metadata"]["name"]
    try:
        api.patch_node_status(name, [{"op": "add", "path": path, "value": "1"}])
    except ApiException as error:
        pytest.skip(f"a node cannot be made to claim a GPU: {error.reason}")
    until(lambda: any("nvidia.com/gpu" in node["status"]["allocatable"] for node in cluster.nodes()))
    yield name
    api.patch_node_status(name, [{"op": "remove", "path": path}])


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


def with_values(study, folder, **values):
    """Return the environment of a study with further values of the chart."""
    file = folder / "more-values.yaml"
    file.write_text(json.dumps(values))
    return {**study.environ, "CLARA_CHART_VALUES": f"{study.environ['CLARA_CHART_VALUES']}:{file}"}


FAULTS = {
    "no node": (
        {"nodeSelector": {"no": "such"}, "job": {"schedulingSeconds": 3}},
        {},
        "StageTimeoutError: .*0/[0-9]+ nodes are available: .*affinity",
    ),
    "too little memory": (
        {"carrier": {"resources": {"limits": {"memory": "6Mi"}, "requests": {"memory": "1Mi"}}}},
        {},
        "OutputError: the payload did not get into the Pod: out of memory, limit 6Mi; raise carrier",
    ),
    "its deadline while it waits": (
        {"nodeSelector": {"no": "such"}, "job": {"activeDeadlineSeconds": 2}},
        {},
        "StageTimeoutError: .*before its stages began: the deadline of its Job, 2 s, has passed",
    ),
    "its deadline while it works": (
        {"job": {"activeDeadlineSeconds": 20}},
        {"a": "true", "b": "sleep 100"},
        r"(exit 4 of b|StageTimeoutError): .*the deadline of its Job, 20 s, has passed",
    ),
    "a child out of memory": (
        {},
        {
            "a": 'python -c "x = bytearray(10**9)"',
            "blocks": {"a": {"resources": {"limits": {"memory": "96Mi"}}}},
        },
        r"exit 1 of a: .*out of memory, limit 96Mi; raise resources.limits.memory of stage a",
    ),
    "a value of the wrong kind": (
        {"tolerations": [{"key": "x", "tolerationSeconds": "thirty"}]},
        {},
        "SettingsError: cannot create a Job: spec.template.spec.tolerations.0.tolerationSeconds: ",
    ),
}


def test_what_goes_wrong_on_the_cluster_is_told_in_one_line(tmp_path, environ):
    """All at once, since most of it is waiting."""

    def told(name):
        values, wiring, _ = FAULTS[name]
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        study = Study(folder, environ)
        study.environ = with_values(study, folder, **values)
        try:
            outcome = study.run(**(wiring or {"a": "true"}))
        except StageError as error:
            return f"{type(error).__name__}: {error}"
        return f"exit {outcome.exit_code} of {outcome.culprit.name}: {outcome.culprit.message}"

    with ThreadPoolExecutor(len(FAULTS)) as pool:
        found = dict(zip(FAULTS, pool.map(told, FAULTS), strict=True))
    wrong = {name: line for name, line in found.items() if not re.match(FAULTS[name][2] + r"[^\n]*$", line)}
    assert wrong == {}


def test_a_pod_that_is_lost_before_its_stages_begin_is_replaced(study, cluster):
    """The first Pod is deleted while the payload travels; the next one has another name."""
    (study.source / "large").write_bytes(bytes(64 << 20))
    names = []

    def delete(statuses):
        if "payload is on its way" in statuses[0].message and not names:
            (pod,) = [p for p in pods_of(cluster) if not p["metadata"].get("deletionTimestamp")]
            names.append(pod["metadata"]["name"])
            cluster.delete_pod(names[0], grace_s=1)

    outcome = study.run(a="wc -c </app/input/large >/app/output/file", on_progress=delete)
    assert (outcome.exit_code, study.result("a").strip(), len(names)) == (0, str(64 << 20), 1)


def test_a_server_on_this_machine_is_refused(study, environ):
    workflow = study.workflow(a="true")
    run = JobRun(
        workflow=workflow,
        payload=study.payload,
        to_run={"a": ""},
        triton_url="localhost:8001",
        timeout_s=None,
        environ=environ,
    )
    with (
        pytest.raises(SettingsError, match="cannot reach the model server at localhost:8001"),
        KubernetesEngine().start(run),
    ):
        pass


# Whoever runs it goes away


RUNS = """
import sys
from pathlib import Path
from tests.clara_wf.engines.studies import Study
import os
folder = Path(sys.argv[1])
study = Study.__new__(Study)
study.environ, study.source = dict(os.environ), folder / "job-source"
from clara_wf.payload import Payload
study.payload = Payload(root=folder / "job", job_id="job")
from clara_wf.cli import _stop
import signal
signal.signal(signal.SIGINT, _stop); signal.signal(signal.SIGTERM, _stop)
study.run(a="true", b="sleep 60")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_on_the_cluster_when_clara_wf_is_stopped(study, environ, cluster, number):
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS, str(study.source.parent)],
        env={**environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while not (study.payload.lock_dir / "b.running").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(number)
    clock = time.monotonic()
    process.wait(30)
    assert time.monotonic() - clock < 15
    while [pod for pod in pods_of(cluster) if pod["status"]["phase"] in ("Pending", "Running")]:
        assert time.monotonic() - clock < 45, "the Pod outlives its lease"
        time.sleep(0.3)
    assert (cluster.jobs({}) == []) == (number != signal.SIGKILL)
    assert states(study.run(a="true", b="true")) == [("a", "kept"), ("b", "done")]
    assert cluster.jobs({}) == []
