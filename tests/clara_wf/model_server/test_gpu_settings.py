"""The embedded model server with a GPU that a test pretends to have, and without."""

import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from clara_wf.model_server import server as model_server
from clara_wf.model_server.gpu_settings import usable_gpu, view_of
from clara_wf.model_server.guard import SHARED_MEMORY, server_environ
from clara_wf.model_server.installation import (
    BACKENDS,
    Installation,
    assemble_backends,
    install,
    installation_in,
)
from clara_wf.model_server.server import ModelServerError, serve

FORCE = "FORCE_CPU_ONLY_INPUT_TENSORS"


@pytest.fixture
def repository(tmp_path):
    def with_config(text):
        folder = tmp_path / "models/line"
        folder.mkdir(parents=True)
        (folder / "config.pbtxt").write_text(text)
        return folder.parent

    return with_config


def seen(repository, *, on_gpu):
    """Return what the server reads of the model, and whether it differs from the repository's."""
    text = view_of(repository, on_gpu=on_gpu).get("line")
    if text is None:
        return None
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_model_that_says_nothing_has_one_instance_and_its_inputs_on_the_first_gpu(repository):
    config = seen(repository('backend: "onnxruntime" max_batch_size: 4'), on_gpu=True)
    (group,) = config.instance_group
    assert (group.kind, group.count, list(group.gpus)) == (type(group).KIND_GPU, 1, [0])
    assert config.parameters[FORCE].string_value == "no"
    assert config.max_batch_size == 4


@pytest.mark.parametrize(
    ("group", "kind", "count", "gpus"),
    [
        ("kind: KIND_GPU count: 2 gpus: [ 1 ]", "KIND_GPU", 2, [1]),
        ("count: 3", "KIND_GPU", 3, []),
        ("kind: KIND_GPU", "KIND_GPU", 0, []),
    ],
)
def test_instances_are_where_and_as_many_as_the_model_says(repository, group, kind, count, gpus):
    config = seen(repository(f'backend: "onnxruntime" instance_group [ {{ {group} }} ]'), on_gpu=True)
    (found,) = config.instance_group
    assert (type(found).Kind.Name(found.kind), found.count, list(found.gpus)) == (kind, count, gpus)
    assert config.parameters[FORCE].string_value == "no"


@pytest.mark.parametrize(
    "text",
    [
        'backend: "onnxruntime" instance_group [ { kind: KIND_CPU } ]',
        'backend: "onnxruntime" instance_group [ { kind: KIND_GPU }, { kind: KIND_CPU } ]',
        'backend: "python"',
        'platform: "ensemble"',
        'backend: "onnxruntime" max_bach_size: 4',
        "",
    ],
)
def test_what_is_not_for_the_gpu_is_served_as_it_is(repository, text):
    assert seen(repository(text), on_gpu=True) is None


def test_model_that_wants_its_inputs_on_the_host_gets_them_there(repository):
    parameters = f'parameters {{ key: "{FORCE}" value {{ string_value: "yes" }} }}'
    config = seen(repository(f'backend: "onnxruntime" {parameters}'), on_gpu=True)
    assert config.parameters[FORCE].string_value == "yes"


def test_model_for_a_gpu_is_on_the_cpu_where_there_is_none(repository):
    folder = repository(
        'platform: "onnxruntime_onnx" instance_group [ { kind: KIND_GPU gpus: [ 1 ] count: 2 } ]'
    )
    (group,) = seen(folder, on_gpu=False).instance_group
    assert (group.kind, group.count, list(group.gpus)) == (type(group).KIND_CPU, 2, [])


def test_without_a_gpu_other_models_are_served_as_they_are(repository):
    assert seen(repository('backend: "onnxruntime"'), on_gpu=False) is None


def test_machine_without_a_gpu_has_nothing_to_say():
    assert usable_gpu({"CLARA_GPU": "off"}) == (None, "")


def test_installations_for_gpu_and_cpu_lie_apart(tmp_path):
    on_gpu, on_cpu = installation_in(tmp_path, gpu=True), installation_in(tmp_path)
    assert on_gpu.folder != on_cpu.folder
    assert on_gpu.folder.name.startswith("triton-2.51.0-gpu-py3.")


@pytest.fixture
def pretended(monkeypatch, triton_cache):
    """Pretend a GPU, whose installation is that of the CPU."""
    monkeypatch.setattr(model_server, "usable_gpu", lambda environ: ("an H200", ""))
    folder = install(triton_cache, on_progress=print).folder
    monkeypatch.setattr(
        model_server, "install", lambda cache, *, on_progress, gpu=False: Installation(folder=folder, gpu=gpu)
    )


@pytest.mark.triton
def test_server_that_does_not_start_with_the_gpu_answers_from_the_cpu_and_says_why(
    add_model, pretended, triton_cache, tmp_path
):
    config = add_model(tmp_path / "models") / "config.pbtxt"
    config.write_text(config.read_text().replace("KIND_CPU", "KIND_GPU"))
    said = []
    with serve(
        tmp_path / "models", cache=triton_cache, log=tmp_path / "log", on_progress=said.append
    ) as server:
        assert not server.on_gpu
        with grpc.InferenceServerClient(server.grpc_url) as client:
            assert client.is_model_ready("line")
    assert len(said) == 1
    assert said[0].startswith("the model server answers from the CPU: ")
    assert str(tmp_path / "log.gpu") in said[0]
    assert (tmp_path / "log.gpu").is_file()


@pytest.mark.triton
def test_installation_for_the_gpu_that_fails_leaves_that_for_the_cpu(
    add_model, pretended, triton_cache, tmp_path, monkeypatch
):
    works = model_server.install

    def install_for(cache, *, on_progress, gpu=False):
        if gpu:
            raise ModelServerError("could not fetch the packages")
        return works(cache, on_progress=on_progress)

    monkeypatch.setattr(model_server, "install", install_for)
    add_model(tmp_path / "models")
    said = []
    with serve(
        tmp_path / "models", cache=triton_cache, log=tmp_path / "log", on_progress=said.append
    ) as server:
        assert not server.on_gpu
    assert said == ["the model server answers from the CPU: could not fetch the packages"]


@pytest.mark.triton
def test_every_step_of_the_gpus_engine_but_the_gpu_is_served(add_model, triton_cache, tmp_path, monkeypatch):
    shutil.copytree(BACKENDS, tmp_path / "backends")
    choice = tmp_path / "backends/onnxruntime/engines/__init__.py"
    text = choice.read_text().replace("import OpenvinoEngine", "import OnnxCudaEngine")
    text = text.replace("from .openvino", "from .onnx_cuda")
    choice.write_text(
        text.replace("OpenvinoEngine(path, config)", 'OnnxCudaEngine(path, config, 0, on="cpu")')
    )
    monkeypatch.setattr(
        model_server, "assemble_backends", partial(assemble_backends, sources=tmp_path / "backends")
    )
    config = add_model(tmp_path / "models", max_batch_size=4) / "config.pbtxt"
    window = 'parameters [ { key: "window_shape" value: { string_value: "[7]" } } ]'
    config.write_text(
        config.read_text() + window + '\nparameters [ { key: "X" value: { string_value: "1" } } ]'
    )
    x = np.arange(21, dtype=np.float32).reshape(3, 1, 7)
    with (
        serve(tmp_path / "models", cache=triton_cache, log=tmp_path / "log", on_progress=print) as server,
        grpc.InferenceServerClient(server.grpc_url) as client,
    ):
        tensor = grpc.InferInput("x", list(x.shape), "FP32")
        for k in range(20):
            tensor.set_data_from_numpy(x + k)
            answer = client.infer("line", [tensor]).as_numpy("y")
            np.testing.assert_array_equal(answer, 2 * (x + k) + 1)
        name = client.get_server_metadata().name
    assert "x [4, 1, 7] warmed up in 0." in (tmp_path / "log").read_text()
    assert not list(SHARED_MEMORY.glob(f"{name}*"))


@pytest.mark.triton
def test_view_of_the_repository_leaves_nothing_behind(add_model, triton_cache, tmp_path):
    folder = add_model(tmp_path / "models")
    text = (folder / "config.pbtxt").read_text().replace("KIND_CPU", "KIND_GPU")
    (folder / "config.pbtxt").write_text(text)
    (folder / "labels.txt").write_text("kept")
    with serve(tmp_path / "models", cache=triton_cache, log=tmp_path / "log", on_progress=print) as server:
        with grpc.InferenceServerClient(server.grpc_url) as client:
            name = client.get_server_metadata().name
        view = Path(f"{SHARED_MEMORY}/{name}-repository/line")
        assert not view.is_symlink()
        assert (view / "labels.txt").read_text() == "kept"
    assert not view.exists()
    assert (folder / "config.pbtxt").read_text() == text
    assert (folder / "1/model.onnx").is_file()


@pytest.mark.parametrize(("on_gpu", "seen"), [(True, "1"), (False, "")])
def test_gpus_that_the_environment_leaves_visible_are_seen_only_by_a_server_that_uses_one(on_gpu, seen):
    environ = server_environ({"CUDA_VISIBLE_DEVICES": "1", "PATH": "/bin"}, "/python/bin", on_gpu=on_gpu)
    assert environ["CUDA_VISIBLE_DEVICES"] == seen
    assert environ["PATH"] == "/python/bin:/bin"


@pytest.mark.triton
def test_server_that_starts_with_the_gpu_says_so_and_sees_it(add_model, pretended, triton_cache, tmp_path):
    said = []
    add_model(tmp_path / "models")  # on the CPU, as its configuration says
    with serve(
        tmp_path / "models", cache=triton_cache, log=tmp_path / "log", on_progress=said.append
    ) as server:
        assert server.on_gpu
    (line,) = said
    assert re.fullmatch(r"the model server uses an H200, ready after \d+\.\d s", line)


@pytest.mark.triton
def test_view_follows_links_and_leaves_the_rest_of_the_repository_where_it_is(
    add_model, triton_cache, tmp_path
):
    repository, elsewhere = tmp_path / "my models; $(touch x)", tmp_path / "else where"
    (repository / "linked").parent.mkdir()
    (repository / "linked").symlink_to(add_model(elsewhere, "linked"))
    config = add_model(repository, "line") / "config.pbtxt"
    add_model(repository, "as it is")
    for path in (config, elsewhere / "linked/config.pbtxt"):
        path.write_text(
            path.read_text().replace("KIND_CPU", "KIND_GPU") + "# ünïcode, and no end of the line"
        )
    config.symlink_to(config.rename(elsewhere / "line.pbtxt"))
    (repository / "README.md").touch()
    (repository / ".hidden").mkdir()
    with (
        serve(
            repository,
            models=["line", "linked"],
            cache=triton_cache,
            log=tmp_path / "log",
            on_progress=print,
        ) as server,
        grpc.InferenceServerClient(server.grpc_url) as client,
    ):
        assert client.is_model_ready("line")
        assert client.is_model_ready("linked")
    assert sorted(path.name for path in repository.iterdir()) == [
        ".hidden",
        "README.md",
        "as it is",
        "line",
        "linked",
    ]
