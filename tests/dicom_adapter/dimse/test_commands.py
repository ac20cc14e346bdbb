from io import BytesIO

import pytest
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode

from dicom_adapter.dimse.commands import has_data_set, read_store_command, store_response
from tests.dicom_adapter.instances import CT


def encoded(kind, request):
    """Return a command set as pynetdicom sends it."""
    message = kind()
    message.primitive_to_message(request)
    values = [each.presentation_data_value_list[0] for each in message.encode_msg(1, 0)]
    return b"".join(data[1:] for _, data in values if data[0] & 1)


def store_request(uid="1.2.3", number=7):
    request = C_STORE()
    request.MessageID, request.AffectedSOPClassUID, request.Priority = number, CT, 2
    request.AffectedSOPInstanceUID, request.DataSet = uid, BytesIO(b"data")
    return encoded(C_STORE_RQ, request)


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
def test_a_request_is_read_as_pynetdicom_writes_it(uid):
    command = store_request(uid)
    found = read_store_command(command)
    assert (found.message_id, found.sop_class_uid, found.sop_instance_uid) == (7, CT, uid)
    assert has_data_set(command)


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
def test_an_answer_is_read_by_pynetdicom_as_it_was_meant(uid):
    written = store_response(read_store_command(store_request(uid, 65535)), 0xA700)
    answer = decode(BytesIO(written), True, True)
    assert answer.CommandField == 0x8001
    assert answer.MessageIDBeingRespondedTo == 65535
    assert answer.Status == 0xA700
    assert answer.CommandDataSetType == 0x0101
    assert (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID) == (CT, uid)
    assert answer.CommandGroupLength == len(written) - 12


def test_another_command_is_none():
    request = C_ECHO()
    request.MessageID = 1
    command = encoded(C_ECHO_RQ, request)
    assert read_store_command(command) is None
    assert not has_data_set(command)


def test_a_command_cut_anywhere_is_none_or_lacks_what_was_cut():
    command = store_request()
    for end in range(len(command)):
        found = read_store_command(command[:end])
        assert found is None or found.sop_instance_uid in ("", "1.2.3")
