"""What the engine makes of a carrier, which a stream of bytes stands for."""

import io
import json
from types import SimpleNamespace

import pytest

from clara_wf.engines.kubernetes.pod_client import CARRIER, PodClient
from clara_wf.engines.kubernetes.pod_startup import RECEIVER
from stages.errors import SettingsError
from stages.pod.messages import HELLO, read_header, write_message
from tests.clara_wf.engines.studies import Study


class Connection:
    """A program in a Pod that has written some messages and reads what it gets."""

    def __init__(self, *messages):
        out = io.BytesIO()
        for message in messages:
            write_message(out.write, message)
        self.read, self.got = io.BytesIO(out.getvalue()).read, io.BytesIO()
        self.write = self.got.write

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        pass

    def said(self):
        return ""


@pytest.fixture
def client_with(tmp_path):
    """Return a function that runs the engine's side against a program of a container, and what came of it."""

    def run(container, *messages):
        study = Study(tmp_path, {})
        workflow = study.workflow(a="true")
        study.payload.make_folders(workflow)
        job = SimpleNamespace(workflow=workflow, payload=study.payload, to_run={"a": ""})
        running = [{"name": container, "state": {"running": {}}}]
        pod = {"metadata": {"name": "pod"}, "spec": {}, "status": {"containerStatuses": running}}
        connection, failures = Connection(*messages), []
        client = PodClient(
            SimpleNamespace(run_in=lambda *program: connection),
            job,
            lambda: pod,
            carries_payload=container == RECEIVER,
            models=None,
            fail=lambda error: (failures.append(error), client.end()),
        )
        client.run()
        return connection, failures

    return run


@pytest.mark.parametrize("container", [RECEIVER, CARRIER])
@pytest.mark.parametrize("first", [{"protocol": 2}, {"beat": 1}])
def test_a_carrier_of_another_version_is_refused(client_with, container, first):
    connection, (failure,) = client_with(container, first)
    assert isinstance(failure, SettingsError)
    assert "the carrier of the Pod speaks" in str(failure)
    assert connection.got.getvalue().count(b"protocol") == 1  # it got nothing else
    assert b"input.lock" not in connection.got.getvalue()


def test_the_engine_says_its_version_before_it_sends(client_with):
    sent = client_with(RECEIVER, {"protocol": 2})[0].got
    sent.seek(0)
    assert read_header(sent.read) == HELLO


def test_the_engine_says_its_version_before_its_orders(client_with):
    orders = client_with(CARRIER, {"protocol": 2})[0].got
    assert json.loads(orders.getvalue().splitlines()[0]) == HELLO
