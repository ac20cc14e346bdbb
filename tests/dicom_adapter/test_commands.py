"""What the commands say of results that are not where they shall go; no adapter runs."""

import json

import pytest
from pydicom.uid import CTImageStorage

from dicom_adapter.books.records import Received
from dicom_adapter.books.store import Store
from dicom_adapter.config_blocks import WorkflowRule
from tests.dicom_adapter.adapters import Adapter
from tests.dicom_adapter.workflows import STAMP
from tests.phantoms import ct_slices, save

RULE = {"name": "stamp", "clara-ae-title": "CT_AI", "workflow": STAMP, "destination-name": "PACS"}


@pytest.fixture
def adapter(tmp_path):
    """Return an adapter that has ended with a dead letter, and two results that are not committed."""
    made = Adapter(tmp_path, {"name": "PACS", "host-ip": "127.0.0.1", "ae-title": "PACS"})
    (tmp_path / "dicom-adapter").mkdir()
    files = [p for p in save(ct_slices((3, 4, 4)), tmp_path / "out").rglob("*") if p.is_file()]
    store = Store(tmp_path / "dicom-adapter/adapter.sqlite")
    instance = {"sop_instance_uid": "1.2.4", "sop_class_uid": CTImageStorage, "path": files[0], "size": 1}
    store.add_instances([Received(ae_title="CT_AI", study_uid="1.2", **instance)])
    (job,) = store.complete(store.studies()[0].id, [WorkflowRule.model_validate(RULE)])
    store.start_next(0)
    store.finish(job.id, {f"1.2.3.{n}": path for n, path in enumerate(files)})
    dead, *others = store.deliveries()
    store.move_delivery(dead.id, "dead", tries=5, status="context", message="PACS does not take CT")
    for each in others:
        store.move_delivery(each.id, "uncommitted", not_before=1e12, message="PACS has not reported")
    store.close()
    return made


def test_dead_letters_are_shown_with_what_they_are_and_why(adapter):
    told = json.loads(adapter.clara_wf("dead-letters", "--json").out)
    (result,) = told["results"]
    assert told["jobs"] == []
    assert (result["destination"], result["results"], result["kind"]) == ("PACS", 1, "CT Image Storage")
    assert (result["tries"], result["last answer"], result["reason"]) == (
        5,
        "context",
        "PACS does not take CT",
    )


def test_what_is_not_committed_is_asked_for_by_command(adapter):
    (job,) = adapter.jobs()
    assert adapter.clara_wf("commit", job.id[:6]).out == f"2 results of job {job.id} are asked for\n"
    asked = adapter._asked(lambda store: store.deliveries("uncommitted"))
    assert {each.not_before for each in asked} == {0}
    refused = adapter.clara_wf("commit", "nothing")
    assert refused.code == 3
    assert "begins 'nothing' waits for storage commitment; there are:" in refused.err
