"""The whole road with what ships: storescu, the adapter, three workflows, a real Triton, a real Orthanc."""

import os

import pytest

from clara_wf.publish.publish import publish
from clara_wf.workspace import Places
from tests.dicom_adapter.adapters import Adapter
from tests.dicom_adapter.destinations import wait_until
from tests.dicom_adapter.offline_adapter import destination

pytestmark = [pytest.mark.workflow, pytest.mark.triton]

LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"
READER_WRITER = "8371285c-8ea8-41cd-958e-44e5664c6ec3"
READER_ONLY = "1995f10e-ee14-4d67-b307-452051637dbb"
CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"


def rule(name, title, workflow, *destinations):
    return {"name": name, "clara-ae-title": title, "destination-name": destinations, "workflow": workflow}


def kinds(archive):
    """Return the SOP class of each instance in the archive."""
    found = archive.ask("/instances")
    return sorted(archive.ask(f"/instances/{each}/simplified-tags")["SOPClassUID"] for each in found)


@pytest.mark.slow
def test_a_study_under_two_names_comes_back_as_segmentation_and_as_series(tmp_path, archive, coarse_series):
    places = Places.here(os.environ)
    for workflow in (LIVER_SEG, READER_WRITER, READER_ONLY):
        publish(
            workflow,
            "as it ships",
            tmp_path / "published",
            values=places.values,
            chart=places.chart,
            models=places.models,
            environ={"PATH": "/nonexistent"},
        )
    titles = [{"ae-title": name, "quiet-seconds": 0.5} for name in ("LIVER", "COPY")]
    rules = [
        rule("liver-seg", "LIVER", LIVER_SEG, "PACS"),
        rule("reader-writer", "COPY", READER_WRITER, "PACS"),
        rule("reader-only", "COPY", READER_ONLY),
    ]
    adapter = Adapter(
        tmp_path / "a",
        destination("PACS", archive.port, "ORTHANC"),
        ae_titles=titles,
        workflows=rules,
        published=tmp_path / "published",
        jobs={"model-server": "", "at-once": 2},
    )
    with adapter:
        adapter.send(coarse_series, called="LIVER")
        adapter.send(coarse_series, called="COPY")
        wait_until(
            lambda: {job.state for job in adapter.jobs()} <= {"done", "dead"} and len(adapter.jobs()) == 3,
            timeout_s=120,
            what="the end of three jobs",
        )
        ended = {job.rule: (job.state, job.reason) for job in adapter.jobs()}
        assert ended == dict.fromkeys(["liver-seg", "reader-writer", "reader-only"], ("done", ""))
        wait_until(lambda: {state for _, state in adapter.deliveries()} == {"delivered"})
    assert kinds(archive) == [*[CT] * 24, SEG]
