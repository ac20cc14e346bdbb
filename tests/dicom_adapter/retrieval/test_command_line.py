"""``clara-wf pull`` and ``clara-wf test --from --to``, as processes, against a real Orthanc."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from clara_wf.cli import main
from dicom_adapter.storage.paths import SUFFIX
from stages.errors import SettingsError
from tests.dicom_adapter.destinations import DICOMWEB, Orthanc, Wire, wait_until
from tests.dicom_adapter.workflows import ROOT, publish_stamp
from tests.phantoms import STUDY, ct_slices, uid_of

pytestmark = pytest.mark.skipif(not DICOMWEB.exists(), reason="Orthanc's DICOMweb plugin is not installed")


@pytest.fixture
def clara_wf(tmp_path, fetching):
    """Return what runs clara-wf in a workspace of its own, or begins to."""
    publish_stamp(tmp_path, tmp_path / "steering")
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CLARA_WORKSPACE": str(tmp_path),
        "CLARA_ADAPTER_CONFIG": str(tmp_path / "dicom-server-config.yaml"),
    }

    def begin(command, *arguments):
        fetching.file  # noqa: B018 - writes it
        words = [command, "stamp", "--values", str(tmp_path / "values.yaml"), *arguments]
        return subprocess.Popen(
            [sys.executable, "-m", "clara_wf", *words],
            env=environ,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(command, *arguments):
        process = begin(command, *arguments)
        out, err = process.communicate(timeout=120)
        return SimpleNamespace(code=process.returncode, out=out, err=err)

    return SimpleNamespace(begin=begin, run=run)


def test_study_goes_from_one_archive_to_another_in_one_command(orthanc, fetching, clara_wf, tmp_path):
    orthanc.add(*ct_slices((3, 16, 20)))
    with Orthanc(tmp_path / "second") as other:
        here = {"host-ip": "127.0.0.1", "port": other.port, "ae-title": other.ae_title}
        fetching.add("OTHER", **here)
        words = ["--from", "WEB", "--accession", "A-1", "--to", "OTHER", "--server", "none", "--json"]
        done = clara_wf.run("test", *words)
        assert done.code == 0, done.err
        assert other.instances() == sorted(f"{uid_of(n)}.77" for n in range(3))
        assert "OTHER has 3 results of the job, 3 of them now" in done.err
        again = clara_wf.run("test", *words)
        assert "OTHER has 3 results of the job, 3 of them now" in again.err  # it answers no query of ours
        assert len(other.instances()) == 3
    assert {each["state"] for each in json.loads(again.out)["stages"]} == {"kept"}
    assert not [word for word in ("Doe", "P-1", "A-1", STUDY) if word in done.err + again.err]


def test_results_in_the_archive_of_the_study_are_no_input_of_the_next_run(orthanc, clara_wf):
    orthanc.add(*ct_slices((3, 16, 20)))
    words = ["--from", "GET", "--study", STUDY, "--to", "GET", "--server", "none", "--json"]
    assert clara_wf.run("test", *words).code == 0
    assert len(orthanc.instances()) == 6
    again = clara_wf.run("test", *words)
    assert (again.code, {each["state"] for each in json.loads(again.out)["stages"]}) == (0, {"kept"})
    assert "GET has 3 results of the job, 0 of them now" in again.err
    assert len(orthanc.instances()) == 6


def test_results_that_are_not_taken_are_an_error(orthanc, fetching, clara_wf):
    orthanc.add(*ct_slices((1, 16, 20)))
    fetching.add("GONE", **{"host-ip": "127.0.0.1", "port": 1, "ae-title": "GONE"})
    words = ["--from", "GET", "--study", STUDY, "--server", "none"]
    done = clara_wf.run("test", *words, "--to", "GONE")
    assert (done.code, "the results were not all sent: GONE (GONE at 127.0.0.1:1)" in done.err) == (7, True)
    done = clara_wf.run("test", *words, "--to", "GETT")
    assert (done.code, "has no destination 'GETT' (did you mean 'GET'?)" in done.err) == (2, True)


@pytest.mark.parametrize("way", ["GET", "WEB"])
def test_killed_retrieval_goes_on_and_nothing_comes_twice(orthanc, fetching, clara_wf, way):
    slices = ct_slices((30, 64, 64))
    orthanc.add(*slices)
    port = orthanc.http_port if way == "WEB" else orthanc.port
    with Wire(port, delay_s=0.05) as wire:
        for each in fetching.destinations:
            if each["name"] == way and way == "WEB":
                each["dicomweb"] = f"http://127.0.0.1:{wire.port}/dicom-web"
            elif each["name"] == way:
                each["port"] = wire.port
        process = clara_wf.begin("pull", "--from", way, "--study", STUDY)
        wait_until(lambda: len(kept(fetching)) > 3, what="the first instances")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = len(kept(fetching))
        done = clara_wf.run("pull", "--from", way, "--study", STUDY, "--json")
    (fetched,) = json.loads(done.out)
    assert (fetched["instances"], fetched["retrieved"]) == (30, 30 - before)
    assert sorted(path.stem for path in kept(fetching)) == sorted(uid_of(n) for n in range(30))


def kept(fetching):
    return [path for path in fetching.left() if path.suffix == SUFFIX]


def test_two_archives_are_asked_at_once(orthanc, fetching, clara_wf, tmp_path):
    orthanc.add(*ct_slices((5, 16, 20)))
    with Orthanc(tmp_path / "second") as other:
        other.add(*ct_slices((4, 16, 20), series="1.2.3.9"))
        fetching.add("OTHER", dicomweb=f"{other.url}/dicom-web")
        begun = [
            clara_wf.begin("pull", "--from", name, "--study", STUDY, "--json") for name in ("GET", "OTHER")
        ]
        fetched = [json.loads(each.communicate(timeout=60)[0])[0] for each in begun]
    assert [each["instances"] for each in fetched] == [5, 4]
    assert len({each["job"] for each in fetched}) == 2
    assert len(kept(fetching)) == 9


def test_same_study_is_fetched_by_one_process_at_a_time(orthanc, fetching):
    orthanc.add(*ct_slices((5, 16, 20)))
    (fetched,) = fetching.fetch("GET")
    job = fetching.places.test_data / fetched.job
    descriptor = os.open(job, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(SettingsError, match="another process fetches into"):
            fetching.fetch("GET")
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["test", "liver-seg", "--study", STUDY], "need --from NAME"),
        (["test", "liver-seg", "a-job", "--from", "GET", "--study", STUDY], "each names the input"),
        (["pull", "liver-seg", "--from", "GET"], "say which study"),
        (["pull", "liver-seg", "--from", "NOWHERE", "--study", STUDY], "has no destination 'NOWHERE'"),
    ],
)
def test_options_that_do_not_fit_are_refused(capsys, monkeypatch, arguments, words):
    monkeypatch.delenv("CLARA_ADAPTER_CONFIG", raising=False)
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
