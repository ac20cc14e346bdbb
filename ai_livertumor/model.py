"""What the server says of the model: tensors, labels, preprocessing; refused when incomplete.

The description stands in the ``parameters`` of the model's ``config.pbtxt``, each value one JSON
text, so that a model and its preprocessing travel together.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.errors import InferenceError
from stages.triton import ServedModel

_Label = Annotated[int, Field(ge=0, le=255)]
_Positive = Annotated[float, Field(gt=0)]
_Size = Annotated[int, Field(gt=0)]


class ModelDescription(BaseModel):
    """How a volume becomes the model's input, and its output a mask.

    Attributes
    ----------
    orientation
        Patient direction in which the model's slice, row and column index grow, such as ``SPL``.
    spacing_mm
        Voxel spacing of the model along slice, row and column.
    intensity_clip_hu, intensity_scale
        HU below and above the first pair are clipped; the pair is then mapped onto the second.
    padding_value_hu
        What lies outside the volume.
    window_shape
        Slices, rows and columns of a window.
    overlap
        Share of a window that its neighbour covers too.
    blending
        Weights of overlapping windows.
    activation
        What makes the model's output scores between 0 and 1; ``none`` when it has done so itself.
    channel_labels
        Label value of each output channel; the first is background.
    largest_component
        Of the union of these labels only the largest connected component is kept; empty for all.
    inside
        Label -> organ label: the first only counts within what the organ's component holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    orientation: Annotated[str, Field(pattern="^[LRPASI]{3}$")]
    spacing_mm: tuple[_Positive, _Positive, _Positive]
    intensity_clip_hu: tuple[float, float]
    intensity_scale: tuple[float, float]
    padding_value_hu: float
    window_shape: tuple[_Size, _Size, _Size]
    overlap: Annotated[float, Field(ge=0, lt=1)]
    blending: Literal["gaussian", "constant"]
    activation: Literal["softmax", "none"]
    channel_labels: Annotated[tuple[_Label, ...], Field(min_length=2)]
    largest_component: tuple[_Label, ...] = ()
    inside: dict[_Label, _Label] = {}

    @model_validator(mode="after")
    def _hold_together(self) -> ModelDescription:
        low, high = self.intensity_clip_hu
        if not low < high:
            raise ValueError(f"intensity_clip_hu: the lower bound {low:g} is not below the upper {high:g}")
        if len({_AXIS[letter] for letter in self.orientation}) != 3:
            raise ValueError(f"orientation: {self.orientation!r} names an axis twice; expected such as 'SPL'")
        if self.channel_labels[0] != 0:
            raise ValueError(f"channel_labels: the first is background, 0; found {self.channel_labels[0]}")
        known = set(self.channel_labels)
        used = {*self.largest_component, *self.inside, *self.inside.values()}
        if not used <= known:
            raise ValueError(f"labels {sorted(used - known)} are used but are not in channel_labels")
        return self

    @classmethod
    def from_server(cls, served: ServedModel) -> ModelDescription:
        """Read the description of a served model and hold it against its tensors.

        Raises
        ------
        InferenceError
            If a parameter is missing, unknown, malformed, or contradicts a tensor; each is named.
        """
        try:
            description = cls.model_validate(_parsed(served))
        except ValidationError as error:
            problems = "; ".join(_problem(detail) for detail in error.errors())
            raise InferenceError(f"the config.pbtxt of model {served.name!r}: {problems}") from error
        description._agree_with(served)
        return description

    def _agree_with(self, served: ServedModel) -> None:
        image, scores = served.inputs[0], served.outputs[0]
        expected_input = (1, *self.window_shape)
        expected_output = (len(self.channel_labels), *self.window_shape)
        for tensor, expected, names in (
            (image, expected_input, "window_shape"),
            (scores, expected_output, "channel_labels and window_shape"),
        ):
            shape = tensor.shape[-4:]
            fits = len(tensor.shape) == 5 and all(
                have in (-1, want) for have, want in zip(shape, expected, strict=True)
            )
            if not fits or tensor.datatype != "FP32":
                raise InferenceError(
                    f"model {served.name!r}: {names} ask for FP32 [batch, {', '.join(map(str, expected))}], "
                    f"but tensor {tensor.name!r} is {tensor.datatype} {list(tensor.shape)}"
                )


_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}


def _parsed(served: ServedModel) -> dict[str, Any]:
    values = {}
    for key, text in served.parameters.items():
        if key not in ModelDescription.model_fields:
            continue  # a parameter of the backend
        try:
            values[key] = json.loads(text)
        except ValueError as error:
            raise InferenceError(
                f"the config.pbtxt of model {served.name!r}: parameter {key}: {text!r} is not JSON: {error}"
            ) from error
    return values


def _problem(detail: Any) -> str:
    name = str(detail["loc"][0]) if detail["loc"] else ""
    if detail["type"] == "missing":
        return f"parameter {name} is missing"
    found = f", found {detail['input']!r}" if name else ""
    return f"{f'parameter {name}: ' if name else ''}{detail['msg']}{found}"
