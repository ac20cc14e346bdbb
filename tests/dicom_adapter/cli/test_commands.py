"""What the commands say of results that are not where they shall go; no adapter runs."""

import json
import os
import sqlite3
from contextlib import closing

import pytest
from pydicom.uid import CTImageStorage

from dicom_adapter.config.blocks import WorkflowRule
from dicom_adapter.database.records import ReceivedInstance
from dicom_adapter.database.store import Store
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
    store.add_instances([ReceivedInstance(ae_title="CT_AI", study_uid="1.2", **instance)])
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


def test_commands_take_no_database_from_an_adapter_of_an_earlier_release(adapter):
    file = adapter.folder / "dicom-adapter/adapter.sqlite"
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA user_version = 4")
    told = adapter.clara_wf("status")
    assert (told.code, "has version 4" in told.err) == (2, True)
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (4,)


@pytest.mark.parametrize("command", ["status", "audit"])
def test_what_may_not_be_read_is_told_in_a_line(adapter, command):
    folder = adapter.folder / "dicom-adapter"
    (folder / "audit.jsonl").touch()
    folder.chmod(0)
    weak = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    try:
        told = adapter.clara_wf(command, by=weak if os.geteuid() == 0 else [])
    finally:
        folder.chmod(0o750)
    assert told.code == 7
    assert "cannot be read: Permission denied" in told.err
    assert len(told.err.splitlines()) == 1
