"""A new database in place of a damaged one: nothing is lost, and nothing is sent twice by itself."""

import os
import random
from contextlib import closing
from pathlib import Path

import pytest

from clara_wf.payload import Payload
from clara_wf.publish.published import load_published
from dicom_adapter.config.blocks import Config
from dicom_adapter.config.load import load_config
from dicom_adapter.database.faults import DatabaseDamagedError
from dicom_adapter.database.store import Store
from dicom_adapter.jobs.job_input import fill_payload
from dicom_adapter.observability.audit import AuditTrail
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.rebuild import rebuild
from dicom_adapter.service import running
from dicom_adapter.storage.owner import sole_adapter
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.studies.recovery import recover_instances
from stages.errors import SettingsError
from tests.dicom_adapter.adapters import Adapter
from tests.dicom_adapter.instances import instance, write
from tests.dicom_adapter.workflows import STAMP, publish_stamp

STUDY = "1.2.3.1"


class Site:
    """A storage with a study of five instances and a job that is done, with a result of each."""

    def __init__(self, folder, published):
        peers = [{"name": name, "host-ip": "10.0.0.7", "port": 104, "ae-title": name} for name in ("A", "B")]
        rule = {"name": "stamp", "clara-ae-title": "CT_AI", "destination-name": ["A", "B"], "workflow": STAMP}
        self.config = Config.model_validate(
            {
                "dicom": {
                    "scp": {"ae-titles": [{"ae-title": "CT_AI"}], "reject-unknown-sources": False},
                    "scu": {"destinations": peers},
                },
                "workflows": [rule],
                "storage": {
                    "payloads": str(folder / "payloads"),
                    "workflows": str(published),
                    "received": str(folder / "received"),
                },
            }
        )
        self.places = AdapterPaths(root=folder / "received")
        self.receive()
        with closing(Store(self.places.database)) as store:
            recover_instances(store, self.places)
            (self.job,) = store.complete(1, self.config.workflows)
            store.start_next(0)
            workflow = load_published(published, STAMP)[1]
            self.payload = Payload(root=folder / "payloads" / self.job.id, job_id=self.job.id)
            fill_payload(self.payload, workflow, store.instances(1), self.config.storage)
            made = [instance(n, study=STUDY, series=f"{STUDY}.77") for n in range(5)]
            paths = write(self.payload.folder("stamp/output"), made)
            store.finish(self.job.id, {f"{STUDY}.77.{n}": path for n, path in enumerate(paths)})

    def receive(self, study=STUDY, count=5):
        made = [instance(n, study=study, series=f"{study}.5") for n in range(count)]
        write(self.places.study("CT_AI", study), made)

    def tell(self, *, ran=True, **sent):
        trail = AuditTrail(self.places.audit, ae_title="CLARA")
        told = {"study": study_hash(STUDY), "job": self.job.id}
        if ran:
            trail.ran(**told, workflow=STAMP, outcome=0)
        for name, count in sent.items():
            outcome = 0 if count == 5 else 4
            trail.sent(**told, destination=name, address="10.0.0.7:104", instances=count, outcome=outcome)
        trail.close()

    def damage(self):
        self.places.database.write_bytes(b"no database")

    def found(self):
        """Return the states of studies, jobs and deliveries."""
        with closing(Store(self.places.database)) as store:
            deliveries = [(each.destination, each.state) for each in store.deliveries()]
            return (
                [(each.state, each.instances) for each in store.studies()],
                [each.state for each in store.jobs()],
                {key: deliveries.count(key) for key in deliveries},
            )


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workflows")
    return publish_stamp(folder, folder / "steering")


@pytest.fixture
def site(tmp_path, published):
    return Site(tmp_path, published)


def test_a_sound_database_says_the_same_after_it(site):
    with closing(Store(site.places.database)) as store:
        store.move_delivery(store.deliveries()[0].id, "delivered")
    before = site.found()
    told = rebuild(site.config)
    assert (
        site.found()
        == before
        == (
            [("complete", 5)],
            ["done"],
            {
                ("A", "delivered"): 1,
                ("A", "waiting"): 4,
                ("B", "waiting"): 5,
            },
        )
    )
    assert not told.salvaged.incomplete


def test_what_the_audit_trail_says_was_sent_is_not_sent_again_and_the_rest_is(site):
    site.tell(A=5)
    site.damage()
    rebuild(site.config)
    assert site.found() == ([("complete", 5)], ["done"], {("A", "delivered"): 5, ("B", "waiting"): 5})


def test_where_nothing_tells_which_results_were_sent_they_are_dead_letters(site):
    site.tell(A=2, B=0)
    site.damage()
    rebuild(site.config)
    assert site.found()[2] == {("A", "dead"): 5, ("B", "waiting"): 5}
    with closing(Store(site.places.database)) as store:
        assert "nothing tells whether A has it" in store.deliveries("dead")[0].message
        store.replay(site.job.id)
        assert len(store.due("A", store.clock())) == 5


def test_without_an_audit_trail_a_job_that_may_have_been_delivered_is_a_dead_letter(site):
    site.damage()
    rebuild(site.config)
    assert site.found() == ([("complete", 5)], ["dead"], {})


def test_a_job_that_did_not_come_to_its_end_goes_on(site):
    site.tell(ran=False)
    site.damage()
    rebuild(site.config)
    assert site.found() == ([("complete", 5)], ["queued"], {})


def test_a_study_that_no_job_was_made_of_is_received_as_if_it_came_now(site):
    site.tell(A=5, B=5)
    site.receive("1.2.9", 3)
    site.damage()
    rebuild(site.config)
    assert site.found()[0] == [("receiving", 3), ("complete", 5)]


def test_instances_that_may_have_come_late_wait_for_somebody(site):
    site.tell(A=5, B=5)
    site.receive(count=6)
    site.damage()
    rebuild(site.config)
    assert site.found()[0] == [("held", 6)]


def test_a_study_that_ran_and_has_no_payload_any_more_waits_for_somebody(site):
    site.tell(A=5, B=5)
    site.payload.root.rename(site.payload.root.with_name("elsewhere"))
    site.damage()
    rebuild(site.config)
    assert site.found() == ([("held", 5)], [], {})


def test_the_damaged_one_is_kept_with_its_log_and_a_second_one_beside_it(site):
    site.damage()
    site.places.database.with_name("adapter.sqlite-wal").write_bytes(b"a log")
    first, second = rebuild(site.config).aside, rebuild(site.config).aside
    assert (first / "adapter.sqlite").read_bytes() == b"no database"
    assert (first / "adapter.sqlite-wal").read_bytes() == b"a log"
    assert second.name == "damaged-0002"


def test_where_the_database_is_gone_the_files_and_the_trail_make_another(site):
    site.tell(A=5, B=5)
    site.places.database.unlink()
    assert rebuild(site.config).aside is None
    assert site.found()[2] == {("A", "delivered"): 5, ("B", "delivered"): 5}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_in_place_of_database_and_trail_is_not_waited_for(site, make):
    for file in (site.places.database, site.places.audit):
        file.unlink(missing_ok=True)
        make(file)
    rebuild(site.config)
    assert site.found() == ([("complete", 5)], ["dead"], {})


def test_while_an_adapter_works_nothing_is_rebuilt(site):
    with (
        sole_adapter(site.places.root),
        pytest.raises(SettingsError, match=r"another adapter .*\(process \d+\)"),
    ):
        rebuild(site.config)


@pytest.mark.parametrize("seed", range(4))
def test_whichever_pages_are_damaged_each_instance_and_result_is_there_once(site, seed):
    site.tell(A=5)
    drawn = random.Random(seed)
    with site.places.database.open("r+b") as file:
        pages = site.places.database.stat().st_size // 4096
        for page in drawn.sample(range(1, pages), 3):
            file.seek(4096 * page)
            file.write(drawn.randbytes(4096))
    rebuild(site.config)
    studies, jobs, deliveries = site.found()
    assert [count for _, count in studies] == [5]
    assert len(jobs) == 1
    assert jobs == ["queued"] or sum(deliveries.values()) == 10


def start(folder):
    """Start and stop an adapter without jobs in this process."""
    adapter = Adapter(folder, workflows=[])
    with running(adapter.file, environ=dict(os.environ)):
        return Path(adapter.settings["storage"]["payloads"]).parent / "dicom-adapter"


def test_an_adapter_does_not_start_on_a_damaged_database_and_does_on_the_rebuilt_one(tmp_path):
    root = start(tmp_path)
    (root / "adapter.sqlite").write_bytes(b"no database")
    with pytest.raises(DatabaseDamagedError, match="file is not a database"):
        start(tmp_path)
    rebuild(load_config(tmp_path / "dicom-server-config.yaml"))
    start(tmp_path)
    assert root.stat().st_mode & 0o777 == 0o750


def test_a_log_that_is_gone_after_a_kill_is_told(tmp_path, caplog):
    root = start(tmp_path)
    start(tmp_path)
    assert "write-ahead log is gone" not in caplog.text
    owner = root / ".adapter.owner"
    owner.write_text(owner.read_text().replace('"ended": true', '"ended": false'))
    start(tmp_path)
    assert "write-ahead log is gone" in caplog.text


def test_the_database_of_another_storage_is_refused(tmp_path):
    root = start(tmp_path)
    Store(tmp_path / "other.sqlite").close()
    (tmp_path / "other.sqlite").rename(root / "adapter.sqlite")
    with pytest.raises(DatabaseDamagedError, match="belongs to another storage"):
        start(tmp_path)
