"""What the engine makes of a Pod's state: states as the API tells them, cut to what matters."""

import pytest

from clara_wf.engines.pod_state import (
    exit_codes,
    images_of,
    init_problem,
    is_cut_off,
    is_running,
    missing_gpus,
    refusal,
    why_ended,
    why_unschedulable,
)
from clara_wf.workflow import Step
from tests.clara_wf.studies import stage_block


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


def test_an_init_container_that_failed_tells_its_last_words():
    assert init_problem(pod(init=ended(4, message="INFO x\nnobody has sent the payload\n")), "receiver") == (
        "nobody has sent the payload"
    )
    assert init_problem(pod(init=ended(1)), "receiver") == "exit code 1"
    assert init_problem(pod(init=ended(0)), "receiver") == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (pod(ended(137, "OOMKilled")), "out of memory"),
        (pod(ended(137)), ""),
        (pod(ended(137, "ContainerStatusUnknown")), "its node was lost or restarted"),
        (
            pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."),
            "its Pod was evicted (The node was low on resource: memory.)",
        ),
        (pod(reason="NodeLost"), "its node node1 was lost"),
        (pod(reason="DeadlineExceeded"), "the deadline of its Job has passed"),
    ],
)
def test_why_a_stage_was_ended(found, words):
    assert why_ended(found, step()) == words


def test_out_of_memory_names_the_limit_and_where_to_raise_it():
    assert why_ended(pod(ended(137, "OOMKilled")), step(resources={"limits": {"memory": "2Gi"}})) == (
        "out of memory, limit 2Gi; raise resources.limits.memory of stage a in values.yaml"
    )


@pytest.mark.parametrize("reason", ["ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_had_is_named_with_its_node(reason):
    error = refusal(pod({"waiting": {"reason": reason}}))
    assert f"the image clara/a:1 of a is not on node node1 and cannot be pulled ({reason}); load it" in str(
        error
    )


def test_a_container_that_cannot_start_tells_why():
    error = refusal(
        pod({"waiting": {"reason": "CreateContainerConfigError", "message": "secret x not found"}})
    )
    assert str(error) == "the container of clara/a:1 of a cannot be started: secret x not found"


def test_a_first_failed_pull_is_not_the_end():
    assert refusal(pod({"waiting": {"reason": "ErrImagePull"}})) is None
    assert refusal(pod({"waiting": {"reason": "ContainerCreating"}})) is None


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
