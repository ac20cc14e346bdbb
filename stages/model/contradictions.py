"""What in a model's description contradicts itself, each parameter being right by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stages.model.parameters import ModelParameters
from stages.volume.body_parts import is_known

_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}


@dataclass(frozen=True)
class Contradiction:
    """A contradiction in a description.

    Attributes
    ----------
    parameters
        The parameters that contradict each other.
    sentence
        What contradicts, and what to write instead.
    """

    parameters: frozenset[str]
    sentence: str


class ContradictionError(ValueError):
    """A description that contradicts itself.

    Attributes
    ----------
    found
        Each contradiction.
    """

    def __init__(self, found: list[Contradiction]) -> None:
        super().__init__("; ".join(each.sentence for each in found))
        self.found = found


def contradictions(model: ModelParameters) -> list[Contradiction]:
    """Return all that contradicts itself in a description.

    Parameters
    ----------
    model
        Parameters, each right by itself.
    """
    found = [
        *_of_geometry(model),
        *_of_interpolation(model),
        *_of_intensity(model),
        *_of_padding(model),
        *_of_windows(model),
        *_of_labels(model),
        *_of_expectations(model),
    ]
    return [Contradiction(frozenset(names.split()), sentence) for names, sentence in found]


def _of_geometry(model: ModelParameters) -> Iterator[tuple[str, str]]:
    if len({_AXIS[letter] for letter in model.orientation}) != 3:
        yield (
            "orientation",
            f"parameter orientation: {model.orientation!r} names an axis twice; expected such as 'SPL'",
        )
    if model.spacing_mm and model.size:
        yield "spacing_mm size", "spacing_mm and size: give one of them"
    if not model.spacing_mm and not model.size:
        yield "spacing_mm size", 'parameter spacing_mm is missing: millimetres, or "native"; or give a size'
    for n, axis in enumerate(("slices", "rows", "columns")):
        before, after = model.crop_margin_percent[2 * n : 2 * n + 2]
        if before + after <= -100:
            yield (
                "crop_margin_percent",
                f"parameter crop_margin_percent: {before:g} and {after:g} leave nothing of the {axis}; "
                f"expected more than -100 together",
            )
    if model.size and model.grid_alignment == "first_voxel":
        yield (
            "size grid_alignment",
            "parameter grid_alignment: with a size there is no spacing that 'first_voxel' could keep; "
            "expected 'centred', 'stretched' or 'corner_centres'",
        )


def _of_interpolation(model: ModelParameters) -> Iterator[tuple[str, str]]:
    for name, default in (("interpolation_edge", "nearest"), ("interpolation_overshoot", "clip")):
        if model.interpolation != "cubic" and getattr(model, name) != default:
            yield (
                f"interpolation {name}",
                f"parameter {name}: only a spline has such; write interpolation 'cubic', or take it out",
            )

    if model.truncate_hu and model.intensity_before_resampling:
        yield (
            "truncate_hu intensity_before_resampling",
            "parameter truncate_hu: with intensity_before_resampling what is interpolated are no HU; "
            "take one out",
        )


def _of_padding(model: ModelParameters) -> Iterator[tuple[str, str]]:
    names = "padding_value_hu padding_value padding_mode"
    if model.padding_value_hu is not None and model.padding_value is not None:
        yield names, "padding_value_hu and padding_value: give one of them"
    if model.padding_mode != "constant" and model.padding_value is not None:
        yield names, f"parameter padding_value: padding_mode {model.padding_mode!r} has none; take it out"
    if model.padding_mode == "constant" and model.padding_value_hu is None and model.padding_value is None:
        yield names, "parameter padding_value_hu is missing: HU; or give a padding_value"


def _of_windows(model: ModelParameters) -> Iterator[tuple[str, str]]:
    if len(set(model.mirror_axes)) < len(model.mirror_axes):
        yield (
            "mirror_axes",
            f"parameter mirror_axes: {list(model.mirror_axes)} names an axis twice; name it once",
        )
    if model.slice_stack % 2 == 0:
        yield (
            "slice_stack",
            f"parameter slice_stack: {model.slice_stack} slices have none in their middle; "
            f"expected an odd number",
        )
    if model.slice_stack > 1 and 0 in model.mirror_axes:
        yield (
            "slice_stack mirror_axes",
            "parameter mirror_axes: windows of one slice have no slices to mirror (0); take it out",
        )
    if model.slice_stack > 1 and model.window_shape is not None and model.window_shape[0] > 1:
        yield (
            "slice_stack window_shape",
            f"parameter window_shape: {list(model.window_shape)} has more than the one slice that "
            f"slice_stack gives neighbours; write 1 first",
        )
    if model.ensemble and model.activation == "labels":
        yield (
            "ensemble activation",
            "parameter ensemble: labels have no mean; expected an activation other than 'labels'",
        )
    if len(set(model.ensemble)) < len(model.ensemble):
        yield "ensemble", f"parameter ensemble: {list(model.ensemble)} names a model twice; name it once"


def _of_intensity(model: ModelParameters) -> Iterator[tuple[str, str]]:
    if model.intensity_clip_hu is not None:
        low, high = model.intensity_clip_hu
        if not low < high:
            yield (
                "intensity_clip_hu",
                f"parameter intensity_clip_hu: the lower bound {low:g} is not below the upper {high:g}; "
                f"write the lower one first",
            )
    if model.intensity_clip_percentile is not None:
        lowest, highest = model.intensity_clip_percentile
        if not lowest < highest:
            yield (
                "intensity_clip_percentile",
                f"parameter intensity_clip_percentile: the lower bound {lowest:g} is not below the upper "
                f"{highest:g}; write the lower one first",
            )
    clips = "intensity_clip_hu intensity_clip_percentile"
    if model.intensity_clip_hu is not None and model.intensity_clip_percentile is not None:
        yield clips, "intensity_clip_hu and intensity_clip_percentile: give one of them"
    has_bounds = model.intensity_clip_hu is not None or model.intensity_clip_percentile is not None
    if isinstance(model.intensity_scale, tuple) and not has_bounds:
        yield (
            f"intensity_scale {clips}",
            "parameter intensity_clip_hu is missing, which intensity_scale maps",
        )
    both = "intensity_scale intensity_zscore"
    if model.intensity_scale is not None and model.intensity_zscore is not None:
        yield both, "intensity_scale and intensity_zscore: give one of them"
    if model.intensity_scale is None and model.intensity_zscore is None:
        yield both, 'parameter intensity_scale is missing: a pair, or "none"; or give intensity_zscore'


def _of_labels(model: ModelParameters) -> Iterator[tuple[str, str]]:
    channels = "[" + ", ".join("null" if each is None else str(each) for each in model.channel_labels) + "]"
    first = model.channel_labels[0]
    if model.activation != "sigmoid" and (first != 0 or len(model.channel_labels) < 2):
        yield (
            "channel_labels activation",
            f"parameter channel_labels: expected background, 0, and at least one label more; "
            f"found {channels}",
        )
    if not model.labels:
        yield "channel_labels", f"parameter channel_labels: no channel has a label above 0: {channels}"
    for name, used in _labels_used(model).items():
        if unknown := sorted(used - set(model.labels)):
            background = ", where 0 is background" if 0 in unknown else ""
            yield (
                f"channel_labels {name}",
                f"parameter {name}: labels {unknown} are none of channel_labels {channels}{background}",
            )
    names = [meaning.name for meaning in model.label_meanings.values()]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "label_meanings", f"parameter label_meanings: two labels have the name {name!r}"


def _labels_used(model: ModelParameters) -> dict[str, set[int]]:
    return {
        "largest_component": set(model.largest_component),
        "fill_holes": set(model.fill_holes),
        "minimum_volume_ml": set(model.minimum_volume_ml),
        "inside": {*model.inside, *model.inside.values()},
        "label_meanings": set(model.label_meanings),
        "expected_volume_ml": set(model.expected_volume_ml),
    }


def _of_expectations(model: ModelParameters) -> Iterator[tuple[str, str]]:
    for label, (low, high) in model.expected_volume_ml.items():
        if not low < high:
            yield (
                "expected_volume_ml",
                f"parameter expected_volume_ml.{label}: the lower bound {low:g} is not below the upper "
                f"{high:g}; write the lower one first",
            )
    if model.body_part is not None and not is_known(model.body_part):
        yield (
            "body_part",
            f"parameter body_part: {model.body_part!r} is none of the terms for Body Part Examined that are "
            f"known here, such as ABDOMEN, CHEST, HEAD (DICOM PS3.16 Annex L); take one, or leave it out",
        )
