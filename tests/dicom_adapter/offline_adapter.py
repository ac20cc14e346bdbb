"""An adapter without its network: database, configuration, and what jobs and deliveries need of them."""

import os

from pydicom.uid import CTImageStorage

from dicom_adapter.config.blocks import Config, WorkflowRule
from dicom_adapter.context import AdapterContext
from dicom_adapter.database.records import ReceivedInstance
from dicom_adapter.database.store import Store
from dicom_adapter.delivery.workers import DeliveryWorkers
from dicom_adapter.observability.audit import AuditTrail
from dicom_adapter.observability.metrics import Metrics
from dicom_adapter.storage.results import find_results
from stages.runtime.retry import Backoff
from tests.dicom_adapter.destinations import wait_until
from tests.dicom_adapter.workflows import STAMP
from tests.phantoms import ct_slices, save

AE, STUDY_UID = "CT_AI", "1.2.3.1"


def received_file(path, uid, **more):
    kept = {"ae_title": AE, "study_uid": STUDY_UID, "sop_class_uid": CTImageStorage, "modality": "CT"}
    return ReceivedInstance(**{**kept, **more}, sop_instance_uid=uid, path=path, size=path.stat().st_size)


class OfflineAdapter:
    """Books with a complete study of five slices, and what works on them; close it after use."""

    def __init__(self, folder, *destinations, jobs=None, **storage):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.settings = {
            "dicom": {
                "scp": {"ae-titles": [{"ae-title": AE}], "reject-unknown-sources": False},
                "scu": {"ae-title": "CLARA", "timeout-seconds": 3, "destinations": list(destinations)},
            },
            "storage": {
                "payloads": str(folder / "payloads"),
                "workflows": str(folder / "published"),
                "received": str(folder / "adapter"),
                **storage,
            },
            "jobs": {"engine": "process", "model-server": "none", "retry-seconds": 0.2, **(jobs or {})},
        }
        self.config = Config.model_validate(self.settings)
        self.trail = AuditTrail(folder / "audit.jsonl", ae_title="CLARA")
        self.store = Store(folder / "adapter.sqlite")
        self.context = AdapterContext(
            store=self.store,
            config=lambda: self.config,
            trail=self.trail,
            metrics=Metrics(),
            clock=self.store.clock,
            environ={key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        )

    def close(self):
        self.store.close()
        self.trail.close()

    def change(self, **scu):
        self.settings["dicom"]["scu"].update(scu)
        self.config = Config.model_validate(self.settings)

    def receive(self, study_uid=STUDY_UID, slices=5, ae_title=AE):
        """Write down a study, and return its number in the database."""
        folder = self.folder / "adapter/studies" / ae_title / study_uid
        files = sorted(
            p for p in save(ct_slices(series=study_uid)[:slices], folder).rglob("*") if p.is_file()
        )
        self.store.add_instances(
            received_file(path, f"{study_uid}.{n + 1}", study_uid=study_uid, ae_title=ae_title)
            for n, path in enumerate(files)
        )
        return next(each.id for each in self.store.studies() if each.study_uid == study_uid)

    def complete(self, study, *destinations, name="stamp", workflow=STAMP):
        rule = {"name": name, "clara-ae-title": AE, "workflow": workflow, "destination-name": destinations}
        (job,) = self.store.complete(study, [WorkflowRule.model_validate(rule)])
        return job

    def done_job(self, *destinations, results=5, study_uid=STUDY_UID):
        """Return a job that is done, with results that are to be delivered."""
        job = self.complete(self.receive(study_uid), *destinations)
        folder = self.folder / "payloads" / job.id / "stamp/output"
        made = find_results(save(ct_slices(series=f"{study_uid}.77")[:results], folder))
        self.store.start_next(self.store.clock())
        self.store.finish(job.id, {each.sop_instance_uid: each.path for each in made})
        return job

    def states(self, destination=None):
        found = self.store.deliveries(destination=destination)
        return {state: sum(each.state == state for each in found) for state in {each.state for each in found}}

    def deliver(self, until, *, backoff=None, timeout_s=20):
        """Let the delivery workers go on until something is so."""
        delivery_workers = DeliveryWorkers(
            self.context, backoff=backoff or Backoff(first_s=0.1, longest_s=0.2)
        )
        delivery_workers.start()
        try:
            wait_until(until, timeout_s=timeout_s, what="the delivery")
        finally:
            delivery_workers.stop()
        return delivery_workers


def destination(name, port, ae_title, **more):
    return {"name": name, "host-ip": "127.0.0.1", "port": port, "ae-title": ae_title, **more}
