"""The adapter as the chart deploys it: a study from this machine, a Job of the cluster, results back here."""

import json
import secrets
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from clara_wf.engines.kubernetes.cluster import Cluster
from tests.charts.test_on_cluster import _run_as_root, until
from tests.cluster import TAG, own_namespace
from tests.dicom_adapter.destinations import program, wait_until
from tests.dicom_adapter.offline_adapter import destination
from tests.phantoms import ct_slices, save

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(280),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl"),  # the client leaves its sockets open
]

ROOT = Path(__file__).parents[2]
READER_WRITER = "8371285c-8ea8-41cd-958e-44e5664c6ec3"
PORT, HTTP = 11112, 8080
TOKEN = "t" * 20
PUBLISH = f"python -m clara_wf publish {READER_WRITER} Copy /clara-io/clara-core/workflows --json"


@pytest.fixture(scope="module")
def environ():
    with own_namespace() as environ:
        yield environ


@pytest.fixture(scope="module")
def cluster(environ):
    from kubernetes.client import CoreV1Api

    with Cluster.connect(environ) as cluster:
        token = {"metadata": {"name": "adapter-token"}, "stringData": {"token": TOKEN}}
        CoreV1Api(cluster.client).create_namespaced_secret(environ["CLARA_NAMESPACE"], token)
        yield cluster


@pytest.fixture
def root(cluster):
    """Return the folder of one node that the platform works in, with its parts given to the adapter."""
    node = cluster.nodes()[0]["metadata"]["name"]
    path = f"/tmp/clara-test-{secrets.token_hex(3)}"
    made = "mkdir -p /data/clara-core/payloads /data/clara-core/workflows && chown -R 10001:10001 /data"
    _run_as_root(cluster, node, path, made)
    yield path
    _run_as_root(cluster, node, path, "rm -rf /data/*")


def own_address(cluster):
    """Return the address of this machine as the cluster's Pods see it."""
    host, _, port = cluster.host.partition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.connect((host, int(port or 443)))
        return wire.getsockname()[0]


def values_of(root, archive, address):
    pacs = {**destination("PACS", archive.port, archive.ae_title), "host-ip": address}
    config = {
        "dicom": {
            "scp": {
                "port": PORT,
                "ae-titles": [{"ae-title": "COPY", "quiet-seconds": 1}],
                "reject-unknown-sources": False,
            },
            "scu": {"ae-title": "CLARA", "destinations": [pacs]},
        },
        "workflows": [
            {
                "name": "copy",
                "clara-ae-title": "COPY",
                "destination-name": "PACS",
                "workflow": READER_WRITER,
            }
        ],
        "storage": {"minimum-free": "10M"},
        "jobs": {"engine": "kubernetes", "model-server": "none"},
        "http": {"host": "0.0.0.0", "port": HTTP, "token-file": "/run/clara/token"},
    }
    return {
        "storage": {"type": "hostPath", "root": root},
        "triton": {"enabled": False},
        "adapter": {
            "enabled": True,
            "image": {"tag": TAG},
            "config": config,
            "tokenSecret": "adapter-token",
            "service": {"dicom": PORT, "http": HTTP},
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        },
    }


class Platform:
    """The chart, installed with an adapter."""

    def __init__(self, environ, cluster, values, folder):
        self.environ, self.cluster = environ, cluster
        file = folder / "values.json"
        file.write_text(json.dumps(values))
        self.helm("install", "p", ROOT / "clara-platform", "--values", file)

    def helm(self, *arguments):
        return self._run(self.environ["HELM"], *arguments, "--namespace", self.environ["CLARA_NAMESPACE"])

    def in_adapter(self, command):
        """Run a command in the adapter's container, and return what it printed."""
        with self.cluster.run_in(self.pod()["metadata"]["name"], "adapter", command.split()) as program:
            printed = b""
            while piece := program.read(1):
                printed += piece
            assert program.problem() == ""
            return printed.decode()

    def _run(self, *command):
        done = subprocess.run(list(map(str, command)), env=self.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pod(self):
        (pod,) = self.cluster.pods({"app.kubernetes.io/component": "adapter"})
        return pod

    def is_ready(self):
        found = self.cluster.pods({"app.kubernetes.io/component": "adapter"})
        return any(each["ready"] for pod in found for each in pod["status"].get("containerStatuses", []))

    def address(self):
        from kubernetes.client import CoreV1Api

        service = CoreV1Api(self.cluster.client).read_namespaced_service(
            "p-adapter", self.environ["CLARA_NAMESPACE"]
        )
        return service.spec.cluster_ip

    def send(self, folder):
        to = ["-aec", "COPY", self.address(), str(PORT)]
        until(lambda: subprocess.run(["echoscu", *to], capture_output=True).returncode == 0)
        done = subprocess.run(
            [program("storescu"), "+sd", "+r", *to, str(folder)], capture_output=True, text=True
        )
        assert done.returncode == 0, f"{done.stderr}\n{self.log()}"

    def jobs(self):
        """Return the Jobs of the cluster, once there is one."""
        try:
            return wait_until(
                lambda: self.cluster.jobs({"app.kubernetes.io/component": "study"}),
                timeout_s=90,
                what="the Job",
            )
        except AssertionError:
            pytest.fail(f"no Job was made:\n{self.log()}")

    def log(self):
        return self.cluster.container_log(self.pod()["metadata"]["name"], "adapter")

    def get(self, path, token=None):
        """Return what HTTP gives; the way to a Pod that is ready is open a moment later."""
        request = urllib.request.Request(f"http://{self.address()}:{HTTP}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")

        def answer():
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.read().decode()
            except urllib.error.HTTPError:
                raise
            except OSError:
                return None

        return wait_until(answer, timeout_s=60, what="an answer")


@pytest.fixture
def platform(environ, cluster, root, archive, tmp_path):
    made = Platform(environ, cluster, values_of(root, archive, own_address(cluster)), tmp_path)
    yield made
    made.helm("uninstall", "p")
    until(lambda: not pods(cluster), seconds=90)  # one that has only just begun ends after its grace of 60 s


def test_a_study_becomes_a_job_of_the_cluster_and_its_results_come_back(platform, cluster, archive, tmp_path):
    """The adapter has the chart's role and nothing more; without it no Job could be made."""
    until(platform.is_ready, seconds=90)
    platform.in_adapter(PUBLISH)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        platform.get("/")
    assert platform.get("/readyz") == "ok\n"
    platform.send(save(ct_slices(), tmp_path / "ct"))
    assert len(platform.jobs()) == 1
    wait_until(lambda: len(archive.instances()) == 5, timeout_s=90, what="the delivery")
    assert 'clara_adapter_jobs{state="done"} 1.0' in platform.get("/metrics", TOKEN)
    assert "Doe" not in platform.log()


def test_a_job_is_found_again_by_the_adapter_that_comes_after_one_that_was_killed(
    platform, cluster, archive, tmp_path
):
    """The Pod of the adapter is deleted without grace while its Job runs; another takes its place."""
    until(platform.is_ready, seconds=90)
    platform.in_adapter(PUBLISH)
    platform.send(save(ct_slices(), tmp_path / "ct"))
    platform.jobs()
    first = platform.pod()["metadata"]["name"]
    cluster.delete_pod(first, grace_s=0)
    until(lambda: len(pods(cluster)) == 1 and pods(cluster)[0] != first)
    wait_until(lambda: len(archive.instances()) == 5, timeout_s=180, what="the delivery")
    until(platform.is_ready)
    assert 'clara_adapter_jobs{state="done"} 1.0' in platform.get("/metrics", TOKEN)


def pods(cluster):
    return [each["metadata"]["name"] for each in cluster.pods({"app.kubernetes.io/component": "adapter"})]
