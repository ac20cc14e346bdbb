"""The adapter with the images that ship: storescu, the adapter, containers with their own Triton, Orthanc."""

import os
import subprocess

import pytest

from clara_wf.publish.publish import publish
from clara_wf.workspace import Places
from tests.dicom_adapter.adapters import Adapter
from tests.dicom_adapter.destinations import wait_until
from tests.dicom_adapter.offline_adapter import destination

pytestmark = [pytest.mark.docker, pytest.mark.workflow]

LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"


def containers_of(job):
    """Return the stages of a job that have a container."""
    label = f"--filter=label=clara.job={job.id}"
    told = subprocess.run(
        ["docker", "ps", "--all", label, "--format", "{{.Names}}"], capture_output=True, text=True, check=True
    )
    return told.stdout.split()


def test_a_job_in_containers_survives_its_adapter_and_comes_back_once(
    tmp_path, images, archive, coarse_series
):
    places = Places.here(os.environ)
    published = tmp_path / "published"
    told = {"values": places.values, "chart": places.chart, "models": places.models}
    publish(LIVER_SEG, "as it ships", published, **told, environ={"PATH": "/nonexistent"})
    rule = {"name": "liver-seg", "clara-ae-title": "CT_AI", "workflow": LIVER_SEG}
    adapter = Adapter(
        tmp_path / "a",
        destination("PACS", archive.port, "ORTHANC"),
        workflows=[{**rule, "destination-name": "PACS"}],
        published=published,
        jobs={"engine": "docker", "model-server": ""},
    ).start()
    adapter.send(coarse_series)
    wait_until(adapter.jobs, what="the job")
    (job,) = adapter.jobs()
    wait_until(lambda: len(containers_of(job)) >= 3, timeout_s=60, what="the start of its containers")
    adapter.kill()
    with adapter:
        wait_until(lambda: adapter.jobs()[0].state in ("done", "dead"), timeout_s=120, what="its end")
        assert (adapter.jobs()[0].id, adapter.jobs()[0].reason) == (job.id, "")
        wait_until(lambda: adapter.deliveries() == {("PACS", "delivered"): 1}, what="the delivery")
    (found,) = archive.ask("/instances")
    assert archive.ask(f"/instances/{found}/simplified-tags")["Modality"] == "SEG"
    wait_until(lambda: not containers_of(job), what="the end of its containers")
