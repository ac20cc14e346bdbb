"""The embedded server's engines answer ONNX models alike, whichever is chosen, and say why."""

import contextlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from clara_wf.model_server.installation import BACKENDS, install

BACKEND = BACKENDS / "onnxruntime"
ROOT = Path(__file__).parents[3]
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
TYPES = {
    "float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8", "int64": "TYPE_INT64",
    "float64": "TYPE_FP64", "int32": "TYPE_INT32",
}  # fmt: skip


def model_of(nodes, constants=(), *, of=FLOAT, to=FLOAT, opset=17, rank=5):
    """Return a model from x to y whose sizes are all free but two channels."""
    x = helper.make_tensor_value_info("x", of, ["batch", 2, *"zyx"[5 - rank :]])
    y = helper.make_tensor_value_info("y", to, None)
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()]
    graph = helper.make_graph(nodes, "graph", [x], [y], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def one(operator, *, of=FLOAT, to=FLOAT, opset=17, rank=5, constants=(), **attributes):
    """Return a model of one operator."""
    node = helper.make_node(operator, ["x", *dict(constants)], ["y"], **attributes)
    return model_of([node], constants, of=of, to=to, opset=opset, rank=rank)


def weights(*shape, seed=3, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def resized(mode, coordinates, nearest="floor", opset=17, **attributes):
    scales = {"roi": np.float32([]), "scales": np.float32([1, 1, 2, 1.5, 0.6][: 4 if mode == "cubic" else 5])}
    return one(
        "Resize", constants=scales, rank=4 if mode == "cubic" else 5, mode=mode, opset=opset,
        coordinate_transformation_mode=coordinates, nearest_mode=nearest, **attributes,
    )  # fmt: skip


SCALES = {"scale": weights(2), "bias": weights(2, seed=4)}
EXOTIC = {
    "linear": resized("linear", "half_pixel"),
    "corners": resized("linear", "align_corners"),
    "nearest": resized("nearest", "asymmetric", "round_prefer_ceil"),
    "cubic": resized("cubic", "align_corners", exclude_outside=1),
    "antialias": resized("linear", "half_pixel", opset=18, antialias=1),
    "instance norm": one("InstanceNormalization", constants=SCALES, epsilon=1e-3),
    "group norm": one("GroupNormalization", constants=SCALES, opset=21, num_groups=1),
    "transposed": one(
        "ConvTranspose", constants={"w": weights(2, 3, 3, 3, 3)}, strides=[2, 2, 2], pads=[1] * 6,
        output_padding=[1, 1, 1],
    ),
    "transposed same": one(
        "ConvTranspose", constants={"w": weights(2, 3, 3, 3, 3)}, strides=[2, 2, 2], auto_pad="SAME_UPPER"
    ),
    "softmax": one("Softmax", axis=1),
    "softmax of all axes": one("Softmax", opset=11, axis=1),
    "labels": one("ArgMax", to=TensorProto.INT64, axis=1),
    "labels in bytes": model_of(
        [
            helper.make_node("ArgMax", ["x"], ["index"], axis=1, keepdims=0),
            helper.make_node("Cast", ["index"], ["y"], to=TensorProto.UINT8),
        ],
        to=TensorProto.UINT8,
    ),
    "relu": one("Relu"),
    "pool": one("MaxPool", kernel_shape=[3, 3, 3], strides=[2, 2, 2], ceil_mode=1),
    "pool counting": one(
        "AveragePool", kernel_shape=[3, 3, 3], strides=[2, 2, 2], ceil_mode=1, pads=[1] * 6,
        count_include_pad=1,
    ),
    "wrapped": one("Pad", constants={"p": np.int64([0, 0, 1, 1, 2, 0, 0, 1, 2, 0])}, opset=19, mode="wrap"),
    "half": one("InstanceNormalization", of=HALF, to=HALF, constants={
        "scale": weights(2, dtype=np.float16), "bias": weights(2, seed=4, dtype=np.float16)}),
    "large numbers": model_of(
        [
            helper.make_node("Mul", ["x", "many"], ["m"]),
            helper.make_node("Cast", ["m"], ["y"], to=TensorProto.INT64),
        ],
        {"many": np.float32(3e9)},
        to=TensorProto.INT64,
    ),
    "bytes": model_of(
        [
            helper.make_node("Mul", ["x", "many"], ["m"]),
            helper.make_node("Cast", ["m"], ["y"], to=TensorProto.UINT8),
        ],
        {"many": np.float32(60)},
        to=TensorProto.UINT8,
    ),
    "other windows": model_of(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ]
    ),
    "divided by its deviation": model_of(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3, 4]),
            helper.make_node("Sub", ["x", "mean"], ["apart"]),
            helper.make_node("ReduceL2", ["apart"], ["size"], axes=[2, 3, 4]),
            helper.make_node("Div", ["apart", "size"], ["z"]),
            helper.make_node("Relu", ["z"], ["y"]),
        ]
    ),
    "running sum": one("CumSum", constants={"axis": np.int64(0)}),
    "double inside": model_of(
        [
            helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
            helper.make_node("Add", ["d", "much"], ["e"]),
            helper.make_node("Sub", ["e", "much"], ["f"]),
            helper.make_node("Cast", ["f"], ["y"], to=FLOAT),
        ],
        {"much": np.float64(1e9)},
    ),
}  # fmt: skip
NOT_OPENVINO = {
    "divided by its deviation": "y of a blank window is not finite elsewhere",
    "cubic": "differs",
    "antialias": "differs",
    "transposed same": "instead of",
    "softmax of all axes": "differs",
    "pool counting": "differs",
    "wrapped": "could not read",
    "large numbers": "differ",
    "bytes": "differ",
    "other windows": "differs",
    "running sum": "differs",
    "double inside": "64 bits",
}


def config_of(model, *, name="m", batch=4, window=(16, 24, 24), **parameters):
    """Return a model's configuration as Triton gives it."""
    x, y = model.graph.input[0], model.graph.output[0]
    rank = len(x.type.tensor_type.shape.dim)
    kinds = [helper.tensor_dtype_to_np_dtype(each.type.tensor_type.elem_type).name for each in (x, y)]
    given = {"window_shape": json.dumps(window), "intra_op_thread_count": "1", **parameters}
    return {
        "name": name,
        "max_batch_size": batch,
        "input": [{"name": "x", "data_type": TYPES[kinds[0]], "dims": ["2", *["-1"] * (rank - 2)]}],
        "output": [{"name": "y", "data_type": TYPES[kinds[1]], "dims": ["-1"]}],
        "parameters": {key: {"string_value": value} for key, value in given.items()},
    }


@pytest.fixture(scope="module")
def choose(triton_cache, tmp_path_factory):
    """Return a function that lets the server's Python choose engines and answer; a list of jobs at once."""
    installation = install(triton_cache, on_progress=print)

    def choose(*jobs, environ=None):
        folder = tmp_path_factory.mktemp("jobs")
        told = []
        for n, (model, config, *inputs) in enumerate(jobs):
            (folder / str(n)).mkdir()
            path = folder / str(n) / "model.onnx"
            path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
            names = [str(folder / str(n) / f"{k}.npy") for k in range(len(inputs))]
            for name, array in zip(names, inputs, strict=True):
                np.save(name, array)
            told.append({"path": str(path), "config": config, "environ": environ or {}, "inputs": names})
        (folder / "jobs.json").write_text(json.dumps(told))
        script = Path(__file__).with_name("engine_answers.py")
        done = subprocess.run(
            [installation.python_bin / "python", "-W", "error", script, BACKEND, folder / "jobs.json"],
            capture_output=True, text=True, env={"PATH": os.defpath},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        results = json.loads(done.stdout)
        for job, result in zip(told, results, strict=True):
            result["answers"] = [np.load(f"{name}.answer.npy") for name in job["inputs"] if "name" in result]
        return results

    return choose


def random(model, *shape, seed=11):
    kind = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    rank = len(model.graph.input[0].type.tensor_type.shape.dim)
    return np.random.default_rng(seed).normal(size=(*shape[:2], *shape[7 - rank :])).astype(kind)


@pytest.fixture(scope="module")
def answered(choose):
    """Return what was chosen for each exotic model, with windows other than the one that was compared."""
    shapes = (3, 2, 33, 36, 40), (1, 2, 8, 9, 7)
    jobs = {
        name: (model, config_of(model), *(random(model, *shape) for shape in shapes))
        for name, model in EXOTIC.items()
    }
    chosen = dict(zip(jobs, choose(*jobs.values()), strict=True))
    return {name: (chosen[name], jobs[name]) for name in jobs}


@pytest.mark.triton
@pytest.mark.parametrize("name", EXOTIC)
def test_an_exotic_model_is_answered_as_by_onnxruntime_or_by_it(answered, name):
    chosen, (model, _, *inputs) = answered[name]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for x, found in zip(inputs, chosen["answers"], strict=True):
        (wanted,) = session.run(["y"], {"x": x})
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        tolerance = 1e-2 if found.dtype == np.float16 else 1e-3
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * float(np.abs(wanted).max()))


@pytest.mark.triton
@pytest.mark.parametrize("name", EXOTIC)
def test_openvino_answers_where_it_answers_alike_and_else_a_line_says_why(answered, name):
    chosen, _ = answered[name]
    if name not in NOT_OPENVINO:
        assert chosen["name"].startswith("OpenVINO ")
        assert chosen["log"] == ""
    else:
        assert chosen["name"].startswith("ONNX Runtime ")
        assert chosen["log"].startswith("model m is not answered by openvino: ")
        assert NOT_OPENVINO[name] in chosen["log"]
        assert chosen["log"].count("\n") == 1


LIVER = ROOT / "models/segmentation_liver_v1/1/model.onnx"


def liver_config(**parameters):
    tensors = {
        "input": [{"name": "image", "data_type": "TYPE_FP32", "dims": ["1", "-1", "-1", "-1"]}],
        "output": [{"name": "scores", "data_type": "TYPE_FP32", "dims": ["3", "-1", "-1", "-1"]}],
    }
    given = {"window_shape": "[32, 48, 48]", **parameters}
    texts = {key: {"string_value": value} for key, value in given.items()}
    return {"name": "liver", "max_batch_size": 4, **tensors, "parameters": texts}


@pytest.fixture(scope="module")
def liver(choose):
    """Return windows, ONNX Runtime's answers and those of OpenVINO in single precision and in bfloat16."""
    windows = np.random.default_rng(0).random((2, 1, 32, 48, 48), np.float32)
    jobs = [
        (LIVER.read_bytes(), liver_config(**given), windows)
        for given in ({"engine": "onnxruntime"}, {}, {"precision": '"bf16"'})
    ]
    return choose(*jobs)


@pytest.mark.triton
def test_logits_of_the_reference_model_are_those_of_onnxruntime_to_a_thousandth(liver):
    reference, single, _ = liver
    assert single["name"].endswith("on the CPU in f32")
    assert np.abs(single["answers"][0] - reference["answers"][0]).max() < 1e-3


@pytest.mark.triton
def test_bfloat16_is_used_where_the_model_allows_it_and_the_processor_multiplies_it(liver):
    reference, _, brief = liver
    has_units = "amx_bf16" in Path("/proc/cpuinfo").read_text().split()
    assert brief["name"].endswith("in bf16" if has_units else "in f32")
    found, wanted = brief["answers"][0], reference["answers"][0]
    assert (found.argmax(1) != wanted.argmax(1)).mean() < 1e-3
    assert np.abs(found - wanted).max() < 0.01 * np.abs(wanted).max()


LINE = model_of(
    [helper.make_node("Mul", ["x", "two"], ["m"]), helper.make_node("Add", ["m", "one"], ["y"])],
    {"two": np.float32(2), "one": np.float32(1)},
)


@pytest.mark.triton
def test_later_answers_leave_earlier_ones_alone(choose):
    inputs = [np.full((batch, 2, 20, 40, 40), n, np.float32) for n, batch in enumerate((1, 3, 1, 2, 1))]
    (chosen,) = choose((LINE, config_of(LINE), *inputs))
    assert chosen["name"].startswith("OpenVINO")
    assert [answer.min() for answer in chosen["answers"]] == [1, 3, 5, 7, 9]
    assert [answer.max() for answer in chosen["answers"]] == [1, 3, 5, 7, 9]


@pytest.mark.triton
def test_what_is_not_a_number_stays_so(choose):
    model, x = EXOTIC["relu"], np.float32([[[[[np.nan, -1, 2]]], [[[np.inf, -np.inf, 3]]]]])
    (chosen,) = choose((model, config_of(model), x))
    assert chosen["name"].startswith("OpenVINO")
    np.testing.assert_array_equal(chosen["answers"][0].ravel(), [np.nan, 0, 2, np.inf, 0, 3])


@pytest.mark.triton
def test_a_window_that_openvino_refuses_is_answered_all_the_same(choose):
    model, x = EXOTIC["pool"], np.ones((1, 2, 1, 1, 1), np.float32)
    (chosen,) = choose((model, config_of(model), x))
    (wanted,) = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {"x": x})
    assert chosen["name"].startswith("OpenVINO")
    assert chosen["answers"][0].shape == wanted.shape


@pytest.mark.triton
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_models_of_any_batch_are_answered(choose, batch):
    x = np.random.default_rng(2).normal(size=(max(1, batch), 2, 33, 32, 32)).astype(np.float32)
    config = config_of(LINE, batch=batch)
    if batch == 0:
        config["input"][0]["dims"] = ["-1", *config["input"][0]["dims"]]
    (chosen,) = choose((LINE, config, x))
    assert chosen["name"].startswith("OpenVINO")
    np.testing.assert_allclose(chosen["answers"][0], 2 * x + 1, rtol=1e-6)


TWO_INPUTS = """
import json, sys, types
from pathlib import Path
sys.path.insert(0, sys.argv[1])
sys.modules["triton_python_backend_utils"] = types.ModuleType("utilities")
import numpy as np
from engines import comparison, openvino
comparison._VERDICTS = Path(sys.argv[2]).with_name("compared")
openvino.as_array, openvino.as_tensor = lambda tensor: tensor, lambda name, array: array
engine = openvino.OpenvinoEngine(Path(sys.argv[2]), json.loads(sys.argv[3]))
many = np.random.default_rng(0).random((3, 1, 40, 40, 40), np.float32)
(y,) = engine.run(["y"], {"x": many, "w": many[:1]})
print(np.abs(y - (many + many[:1])).max())
try:
    engine.run(["y"], {"x": many})
except Exception as error:
    print(error)
"""


@pytest.mark.triton
@pytest.mark.parametrize("batch", ["batch", 3])
def test_inputs_of_which_one_lacks_or_has_another_batch_are_not_made_up(triton_cache, tmp_path, batch):
    sizes = [batch, 1, *([40] * 3 if batch == 3 else "zyx")]
    inputs = [helper.make_tensor_value_info("x", FLOAT, sizes)]
    inputs += [helper.make_tensor_value_info("w", FLOAT, [1, *sizes[1:]] if batch == 3 else sizes)]
    outputs = [helper.make_tensor_value_info("y", FLOAT, None)]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "graph", inputs, outputs)
    opsets = [helper.make_opsetid("", 17)]
    (tmp_path / "1").mkdir()
    path = tmp_path / "1/model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    dims = [[1, -1, -1, -1]] * 2 if batch == "batch" else [sizes, [1, *sizes[1:]]]
    config = {
        "name": "m",
        "max_batch_size": 4 if batch == "batch" else 0,
        "input": [
            {"name": name, "data_type": "TYPE_FP32", "dims": each}
            for name, each in zip("xw", dims, strict=True)
        ],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": dims[0]}],
    }
    python = install(triton_cache, on_progress=print).python_bin / "python"
    command = [python, "-c", TWO_INPUTS, BACKEND, path, json.dumps(config)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.defpath})
    difference, refusal = done.stdout.splitlines()
    assert float(difference) < 1e-6
    assert "['w']" in refusal


@pytest.mark.triton
def test_whole_numbers_go_to_onnxruntime(choose):
    model = one("Abs", of=TensorProto.INT64, to=TensorProto.INT64)
    (chosen,) = choose((model, config_of(model)))
    assert chosen["name"].startswith("ONNX Runtime")
    assert chosen["log"] == "model m is not answered by openvino: input 'x' is TYPE_INT64\n"


@pytest.mark.triton
def test_one_engine_may_be_asked_for_by_the_model_or_the_environment(choose):
    by_model, wrong, unfit = choose(
        (LINE, config_of(LINE, engine="onnxruntime")),
        (LINE, config_of(LINE, engine="tensorrt")),
        (EXOTIC["bytes"], config_of(EXOTIC["bytes"], engine="openvino")),
    )
    assert by_model["name"].startswith("ONNX Runtime")
    assert wrong["error"] == "there is no engine 'tensorrt'; there are openvino, onnxruntime, cuda"
    assert re.match("engine 'openvino' is not for this model: .* of y differ", unfit["error"])
    (by_environment,) = choose((LINE, config_of(LINE)), environ={"CLARA_ONNX_ENGINE": "onnxruntime"})
    assert by_environment["name"].startswith("ONNX Runtime")


@pytest.mark.triton
def test_openvino_comes_without_what_would_report_its_use(triton_cache):
    python = install(triton_cache, on_progress=print).python_bin / "python"
    code = (
        "import importlib.util as u, openvino; print(openvino.__path__[0], u.find_spec('openvino_telemetry'))"
    )
    folder, telemetry = subprocess.check_output([python, "-c", code], text=True).split()
    assert telemetry == "None"
    assert not [path for path in Path(folder).rglob("*.py") if "telemetry" in path.name]


@pytest.mark.triton
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_an_answer_of_openvino_opens_no_connection(triton_cache, tmp_path):
    python = install(triton_cache, on_progress=print).python_bin / "python"
    code = (
        "import sys, openvino as ov; "
        "model = ov.Core().compile_model(sys.argv[1], 'CPU'); "
        "print(model(ov.Tensor(ov.Type.f32, ov.Shape([1, 1, 16, 16, 16])))[0].shape)"
    )
    command = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=%network",
        "-o",
        tmp_path / "trace",
        python,
        "-c",
        code,
        LIVER,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if "ptrace" in done.stderr.lower():
        pytest.skip(done.stderr.strip())
    assert done.stdout == "(1, 3, 16, 16, 16)\n"
    assert "socket(" not in (tmp_path / "trace").read_text()


class Otherwise:
    """An engine that doubles and adds one, or as much more, and counts how often it is asked."""

    name, precision = "test", "f32"

    def __init__(self, more=0.0):
        self.more, self.asked = more, 0

    def answer(self, names, arrays):
        self.asked += 1
        return [2 * arrays["x"] + np.float32(1 + self.more)]


@pytest.fixture
def comparison(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BACKEND))
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", types.ModuleType("utilities"))
    module = importlib.import_module("engines.comparison")
    monkeypatch.setattr(module, "_VERDICTS", tmp_path / "compared")
    yield module
    for name in [each for each in sys.modules if each.partition(".")[0] == "engines"]:
        del sys.modules[name]


@pytest.fixture
def line(tmp_path):
    (tmp_path / "1").mkdir()
    path = tmp_path / "1/model.onnx"
    path.write_bytes(LINE.SerializeToString())
    return path


@pytest.mark.parametrize(("more", "differs"), [(0.001, False), (0.1, True), (np.nan, True)])
def test_an_engine_that_answers_otherwise_answers_nothing(comparison, line, more, differs):
    with pytest.raises(Exception, match="y") if differs else contextlib.nullcontext():
        comparison.require_same_answers(Otherwise(more), line, config_of(LINE))


def test_a_model_is_compared_once_and_again_when_it_has_changed(comparison, line):
    engine = Otherwise()
    config = config_of(LINE, precision='"f32"')
    turned = {**config, "parameters": dict(reversed(config["parameters"].items()))}
    counts = []
    for given in (config, config, turned, {**config, "max_batch_size": 1}):
        comparison.require_same_answers(engine, line, given)
        counts.append(engine.asked)
    os.utime(line, ns=(1, 1))
    comparison.require_same_answers(engine, line, config)
    assert (counts, engine.asked) == ([3, 3, 3, 5], 8)


def test_a_window_that_would_fill_the_memory_is_not_tried(comparison, line):
    engine = Otherwise()
    config = config_of(LINE, window=(1000, 1000, 1000))
    with pytest.raises(comparison.UnfitError, match="too large to be compared by"):
        comparison.require_same_answers(engine, line, config)
    assert engine.asked == 0


def test_what_was_refused_is_refused_again_for_the_same_reason(comparison, line):
    reasons = []
    for more in (0.1, 0):
        with pytest.raises(Exception, match="y differs") as refusal:
            comparison.require_same_answers(Otherwise(more), line, config_of(LINE))
        reasons.append(str(refusal.value))
    assert reasons[0] == reasons[1]


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b'{"difference": ', b"[]", b'"y differs"'])
def test_a_verdict_that_was_not_written_to_its_end_is_none(comparison, line, text):
    with pytest.raises(Exception, match="y differs"):
        comparison.require_same_answers(Otherwise(0.1), line, config_of(LINE))
    (verdict,) = comparison._VERDICTS.iterdir()
    verdict.write_bytes(text)
    assert comparison.known_difference(Otherwise(0.1), line, config_of(LINE)) is None
    with pytest.raises(Exception, match="y differs"):
        comparison.require_same_answers(Otherwise(0.1), line, config_of(LINE))
