"""A model repository as files: which version is served, and the hashes by which a change is noticed."""

import hashlib
import json
import os

import pytest

from clara_wf.files import digests
from clara_wf.models.repository import model_records

SHA256_OF_42 = "73475cb40a568e8da8a045ced110137e159f890ac4da883b6b17dc651b3a8049"


@pytest.fixture
def model(tmp_path):
    """Return the folder of a model whose weights are the text 42."""
    folder = tmp_path / "models/liver"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text('backend: "onnxruntime"\n')
    (folder / "1/model.onnx").write_text("42")
    return folder


@pytest.fixture
def records(tmp_path, model):
    return lambda: model_records(tmp_path / "models", tmp_path / "cache")


def test_a_model_is_recorded_with_its_version_and_the_hash_of_each_file(records):
    (found,) = records()
    assert (found.name, found.version) == ("liver", "1")
    assert sorted(found.files) == ["1/model.onnx", "config.pbtxt"]
    assert found.files["1/model.onnx"] == SHA256_OF_42


def test_what_no_server_reads_is_not_recorded(model, records):
    before = records()
    for name in ("README.md", "golden.npz", ".previous/1/model.onnx", "1/__pycache__/model.pyc", "1/.swp"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text("x")
    assert records() == before


def test_another_version_than_the_one_that_is_served_is_not_recorded(model, records):
    (model / "10").mkdir()
    (model / "10/model.onnx").write_text("new")
    (found,) = records()
    assert (found.version, sorted(found.files)) == ("10", ["10/model.onnx", "config.pbtxt"])


@pytest.mark.parametrize(
    ("policy", "version"),
    [
        ("version_policy: { latest: { num_versions: 1 } }", "3"),
        ("version_policy: { all: {} }", "3"),
        ("version_policy: { specific: { versions: [1, 2] } }", "2"),
        ("version_policy { specific { versions: 1 versions: 7 } }", "1"),
        ("# version_policy: { specific: { versions: [1] } }", "3"),
        ("version_policy: {", "3"),  # the server tells what is wrong
    ],
)
def test_the_version_policy_says_which_version_answers(model, records, policy, version):
    (model / "config.pbtxt").write_text(policy)
    for name in ("2", "3"):
        (model / name).mkdir()
    assert records()[0].version == version


def test_a_repository_that_is_not_there_has_no_models(tmp_path):
    assert model_records(tmp_path / "nowhere", tmp_path / "cache") == []


def test_a_file_is_read_again_only_when_it_has_changed(model, records, tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "_tick_s", lambda path: -1.0)
    first, read = records(), []
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(file.name))
    assert records() == first
    assert read == []


def test_other_weights_of_the_same_size_and_time_are_noticed(model, records, monkeypatch):
    monkeypatch.setattr(digests, "_tick_s", lambda path: -1.0)
    records()
    weights, other = model / "1/model.onnx", model / "other"
    other.write_text("43")
    status = weights.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(weights)
    assert weights.stat().st_mtime_ns == status.st_mtime_ns
    assert records()[0].files["1/model.onnx"] == hashlib.sha256(b"43").hexdigest()


def test_hashes_of_files_that_were_just_written_are_not_kept(records, tmp_path):
    records()
    assert not (tmp_path / "cache/model-hashes.json").exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}'])
def test_a_spoilt_file_of_hashes_is_written_anew(records, tmp_path, monkeypatch, text):
    monkeypatch.setattr(digests, "_tick_s", lambda path: -1.0)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/model-hashes.json").write_text(text)
    assert records()[0].files["1/model.onnx"] == SHA256_OF_42
    assert len(json.loads((tmp_path / "cache/model-hashes.json").read_text())) == 2
