"""Commands that are no part of what is agreed upon are answered; ends that come at any time are clean."""

import socket
import struct

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from tests.dicom_adapter.destinations import wait_until
from tests.dicom_adapter.instances import CT
from tests.dicom_adapter.raw_pdus import (
    ABORT,
    COMMITMENT,
    ECHO,
    FIND,
    P_DATA,
    RELEASE,
    RELEASE_RP,
    RELEASE_RQ,
    STORE,
    VERIFICATION,
    Caller,
    command,
    context,
    fields_of,
    p_data,
    pdu,
    status_of,
)
from tests.dicom_adapter.storage_service import Service, dcmtk

GET, MOVE, CANCEL = 0x0010, 0x0021, 0x0FFF
N_EVENT, N_GET, N_SET, N_ACTION, N_CREATE, N_DELETE = 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("service") / "adapter")
    yield running
    running.scp.stop()


def ending_of(service):
    """Return what tells how the next association to end has ended."""
    before = len(service.told.endings)

    def told():
        wait_until(lambda: len(service.told.endings) > before, what="its end")
        return service.told.endings[before]

    return told


@pytest.mark.parametrize("field", [FIND, GET, MOVE])
@pytest.mark.parametrize("abstract", [CT, VERIFICATION, COMMITMENT])
def test_queries_are_answered_as_not_supported(service, field, abstract):
    with Caller(service.scp.port) as caller:
        caller.enter(context(1, abstract))
        caller.say(p_data((1, 3, command(field, uid=abstract, data=True)), (1, 2, bytes(20))))
        kind, body = caller.hear()
        fields = fields_of(body)
        assert (kind, status_of(body)) == (P_DATA, 0x0122)
        assert fields[0x0100] == struct.pack("<H", field | 0x8000)
        assert (fields[0x0120], fields[0x0800]) == (b"\x07\0", b"\x01\x01")
        caller.say(RELEASE)
        assert caller.hear()[0] == RELEASE_RP


@pytest.mark.parametrize("field", [N_EVENT, N_GET, N_SET, N_ACTION, N_CREATE, N_DELETE, 0x7777, 0x0002])
def test_operations_that_were_not_agreed_upon_are_unrecognised(service, field):
    with Caller(service.scp.port) as caller:
        caller.enter()
        asked = {0x0002: b"", 0x0003: b"1.2.840.1\0", 0x1001: b"1.2.3\0"}
        caller.say(p_data((1, 3, command(field, more=asked))))
        kind, body = caller.hear()
        assert (kind, status_of(body)) == (P_DATA, 0x0211)
        assert (fields_of(body)[0x0002], fields_of(body)[0x1000]) == (b"1.2.840.1\0", b"1.2.3\0")


def test_an_echo_is_answered_where_verification_was_agreed_upon_and_refused_elsewhere(service):
    with Caller(service.scp.port) as caller:
        caller.enter(context(1, VERIFICATION), context(3, CT))
        for number, status in ((1, 0x0000), (3, 0x0122)):
            caller.say(p_data((number, 3, command(ECHO, uid=VERIFICATION))))
            assert status_of(caller.hear()[1]) == status


def test_a_store_where_nothing_is_stored_is_refused_and_the_next_one_is_served(service):
    with Caller(service.scp.port) as caller:
        caller.enter(context(1, VERIFICATION))
        caller.say(p_data((1, 3, command(STORE, data=True)), (1, 2, bytes(100))))
        assert status_of(caller.hear()[1]) == 0x0122
        caller.say(p_data((1, 3, command(ECHO, uid=VERIFICATION))))
        assert status_of(caller.hear()[1]) == 0x0000


@pytest.mark.parametrize("field", [CANCEL, STORE | 0x8000, FIND | 0x8000])
def test_what_waits_for_no_answer_gets_none_and_ends_nothing(service, field):
    with Caller(service.scp.port) as caller:
        caller.enter(context(1, VERIFICATION))
        said = command(field, more={0x0110: b"", 0x0120: b"\x01\0"}).replace(b"\0\0\x10\x01\0\0\0\0", b"")
        caller.say(p_data((1, 3, said)), p_data((1, 3, command(ECHO, uid=VERIFICATION, number=9))))
        assert fields_of(caller.hear()[1])[0x0120] == b"\x09\0"


@pytest.mark.parametrize(
    ("program", "options"), [("findscu", ["-P"]), ("movescu", ["-P"]), ("getscu", ["-P"])]
)
def test_those_who_query_hear_that_there_is_no_such_service(service, program, options):
    done = dcmtk(program, service, *options, "-k", "QueryRetrieveLevel=STUDY")
    assert done.returncode != 0
    assert "No Acceptable Presentation Contexts" in done.stderr + done.stdout


def test_a_query_class_is_rejected_beside_one_that_is_not(service):
    entity = AE()
    entity.add_requested_context(PatientRootQueryRetrieveInformationModelFind)
    entity.add_requested_context(CT)
    association = entity.associate("127.0.0.1", service.scp.port, ae_title="CT_AI")
    assert [each.abstract_syntax for each in association.accepted_contexts] == [CT]
    association.release()


# Reports on storage commitment


def report(service, content):
    entity = AE(ae_title="ARCHIVE")
    entity.add_requested_context(StorageCommitmentPushModel, ImplicitVRLittleEndian)
    association = entity.associate(
        *("127.0.0.1", service.scp.port),
        ae_title="CT_AI",
        ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
        evt_handlers=[(evt.EVT_CONN_OPEN, lambda event: None)],
    )
    status, _ = association.send_n_event_report(
        content, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    association.release()
    return status.Status


def test_a_report_on_commitment_is_read_and_answered(tmp_path):
    heard = []
    running = Service(
        tmp_path / "adapter", report=lambda content, *who: heard.append((content.TransactionUID, *who)) or 0
    )
    content = Dataset()
    content.TransactionUID = "1.2.3.4"
    assert report(running, content) == 0
    assert heard == [("1.2.3.4", "ARCHIVE", "127.0.0.1")]
    running.scp.stop()


@pytest.mark.parametrize(
    ("data", "take", "status"),
    [
        (b"\xff" * 50, lambda content, *who: 0, 0x0115),
        (b"", lambda content, *who: int(content.TransactionUID), 0x0110),
        (bytes(2 << 20), lambda content, *who: 0, 0x0213),
    ],
    ids=["garbage", "nobody takes it", "two megabytes"],
)
def test_a_report_that_cannot_be_taken_is_answered(tmp_path, data, take, status):
    running = Service(tmp_path / "adapter", report=take)
    with Caller(running.scp.port) as caller:
        caller.enter(context(1, COMMITMENT))
        asked = {0x1000: b"1.2.3\0", 0x1002: b"\x01\0"}
        pieces = [p_data((1, 0, data[at : at + 65536])) for at in range(0, len(data), 65536)]
        said = command(N_EVENT, uid=COMMITMENT, data=True, more=asked)
        caller.say(p_data((1, 3, said)), *pieces, p_data((1, 2, b"")))
        _, body = caller.hear()
        assert (status_of(body), fields_of(body)[0x1002]) == (status, b"\x01\0")
    running.scp.stop()


# Ends


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (pdu(1, bytes(70)), 2),
        (pdu(2, bytes(70)), 2),
        (pdu(6, bytes(4)), 2),
        (pdu(0x99, b""), 1),
        (pdu(P_DATA, b""), 6),
        (pdu(P_DATA, b"\0\0\0\1\1"), 6),
        (p_data((1, 3, b"no command")), 6),
        (p_data((1, 3, command(ECHO, more={0x0110: b""}))), 6),
    ],
    ids=["request", "accept", "release response", "unknown", "no value", "cut", "garbage", "no message id"],
)
def test_a_pdu_that_has_no_place_aborts_with_the_reason(service, said, reason):
    with Caller(service.scp.port) as caller:
        caller.enter()
        caller.say(said)
        assert caller.hear() == (ABORT, bytes((0, 0, 2, reason)))
        assert caller.hear()[0] is None


@pytest.mark.parametrize(
    "first", [b"", p_data((1, 1, command(STORE)[:20])), p_data((1, 3, command(STORE, data=True)))]
)
@pytest.mark.parametrize(("last", "ending"), [(pdu(ABORT, bytes(4)), "aborted"), (RELEASE, "released")])
def test_an_end_within_a_message_is_clean_and_told(service, first, last, ending):
    ended = ending_of(service)
    with Caller(service.scp.port) as caller:
        caller.enter()
        caller.say(first, last)
        assert caller.hear()[0] == (RELEASE_RP if last == RELEASE else None)
        assert caller.hear()[0] is None
    assert ended() == (ending, "within a message" if first else "")
    assert list(service.places.incoming.iterdir()) == []


def test_what_is_said_after_the_release_is_not_listened_to(service):
    ended = ending_of(service)
    with Caller(service.scp.port) as caller:
        caller.enter()
        caller.say(RELEASE, p_data((1, 3, command(ECHO))), pdu(RELEASE_RQ, bytes(4)))
        assert [caller.hear()[0], caller.hear()[0]] == [RELEASE_RP, None]
    assert ended()[0] == "released"


def test_a_reset_within_a_message_ends_it(service):
    ended = ending_of(service)
    with Caller(service.scp.port) as caller:
        caller.enter()
        caller.say(p_data((1, 3, command(STORE, data=True)), (1, 0, bytes(100))))
        caller.wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert ended()[0] == "lost"
