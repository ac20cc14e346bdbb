"""Storage commitment with a real Orthanc, which reports over an association of its own."""

import pytest
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicom_adapter.delivery.answers import DestinationError
from dicom_adapter.delivery.association import Peer
from dicom_adapter.delivery.commitment import handle_report, request_commitment
from dicom_adapter.delivery.store_scu import StoreScu
from dicom_adapter.storage.results import find_results
from tests.dicom_adapter.destinations import Storescp, wait_until
from tests.dicom_adapter.reports import told_by
from tests.phantoms import ct_slices, save


@pytest.fixture
def files(tmp_path):
    return find_results(save(ct_slices(), tmp_path / "ct"))


@pytest.fixture
def reports(report_port):
    """Return the list of what is reported to CLARA."""
    reports = []

    def take(report, caller, address):
        reports.append(report)
        return True

    entity = AE(ae_title="CLARA")
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    handlers = [(evt.EVT_N_EVENT_REPORT, lambda event: (handle_report(*told_by(event), take), None))]
    server = entity.start_server(("127.0.0.1", report_port), block=False, evt_handlers=handlers)
    yield reports
    server.shutdown()


def to(archive):
    return Peer(
        name="ARCHIVE",
        host="127.0.0.1",
        port=archive.port,
        ae_title=archive.ae_title,
        calling_ae_title="CLARA",
        timeout_s=3,
    )


def test_what_orthanc_has_is_committed_and_what_it_lacks_is_not(files, archive, reports):
    transaction = generate_uid()
    StoreScu(peer=to(archive)).send(files[:3], lambda result, answer: None)
    request_commitment(to(archive), files, transaction, on_report=reports.append)
    wait_until(lambda: reports, what="the report")
    (report,) = reports
    assert report.transaction_uid == transaction
    assert sorted(report.committed) == sorted(each.sop_instance_uid for each in files[:3])
    assert report.failed == {each.sop_instance_uid: 0x0112 for each in files[3:]}  # no such object instance


def test_who_does_not_offer_it_is_told(files, tmp_path):
    with (
        Storescp(tmp_path / "got") as archive,
        pytest.raises(DestinationError, match="does not offer storage commitment"),
    ):
        request_commitment(to(archive), files, generate_uid(), on_report=print)
