"""The receiving side, called by DCMTK and pynetdicom; what it has on disk is compared byte by byte."""

import hashlib
import os
import shutil
import socket
import threading
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

from dicom_adapter.config.dicom_blocks import Scp, ScpTls
from dicom_adapter.scp.tls import TlsFiles
from dicom_adapter.storage.paths import AdapterPaths
from dicom_adapter.storage.receiver import read_received, sweep
from stages.errors import SettingsError
from tests.dicom_adapter.certificates import secured
from tests.dicom_adapter.instances import CT, instance, write
from tests.dicom_adapter.storage_service import Service, associate, data_set_of, dcmtk


def store(service, dataset, **more):
    association = associate(service, **more)
    status = association.send_c_store(dataset)
    association.release()
    return status.Status


def answer_to(association, data, uid="1.2.3.4.99"):
    """Return the status for a data set as it is, whatever it holds."""
    request = C_STORE()
    request.MessageID, request.AffectedSOPClassUID, request.Priority = 1, CT, 2
    request.AffectedSOPInstanceUID, request.DataSet = uid, BytesIO(data)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return answer.Status


def test_echo_is_answered(service):
    assert dcmtk("echoscu", service()).returncode == 0


@pytest.mark.parametrize(
    "options",
    [
        ["-pdu", "4096"],
        ["-pts", "38", "-ppc", "128"],
        ["--abort"],
        ["--repeat", "20"],
    ],
    ids=" ".join,
)
def test_echoscu_is_answered_whatever_it_proposes(service, options):
    done = dcmtk("echoscu", service(), *options)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "options",
    [["-pdu", "4096"], ["-xs"], ["-xv"], ["-R"], ["-xi"], ["+C"], ["-usr", "bob", "-epw"]],
    ids=" ".join,
)
def test_storescu_stores_whatever_it_proposes(service, tmp_path, options):
    running = service()
    sent = write(tmp_path / "sent", [instance(n) for n in (1, 2)])
    assert dcmtk("storescu", running, *options, *sent).returncode == 0
    assert len(running.files) == 2


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_zeros_that_lead_a_component_of_a_uid_make_it_another_one(service):
    running = service()
    for study in ("1.2.3", "1.2.03", "1.02.3"):
        assert store(running, instance(1, study=study)) == 0
    assert [path.parent.name for path in running.files] == ["1.02.3", "1.2.03", "1.2.3"]


def test_what_storescu_sends_is_on_disk_byte_by_byte(service, tmp_path):
    running = service()
    sent = write(tmp_path / "sent", [instance(n, fill=n) for n in range(1, 31)])
    assert dcmtk("storescu", running, *sent).returncode == 0
    kept = {dcmread(path).SOPInstanceUID: path for path in running.files}
    assert len(kept) == 30
    for path in sent:
        ours = kept[dcmread(path).SOPInstanceUID]
        assert data_set_of(ours) == data_set_of(path)
        assert ours.parent == running.places.study("CT_AI", "1.2.3")
    assert len(running.told.new) == 30
    assert not any(running.places.incoming.iterdir())


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        JPEG2000Lossless,
    ],
    ids=lambda syntax: syntax.keyword,
)
def test_any_transfer_syntax_is_kept_as_it_comes(service, tmp_path, syntax):
    running = service()
    dataset = instance(1)
    if syntax == JPEG2000Lossless:
        dataset.PixelData = encapsulate([b"not looked at"])
    if syntax == ExplicitVRBigEndian:
        dataset["PixelData"].VR = "OW"
    (path,) = write(tmp_path / "sent", [dataset], syntax=syntax)
    association = associate(running, syntax=syntax)
    assert association.send_c_store(dcmread(path)).Status == 0
    association.release()
    (kept,) = running.files
    assert dcmread(kept).file_meta.TransferSyntaxUID == syntax
    assert dcmread(kept).SOPInstanceUID == "1.2.3.4.1"
    assert read_received(kept) == running.told.new[0]


def test_private_storage_class_is_taken(service):
    private = "1.3.46.670589.5.0.1"
    running = service()
    assert store(running, instance(1, sop_class=private), sop_class=private) == 0
    assert running.told.new[0].sop_class_uid == private


def test_each_ae_title_has_its_own_studies(service):
    running = service()
    for title in ("CT_AI", "MR AI"):
        assert store(running, instance(1), called=title) == 0
    assert {each.ae_title for each in running.told.new} == {"CT_AI", "MR AI"}
    assert len(running.files) == 2


# Who may call


@pytest.mark.parametrize(
    ("called", "caller", "source", "reason"),
    [
        ("NOBODY", "SCANNER", {}, "called AE title not recognised"),
        ("CT_AI", "STRANGER", {}, "calling AE title not recognised"),
        ("CT_AI", "SCANNER", {"host-ip": "10.9.8.7"}, "calling AE title comes from another host"),
    ],
)
def test_who_may_not_call_is_rejected_with_the_reason(service, called, caller, source, reason):
    known = {"ae-title": "SCANNER", "host-ip": "127.0.0.1", **source}
    running = service(**{"reject-unknown-sources": True, "sources": [known]})
    done = dcmtk("echoscu", running, "-v", called=called, caller=caller)
    assert done.returncode != 0
    word = "Called" if called == "NOBODY" else "Calling"
    assert f"{word} AE Title Not Recognized" in done.stderr + done.stdout
    assert running.told.rejections == [(called, caller, reason)]


def test_known_source_may_call(service):
    known = {"ae-title": "SCANNER", "host-ip": "127.0.0.1"}
    running = service(**{"reject-unknown-sources": True, "sources": [known]})
    assert dcmtk("echoscu", running, caller="SCANNER").returncode == 0


@pytest.mark.parametrize(("called", "rejecting"), [("CLARA", False), ("CT_AI", True)])
def test_who_reports_on_commitment_may_call_but_not_store(service, called, rejecting):
    reporters = {"ae-titles": [{"ae-title": called}], "sources": [{"ae-title": "TEST"}]}
    made = service(reporters=reporters, **{"reject-unknown-sources": rejecting})
    assert store(made, instance(), called=called) == 0x0124
    assert made.told.refusals == [(0x0124, f"TEST may report to {called}, but not store: it is no source")]
    assert (made.files, made.told.open) == ([], set())
    assert dcmtk("echoscu", made, called=called, caller="OTHER").returncode != 0


def test_more_associations_than_allowed_are_rejected_for_now(service):
    running = service(**{"max-associations": 1})
    held = associate(running)
    done = dcmtk("echoscu", running, "-v")
    assert done.returncode != 0
    assert "Limit Exceeded" in done.stderr + done.stdout
    held.release()


def test_reload_is_seen_by_the_next_association(service):
    running = service()
    assert dcmtk("echoscu", running, called="NEW").returncode != 0
    running.config = running.config.model_copy(
        update={
            "ae_titles": Service.__init__
            and Scp.model_validate({"ae-titles": [{"ae-title": "NEW"}]}).ae_titles
        }
    )
    assert dcmtk("echoscu", running, called="NEW").returncode == 0


def test_port_that_is_taken_is_told(service, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="is another adapter running"):
            service(port=taken.getsockname()[1])


# What is not taken


def test_instance_is_kept_once_however_often_it_comes(service):
    running = service()
    for _ in range(3):
        assert store(running, instance(1)) == 0
    assert (len(running.files), len(running.told.new), len(running.told.again)) == (1, 1, 2)


def test_other_content_under_the_same_uid_is_kept_beside_and_flagged(service):
    running = service()
    for fill in (1, 2, 2, 1):
        assert store(running, instance(1, fill=fill)) == 0
    assert len(running.files) == 2
    assert len(running.told.conflicts) == 2  # new once, known once
    first = running.places.study("CT_AI", "1.2.3") / "1.2.3.4.1.dcm"
    assert dcmread(first).PixelData[0] == 1


def test_disk_below_its_watermark_is_out_of_resources(service):
    running = service(minimum_free=1 << 60)
    assert store(running, instance(1)) == 0xA700
    assert running.files == []
    assert not any(running.places.incoming.iterdir())


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"StudyInstanceUID": "../../../tmp/evil"}, 0xC000),
        ({"StudyInstanceUID": ""}, 0xC000),
        ({"SeriesInstanceUID": "1.2.3/4"}, 0xC000),
        ({"StudyInstanceUID": "1." + "2" * 70}, 0xC000),
    ],
    ids=["leads out", "missing", "slash", "too long"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_instance_without_usable_uids_is_refused_and_nothing_is_left(service, tmp_path, change, status):
    running = service()
    assert store(running, instance(1, **change)) == status
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert "SECRET" not in str(running.told.refusals)


def test_request_that_contradicts_its_data_set_is_refused(service):
    running = service()
    association = associate(running)
    assert answer_to(association, encode(instance(1), False, True)) == 0xA900
    association.release()
    assert running.files == []


def test_data_set_that_is_no_dicom_is_refused(service):
    running = service()
    association = associate(running)
    for garbage in (b"\xff" * 500, bytes(100), b"\x08\x00\x05\x00CS\xff\xff"):
        assert answer_to(association, garbage) in (0xC000, 0xA900)
    association.release()
    assert running.files == []


def test_association_aborted_half_way_leaves_whole_files_only(service):
    running = service()
    association = associate(running)
    assert association.send_c_store(instance(1)).Status == 0
    association.abort()
    with socket.create_connection(("127.0.0.1", running.scp.port)) as connection:
        connection.sendall(b"\x01\x00\x00\x00\x00\xff" + bytes(40))  # the head of a request, cut
    assert dcmtk("echoscu", running).returncode == 0
    assert len(running.files) == 1


# Many at once


def test_twenty_senders_at_once_lose_and_mix_up_nothing(service, tmp_path):
    running = service()
    folders = [
        write(
            tmp_path / f"sent{k}",
            [instance(n, study=f"1.2.{k}", series=f"1.2.{k}.1", fill=n) for n in range(1, 21)],
        )
        for k in range(20)
    ]
    done = []
    threads = [
        threading.Thread(
            target=lambda paths=paths: done.append(dcmtk("storescu", running, *paths).returncode)
        )
        for paths in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [0] * 20
    sent = {hashlib.sha256(data_set_of(path)).digest() for paths in folders for path in paths}
    kept = [hashlib.sha256(data_set_of(path)).digest() for path in running.files]
    assert len(kept) == 400
    assert set(kept) == sent


def test_two_senders_of_one_study_fill_one_folder(service, tmp_path):
    running = service()
    odd = write(tmp_path / "odd", [instance(n) for n in range(1, 40, 2)])
    both = write(tmp_path / "both", [instance(n) for n in range(1, 40)])
    threads = [threading.Thread(target=dcmtk, args=("storescu", running, *paths)) for paths in (odd, both)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(running.files) == len(running.told.new) == 39
    assert len(running.told.again) == 20


# TLS


@pytest.mark.parametrize(("client", "may"), [("client", True), ("stranger", False), (None, False)])
def test_only_who_shows_a_known_certificate_may_call(service, certificates, tmp_path, client, may):
    tls = {
        "enabled": True,
        "certificate": str(certificates / "server.pem"),
        "key": str(certificates / "server.key"),
        "client-certificates": str(certificates / "client.pem"),
    }
    running = service(tls=tls)
    write(tmp_path / "sent", [instance(1)])
    told = dcmtk("storescu", running, *secured(certificates, client, "server"), tmp_path / "sent/00000.dcm")
    assert (told.returncode == 0) == may, told.stderr
    assert len(running.files) == int(may)


def test_new_tls_files_are_used_once_they_can_be_and_the_earlier_ones_until_then(
    certificates, tmp_path, caplog
):
    for name in ("pem", "key"):
        shutil.copy(certificates / f"server.{name}", tmp_path / f"own.{name}")
    tls = ScpTls(enabled=True, certificate=str(tmp_path / "own.pem"), key=str(tmp_path / "own.key"))
    files = TlsFiles()
    first = files.context(tls)
    shutil.copy(certificates / "client.pem", tmp_path / "own.pem")  # and its key is still to come
    assert files.context(tls) is files.context(tls) is first
    assert caplog.text.count("the earlier ones are used") == 1
    shutil.copy(certificates / "client.key", tmp_path / "own.key")
    assert files.context(tls) is not first


def test_a_fifo_in_place_of_a_certificate_keeps_nobody_waiting(certificates, tmp_path):
    os.mkfifo(tmp_path / "own.pem")
    tls = ScpTls(enabled=True, certificate=str(tmp_path / "own.pem"), key=str(certificates / "server.key"))
    with pytest.raises(SettingsError, match="is no file"):
        TlsFiles().context(tls)


def test_tls_files_that_are_not_there_are_told(service):
    with pytest.raises(SettingsError, match=r"dicom\.scp\.tls"):
        service(tls={"enabled": True, "certificate": "/none", "key": "/none"})


def test_half_received_files_are_swept_at_the_next_start(tmp_path):
    places = AdapterPaths(root=tmp_path / "adapter")
    places.root.mkdir()
    assert sweep(places) == 0
    (places.incoming / "half").write_bytes(b"x")
    assert sweep(places) == 1
    assert not any(places.incoming.iterdir())
    assert Path(places.studies).is_dir()
