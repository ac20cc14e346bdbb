"""The whole road on a cluster: the same bits as with processes on this machine."""

import subprocess
import sys

import pytest

from tests.cluster import engine_environ
from tests.workflow.conftest import ROOT

pytestmark = [pytest.mark.workflow, pytest.mark.triton, pytest.mark.cluster, pytest.mark.timeout(240)]


@pytest.fixture
def environ(tmp_path):
    with engine_environ(tmp_path) as environ:
        yield environ


def test_the_mask_is_bit_for_bit_that_of_the_process_engine(tmp_path, environ, small_series):
    def run(engine):
        payloads = tmp_path / engine
        command = ["test", "liver-seg", "job-1", "--engine", engine, "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "clara_wf", *command, "--input", small_series, "--payloads", payloads],
            env={**environ, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if "is not on node" in done.stderr:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
        return payloads / "job-1"

    here, there = run("process"), run("kubernetes")
    for stage, kinds in (("dicom-reader", {".mhd", ".raw", ".json"}), ("ai-livertumor", {".mhd", ".raw"})):
        files = {path.name: path for path in (here / stage / "output").iterdir()}
        assert {path.suffix for path in files.values()} >= kinds
        for name, path in files.items():
            assert (there / stage / "output" / name).read_bytes() == path.read_bytes(), name
    assert len(list((there / "dicom-writer/output").glob("*.seg.dcm"))) == 1
