"""Scores -> labels on the original grid; components and holes as the model's description has them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from stages.arrays import Array, array_namespace
from stages.compute.components import fill_holes, keep_inside, keep_largest_component, remove_small
from stages.compute.resample import labels_from_scores
from stages.compute.strides import order_in_memory, parts_of
from stages.model.description import ModelDescription
from stages.segmentation.preprocess import ModelInput
from stages.segmentation.sampling import score_sampling
from stages.segmentation.slabs import labels_from_slabs
from stages.volume.geometry import reorient
from stages.volume.volume import Volume
from stages.windows.blending import ScoreSlab


def postprocess(scores: Array, prepared: ModelInput, volume: Volume, model: ModelDescription) -> Volume:
    """Return the mask (uint8) of a volume on the volume's own grid, of the volume's origin.

    Parameters
    ----------
    scores
        Shape (classes, slices, rows, columns) on the grid of the model's input, float32.
    prepared, volume, model
        As for `postprocess_slabs`.
    """
    return postprocess_slabs([ScoreSlab(0, scores)], prepared, volume, model)


def postprocess_slabs(
    slabs: Iterable[ScoreSlab], prepared: ModelInput, volume: Volume, model: ModelDescription
) -> Volume:
    """Return the mask (uint8) of a volume on the volume's own grid, of the volume's origin.

    Parameters
    ----------
    slabs
        The scores on the grid of the model's input; each begins with the last slice of the one before.
    prepared
        The model's input.
    volume
        What it was made of.
    model
        Which label each class is, and how the mask is cleaned.
    """
    labels = [label or 0 for label in model.channel_labels]
    threshold = score_threshold(model)
    if threshold is not None and None in model.channel_labels:
        wanted = [n for n, label in enumerate(model.channel_labels) if label is not None]
        labels = [labels[n] for n in wanted]
        slabs = (replace(slab, scores=slab.scores[wanted]) for slab in slabs)  # they would hide those before
    mask = array_namespace(volume.array).zeros(volume.array.shape, dtype=np.uint8)
    view, _ = reorient(mask, volume.affine, model.orientation)
    labels_from_slabs(
        slabs,
        prepared.grid,
        prepared.box_grid,
        partial(
            labels_from_scores,
            labels=labels,
            threshold=threshold,
            between=score_sampling(prepared.box_grid, model),
        ),
        out=view[prepared.box],
    )
    _clean(view, model, voxel_ml=volume.voxel_volume_mm3 / 1000)
    return volume.with_array(mask)


def has_logits(model: ModelDescription) -> bool:
    """Return whether a model's scores are its output as it is, to which its activation is applied last.

    Parameters
    ----------
    model
        Where its activation is applied.
    """
    return model.activation_after == "resampling" and model.activation in ("softmax", "sigmoid")


def score_threshold(model: ModelDescription) -> float | None:
    """Return the score from which a channel counts, None where the best one does.

    Parameters
    ----------
    model
        Its activation, and the threshold after it. Scores rise with what an activation makes of them, so that
        logits have a threshold too, and the best channel is the same before and after.
    """
    if model.activation != "sigmoid":
        return None
    return math.log(model.threshold / (1 - model.threshold)) if has_logits(model) else model.threshold


def model_cleans(model: ModelDescription) -> bool:
    """Return whether a model's masks are searched for components or holes.

    Parameters
    ----------
    model
        How its masks are cleaned.
    """
    return bool(model.largest_component or model.fill_holes or model.minimum_volume_ml or model.inside)


def _clean(labels: Array, model: ModelDescription, *, voxel_ml: float) -> None:
    if model.largest_component:
        keep_largest_component(labels, model.largest_component)
    for label in model.fill_holes:
        fill_holes(labels, label)
    for label, minimum_ml in model.minimum_volume_ml.items():
        remove_small(labels, label, minimum_ml / voxel_ml * (1 - 1e-9))
    for label, organ in model.inside.items():
        keep_inside(labels, label, organ)


def label_volumes_ml(mask: Volume, labels: Sequence[int]) -> dict[int, float]:
    """Return the volume of each label, ml.

    Parameters
    ----------
    mask
        Uint8 labels, on the host or on the device.
    labels
        The labels that are measured.
    """
    array = mask.array.transpose(order_in_memory(mask.array)[0])
    count = array_namespace(array).count_nonzero
    voxels = 2**18 if count is np.count_nonzero else 2**24  # on the host what stays in a core's cache
    found = dict.fromkeys(labels, 0)
    for part in parts_of(array, voxels=voxels):
        for label in labels:
            found[label] += int(count(part == label))
    return {label: number * mask.voxel_volume_mm3 / 1000 for label, number in found.items()}
