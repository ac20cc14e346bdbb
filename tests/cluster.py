"""A Kubernetes cluster for tests: the one KUBECONFIG names, with a namespace of the session's own."""

import json
import os
import secrets
import shutil
import time
from contextlib import contextmanager

import pytest

from clara_wf.engines.kubernetes.cluster import Cluster
from stages.errors import StageError

TAG = os.environ.get("CLARA_TEST_TAG", "0.1.0")


def helms():
    """Return the Helm programs there are: HELM3 and HELM4 if they are named, else HELM or the one on PATH."""
    named = [os.environ[key] for key in ("HELM3", "HELM4") if os.environ.get(key)]
    found = named or [shutil.which(os.environ.get("HELM") or "helm")]
    return [program for program in found if program]


def skip_without_helm():
    """Skip the test where there is no Helm."""
    if not helms():
        pytest.skip("no helm: neither HELM, HELM3, HELM4 nor PATH has one")


@contextmanager
def own_namespace():
    """Give the environment for a namespace that is made now and removed afterwards, or skip."""
    pytest.importorskip("kubernetes", reason="the Kubernetes client is not installed")
    skip_without_helm()
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: KUBECONFIG is not set")
    name = f"clara-test-{secrets.token_hex(3)}"
    environ = {**os.environ, "HELM": helms()[0], "CLARA_NAMESPACE": name}
    with Cluster.connect(environ) as cluster:
        try:
            cluster.version()
        except StageError as error:
            pytest.skip(str(error))
        from kubernetes.client import CoreV1Api

        api = CoreV1Api(cluster.client)
        api.create_namespace({"metadata": {"name": name}})
        try:
            _until_usable(api, name)
            yield environ
        finally:
            api.delete_namespace(name)


@contextmanager
def engine_environ(folder):
    """Give the environment in which the engine runs the images under test in a namespace of its own."""
    values = folder / "cluster-values.yaml"
    values.write_text(
        json.dumps(
            {
                "carrier": {"image": {"tag": TAG}, "leaseSeconds": 6},
                "modelServer": {"embedded": {"image": {"tag": "0.1.0"}}},
            }
        )
    )
    with own_namespace() as environ:
        yield {**environ, "CLARA_CHART_VALUES": str(values)}


def _until_usable(api, namespace):
    """Wait for the service account without which no Pod is admitted."""
    end = time.monotonic() + 30
    while not any(
        each.metadata.name == "default" for each in api.list_namespaced_service_account(namespace).items
    ):
        assert time.monotonic() < end
        time.sleep(0.1)
