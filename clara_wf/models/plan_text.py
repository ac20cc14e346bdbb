"""What a model's description makes of a volume, as a plan for a person to read."""

from __future__ import annotations

import json
from collections.abc import Mapping

from stages.model.description import ModelDescription
from stages.model.parameters import Statistics

_NOTES = {"x_imported_from": "imported from", "x_licence_of_weights": "licence of weights"}


def plan_of_description(model: ModelDescription) -> dict[str, str]:
    """Return each step of a description in words, by the name of the step.

    Parameters
    ----------
    model
        The description.
    """
    return {
        "crop": model.crop,
        "resampling": _resampling(model),
        "intensity": _intensity(model),
        "windows placed": _windows(model),
        "labels decided": _decision(model),
    }


def notes_of(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return what an imported model's configuration says of where it comes from.

    Parameters
    ----------
    parameters
        Of ``config.pbtxt``, as a server says them.
    """
    found = {}
    for name, said in _NOTES.items():
        if name in parameters:
            try:
                found[said] = str(json.loads(parameters[name]))
            except ValueError:
                found[said] = parameters[name]
    return found


def _resampling(model: ModelDescription) -> str:
    parts = [f"{model.interpolation}, grid {model.grid_alignment}"]
    if model.anisotropy_threshold is not None:
        parts.append(f"an axis over {model.anisotropy_threshold:g} times as thick from the nearest voxel")
    if model.truncate_hu:
        parts.append("HU without fraction")
    return "; ".join([*parts, f"scores back {model.score_interpolation}"])


def _intensity(model: ModelDescription) -> str:
    parts = []
    if model.intensity_clip_hu:
        parts.append("clipped to {:g} to {:g} HU".format(*model.intensity_clip_hu))
    if model.intensity_clip_percentile:
        parts.append(
            "clipped to the volume's percentiles {:g} to {:g}".format(*model.intensity_clip_percentile)
        )
    if isinstance(model.intensity_zscore, Statistics):
        parts.append(
            f"mean {model.intensity_zscore.mean:g} and deviation {model.intensity_zscore.std:g} to 0 and 1"
        )
    elif model.intensity_zscore:
        parts.append(f"mean and deviation of its {model.intensity_zscore} voxels to 0 and 1")
    if isinstance(model.intensity_scale, tuple):
        parts.append("to {:g} to {:g}".format(*model.intensity_scale))
    when = "before resampling" if model.intensity_before_resampling else "after resampling"
    return f"{when}: {', '.join(parts) or 'HU as they are'}"


def _windows(model: ModelDescription) -> str:
    weights = str(model.blending)
    if model.blending == "gaussian":
        weights += f" of {model.gaussian_sigma:g} of the window, floor {model.gaussian_floor:g}"
    mirrored = f", mirrored along {', '.join(map(str, model.mirror_axes))}" if model.mirror_axes else ""
    return f"{model.window_placement}, overlap {model.overlap:g}, {weights}{mirrored}"


def _decision(model: ModelDescription) -> str:
    return f"{model.activation} after the {model.activation_after}"
