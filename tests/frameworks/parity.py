"""What this project makes of a phantom with an imported model, beside what the framework made of it."""

import numpy as np
import onnxruntime

from clara_wf.models.config_pbtxt import read_config
from clara_wf.models.golden import axial
from stages.model.description import ModelDescription
from stages.segmentation.segment import segment
from stages.volume.origin import Origin
from stages.volume.volume import Volume

LEAST_DICE = 0.9995


def volume_of(phantom):
    affine = axial(phantom.spacing_mm)
    affine[:3, 3] = phantom.first_mm[::-1]
    return Volume(array=phantom.hu, affine=affine, origin=Origin(series_instance_uid="phantom"))


def our_mask(folder, volume):
    """Return the mask that an imported model makes, answered by ONNX Runtime in this process."""
    served = read_config(folder)
    model = ModelDescription.from_server(served)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "1/model.onnx", options)

    def answer(windows):
        return session.run(None, {"image": np.ascontiguousarray(windows)})[0]

    return np.asarray(segment(volume, answer, model=model, tensors=model.tensors_of(served)).array)


def dice_by_label(mask, reference):
    """Return the Dice of each label that one of two masks has."""
    found = {}
    for label in sorted({*np.unique(mask), *np.unique(reference)} - {0}):
        ours, theirs = mask == label, reference == label
        found[int(label)] = 2 * float((ours & theirs).sum()) / float(ours.sum() + theirs.sum())
    return found
