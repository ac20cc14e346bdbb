"""What is answered to a request for an association, however odd it is."""

import random
import struct
import time

import pytest
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind

from dicom_adapter.dimse.pdus import ProtocolError
from dicom_adapter.scp.association_request import ProposedContext, ae_title, read_request
from dicom_adapter.scp.negotiation import best_syntax, is_storage, negotiate
from tests.dicom_adapter.instances import CT
from tests.dicom_adapter.raw_pdus import (
    ABORT,
    ACCEPT,
    COMMITMENT,
    ECHO,
    EXPLICIT,
    IMPLICIT,
    REJECT,
    VERIFICATION,
    Caller,
    command,
    context,
    item,
    items_of,
    p_data,
    request,
    results_of,
    role,
)
from tests.dicom_adapter.storage_service import Service

PHILIPS, GE = "1.3.46.670589.33.1.4.1", "1.2.840.113619.5.2"
SMPTE, JPIP = "1.2.840.10008.1.2.7.1", "1.2.840.10008.1.2.4.94"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("service") / "adapter")
    yield running
    running.scp.stop()


def answer(service, *contexts, **more):
    with Caller(service.scp.port) as caller:
        caller.say(request(*contexts, **more))
        return caller.hear()


@pytest.mark.parametrize(
    ("offered", "best"),
    [
        ([PHILIPS, IMPLICIT], IMPLICIT),
        ([JPEGBaseline8Bit, IMPLICIT], IMPLICIT),
        ([JPEGBaseline8Bit, DeflatedExplicitVRLittleEndian], DeflatedExplicitVRLittleEndian),
        ([DeflatedExplicitVRLittleEndian, EXPLICIT], EXPLICIT),
        ([ExplicitVRBigEndian, IMPLICIT], IMPLICIT),
        ([JPEG2000Lossless, EXPLICIT], JPEG2000Lossless),
        ([EXPLICIT, JPEG2000Lossless], EXPLICIT),
        ([JPIP, JPEGBaseline8Bit], JPEGBaseline8Bit),
        ([JPEGBaseline8Bit], JPEGBaseline8Bit),
        ([PHILIPS, GE, SMPTE, "", "no uid"], ""),
        ([], ""),
    ],
)
def test_the_best_standard_syntax_is_taken(offered, best):
    syntaxes = tuple(map(str, offered))
    assert best_syntax(ProposedContext(id=1, abstract_syntax=CT, transfer_syntaxes=syntaxes)) == str(best)


def test_each_context_is_judged_by_itself(service):
    kind, body = answer(
        service,
        context(1, CT, (PHILIPS,)),
        context(3, CT, (PHILIPS, IMPLICIT)),
        context(5, PatientRootQueryRetrieveInformationModelFind, (IMPLICIT,)),
        context(7, VERIFICATION, (EXPLICIT,)),
        context(9, "1.3.46.670589.5.0.1", (str(RLELossless),)),
        context(11, CT, ()),
        context(12, CT),
        context(13, CT) + context(13, VERIFICATION),
    )
    assert kind == ACCEPT
    results = results_of(body)
    assert {number: result for number, (result, _) in results.items()} == {
        **{1: 4, 3: 0, 5: 3, 7: 0, 9: 0, 11: 4},
        **{12: 2, 13: 2},  # IDs are odd, and each stands for one context
    }
    assert [results[number][1] for number in (3, 7, 9)] == [IMPLICIT, EXPLICIT, RLELossless]


@pytest.mark.parametrize(
    ("uid", "kept"),
    [
        (CTImageStorage, True),
        ("1.2.840.10008.5.1.4.1.1.66.7", True),  # label maps, younger than the dictionary
        ("1.2.840.10008.5.1.4.1.1.6", True),  # retired
        ("1.3.46.670589.5.0.1", True),
        (COMMITMENT, False),
        ("1.2.840.10008.1.3.10", False),  # a DICOMDIR
        ("1.2.840.10008.5.1.4.31", False),  # worklist
        ("1.2.840.10008.5.1.1.9", False),  # print
        ("1.2.840.10008.1.2", False),
        ("", False),
        ("../..", False),
    ],
)
def test_what_is_stored_are_the_standards_storage_classes_and_private_ones(uid, kept):
    assert is_storage(str(uid)) == kept


@pytest.mark.parametrize(
    ("padded", "title"),
    [
        (b"CT_AI".ljust(16), "CT_AI"),
        (b"CT_AI".ljust(16, b"\0"), "CT_AI"),
        (b"CT_AI\0".ljust(16), "CT_AI"),
        (b"CT_AI\0\xff\xfe\x01 garbage"[:16], "CT_AI"),
        (b"  CT_AI\r\n".ljust(16), "CT_AI"),
        (b"MR AI".ljust(16), "MR AI"),
        ("MÜLLER".encode("latin-1").ljust(16), "MÜLLER"),
        (b"\x1b[31mEVIL".ljust(16), r"\x1b[31mEVIL"),
        (bytes(16), ""),
        (b" " * 16, ""),
    ],
)
def test_an_ae_title_is_read_without_its_padding(padded, title):
    assert ae_title(padded) == title


@pytest.mark.parametrize(("called", "calling"), [(b"CT_AI", b""), (b"", b"SCANNER"), (bytes(16), bytes(16))])
def test_blank_titles_are_let_in_by_a_setting_only(tmp_path, called, calling):
    for settings, kind in (
        ({}, REJECT),
        ({"blank-calling-as": "NONAME", "blank-called-as": "CT_AI"}, ACCEPT),
    ):
        running = Service(tmp_path / f"adapter{kind}", **settings)
        assert answer(running, called=called, calling=calling)[0] == kind
        running.scp.stop()


ODD_USERS = {
    "long version name": item(0x55, b"A_VERSION_NAME_OF_MORE_THAN_16"),
    "asynchronous operations": item(0x53, struct.pack(">HH", 0, 0)),
    "cut asynchronous operations": item(0x53, b"\0"),
    "extended negotiation": item(0x56, struct.pack(">H", 25) + CT.encode() + b"\x02\0\x03\0\0\0"),
    "common extended negotiation": item(0x57, b"\0\x04junk"),
    "user name": item(0x58, b"\x01\x01\0\x03bob\0\0"),
    "two roles for a class that is not proposed": role("1.2.3", 1, 1) * 2,
    "cut role": item(0x54, b"\xff\xff"),
    "unknown sub-item": item(0x99, b"?" * 40),
    "maximum length of two bytes": item(0x51, b"\0\1"),
    "empty": b"",
}


@pytest.mark.parametrize("user", ODD_USERS.values(), ids=ODD_USERS)
def test_user_information_that_is_odd_or_unknown_is_skipped(service, user):
    kind, body = answer(service, user=user)
    assert (kind, results_of(body)) == (ACCEPT, {1: (0, EXPLICIT)})


def test_unknown_items_and_reserved_bytes_are_skipped(service):
    odd = bytearray(request(more=item(0x77, b"unknown") + item(0x00, b"")))
    odd[1], odd[8] = 0xFF, 0xFF
    with Caller(service.scp.port) as caller:
        caller.say(bytes(odd))
        assert caller.hear()[0] == ACCEPT


def test_who_brings_no_user_information_is_let_in(service):
    said = request()
    without = said[: said.index(item(0x51, struct.pack(">L", 16384))) - 4]
    with Caller(service.scp.port) as caller:
        caller.say(struct.pack(">BxL", 1, len(without) - 6) + without[6:])
        assert caller.hear()[0] == ACCEPT


@pytest.mark.parametrize(
    ("wanted", "result", "answered"),
    [
        ((CT, 1, 0), 0, (1, 0)),
        ((CT, 1, 1), 0, (1, 0)),
        ((CT, 0, 1), 1, None),
        ((CT, 0, 0), 0, None),
        ((COMMITMENT, 0, 1), 0, (0, 1)),
        ((COMMITMENT, 1, 1), 0, (0, 1)),
    ],
)
def test_roles_are_those_of_a_sender_of_objects_and_reports(service, wanted, result, answered):
    _, body = answer(service, context(1, wanted[0], (EXPLICIT,)), user=role(*wanted))
    user = dict(items_of(body[68:]))[0x50]
    roles = [tuple(value[-2:]) for kind, value in items_of(user) if kind == 0x54]
    assert (results_of(body)[1][0], roles) == (result, [answered] if answered else [])


def test_an_acceptance_repeats_what_the_standard_says_it_repeats(service):
    _, body = answer(service, called=b"CT_AI".ljust(16, b"\0"), calling=b"\xdc")
    assert body[4:36] == b"CT_AI".ljust(16, b"\0") + b"\xdc".ljust(16)
    assert [kind for kind, _ in items_of(body[68:])] == [0x10, 0x21, 0x50]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"version": 2}, (REJECT, b"\0\1\2\2")),
        ({"name": "9.9.9"}, (REJECT, b"\0\1\1\2")),
        ({"called": b"NOBODY"}, (REJECT, b"\0\1\1\7")),
        ({"largest": 6}, (ABORT, b"\0\0\2\6")),
    ],
)
def test_what_cannot_be_is_refused_with_the_standards_reason(service, more, said):
    assert answer(service, **more) == said


def test_a_peer_of_tiny_pdus_is_answered_in_as_tiny_ones(service):
    with Caller(service.scp.port) as caller:
        caller.enter(context(1, VERIFICATION), largest=20)
        caller.say(p_data((1, 3, command(ECHO, uid=VERIFICATION))))
        bodies = [caller.hear()[1] for _ in range(6)]  # 78 bytes, 14 at a time
    assert max(map(len, bodies)) == 20
    assert b"".join(each[6:] for each in bodies).count(b"\x30\x80") == 1
    assert [each[5] for each in bodies] == [1] * 5 + [3]


# Bounds


def test_a_request_of_128_contexts_with_60_syntaxes_is_read_in_a_moment(service):
    offered = (*(f"1.3.46.670589.{n}" for n in range(59)), IMPLICIT)
    said = request(*(context(n, CT, offered) for n in range(1, 256, 2)))
    begun = time.thread_time()
    accepted, _ = negotiate(read_request(said))
    assert time.thread_time() - begun < 0.5
    assert {each.transfer_syntax for each in accepted.values()} == {IMPLICIT}
    assert len(accepted) == 128


@pytest.mark.parametrize(
    "contexts",
    [
        context(1) * 5000,
        context(1, CT, ("1",) * 8000) * 16,
        item(0x20, bytes(4)) * 131_000,
        item(0x99, b"") * 262_000,
    ],
    ids=["contexts", "syntaxes", "empty contexts", "unknown items"],
)
def test_a_request_with_more_than_any_has_is_refused_in_a_moment(service, contexts):
    said = request(contexts)
    begun = time.thread_time()
    with pytest.raises(ProtocolError, match=r"too many|more than 20000"):
        read_request(said)
    assert time.thread_time() - begun < 0.5


def test_a_request_that_is_fuzzed_is_read_or_refused():
    said, chance, refused = (
        request(context(1), context(3, VERIFICATION), user=role(CT, 1, 0)),
        random.Random(5),
        0,
    )
    for _ in range(2000):
        made = bytearray(said)
        for _ in range(chance.randint(1, 5)):
            made[chance.randrange(len(made))] = chance.randrange(256)
        try:
            negotiate(read_request(bytes(made[: chance.randint(0, len(made))])))
        except ProtocolError:
            refused += 1
    assert 0 < refused < 2000
