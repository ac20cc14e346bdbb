"""One Triton for all jobs: started when the first asks, and again when it has died."""

import os

import pytest

from dicom_adapter.jobs.shared_model_server import SharedModelServer
from tests.clara_wf.conftest import add_model, triton_cache  # noqa: F401 - fixtures

pytestmark = pytest.mark.triton


@pytest.fixture
def server(tmp_path, add_model, triton_cache):  # noqa: F811
    add_model(tmp_path / "models")
    made = SharedModelServer(tmp_path / "models", cache=triton_cache, log=tmp_path / "log")
    yield made
    made.close()


def test_everybody_gets_the_same_server_and_a_new_one_after_its_death(server):
    first = server.address()
    assert server.address() == first
    guard = server._server._guard
    os.kill(guard.pid, 9)
    guard.wait()
    second = server.address()
    assert server._server._guard.poll() is None
    assert second.startswith("127.0.0.1:")
