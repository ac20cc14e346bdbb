"""A model from elsewhere: what of it would run, and what leads out of its folder."""

import io
import os
import pickle
import shutil
import socket
import zipfile

import pytest

from clara_wf.models.add import add_model
from clara_wf.models.check import check_model
from clara_wf.models.onnx_tensors import read_tensors
from clara_wf.models.plain_files import require_plain
from clara_wf.models.repository import TRUSTED
from clara_wf.models.runnable_files import code_in
from clara_wf.models.trust import require_trust
from stages.errors import InputError
from stages.lifecycle.outputs import file_sha256
from tests.onnx_models import add_model as make_model

KIND = {"image": (1, -1, -1, -1), "scores": (3, -1, -1, -1), "window_shape": [32, 64, 64]}
ROOM = 1 << 40


@pytest.fixture
def model(tmp_path):
    """Return the folder of a model that brings nothing along."""
    return make_model(tmp_path / "made", "liver", **KIND)


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def archive(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name in names:
            made.writestr(name, "")
    return content.getvalue()


RUNS = {
    "1/model.py": (b"open('/tmp/x', 'w')", "a program"),
    "1/__pycache__/model.cpython-311.pyc": (b"", "a program"),
    "1/run.sh": (b"", "a program"),
    "1/weights": (b"#!/bin/sh\n", "a program"),
    "1/libtriton_x.so": (b"", "a library"),
    "1/libcustom.so.1": (b"", "a library"),
    "1/weights.dat": (b"\x7fELF\x02", "a library"),
    "1/model.pt": (pickle.dumps({"a": 1}), "a pickle"),
    "1/model.pth": (archive("m/data.pkl", "m/data/0"), "a pickle of PyTorch"),
    "1/labels.bin": (pickle.dumps([1]), "a pickle"),
    "1/x.joblib": (b"", "a pickle"),
    "1/env.zip": (archive("a/b.py"), "an archive"),
    "configs/inference.json": (b'{"net": {"_target_": "os.system"}}', "a configuration that names functions"),
    "configs/inference.yaml": (b"x: $import os\n", "a configuration that names functions"),
    "configs/far.json": (b" " * ((1 << 20) - 3) + b'"_target_"', "a configuration that names functions"),
}


@pytest.mark.parametrize("name", RUNS)
def test_what_would_run_is_told_with_its_size_and_digest_and_refused(model, name):
    content, why = RUNS[name]
    file = model / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    (code,) = code_in(model)
    assert (code.path, code.size, code.sha256) == (name, len(content), file_sha256(file))
    assert code.why.startswith(why)
    with pytest.raises(
        InputError, match=rf"(?s)look.*\n  {name}, {len(content)} bytes, SHA-256 {code.sha256}: "
    ):
        require_trust(model, trusted=False, print_line=print, advice="look")


QUIET = {
    "1/script.pt": archive("m/constants.pkl", "m/code/__torch__.py", "m/data.pkl"),
    "README.md": b"run model.py",
    "labels.json": b'{"$schema": "x", "price": "5 $"}',
    "1/weights.bin": bytes(100),
    ".git/hooks/x.py": b"",
}


@pytest.mark.parametrize("name", QUIET)
def test_what_runs_nothing_wants_no_trust(model, name):
    (model / name).parent.mkdir(parents=True, exist_ok=True)
    (model / name).write_bytes(QUIET[name])
    assert code_in(model) == []


def configured(model, *lines):
    config = model / "config.pbtxt"
    config.write_text(config.read_text().replace('backend: "onnxruntime"', "") + "\n".join(lines))


@pytest.mark.parametrize(
    "line",
    [
        *(
            'backend: "python"',
            'backend: "Dali"',
            'runtime: "x.bin"',
            'model_operations { op_library_filename: "x" }',
        ),
        'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "env.tar.gz" } }',
    ],
)
def test_a_configuration_that_has_something_run_is_told(model, line):
    configured(model, line)
    assert [code.path for code in code_in(model)] == ["config.pbtxt"]


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ('name: "../../x"', "name"),
        ('default_model_filename: "/etc/passwd"', "default_model_filename"),
        ('cc_model_filenames { key: "7.5" value: "a/../../b" }', "cc_model_filenames.7.5"),
        ('parameters { key: "x" value { string_value: "/opt/x" } }', "parameters.x.string_value"),
        ('parameters { key: "x" value { string_value: "C:\\\\x" } }', "parameters.x.string_value"),
    ],
)
def test_a_configuration_that_leads_out_of_the_folder_is_refused(model, line, where):
    configured(model, line)
    with pytest.raises(InputError, match=rf"config\.pbtxt: {where} is .*leads out of the model's folder"):
        require_plain(model, room_bytes=ROOM)


def listening(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def sparse(path):
    with path.open("wb") as file:
        file.truncate(10 << 40)


ODD = {
    "a link out": (
        lambda path: path.symlink_to("/etc/passwd"),
        "is a symbolic link to /etc/passwd, which is no",
    ),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "is a symbolic link to /dev/zero"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "is a symbolic link to nowhere"),
    "a link to a folder": (lambda path: path.symlink_to("."), "is a symbolic link to"),
    "a loop": (lambda path: path.symlink_to(path.name), "is a symbolic link"),
    "a FIFO": (os.mkfifo, "is a FIFO"),
    "a socket": (listening, "is a socket"),
    "ten TiB": (sparse, r"has more than 10995116\d+ bytes up to 1/extra, and the repository has room for"),
    "a hard link": (lambda path: os.link(path.with_name("model.onnx"), path), "is a hard link"),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_file_of_the_folder_is_refused_also_when_its_code_is_trusted(
    model, repository, tmp_path, what
):
    make, told = ODD[what]
    make(model / "1/extra")
    with pytest.raises(InputError, match=told):
        add_model(model, repository, cache=tmp_path, print_line=print, trust_code=True)
    assert os.listdir(repository) == []


def test_a_model_of_ours_that_links_to_something_elsewhere_is_not_checked(model, tmp_path):
    (model / "1/extra").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is a symbolic link to /dev/zero, which is no file of this folder"):
        check_model("liver", model.parent, cache=tmp_path, print_line=print, trust_code=True)


def test_a_link_within_the_folder_is_code_of_somebody_and_is_copied_as_a_file_when_trusted(
    model, repository, tmp_path
):
    (model / "1/model.onnx").rename(model / "1/real.onnx")
    (model / "1/model.onnx").symlink_to("real.onnx")
    with pytest.raises(InputError, match=r"1/model\.onnx, .*: a symbolic link to real\.onnx"):
        add_model(model, repository, cache=tmp_path, print_line=print)
    assert os.listdir(repository) == []


def test_trust_is_recorded_beside_the_model_and_counts_until_the_file_changes(model):
    said = []
    (model / "1/model.py").write_text("1")
    require_trust(model, trusted=True, print_line=said.append, advice="")
    assert said == [f"trusted, and will run: {code_in(model)[0]}"]
    require_trust(model, trusted=False, print_line=said.append, advice="")
    (model / "1/model.py").write_text("2")
    with pytest.raises(InputError, match=r"1/model\.py, 1 bytes"):
        require_trust(model, trusted=False, print_line=said.append, advice="")


def test_a_model_that_says_of_itself_that_it_is_trusted_is_not(model, repository, tmp_path):
    (model / "1/model.py").write_text("1")
    require_trust(model, trusted=True, print_line=print, advice="")
    assert (model / TRUSTED).exists()
    with pytest.raises(InputError, match="would run programs of its own"):
        add_model(model, repository, cache=tmp_path, print_line=print)


def test_weights_beside_an_onnx_file_that_are_a_link_are_refused(tmp_path, repository):
    from tests.clara_wf.models.test_onnx_tensors import with_weights

    with_weights(onnx := tmp_path / "x.onnx", external=True)
    (weights,) = read_tensors(onnx).weight_files
    shutil.move(tmp_path / weights, tmp_path / "elsewhere")
    (tmp_path / weights).symlink_to("elsewhere")
    with pytest.raises(InputError, match="is a symbolic link to elsewhere"):
        add_model(onnx, repository, cache=tmp_path, print_line=print)


def outside(where):
    """Return an ONNX model that has weights in /etc/passwd, but not among its initializers."""
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=1, dims=[256], data_location=1)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    body = helper.make_graph([constant], "body", [], [])
    nodes = {"node": [constant], "body": [helper.make_node("If", ["c"], ["y"], then_branch=body)]}
    functions = [helper.make_function("d", "f", [], ["w"], [constant], [])] if where == "function" else []
    x = helper.make_tensor_value_info("x", 1, [1])
    graph = helper.make_graph(nodes.get(where, []), "g", [x], [x])
    return helper.make_model(graph, functions=functions)


@pytest.mark.parametrize("where", ["node", "body", "function"])
def test_weights_elsewhere_are_refused_wherever_the_model_names_them(tmp_path, where):
    (tmp_path / "x.onnx").write_bytes(outside(where).SerializeToString())
    with pytest.raises(InputError, match="its weights lie in '/etc/passwd'; expected a file beside it"):
        read_tensors(tmp_path / "x.onnx")
