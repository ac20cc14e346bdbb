"""What the engine makes of a Pod's state: states as the API tells them, cut to what matters."""

import pytest

from clara_wf.definitions.workflow import Step
from clara_wf.engines.kubernetes.pod_state import (
    exit_codes,
    images_of,
    is_cut_off,
    is_running,
    missing_gpus,
    why_container_failed,
    why_ended,
    why_job_ended,
    why_unschedulable,
)
from tests.clara_wf.engines.studies import stage_block


def step(**block):
    return Step(name="a", block=stage_block("a", **block), wait_locks=(), input_folders=(), arguments=())


def pod(state=None, *, init=None, phase="Running", spec=None, **status):
    def told(name, state):
        return [{"name": name, "image": f"clara/{name}:1", "imageID": "", "state": state}] if state else []

    return {
        "metadata": {"name": "x-1", "uid": "u"},
        "spec": {"nodeName": "node1", "containers": [], **(spec or {})},
        "status": {
            "phase": phase,
            "containerStatuses": told("a", state),
            "initContainerStatuses": told("receiver", init),
            **status,
        },
    }


def ended(code, reason="Error", message=""):
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("code", "expected"), [(0, 0), (3, 3), (128, 128), (137, -9), (143, -15), (134, -6), (255, 255)]
)
def test_a_code_above_128_is_a_signal(code, expected):
    assert exit_codes(pod(ended(code))) == {"a": expected}


def test_what_runs_or_waits_has_no_code():
    assert exit_codes(pod({"running": {}})) == {}
    assert exit_codes(pod({"waiting": {"reason": "PodInitializing"}})) == {}
    assert is_running(pod({"running": {}}), "a")
    assert is_running(pod(init={"running": {}}), "receiver")
    assert not is_running(pod({"waiting": {}}), "a")


def test_a_container_of_the_toolkit_that_failed_tells_its_last_words_and_its_code():
    failed = pod(init=ended(4, message="INFO x\nnobody has sent the payload\n"))
    error = why_container_failed(failed, "receiver")
    assert (str(error), error.exit_code) == ("nobody has sent the payload", 4)
    assert str(why_container_failed(pod(init=ended(1)), "receiver")) == "exit code 1"
    assert why_container_failed(pod(init=ended(0)), "receiver") is None


def test_a_container_of_the_toolkit_that_was_out_of_memory_names_its_limit():
    limits = [{"name": "receiver", "resources": {"limits": {"memory": "6Mi"}}}]
    failed = pod(init=ended(137, "OOMKilled"), spec={"initContainers": limits})
    error = why_container_failed(failed, "receiver")
    assert (str(error), error.exit_code) == (
        "out of memory, limit 6Mi; raise carrier.resources.limits.memory in values.yaml",
        1,
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (pod(ended(137, "OOMKilled")), "out of memory"),
        (pod(ended(137, "ContainerStatusUnknown")), "its node was lost or restarted"),
        (
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            "its Pod was evicted (The node was low on resource: memory.)",
        ),
        (pod(reason="NodeLost"), "its node node1 was lost"),
        (
            pod(
                ended(1), conditions=[{"type": "DisruptionTarget", "status": "True", "message": "preempted"}]
            ),
            "its Pod was removed (preempted)",
        ),
    ],
)
def test_why_a_stage_was_ended(found, words):
    assert str(why_ended(found, step())) == words


def test_of_what_ended_by_itself_the_cluster_knows_nothing():
    assert why_ended(pod(ended(137)), step()) is None


def test_a_job_says_why_its_pod_is_gone():
    deadline = [{"type": "Failed", "reason": "DeadlineExceeded"}]
    job = {"metadata": {}, "spec": {"activeDeadlineSeconds": 12}, "status": {"conditions": deadline}}
    error = why_job_ended(job)
    assert (str(error), error.exit_code) == ("the deadline of its Job, 12 s, has passed", 4)
    assert str(why_job_ended(None)) == "its Job was deleted"
    assert why_job_ended({**job, "status": {}}) is None


def test_out_of_memory_names_the_limit_and_where_to_raise_it():
    assert str(why_ended(pod(ended(137, "OOMKilled")), step(resources={"limits": {"memory": "2Gi"}}))) == (
        "out of memory, limit 2Gi; raise resources.limits.memory of stage a in values.yaml"
    )


def test_a_digest_goes_with_the_image_whatever_the_runtime_calls_it():
    for told in (
        "docker://sha256:ab",
        "docker-pullable://clara/a@sha256:ab",
        "host/clara/a@sha256:ab",
        "sha256:ab",
    ):
        found = pod({"running": {}})
        found["status"]["containerStatuses"][0]["imageID"] = told
        assert images_of(found) == {"a": "clara/a:1@sha256:ab"}


def test_a_pod_that_no_node_takes_tells_why():
    condition = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}
    assert why_unschedulable(pod(conditions=[condition])) == "0/2 nodes are available"
    assert why_unschedulable(pod(conditions=[{"type": "PodScheduled", "status": "True"}])) == ""


def node(name="node1", gpus=None, ready="True"):
    allocatable = {"cpu": "2"} | ({"nvidia.com/gpu": gpus} if gpus else {})
    conditions = [{"type": "Ready", "status": ready}]
    return {"metadata": {"name": name}, "status": {"allocatable": allocatable, "conditions": conditions}}


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node()], "the study's stages ask for 2 nvidia.com/gpu, and no node has more than 0"),
        ([node(gpus="1"), node(gpus="1")], "and no node has more than 1"),
        ([node(), node(gpus="2")], ""),
    ],
)
def test_gpus_that_no_node_has_are_told(nodes, words):
    wants = [{"name": name, "resources": {"limits": {"nvidia.com/gpu": 1}}} for name in "ab"]
    found = missing_gpus(pod(spec={"containers": wants}), nodes)
    assert found.endswith(words)
    assert bool(found) == bool(words)


def test_a_pod_is_cut_off_when_its_node_does_not_answer():
    assert not is_cut_off(pod({"running": {}}), [node()])
    assert is_cut_off(pod({"running": {}}), [node(ready="Unknown")])
    assert is_cut_off(pod({"running": {}}), [node("other")])


def test_without_the_right_to_see_nodes_the_pod_itself_tells():
    not_ready = [{"type": "Ready", "status": "False"}]
    assert is_cut_off(pod({"running": {}}, conditions=not_ready), None)
    assert not is_cut_off(pod({"running": {}}, conditions=[{"type": "Ready", "status": "True"}]), None)
    assert not is_cut_off(pod(ended(1), conditions=not_ready), None)
