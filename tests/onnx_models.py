"""Small ONNX models of every kind, whose answer is known: the class with the nearest intensity."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CENTRES = (0.1, 0.45, 0.7)  # background, liver, tumour of the phantom, on the scale of 0 to 1

DESCRIPTION = {
    "orientation": "SPL",
    "spacing_mm": "native",
    "intensity_clip_hu": [-100, 300],
    "intensity_scale": [0, 1],
    "padding_value_hu": -1000,
    "activation": "none",
    "channel_labels": [0, 1, 2],
}

CONFIG = """
backend: "onnxruntime"
max_batch_size: {batch}
input [ {{ name: "image" data_type: TYPE_{image_type} dims: [ {image} ] }} ]
output [ {{ name: "scores" data_type: TYPE_{scores_type} dims: [ {scores} ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
"""

_TYPES = {"FP32": TensorProto.FLOAT, "FP16": TensorProto.FLOAT16, "UINT8": TensorProto.UINT8}


def add_model(
    repository,
    name,
    *,
    image,
    scores,
    centres=CENTRES,
    kind="nearest",
    data_type="FP32",
    labels_type=None,
    batch=4,
    **description,
):
    """Add a model to a repository.

    Parameters
    ----------
    image, scores
        Dims of the tensors without the batch; -1 where they are free.
    kind
        ``nearest`` for scores by distance (``middle`` of the middle one of several channels), ``argmax`` for
        labels, ``sigmoid`` for logits above each centre.
    description
        Changes to the parameters; None leaves one out.
    """
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    last = scores[-1] == len(centres)
    onnx.save(
        _model(image, scores, centres, kind, data_type, labels_type, last=last), folder / "1/model.onnx"
    )
    text = CONFIG.format(
        batch=batch,
        image_type=data_type,
        scores_type=labels_type or data_type,
        image=", ".join(map(str, image)),
        scores=", ".join(map(str, scores)),
    )
    for key, value in {**DESCRIPTION, **description}.items():
        if value is not None:
            text += (
                f'parameters {{ key: "{key}" value: {{ string_value: {json.dumps(json.dumps(value))} }} }}\n'
            )
    (folder / "config.pbtxt").write_text(text)
    return folder


def _model(image, scores, centres, kind, data_type, labels_type, *, last):
    number = {"FP32": np.float32, "FP16": np.float16}[data_type]
    shape = [1] * (len(image) + 1)
    shape[-1 if last else 1] = len(centres)
    middle = numpy_helper.from_array(np.array(centres, number).reshape(shape), "centres")
    apart = helper.make_node("Sub", ["image", "centres"], ["apart"])
    constants = [middle]
    if kind == "middle":  # of a stack
        constants.append(numpy_helper.from_array(np.array([image[0] // 2]), "place"))
        nodes = [
            helper.make_node("Gather", ["image", "place"], ["of_middle"], axis=1),
            helper.make_node("Sub", ["of_middle", "centres"], ["apart"]),
            helper.make_node("Mul", ["apart", "apart"], ["square"]),
            helper.make_node("Neg", ["square"], ["scores"]),
        ]
    elif kind == "sigmoid":
        constants.append(numpy_helper.from_array(np.array(200, number), "steep"))
        nodes = [apart, helper.make_node("Mul", ["apart", "steep"], ["scores"])]
    else:
        square = helper.make_node("Mul", ["apart", "apart"], ["square"])
        nodes = [
            apart,
            square,
            helper.make_node("Neg", ["square"], ["scores" if kind == "nearest" else "near"]),
        ]
    if kind == "argmax":
        nodes += [
            helper.make_node("ArgMax", ["near"], ["index"], axis=1, keepdims=int(len(scores) == len(image))),
            helper.make_node("Cast", ["index"], ["scores"], to=_TYPES[labels_type]),
        ]
    tensors = [
        helper.make_tensor_value_info(name, _TYPES[of_type], ["batch", *(None if n < 0 else n for n in dims)])
        for name, of_type, dims in (("image", data_type, image), ("scores", labels_type or data_type, scores))
    ]
    graph = helper.make_graph(nodes, "nearest", tensors[:1], tensors[1:], constants)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
