"""What the transforms and the inferer of a MONAI bundle are in our description.

Each transform is one of ours, one that changes nothing here, or refused; those that are refused are all told.

References
----------
MONAI 1.5 (Apache-2.0): ``transforms/``, ``inferers/inferer.py``, ``inferers/utils.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clara_wf.model_import.imported import Parameter, UnsupportedModelError
from clara_wf.model_import.monai_bundle.config import Component

_WITHOUT_EFFECT = {
    "LoadImage",
    "EnsureChannelFirst",
    "AddChannel",
    "AsChannelFirst",
    "EnsureType",
    "ToTensor",
    "CastToType",
    "ToDevice",
    "SaveImage",
    "DeleteItems",
    "SelectItems",
    "Identity",
}
_MODES = ("bilinear", "trilinear", "nearest")
_ACTIVATION, _DECISION, _INVERSE = "activation", "decision", "inverse"


@dataclass
class _Preprocessing:
    """What is known of the steps before the model, in their order."""

    grid: list[Parameter] = field(default_factory=list)
    intensity: list[Parameter] = field(default_factory=list)
    is_resampled: bool = False
    problems: list[str] = field(default_factory=list)

    def orientation(self, arguments: Mapping[str, Any]) -> None:
        axes = arguments.get("axcodes")
        if not isinstance(axes, str) or self.is_resampled:
            self.problems.append(f"Orientation with axcodes {axes!r} at this place")
            return
        self.grid.append(Parameter(name="orientation", value=axes.upper(), why=f"Orientation {axes}"))

    def spacing(self, arguments: Mapping[str, Any]) -> None:
        pixdim = arguments.get("pixdim")
        pixdim = [pixdim] * 3 if isinstance(pixdim, int | float) else pixdim
        mode = _one(arguments.get("mode", "bilinear"))
        if not isinstance(pixdim, list) or not _numbers(pixdim, 3) or mode not in _MODES:
            self.problems.append(f"Spacing with pixdim {pixdim!r} and mode {mode!r}")
            return
        for name, usual in (("padding_mode", "border"), ("align_corners", False), ("scale_extent", False)):
            if _one(arguments.get(name, usual)) not in (usual, None):
                self.problems.append(f"Spacing with {name} {arguments[name]!r}")
        values = ["native" if each <= 0 else each for each in pixdim]
        self.is_resampled = True
        self.grid.append(Parameter(name="spacing_mm", value=values, why="Spacing, from the first voxel on"))
        self.grid.append(Parameter(name="grid_alignment", value="first_voxel"))
        if mode == "nearest":
            self.grid.append(Parameter(name="interpolation", value="nearest"))

    def crop(self, arguments: Mapping[str, Any]) -> None:
        extra = {
            key: value
            for key, value in arguments.items()
            if key not in ("keys", "source_key", "allow_missing_keys")
            and value not in (None, 0, [0, 0, 0], 1, False)
        }
        if extra or self.is_resampled or self.intensity:
            where = "after resampling or scaling" if self.is_resampled or self.intensity else f"with {extra}"
            self.problems.append(f"CropForeground {where}")
            return
        self.grid.append(Parameter(name="crop", value="foreground", why="CropForeground: what is above 0"))
        self.grid.append(Parameter(name="foreground_hu", value=0))

    def scale_range(self, arguments: Mapping[str, Any]) -> None:
        values = [arguments.get(name) for name in ("a_min", "a_max", "b_min", "b_max")]
        if not _numbers(values, 4) or values[0] == values[1]:
            self.problems.append(f"ScaleIntensityRange from {values[:2]} to {values[2:]}")
            return
        low, high, to_low, to_high = (float(each) for each in values if each is not None)
        if arguments.get("clip", False):
            self._scale("intensity_clip_hu", [low, high], [to_low, to_high], "ScaleIntensityRange")
            return
        width = (high - low) / (to_high - to_low)
        told = {"mean": low - to_low * width, "std": width}
        self._add(Parameter(name="intensity_zscore", value=told, why="ScaleIntensityRange without clipping"))

    def scale(self, arguments: Mapping[str, Any]) -> None:
        bounds = [arguments.get("minv", 0.0), arguments.get("maxv", 1.0)]
        if arguments.get("factor") is not None or arguments.get("channel_wise") or not _numbers(bounds, 2):
            self.problems.append(f"ScaleIntensity with {dict(arguments)}")
            return
        self._scale("intensity_clip_percentile", [0, 100], bounds, "ScaleIntensity: of each volume itself")

    def scale_percentiles(self, arguments: Mapping[str, Any]) -> None:
        values = [arguments.get(name) for name in ("lower", "upper", "b_min", "b_max")]
        if not _numbers(values, 4) or arguments.get("relative") or not arguments.get("clip", False):
            self.problems.append(f"ScaleIntensityRangePercentiles with {dict(arguments)}")
            return
        self._scale("intensity_clip_percentile", values[:2], values[2:], "ScaleIntensityRangePercentiles")

    def normalise(self, arguments: Mapping[str, Any]) -> None:
        given = [arguments.get("subtrahend"), arguments.get("divisor")]
        if given != [None, None]:
            given = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in given]
            if not _numbers(given, 2) or arguments.get("nonzero"):
                self.problems.append(f"NormalizeIntensity with {dict(arguments)}")
                return
            value: object = {"mean": given[0], "std": given[1]}
        else:
            value = "nonzero" if arguments.get("nonzero") else "volume"
        self._add(Parameter(name="intensity_zscore", value=value, why="NormalizeIntensity"))

    def _scale(self, name: str, bounds: Sequence[Any], to: Sequence[Any], why: str) -> None:
        self._add(Parameter(name=name, value=list(bounds), why=why))
        self.intensity.append(Parameter(name="intensity_scale", value=list(to)))

    def _add(self, parameter: Parameter) -> None:
        if self.intensity:
            self.problems.append(f"{parameter.why} after another scaling")
        self.intensity.append(parameter)
        if not self.is_resampled:
            self.intensity.append(
                Parameter(name="intensity_before_resampling", value=True, why="it comes before Spacing")
            )


_STEPS: Mapping[str, Callable[[_Preprocessing, Mapping[str, Any]], None]] = {
    "Orientation": _Preprocessing.orientation,
    "Spacing": _Preprocessing.spacing,
    "CropForeground": _Preprocessing.crop,
    "ScaleIntensityRange": _Preprocessing.scale_range,
    "ScaleIntensity": _Preprocessing.scale,
    "ScaleIntensityRangePercentiles": _Preprocessing.scale_percentiles,
    "NormalizeIntensity": _Preprocessing.normalise,
}


def preprocessing_parameters(transforms: Sequence[Component]) -> tuple[list[Parameter], list[str]]:
    """Return how a volume becomes the model's input, and what of it has no counterpart here.

    Parameters
    ----------
    transforms
        Those of the bundle's preprocessing, in their order.
    """
    read = _Preprocessing()
    for each in transforms:
        name = _plain(each.target)
        if name in _WITHOUT_EFFECT:
            continue
        if step := _STEPS.get(name):
            step(read, each.arguments)
        else:
            read.problems.append(name)
    if not any(each.name == "spacing_mm" for each in read.grid):
        read.grid.append(Parameter(name="spacing_mm", value="native", why="no Spacing: voxels as they are"))
    if not read.is_resampled:
        read.intensity = [each for each in read.intensity if each.name != "intensity_before_resampling"]
    if not read.intensity:
        read.intensity.append(Parameter(name="intensity_scale", value="none", why="intensities as they are"))
    return [*read.grid, *read.intensity], read.problems


def inferer_parameters(inferer: Any) -> tuple[list[Parameter], list[str]]:
    """Return how windows are placed and blended, and what of it has no counterpart here.

    Parameters
    ----------
    inferer
        Of the bundle.
    """
    if not isinstance(inferer, Component) or inferer.target not in (
        "SlidingWindowInferer",
        "SlidingWindowInfererAdapt",
    ):
        shown = inferer.target if isinstance(inferer, Component) else inferer
        return [], [f"the inferer {shown!r}; expected SlidingWindowInferer"]
    told, problems = inferer.arguments, []
    roi, overlap = told.get("roi_size"), told.get("overlap", 0.25)
    mode, padding = str(told.get("mode", "constant")), str(told.get("padding_mode", "constant"))
    if not isinstance(roi, list) or not _numbers(roi, 3) or min(roi) < 1:
        problems.append(f"the inferer's roi_size {roi!r}")
    if not _numbers([overlap], 1):
        problems.append(f"the inferer's overlap {overlap!r}")
    if padding not in ("constant", "replicate", "reflect") or mode.lower() not in ("constant", "gaussian"):
        problems.append(f"the inferer's padding_mode {padding!r} or mode {mode!r}")
    if told.get("sigma_scale", 0.125) != 0.125 or told.get("roi_weight_map") is not None:
        problems.append("the inferer's own weights")
    if problems or not isinstance(roi, list):
        return [], problems
    found = [
        Parameter(name="window_shape", value=list(map(int, roi)), why="SlidingWindowInferer, by steps"),
        Parameter(name="overlap", value=overlap),
        Parameter(name="window_placement", value="stepped"),
        Parameter(name="blending", value=mode.lower()),
    ]
    if padding == "constant":
        found.append(Parameter(name="padding_value", value=told.get("cval", 0.0)))
    else:
        found.append(Parameter(name="padding_mode", value=padding))
    return found, []


def postprocessing_parameters(
    transforms: Sequence[Component], channels: int
) -> tuple[list[Parameter], list[str]]:
    """Return how the model's answer becomes a mask, and what of it has no counterpart here.

    Parameters
    ----------
    transforms
        Those of the bundle's postprocessing, in their order.
    channels
        Of the model.
    """
    steps: list[str] = []
    found: dict[str, Parameter] = {}
    problems: list[str] = []
    for each in transforms:
        name = _plain(each.target)
        if name in _WITHOUT_EFFECT:
            continue
        if name == "Activations":
            steps.append(_ACTIVATION)
            problems += _activation(each.arguments, found)
        elif name == "AsDiscrete":
            steps.append(_DECISION)
            problems += _decision(each.arguments, found)
        elif name == "Invert":
            steps.append(_INVERSE)
            if each.arguments.get("nearest_interp", True) is not False:
                found["score_interpolation"] = Parameter(
                    name="score_interpolation", value="nearest", why="Invert takes the nearest voxel"
                )
        elif name == "KeepLargestConnectedComponent":
            problems += _largest(each.arguments, channels, found)
        else:
            problems.append(name)
    problems += _order(steps, found)
    return list(found.values()), problems


def _activation(arguments: Mapping[str, Any], found: dict[str, Parameter]) -> Iterator[str]:
    kinds = [kind for kind in ("softmax", "sigmoid") if arguments.get(kind) is True]
    if len(kinds) != 1 or arguments.get("other") is not None:
        yield f"Activations with {dict(arguments)}"
        return
    found["activation"] = Parameter(name="activation", value=kinds[0], why=f"Activations: {kinds[0]}")


def _decision(arguments: Mapping[str, Any], found: dict[str, Parameter]) -> Iterator[str]:
    threshold = arguments.get("threshold")
    if arguments.get("argmax") is True and threshold is None:
        found.setdefault(
            "activation", Parameter(name="activation", value="softmax", why="AsDiscrete: argmax")
        )
    elif isinstance(threshold, int | float) and not arguments.get("argmax"):
        found["threshold"] = Parameter(name="threshold", value=threshold, why="AsDiscrete: threshold")
    else:
        yield f"AsDiscrete with {dict(arguments)}"


def _largest(arguments: Mapping[str, Any], channels: int, found: dict[str, Parameter]) -> Iterator[str]:
    labels = arguments.get("applied_labels")
    labels = [labels] if isinstance(labels, int) else labels or list(range(1, channels))
    if not isinstance(labels, list) or (len(labels) > 1 and arguments.get("independent", True)):
        yield f"KeepLargestConnectedComponent of each of {labels}"
        return
    found["largest_component"] = Parameter(
        name="largest_component", value=labels, why="KeepLargestConnectedComponent"
    )


def _order(steps: Sequence[str], found: dict[str, Parameter]) -> Iterator[str]:
    """Yield what is wrong with the order of the steps, and say in which one the mask is decided."""
    if steps.count(_INVERSE) != 1:
        yield "no Invert, so that the mask would stay on the model's grid"
        return
    if steps.count(_DECISION) != 1:
        yield "no AsDiscrete, so that scores and not labels are the result"
        return
    is_nearest = "score_interpolation" in found
    decided_first = steps.index(_DECISION) < steps.index(_INVERSE)
    if decided_first and not is_nearest:
        yield "Invert interpolates labels; expected nearest_interp"
    activated = _ACTIVATION in steps and steps.index(_ACTIVATION) < steps.index(_INVERSE)
    after = "blending" if activated and not is_nearest else "resampling"
    found["activation_after"] = Parameter(
        name="activation_after",
        value=after,
        why="windows are blended first" if after == "blending" else "the mask is decided last",
    )


def require_supported(problems: Sequence[str], where: str) -> None:
    """Raise if a bundle does what has no counterpart here, and tell all of it.

    Parameters
    ----------
    problems
        What it does, by name.
    where
        The bundle.

    Raises
    ------
    UnsupportedModelError
        If there is any.
    """
    if problems:
        raise UnsupportedModelError(
            f"{where} does what has no counterpart here, and nothing is left out in silence: "
            f"{'; '.join(problems)}"
        )


def _plain(target: str) -> str:
    """Return the name of a transform without the ending of those that work on dictionaries."""
    for ending in ("Dict", "D", "d"):
        if target.endswith(ending) and len(target) > len(ending) + 2:
            return target.removesuffix(ending)
    return target


def _one(value: Any) -> Any:
    """Return the value of a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
    )
