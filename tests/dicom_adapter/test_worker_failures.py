"""An adapter whose workers meet what they cannot work on: nobody stops it, and its probes tell the truth."""

import json
import os
import shutil
import signal
import sqlite3
import time
import urllib.error
from functools import partial
from pathlib import Path

import psutil
import pytest

from dicom_adapter.database.store import Store
from tests.dicom_adapter.adapters import Adapter
from tests.dicom_adapter.destinations import wait_until as wait_for
from tests.dicom_adapter.instances import instance, write
from tests.phantoms import ct_slices, save

wait_until = partial(wait_for, timeout_s=60)


def study(folder, number):
    """Write a study of one slice, and return its folder."""
    return save(ct_slices(series=f"1.2.{number}.2", StudyInstanceUID=f"1.2.{number}")[:1], folder)


def told(adapter, path):
    """Return status and text of an answer."""
    try:
        return 200, adapter.get(path)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def database(adapter):
    return sqlite3.connect(adapter.folder / "dicom-adapter/adapter.sqlite", isolation_level=None)


def states(adapter):
    return [job.state for job in adapter.jobs()]


def test_a_worker_that_fails_on_everything_settles_and_goes_on_when_it_can(tmp_path):
    with Adapter(tmp_path / "a", workflows=[]) as adapter:
        other = database(adapter)
        other.execute("PRAGMA legacy_alter_table = ON")
        other.execute("ALTER TABLE jobs RENAME TO elsewhere")
        wait_until(lambda: told(adapter, "/readyz")[0] == 503)
        time.sleep(1.5)
        assert "'job queue' cannot go on" in told(adapter, "/readyz")[1]
        assert told(adapter, "/healthz") == (200, "ok\n")
        lines = [line for line in adapter.lines() if line["message"].startswith("job queue failed")]
        assert 1 <= len(lines) <= 4
        assert all(line["level"] == "WARNING" for line in lines)
        other.execute("ALTER TABLE elsewhere RENAME TO jobs")
        other.close()
        adapter.send(study(tmp_path / "s", 11))
        wait_until(lambda: 'clara_adapter_studies{state="complete"} 1.0' in adapter.get("/metrics"))
        wait_until(adapter.is_ready)
        assert 'clara_adapter_worker_failures_total{worker="job queue"}' in adapter.get("/metrics")


def test_a_worker_that_is_stuck_is_named_by_both_probes_until_it_goes_on(tmp_path):
    adapter = Adapter(tmp_path / "a", workflows=[])
    adapter.settings["http"]["stuck-seconds"] = 1
    adapter.write()
    with adapter:
        other = database(adapter)
        other.execute("BEGIN EXCLUSIVE")
        adapter.send(study(tmp_path / "s", 11))
        wait_until(lambda: "'database writer' has given no sign of life" in told(adapter, "/healthz")[1])
        assert told(adapter, "/healthz")[0] == told(adapter, "/readyz")[0] == 503
        other.execute("ROLLBACK")
        other.close()
        wait_until(lambda: told(adapter, "/healthz")[0] == 200)
        wait_until(lambda: 'clara_adapter_studies{state="complete"} 1.0' in adapter.get("/metrics"))


def test_what_cannot_be_read_at_the_start_is_shown_and_replayed_once_it_is_mended(tmp_path):
    adapter = Adapter(tmp_path / "a", workflows=[])
    folder = adapter.folder / "dicom-adapter/studies/CT_AI/1.2.3"
    folder.mkdir(parents=True)
    (folder / "1.2.3.4.1.dcm").write_bytes(b"broken")
    Store(adapter.folder / "dicom-adapter/adapter.sqlite").close()
    with adapter:
        (item,) = json.loads(adapter.clara_wf("status", "--json").out)["set aside"]
        assert (item["item"], item["kind"]) == ("aside-1", "instance")
        assert 'clara_adapter_set_aside{kind="instance"} 1.0' in adapter.get("/metrics")
        assert "1 items are set aside" in adapter.get("/")
        assert "stays set aside" in adapter.clara_wf("replay", "aside-1").out
        (made,) = write(tmp_path / "made", [instance(1)])
        shutil.move(made, folder / "1.2.3.4.1.dcm")
        assert "aside-1 (instance) is worked on again" in adapter.clara_wf("replay").out
        wait_until(lambda: 'clara_adapter_studies{state="complete"} 1.0' in adapter.get("/metrics"))
        assert "Set aside" not in adapter.get("/")


@pytest.mark.slow
def test_a_payload_that_is_removed_and_a_workflow_that_is_unpublished_cost_a_try(tmp_path):
    with Adapter(tmp_path / "a", jobs={"tries": 3}) as adapter:
        (adapter.steering / "sleep").write_text("1.5")
        adapter.send(study(tmp_path / "s1", 11))
        wait_until(adapter.ran)
        (adapter.steering / "sleep").unlink()
        shutil.rmtree(adapter.folder / "payloads")
        wait_until(lambda: states(adapter) == ["done"])
        (job,) = adapter.jobs()
        assert job.tries == 2
        assert any("was removed while it ran" in line["message"] for line in adapter.lines())
        os.rename(tmp_path / "a/published", tmp_path / "a/away")
        adapter.send(study(tmp_path / "s2", 12))
        wait_until(lambda: states(adapter) == ["done", "dead"])
        (_, job) = adapter.jobs()
        assert job.tries == 3
        assert "no workflow" in job.reason


JUNK = {
    "deep": b"[" * 3000,
    "bomb": b"a: &a [x, x]\n"
    + b"".join(b"%c: &%c [*%c, *%c]\n" % (n, n, n - 1, n - 1) for n in range(98, 122)),
    "no UTF-8": b"dicom: \xff\xe4",
    "no date": b"dicom: 2020-13-45",
    "no number": b"dicom: " + b"9" * 5000,
}


def test_a_configuration_that_is_anything_at_all_leaves_the_old_one(tmp_path):
    with Adapter(tmp_path / "a") as adapter:
        whole = adapter.file.read_bytes()
        kinds = [*JUNK, "gone", "a folder", "a FIFO", "1 GiB", "bad TLS", "no token"]
        for count, kind in enumerate(kinds, start=1):
            adapter.file.unlink(missing_ok=True)
            if kind in JUNK:
                adapter.file.write_bytes(JUNK[kind])
            elif kind == "a folder":
                adapter.file.mkdir()
            elif kind == "a FIFO":
                os.mkfifo(adapter.file)
            elif kind == "1 GiB":
                adapter.file.touch()
                os.truncate(adapter.file, 1 << 30)
            elif kind == "bad TLS":
                tls = b"    tls: {enabled: true, certificate: /nowhere, key: /nowhere}\n    port:"
                adapter.file.write_bytes(whole.replace(b"    port:", tls, 1))
            elif kind == "no token":
                adapter.file.write_bytes(whole.replace(b"http:\n", b"http:\n  token-file: /nowhere\n", 1))
            adapter.process.send_signal(signal.SIGHUP)
            wait_until(lambda n=count: adapter.log.read_text().count("stays as it was") >= n, what=kind)
            if adapter.file.is_dir():
                adapter.file.rmdir()
        adapter.file.unlink()
        adapter.file.write_bytes(whole)
        for _ in range(3):
            adapter.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "was read again" in adapter.log.read_text())
        assert adapter.is_ready()
        assert adapter.log.read_text().count("stays as it was") == len(kinds)
        adapter.process.terminate()
        adapter.process.send_signal(signal.SIGHUP)
        assert adapter.process.wait(15) == 0


def test_it_ends_in_time_though_a_stage_is_deaf_and_the_database_locked(tmp_path):
    adapter = Adapter(tmp_path / "a", jobs={"stop-seconds": 1}).start()
    (adapter.steering / "sleep").write_text("60")
    (adapter.steering / "deaf").touch()
    adapter.send(study(tmp_path / "s", 11))
    wait_until(adapter.ran)
    other = database(adapter)
    other.execute("BEGIN EXCLUSIVE")
    adapter.process.terminate()
    clock = time.monotonic()
    assert adapter.process.wait(15) == 0
    assert time.monotonic() - clock < 3.5
    other.close()
    ((stage, *_),) = [line.split() for line in (adapter.steering / "ran").read_text().splitlines()]
    assert not [p for p in psutil.process_iter() if stage.encode() in environment_of(p)]
    assert states(adapter) in (["running"], ["queued"])


def environment_of(process):
    try:
        return Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:
        return b""
