"""A storage that was moved is the same storage: nothing of it is received, run or sent anew."""

import shutil
from pathlib import Path

import pytest

from dicom_adapter.config.blocks import WorkflowRule
from dicom_adapter.database.store import Store
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import read_received
from dicom_adapter.storage.relocation import relocate
from dicom_adapter.studies.recovery import recover_instances
from tests.dicom_adapter.instances import instance, write
from tests.dicom_adapter.workflows import STAMP

RULE = {"name": "stamp", "clara-ae-title": "CT", "workflow": STAMP, "destination-name": ["PACS"]}


@pytest.fixture
def moved(tmp_path):
    """A database whose storage and payloads lie in ``new`` since they were moved there from ``old``."""
    places = AdapterPaths(root=tmp_path / "old/adapter")
    (made,) = write(tmp_path / "made", [instance(1)])
    kept = places.study("CT", "1.2.3") / "1.2.3.4.1.dcm"
    kept.parent.mkdir(parents=True)
    shutil.copy(made, kept)
    store = Store(places.database)
    store.add_instances([read_received(kept)])
    (job,) = store.complete(1, [WorkflowRule.model_validate(RULE)])
    store.start_next(0)
    result = tmp_path / "old/payloads" / job.id / "stamp/output/1.dcm"
    result.parent.mkdir(parents=True)
    shutil.copy(made, result)
    store.finish(job.id, {"1.2.9": result})
    store.close()
    shutil.move(tmp_path / "old", tmp_path / "new")
    store = Store(tmp_path / "new/adapter/adapter.sqlite")
    yield store
    store.close()


def relocated(store, folder):
    with store.transaction() as database:
        return relocate(database, AdapterPaths(root=folder / "adapter"), folder / "payloads")


def test_what_was_received_and_made_is_known_by_its_new_place(moved, tmp_path):
    assert relocated(moved, tmp_path / "new") == 2
    assert relocated(moved, tmp_path / "new") == 0
    assert all(each.path.is_file() for each in [*moved.instances(1), *moved.deliveries("waiting")])


def test_nothing_is_received_again(moved, tmp_path):
    relocated(moved, tmp_path / "new")
    assert recover_instances(moved, AdapterPaths(root=tmp_path / "new/adapter")) == 0
    (study,) = moved.studies()
    assert (study.state, study.instances) == ("complete", 1)


def test_what_is_not_below_the_new_folders_stays_where_it_is(moved, tmp_path):
    assert relocated(moved, tmp_path / "elsewhere") == 0
    (delivery,) = moved.deliveries("waiting")
    assert Path(delivery.path).is_relative_to(tmp_path / "old")
