"""What ``plans.json`` and ``dataset.json`` of nnU-Net v2 say, checked, for one configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clara_wf.model_import.imported import UnsupportedModelError
from clara_wf.model_import.nnunet.unet import UNet
from stages.errors import InputError, printable
from stages.runtime import job_files

PLANS, DATASET = "plans.json", "dataset.json"
_LARGEST = 64 << 20  # bytes
_RESAMPLING = {"order": 3, "order_z": 0, "force_separate_z": None}
_RESAMPLING_OF_SCORES = {**_RESAMPLING, "order": 1}
_MOST_LABELS = 255


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A configuration of nnU-Net, such as ``3d_fullres``.

    Attributes
    ----------
    name
        Its name.
    patch
        Voxels of a window: slices, rows and columns as the network sees them; of a 2-D network rows, columns.
    spacing_mm
        Likewise.
    transpose
        Which axis of the image each axis of the network is.
    normalisation
        Name of the scheme of the one channel.
    uses_mask
        Whether its statistics are those of what is not 0.
    intensities
        ``mean``, ``std``, ``percentile_00_5`` and ``percentile_99_5`` of the training's foreground.
    net
        What the network is made of.
    """

    name: str
    patch: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    transpose: tuple[int, int, int]
    normalisation: str
    uses_mask: bool
    intensities: Mapping[str, float]
    net: UNet

    @property
    def is_flat(self) -> bool:
        """Whether it is of slices."""
        return len(self.patch) == 2


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the channels of the network are.

    Attributes
    ----------
    values
        Label of each channel; of regions in the order in which they are written.
    names
        By label.
    are_regions
        Whether channels may overlap; then none is background.
    """

    values: tuple[int, ...]
    names: Mapping[int, str]
    are_regions: bool


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a file.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        If it is not there, or no JSON object.
    """
    content = job_files.read(path, most_bytes=_LARGEST, follow=True)
    if content is None:
        raise InputError(f"there is no {printable(path)}")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{printable(path)} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{printable(path)} holds {type(found).__name__}, expected an object")
    return found


def read_configuration(plans: Mapping[str, Any], name: str, where: Path) -> Configuration:
    """Return a configuration of the plans.

    Parameters
    ----------
    plans
        What ``plans.json`` holds.
    name
        Of the configuration.
    where
        The file, for messages.

    Raises
    ------
    InputError
        If the plans have no such configuration, or are of another version of nnU-Net.
    UnsupportedModelError
        If it is a cascade, has several inputs, or resamples or normalises in a way that is not known here.
    """
    try:
        told = _with_inherited(plans["configurations"], name)
        _require_known_ways(told, name)
        transpose = tuple(map(int, plans["transpose_forward"]))
        intensities = plans.get("foreground_intensity_properties_per_channel") or plans.get(
            "foreground_intensity_properties_by_modality", {}
        )
        patch = tuple(map(int, told["patch_size"]))
        if sorted(transpose) != [0, 1, 2] or len(patch) not in (2, 3):
            raise ValueError(f"axes {transpose}, a patch {patch}")
        return Configuration(
            name=name,
            patch=patch,
            spacing_mm=tuple(map(float, told["spacing"])),
            transpose=(transpose[0], transpose[1], transpose[2]),
            normalisation=str(told["normalization_schemes"][0]),
            uses_mask=bool(told["use_mask_for_norm"][0]),
            intensities={key: float(value) for key, value in intensities.get("0", {}).items()},
            net=_network(told, len(patch)),
        )
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{printable(where.parent)}: {error}") from None
    except (KeyError, IndexError, TypeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{printable(where)} is of another version of nnU-Net, or damaged: {what}; expected plans of "
            f"nnU-Net v2 with the configuration {name!r}"
        ) from error


def _with_inherited(
    configurations: Mapping[str, Any], name: str, below: Sequence[str] = ()
) -> dict[str, Any]:
    if name in below:
        raise ValueError(f"configuration {name!r} inherits from itself")
    if name not in configurations:
        raise ValueError(f"no configuration {name!r}, it has {', '.join(configurations) or 'none'}")
    own = dict(configurations[name])
    if "inherits_from" in own:
        return _with_inherited(configurations, own["inherits_from"], (*below, name)) | own
    return own


def _require_known_ways(told: Mapping[str, Any], name: str) -> None:
    """Raise unless a configuration is one whose every step has a counterpart here."""
    if told.get("previous_stage"):
        raise UnsupportedModelError(
            f"{name} is a cascade: it also needs the mask of {told['previous_stage']}; add a configuration "
            f"that "
            f"stands alone, such as 3d_fullres"
        )
    if len(told["normalization_schemes"]) != 1:
        raise UnsupportedModelError(
            f"the network has {len(told['normalization_schemes'])} inputs; models of one image are supported"
        )
    for key, expected in (("data", _RESAMPLING), ("probabilities", _RESAMPLING_OF_SCORES)):
        found = told.get(f"resampling_fn_{key}_kwargs", {})
        function = told.get(f"resampling_fn_{key}", "resample_data_or_seg_to_shape")
        ways = {each: found.get(each, usual) for each, usual in expected.items()}
        if function != "resample_data_or_seg_to_shape" or ways != expected:
            raise UnsupportedModelError(
                f"{name} resamples {key} by {function} with {ways}; expected resample_data_or_seg_to_shape "
                f"with "
                f"{expected}"
            )
    if (used := told.get("preprocessor_name", "DefaultPreprocessor")) != "DefaultPreprocessor":
        raise UnsupportedModelError(f"{name} is preprocessed by {used}, which is not supported")


# The network


def _network(told: Mapping[str, Any], axes: int) -> UNet:
    architecture = told.get("architecture")
    if architecture is None:
        return _network_of_old_plans(told, axes)
    kind = str(architecture["network_class_name"]).rpartition(".")[2]
    values = architecture["arch_kwargs"]
    _require_usual_layers(values)
    normalisation = values.get("norm_op_kwargs") or {}
    rectifier = values.get("nonlin_kwargs") or {}
    return _unet(
        kind,
        strides=values["strides"],
        stages=int(values["n_stages"]),
        blocks=values.get("n_blocks_per_stage") or values.get("n_conv_per_stage"),
        decoder=values["n_conv_per_stage_decoder"],
        axes=axes,
        epsilon=float(normalisation.get("eps", 1e-5)),
        slope=float(rectifier.get("negative_slope", 0.01)),
    )


def _network_of_old_plans(told: Mapping[str, Any], axes: int) -> UNet:
    """Return the network of plans before version 2.3, which name no architecture."""
    return _unet(
        str(told["UNet_class_name"]),
        strides=told["pool_op_kernel_sizes"],
        stages=len(told["n_conv_per_stage_encoder"]),
        blocks=told["n_conv_per_stage_encoder"],
        decoder=told["n_conv_per_stage_decoder"],
        axes=axes,
    )


def _require_usual_layers(values: Mapping[str, Any]) -> None:
    layers = {key: str(values.get(key)).rpartition(".")[2] for key in ("norm_op", "nonlin")}
    if not layers["norm_op"].startswith("InstanceNorm") or layers["nonlin"] != "LeakyReLU":
        raise UnsupportedModelError(
            f"its layers are {layers['norm_op']} and {layers['nonlin']}; expected InstanceNorm and LeakyReLU"
        )
    for key in ("nonlin_first", "bottleneck_channels"):
        if values.get(key):
            raise UnsupportedModelError(f"its network is built with {key}, which is not supported")


def _unet(
    kind: str,
    *,
    strides: Sequence[Any],
    stages: int,
    blocks: Any,
    decoder: Any,
    axes: int,
    epsilon: float = 1e-5,
    slope: float = 0.01,
) -> UNet:
    if kind not in ("PlainConvUNet", "ResidualEncoderUNet"):
        raise UnsupportedModelError(
            f"its network is {kind}; expected PlainConvUNet or ResidualEncoderUNet. Export it as ONNX, and "
            f"add that"
        )
    return UNet(
        is_residual=kind == "ResidualEncoderUNet",
        strides=tuple(_per_axis(each, axes) for each in strides),
        blocks=_per_stage(blocks, stages),
        decoder_convolutions=_per_stage(decoder, stages - 1),
        epsilon=epsilon,
        slope=slope,
    )


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:
    return (int(value),) * axes if isinstance(value, int) else tuple(map(int, value))


def _per_stage(value: Any, stages: int) -> tuple[int, ...]:
    found = (int(value),) * stages if isinstance(value, int) else tuple(map(int, value))
    if len(found) != stages:
        raise ValueError(f"{len(found)} numbers of blocks for {stages} stages")
    return found


# Labels


def read_labels(dataset: Mapping[str, Any], where: Path) -> Labels:
    """Return what the channels are.

    Parameters
    ----------
    dataset
        What ``dataset.json`` holds.
    where
        The file, for messages.

    Raises
    ------
    InputError
        If it is of another version, or its labels do not rise from 0 one by one.
    """
    told = dataset.get("labels")
    if not isinstance(told, dict) or told.get("background") != 0:
        raise InputError(
            f"{printable(where)} has the labels {printable(str(told))[:80]}; expected names with their "
            f"values, "
            f"background first, as nnU-Net v2 has them"
        )
    try:
        parts = {
            str(name): sorted({int(each) for each in (value if isinstance(value, list) else [value])})
            for name, value in told.items()
            if name not in ("background", "ignore")
        }
    except (TypeError, ValueError) as error:
        raise InputError(f"{printable(where)}: a label is no number: {error}") from error
    regions = any(len(values) > 1 for values in parts.values())
    labels = _regions(parts, dataset, where) if regions else _single(parts, where)
    if not labels.names or max(labels.names) > _MOST_LABELS:
        raise InputError(
            f"{printable(where)} has {len(labels.names)} labels; 1 to {_MOST_LABELS} can be written"
        )
    return labels


def _single(parts: Mapping[str, Sequence[int]], where: Path) -> Labels:
    names = {values[0]: name for name, values in parts.items()}
    if sorted(names) != list(range(1, len(parts) + 1)):
        raise InputError(
            f"{printable(where)} has the labels {sorted(names)}; expected 1 to {len(parts)}, each once"
        )
    return Labels(values=tuple(range(len(parts) + 1)), names=names, are_regions=False)


def _regions(parts: Mapping[str, Sequence[int]], dataset: Mapping[str, Any], where: Path) -> Labels:
    order = dataset.get("regions_class_order")
    if not isinstance(order, list) or len(order) != len(parts):
        raise InputError(
            f"{printable(where)} has {len(parts)} regions and the regions_class_order {order}; expected a "
            f"label "
            f"for each region"
        )
    values = tuple(map(int, order))
    return Labels(values=values, names=dict(zip(values, parts, strict=True)), are_regions=True)
