"""What the engine makes of Pods that do not run, from states and events that a real cluster text.

`pod_states.json` holds them, cut to what matters; each Pod has one fault, text by its name.
"""

import json
import re
from pathlib import Path

import pytest

from clara_wf.definitions.workflow import Step
from clara_wf.engines.kubernetes.cluster import ClusterError, PodLostError
from clara_wf.engines.kubernetes.pod_startup import Startup, state_of
from clara_wf.engines.kubernetes.pod_state import why_ended
from clara_wf.engines.kubernetes.study_job import StartLimits
from stages.errors import OutputError, SettingsError, StageError, StageTimeoutError
from tests.clara_wf.engines.studies import stage_block

RECORDED = json.loads(Path(__file__).with_name("pod_states.json").read_text())
IMAGE = "the image clara/not-there:1 of a is not on node node. and cannot be pulled"


class Recorded:
    """A cluster as it was when one Pod was recorded, with a clock that is set by hand."""

    def __init__(self, name, nodes=()):
        self.pods, self.events = RECORDED[name]["pods"], RECORDED[name]["events"]
        self.ready, self.now = nodes, 0.0

    def event(self, kind, name, reason):
        return next((each["message"] for each in self.events if each["reason"] == reason), "")

    def nodes(self):
        return [
            {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
            for name in self.ready
        ]

    def job(self, name):
        return {"metadata": {}, "spec": {}, "status": {}}


def give_up(name, nodes=("node1", "node2"), limits=None):
    """Return how a Pod that stays as it was recorded is given up: the error, after how many seconds."""
    cluster = Recorded(name, nodes)
    startup = Startup(cluster, "job", limits or StartLimits(), clock=lambda: cluster.now)
    while cluster.now < 10_000:
        try:
            for pod in cluster.pods:
                startup.look(pod)
        except Exception as error:
            return error, cluster.now, startup.state.text
        cluster.now += 1
    return None


@pytest.mark.parametrize(
    ("name", "kind", "seconds", "words"),
    [
        ("never", SettingsError, 0, f"{IMAGE} .ErrImageNeverPull.; load it onto the nodes"),
        ("invalid", SettingsError, 0, "the image of a, 'clara/Not There:1', is no name of an image"),
        ("pull", ClusterError, 30, f"{IMAGE} .ErrImagePull: rpc error: .*no route to host.; load it"),
        ("registry-down", ClusterError, 30, "the image 192.0.2.1:1/x:1 .*connection refused"),
        (
            "secret",
            SettingsError,
            5,
            'of clara/stages:0.1.0 of a cannot be started: secret "no-such" not found',
        ),
        ("root", SettingsError, 5, "runAsUser breaks non-root policy"),
        ("mount", SettingsError, 26, "cannot have its storage: .*hostPath type check failed: /no/such"),
        ("noconfigmap", SettingsError, 26, 'cannot have its storage: .*configmap "no-such" not found'),
        ("outofcpu", PodLostError, 0, "node node1 ended its Pod .OutOfcpu: .*requested: 500000, used: 0"),
        ("memory", StageTimeoutError, 3601, "within 3600 s .*0/2 nodes are available: 2 Insufficient memory"),
        ("selector", StageTimeoutError, 3601, "2 node.s. didn't match Pod's node affinity"),
        (
            "gpu-none",
            StageTimeoutError,
            3601,
            "ask for 1 nvidia.com/gpu, and no node has more than 0; set gpu: f",
        ),
    ],
)
def test_a_pod_that_does_not_run_is_given_up_in_time_with_the_reason(name, kind, seconds, words):
    error, after, _ = give_up(name)
    assert type(error) is kind
    assert after == seconds
    assert re.search(words, str(error))
    assert "\n" not in str(error)


def test_a_pod_on_a_node_that_is_not_ready_is_lost():
    error, after, _ = give_up("mount", nodes=("node1",))
    assert (type(error), str(error), after) == (PodLostError, "its node node2 does not answer", 6)


def test_what_never_starts_is_tried_elsewhere_after_the_startup_limit():
    error, after, _ = give_up("mount", limits=StartLimits(startup_s=9))
    assert (type(error), after) == (PodLostError, 10)
    assert "did not start within 9 s (job.startupSeconds of the chart)" in str(error)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gpu-none", "waiting for a node: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu."),
        ("mount", "starting on node node2"),
        ("arm", ""),
    ],
)
def test_a_pod_tells_what_it_waits_for(name, text):
    assert state_of(Recorded(name).pods[-1]).text == text


def test_a_pod_that_the_cluster_does_not_make_yet_is_waited_for_with_its_reason():
    quota = "Error creating: pods is forbidden: exceeded quota: q, requested: pods=1, used: pods=2"
    assert state_of(None, refused=quota).text == f"waiting for a Pod: {quota}"


def test_where_events_cannot_be_seen_it_is_told_how_to_learn_why_there_is_no_pod():
    cluster = Recorded("arm")  # which has no events of its Job
    startup = Startup(cluster, "study-1", StartLimits(), clock=lambda: cluster.now)
    startup.look(None)
    assert startup.state.text == "waiting for a Pod: the cluster has made none yet"
    cluster.now = 5
    startup.look(None)
    assert startup.state.text.endswith("made none yet; `kubectl describe job study-1` says why")


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("oom", 1, "out of memory, limit 64Mi; raise resources.limits.memory of stage a in values.yaml"),
        ("oom-child", 1, "out of memory, limit 64Mi; raise"),
        ("noentry", 2, "its program cannot be started: .*/no/such/program: no such file or directory"),
        ("deadline", 4, "the deadline of its Pod, 2 s after its start, has passed"),
        ("evicted", 1, 'its Pod was evicted .Usage of EmptyDir volume "x" exceeds the limit "1Mi"'),
    ],
)
def test_the_end_of_a_stage_has_its_cause_and_code(name, code, words):
    limits = {"resources": {"limits": {"memory": "64Mi"}}}
    step = Step(name="a", block=stage_block("a", **limits), wait_locks=(), input_folders=(), arguments=())
    error = why_ended(Recorded(name).pods[-1], step)
    assert error.exit_code == code
    assert re.search(words, str(error))


def initial(name, state, **metadata):
    """Return a Pod whose first container has ended, as the API tells it."""
    status = {"name": name, "image": "clara/stages:1", "state": {"terminated": state}}
    return {
        "metadata": {"name": "x-1", "uid": "u", **metadata},
        "spec": {"nodeName": "node1", "containers": [{"name": "a"}]},
        "status": {"phase": "Failed", "initContainerStatuses": [status]},
    }


@pytest.mark.parametrize(
    ("pod", "kind", "code", "words"),
    [
        (
            initial("ready", {"exitCode": 3, "message": "the job has no input"}),
            StageError,
            3,
            "the job's folders could not be made ready: the job has no input",
        ),
        (
            initial("receiver", {"exitCode": 7, "message": "No space left on device"}),
            OutputError,
            7,
            "the payload did not get into the Pod: No space left on device",
        ),
        (
            initial("receiver", {"exitCode": 1, "message": "stopped by SIGTERM"}, deletionTimestamp="now"),
            PodLostError,
            1,
            "its Pod was deleted",
        ),
        (
            initial(
                "receiver",
                {
                    "exitCode": 4,
                    "message": "2026-11-26T22:23:21Z ERROR stages.pod.agent: nobody has sent it\n",
                },
            ),
            PodLostError,
            1,
            "its node node1 cut it off: nobody has sent it",
        ),
        (
            initial("receiver", {"exitCode": 137, "reason": "ContainerStatusUnknown"}),
            PodLostError,
            1,
            "its node node1 was lost or restarted",
        ),
    ],
)
def test_a_container_of_the_beginning_that_failed_is_told_from_a_pod_that_was_lost(pod, kind, code, words):
    with pytest.raises(StageError) as error:
        Startup(Recorded("mount"), "job", StartLimits()).look(pod)
    assert (type(error.value), error.value.exit_code, str(error.value)) == (kind, code, words)
