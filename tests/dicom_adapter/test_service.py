"""The whole adapter, as its users start it: from storescu to the archive, killed, stopped, reloaded."""

import json
import os
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.service import running
from stages.errors import SettingsError
from tests.dicom_adapter.adapters import Adapter
from tests.dicom_adapter.destinations import free_port, wait_until
from tests.dicom_adapter.offline_adapter import destination
from tests.dicom_adapter.raw_pdus import STORE, Caller, command, p_data, request
from tests.dicom_adapter.workflows import STAMP, publish_stamp
from tests.phantoms import ct_slices, mr_slices, save

UIDS = sorted(f"1.2.3.2.{n + 1}.77" for n in range(5))


@pytest.fixture
def ct(tmp_path):
    return save(ct_slices(), tmp_path / "ct")


def study(folder, number):
    """Write a study of its own, and return its folder."""
    return save(
        ct_slices(series=f"1.2.{number}.2", StudyInstanceUID=f"1.2.{number}", PatientID=f"P-{number}"), folder
    )


def to(archive, name="PACS", **more):
    return destination(name, archive.port, "ORTHANC", **more)


def test_a_study_comes_back_into_the_archive_and_everything_tells_of_it(tmp_path, archive, ct):
    with Adapter(tmp_path / "a", to(archive)) as adapter:
        adapter.send(ct)
        wait_until(lambda: archive.instances() == UIDS)
        metrics = wait_until(lambda: adapter.get("/metrics"))
        assert 'clara_adapter_instances_total{called="CT_AI",outcome="new"} 5.0' in metrics
        assert 'clara_adapter_jobs{state="done"} 1.0' in metrics
        (job,) = adapter.jobs()
        assert "<html" in adapter.get(f"/reports/{job.id}")
        assert study_hash("1.2.3.1") in adapter.get("/")
    trail = [json.loads(line) for line in (tmp_path / "a/dicom-adapter/audit.jsonl").read_text().splitlines()]
    assert [each["EventIdentification"]["EventID"]["csd-code"] for each in trail] == [
        *["110100", "110104", "110103", "110104", "110100"]
    ]
    assert [each.get("NetworkAccessPointID") for each in trail[1]["ActiveParticipant"]][1] == "127.0.0.1"
    assert "every line follows" in adapter.clara_wf("audit").out
    told = adapter.log.read_text() + json.dumps(trail)
    assert all(secret not in told for secret in ("Doe", "P-1", "1.2.3.1", "19500101"))
    assert {"job", "study"} <= {key for line in adapter.lines() for key in line}


@pytest.mark.slow
def test_two_studies_under_two_names_go_where_each_name_says(tmp_path, archive):
    titles = [{"ae-title": name, "quiet-seconds": 0.5} for name in ("ONE", "TWO")]
    with Adapter(tmp_path / "a", to(archive), ae_titles=titles, jobs={"at-once": 2}, workflows=[]) as adapter:
        workflow = "7b413e24-d018-4689-8c41-73272f6649d4"
        adapter.settings["workflows"] = [
            {"name": "one", "clara-ae-title": "ONE", "destination-name": "PACS", "workflow": workflow},
            {"name": "two", "clara-ae-title": "TWO", "workflow": workflow},
        ]
        adapter.write()
        adapter.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "was read again" in adapter.log.read_text())
        adapter.send(study(tmp_path / "s1", 11), called="ONE")
        adapter.send(study(tmp_path / "s2", 12), called="TWO")
        wait_until(lambda: [job.state for job in adapter.jobs()] == ["done", "done"])
        wait_until(lambda: len(archive.instances()) == 5)
        assert all(uid.startswith("1.2.11.") for uid in archive.instances())


@pytest.mark.parametrize(("engine", "program"), [("kubernetes", "helm"), ("docker", "docker")])
def test_an_engine_whose_program_is_not_there_is_told_at_the_start(tmp_path, engine, program):
    file = tmp_path / "dicom-server-config.yaml"
    file.write_text(
        f"dicom: {{scp: {{ae-titles: [{{ae-title: CT_AI}}], reject-unknown-sources: false}}}}\n"
        f"storage: {{received: {tmp_path / 'received'}, payloads: {tmp_path / 'payloads'}}}\n"
        f"jobs: {{engine: {engine}}}\n"
    )
    with pytest.raises(SettingsError, match=f"{program} was not found"), running(file, environ={"PATH": "/"}):
        pass
    assert not (tmp_path / "received").exists()


def test_a_mistake_in_a_new_configuration_changes_nothing(tmp_path, archive, ct):
    with Adapter(tmp_path / "a", to(archive)) as adapter:
        whole = adapter.file.read_text()
        adapter.file.write_text(whole.replace("clara-ae-title: CT_AI", "clara-ae-title: NOBODY"))
        adapter.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the configuration stays as it was" in adapter.log.read_text())
        adapter.send(ct)
        wait_until(lambda: archive.instances() == UIDS)


@pytest.mark.parametrize(
    "more",
    [
        {"tls": {"certificate": "/nowhere.pem"}},
        {"tls": {"authorities": "/nowhere.pem"}},
        {"dicomweb": "https://pacs.example/", "dicomweb-token": "/nowhere.pem"},
    ],
)
def test_a_new_configuration_that_names_files_of_a_destination_that_are_not_there_changes_nothing(
    tmp_path, archive, more
):
    with Adapter(tmp_path / "a", to(archive)) as adapter:
        adapter.settings["dicom"]["scu"]["destinations"] = [{**to(archive), **more}]
        adapter.write()
        adapter.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the configuration stays as it was: the " in adapter.log.read_text())
    with Adapter(tmp_path / "b", {**to(archive), **more}) as adapter:
        assert "; its results wait" in adapter.log.read_text()


@pytest.mark.slow
def test_bad_data_is_a_dead_letter_at_once_and_a_replay_delivers(tmp_path, archive, ct):
    with Adapter(tmp_path / "a", to(archive)) as adapter:
        (adapter.steering / "exit").write_text("3 1")
        adapter.send(ct)
        wait_until(lambda: [job.state for job in adapter.jobs()] == ["dead"])
        (told,) = json.loads(adapter.clara_wf("status", "--json").out)["jobs"]
        assert (told["tries"], told["exit code"]) == (1, 3)
        assert "stamp failed: as asked" in told["last failure"]
        assert "1 jobs are dead letters" in adapter.get("/")
        assert adapter.clara_wf("replay", "nothing").code == 3
        assert adapter.clara_wf("replay", told["job"][:6]).code == 0
        wait_until(lambda: archive.instances() == UIDS)


@pytest.mark.slow
def test_an_infrastructure_failure_is_tried_again_until_its_tries_are_used_up(tmp_path, archive, ct):
    with Adapter(tmp_path / "a", to(archive), jobs={"tries": 2}) as adapter:
        (adapter.steering / "exit").write_text("6 1")
        adapter.send(ct)
        wait_until(lambda: archive.instances() == UIDS)
        assert adapter.ran() == 2
        (adapter.steering / "exit").write_text("6 9")
        adapter.send(study(tmp_path / "s2", 12))
        wait_until(lambda: [job.state for job in adapter.jobs()] == ["done", "dead"])
        assert adapter.ran() == 4
        assert "replay" in adapter.get("/")


@pytest.mark.slow
def test_a_stop_while_a_job_runs_is_quick_and_the_job_goes_on_at_the_next_start(tmp_path, archive, ct):
    adapter = Adapter(tmp_path / "a", to(archive))
    with adapter:
        (adapter.steering / "sleep").write_text("60")
        adapter.send(ct)
        wait_until(adapter.ran)
        clock = time.monotonic()
    assert time.monotonic() - clock < 10
    (adapter.steering / "sleep").unlink()
    with adapter:
        wait_until(lambda: archive.instances() == UIDS)
        (job,) = adapter.jobs()
        assert (job.state, job.tries) == ("done", 1)


def test_a_stop_is_quick_whatever_peers_do(tmp_path):
    adapter = Adapter(tmp_path, workflows=[])
    with adapter:
        idle, half, within = (Caller(adapter.port) for _ in range(3))
        half.say(request()[:30])
        within.enter()
        within.say(p_data((1, 3, command(STORE, data=True)), (1, 0, bytes(10)))[:-1])
        begun = time.monotonic()
        adapter.process.terminate()
        assert adapter.process.wait(40) == 0
        assert time.monotonic() - begun < 10
    for each in (idle, half, within):
        each.wire.close()


@pytest.mark.slow
def test_a_full_disk_makes_no_dead_letters_and_jobs_begin_once_there_is_room(tmp_path, archive, ct):
    adapter = Adapter(tmp_path / "a", to(archive))
    (adapter.steering / "sleep").write_text("60")
    with adapter:
        adapter.send(ct)
        wait_until(adapter.ran)
    (adapter.steering / "sleep").unlink()
    adapter.settings["storage"]["minimum-free"] = "1000T"
    adapter.write()
    adapter.start(ready=False)
    wait_until(lambda: "no job begins until there is disk space" in adapter.log.read_text())
    assert [job.state for job in adapter.jobs()] == ["queued"]
    adapter.process.terminate()
    assert adapter.process.wait(20) == 0
    adapter.settings["storage"]["minimum-free"] = "10M"
    adapter.write()
    with adapter:
        wait_until(lambda: archive.instances() == UIDS)


def test_a_second_adapter_on_the_same_storage_is_refused(tmp_path, archive):
    with Adapter(tmp_path / "a", to(archive)) as adapter:
        second = adapter.clara_wf()
        assert second.code == 2
        assert "another adapter already works on" in second.err


def test_a_mistake_in_the_configuration_is_told_before_anything_starts(tmp_path, archive):
    adapter = Adapter(tmp_path / "a", to(archive))
    adapter.settings["dicom"]["scp"]["ports"] = 1
    adapter.settings["workflows"][0]["destination-name"] = "ELSE"
    adapter.write()
    refused = adapter.clara_wf()
    assert refused.code == 2
    assert "ports" in refused.err
    assert not (tmp_path / "a/dicom-adapter").exists()


@pytest.mark.slow
def test_books_that_somebody_locks_for_a_while_lose_nothing(tmp_path, archive, ct):
    with Adapter(tmp_path / "a", to(archive)) as adapter:
        database = sqlite3.connect(tmp_path / "a/dicom-adapter/adapter.sqlite", isolation_level=None)
        database.execute("BEGIN EXCLUSIVE")
        adapter.send(ct)
        time.sleep(3)
        database.execute("ROLLBACK")
        database.close()
        wait_until(lambda: archive.instances() == UIDS)


@pytest.mark.slow
def test_late_slices_that_are_held_wait_for_the_command(tmp_path, archive):
    titles = [{"ae-title": "CT_AI", "quiet-seconds": 0.5, "late": "wait"}]
    whole = study(tmp_path / "s", 12)
    first, *rest = sorted(p for p in whole.rglob("*") if p.is_file())
    with Adapter(tmp_path / "a", to(archive), ae_titles=titles) as adapter:
        adapter.send(first)
        wait_until(lambda: len(archive.instances()) == 1)
        for each in rest:
            adapter.send(each)
        held = wait_until(lambda: "are held" in adapter.get("/"))
        assert held
        assert adapter.clara_wf("release", "0" * 12).code == 3
        assert adapter.clara_wf("release", study_hash("1.2.12")).code == 0
        wait_until(lambda: len(archive.instances()) == 5)


@pytest.mark.slow
def test_a_late_series_that_changes_no_result_makes_no_twin_of_it(tmp_path, archive, ct):
    published = publish_stamp(tmp_path / "p", tmp_path / "p/steering", "threshold_stage.py")
    late = save(mr_slices(), tmp_path / "late")
    with Adapter(tmp_path / "a", to(archive), published=published) as adapter:
        adapter.send(ct)
        wait_until(lambda: adapter.deliveries() == {("PACS", "delivered"): 2})
        first = archive.instances()
        adapter.send(late)
        wait_until(lambda: len(adapter.jobs()) == 2 and adapter.jobs()[1].state == "done")
        assert adapter.deliveries() == {("PACS", "delivered"): 2, ("PACS", "unchanged"): 2}
        assert archive.instances() == first
        told = [line["message"] for line in adapter.lines() if "not sent again" in line["message"]]
        assert len(told) == 1
        assert "2 results equal what their destination has" in told[0]
        assert '"unchanged"' in adapter.clara_wf("status", "--all", "--json").out


@pytest.mark.slow
def test_storage_commitment_with_orthanc_reaches_the_adapters_own_port(tmp_path, archive, report_port, ct):
    with Adapter(tmp_path / "a", to(archive, commitment=True), port=report_port) as adapter:
        adapter.send(ct)
        wait_until(lambda: adapter.deliveries() == {("PACS", "delivered"): 5})


KILLS = int(os.environ.get("CLARA_KILLS", "6"))


@pytest.mark.slow
def test_killed_at_any_moment_every_acknowledged_study_is_delivered_once(tmp_path, archive):
    """A study each time, and a kill from its first byte to its last delivery; then all are there, once."""
    adapter = Adapter(tmp_path / "a", to(archive), jobs={"at-once": 2, "tries": 1})
    (adapter.steering / "sleep").write_text("0.3")
    acknowledged = set()
    for n in range(KILLS):
        adapter.start()
        folder = study(tmp_path / f"s{n}", n + 20)
        with ThreadPoolExecutor() as pool:
            sent = pool.submit(adapter.send, folder, check=False)
            time.sleep(0.05 + 3.5 * n / KILLS)
            adapter.kill()
            if sent.result().returncode == 0:
                acknowledged.add(n)
    assert len(acknowledged) >= KILLS // 2
    with adapter:
        expected = sorted(f"1.2.{n + 20}.2.{k + 1}.77" for n in acknowledged for k in range(5))

        def everything():
            return set(expected) <= set(archive.instances())

        wait_until(everything, timeout_s=30 + 5 * KILLS, what="the delivery of all studies")
        jobs = adapter.jobs()
        assert all(job.state in ("done", "queued", "running") for job in jobs)
        by_study = [job.study_id for job in jobs]
        assert len(by_study) == len(set(by_study)), "a study became two jobs"
    assert not [p for p in (tmp_path / "a/dicom-adapter/incoming").iterdir()]
    assert os.listdir(tmp_path / "a/dicom-adapter/studies") == ["CT_AI"]


@pytest.mark.slow
def test_a_destination_that_is_down_is_shown_and_keeps_what_is_for_it(tmp_path, archive, ct):
    down = destination("DOWN", free_port(), "NOBODY")
    with Adapter(tmp_path / "a", to(archive), down) as adapter:
        adapter.send(ct)
        wait_until(lambda: archive.instances() == UIDS)
        wait_until(lambda: "cannot be reached" in adapter.get("/"))
        expected = {("PACS", "delivered"): 5, ("DOWN", "waiting"): 5}
        wait_until(lambda: adapter.deliveries() == expected)


@pytest.mark.slow
def test_a_job_whose_ae_title_is_removed_before_it_begins_is_a_dead_letter(tmp_path):
    titles = [
        {"ae-title": "ONE", "quiet-seconds": 0.5},
        {"ae-title": "TWO", "quiet-seconds": 0.5, "filter": {"modalities": ["CT"]}},
    ]
    rules = [{"name": n, "clara-ae-title": n, "workflow": STAMP} for n in ("ONE", "TWO")]
    with Adapter(tmp_path / "a", ae_titles=titles, workflows=rules) as adapter:
        (adapter.steering / "sleep").write_text("3")
        adapter.send(study(tmp_path / "s1", 11), called="ONE")
        wait_until(lambda: [job.state for job in adapter.jobs()] == ["running"])
        adapter.send(study(tmp_path / "s2", 12), called="TWO")
        wait_until(lambda: [job.state for job in adapter.jobs()] == ["running", "queued"])
        adapter.settings["dicom"]["scp"]["ae-titles"].pop()
        adapter.settings["workflows"].pop()
        adapter.write()
        adapter.process.send_signal(signal.SIGHUP)
        wait_until(lambda: [job.state for job in adapter.jobs()] == ["done", "dead"])
        assert "TWO is not among dicom.scp.ae-titles any more" in adapter.jobs()[1].reason


@pytest.mark.slow
def test_a_storage_that_was_moved_is_the_same_storage(tmp_path, ct):
    adapter = Adapter(tmp_path / "a")
    with adapter:
        adapter.send(ct)
        wait_until(lambda: [job.state for job in adapter.jobs()] == ["done"])
    (tmp_path / "a/dicom-adapter").rename(tmp_path / "larger")
    adapter.settings["storage"]["received"] = str(tmp_path / "larger")
    adapter.write()
    with adapter:
        assert 'clara_adapter_studies{state="complete"} 1.0' in adapter.get("/metrics")
        assert "took up 0 received ones" in adapter.log.read_text().splitlines()[-2]
    assert adapter.ran() == 1
