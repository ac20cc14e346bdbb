"""How a volume becomes a model's input, and its output a mask: what the model says of itself.

The description stands in the ``parameters`` of the model's ``config.pbtxt``, each value one JSON text, so
that a model and its preprocessing travel together; docs/reference/model.md explains each.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stages.errors import InferenceError
from stages.labels import Label, Meaning, labels_of
from stages.labels_file import with_rgb
from stages.model_problems import problems
from stages.model_tensors import ModelTensors
from stages.triton import ServedModel

_Label = Annotated[int, Field(ge=0, le=255)]
_Positive = Annotated[float, Field(gt=0)]
_Size = Annotated[int, Field(gt=0)]
_Percent = Annotated[float, Field(gt=-100, le=100)]
_Sizes = tuple[_Size, _Size, _Size]


class Statistics(BaseModel):
    """Mean and standard deviation that intensities are brought to 0 and 1 by, HU."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: float
    std: _Positive


class ModelDescription(BaseModel):
    """What must be known of a model beside its tensors.

    Attributes
    ----------
    orientation
        Patient direction in which the model's slice, row and column index grow, such as ``SPL``.
    spacing_mm
        Voxel spacing of the model along slice, row and column; ``native`` for the volume's own.
    size
        Instead of a spacing: slices, rows and columns that every volume is brought to.
    crop
        What of the volume the model sees: ``none`` for all, ``body`` for the box around the largest component
        of the foreground, which is the patient, ``foreground`` for the box around all of it.
    foreground_hu
        What is brighter is foreground.
    crop_margin_percent
        Before and after along slice, row and column: how much larger the box gets on that side, in percent of
        its own length; negative numbers cut.
    intensity_clip_hu, intensity_scale
        HU outside the first pair are clipped (not at all without it); the pair is then mapped onto the
        second. ``none`` for a scale leaves HU as they are.
    intensity_zscore
        Instead of a scale: given statistics, or with ``foreground`` those of the volume's foreground.
    padding_value_hu
        What lies outside the volume.
    window_shape
        Slices, rows and columns of a window; by default what the tensors say, else the whole `size`.
    overlap
        Share of a window that its neighbour covers too.
    blending
        Weights of overlapping windows.
    mirror_axes
        Axes of the window (0 slices, 1 rows, 2 columns) along which the model is also asked mirrored.
    activation
        What makes the model's output scores between 0 and 1; ``none`` when it has done so itself, ``labels``
        when its output is the index of a channel.
    threshold
        Of a ``sigmoid`` model: the score from which a channel's label is taken.
    channel_labels
        Label value of each output channel. The first is background, 0, but of a ``sigmoid`` model, whose
        channels may overlap: there the later one counts. null is a channel that is not wanted.
    largest_component
        Of the union of these labels only the largest connected component is kept; empty for all.
    fill_holes
        Labels whose holes, background that they surround, become theirs.
    minimum_volume_ml
        Label -> components below this volume are removed.
    inside
        Label -> organ label: the first only counts within what the organ's component holds.
    label_meanings
        Label -> its name, codes and colour (`stages.labels.Meaning`), for what is made of the mask. A model
        without them gives masks that the DICOM writer refuses, unless the workflow says what they mean.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    orientation: Annotated[str, Field(pattern="^[LRPASI]{3}$")]
    spacing_mm: tuple[_Positive, _Positive, _Positive] | Literal["native"] | None = None
    size: _Sizes | None = None
    crop: Literal["none", "body", "foreground"] = "none"
    foreground_hu: float = -500
    crop_margin_percent: tuple[_Percent, _Percent, _Percent, _Percent, _Percent, _Percent] = (
        0,
        0,
        0,
        0,
        0,
        0,
    )
    intensity_clip_hu: tuple[float, float] | None = None
    intensity_scale: tuple[float, float] | Literal["none"] | None = None
    intensity_zscore: Statistics | Literal["foreground"] | None = None
    padding_value_hu: float
    window_shape: _Sizes | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    blending: Literal["gaussian", "constant"] = "gaussian"
    mirror_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    activation: Literal["softmax", "sigmoid", "none", "labels"]
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    channel_labels: Annotated[tuple[_Label | None, ...], Field(min_length=1)]
    largest_component: tuple[_Label, ...] = ()
    fill_holes: tuple[_Label, ...] = ()
    minimum_volume_ml: dict[_Label, _Positive] = {}
    inside: dict[_Label, _Label] = {}
    label_meanings: dict[_Label, Annotated[Meaning, BeforeValidator(with_rgb)]] = {}

    @property
    def labels(self) -> tuple[int, ...]:
        """The label values of a mask, without background, smallest first."""
        return tuple(sorted({label for label in self.channel_labels if label}))

    @property
    def meanings(self) -> tuple[Label, ...]:
        """What the labels mean, by rising value; one that nobody gave a meaning to is missing."""
        return labels_of(self.label_meanings)

    def name_of(self, label: int) -> str:
        """Return what a label is called, or ``label 5`` where nobody said."""
        meaning = self.label_meanings.get(label)
        return meaning.name if meaning else f"label {label}"

    @property
    def nameless(self) -> tuple[int, ...]:
        """The labels that nobody gave a meaning to."""
        return tuple(label for label in self.labels if label not in self.label_meanings)

    @model_validator(mode="after")
    def _hold_together(self) -> ModelDescription:
        problems = [*self._of_geometry(), *self._of_intensity(), *self._of_labels()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _of_geometry(self) -> list[str]:
        problems = []
        if len({_AXIS[letter] for letter in self.orientation}) != 3:
            problems.append(f"orientation: {self.orientation!r} names an axis twice; expected such as 'SPL'")
        if self.spacing_mm and self.size:
            problems.append("spacing_mm and size: give one of them")
        if not self.spacing_mm and not self.size:
            problems.append('parameter spacing_mm is missing: millimetres, or "native"; or give a size')
        for n, axis in enumerate(("slices", "rows", "columns")):
            before, after = self.crop_margin_percent[2 * n : 2 * n + 2]
            if before + after <= -100:
                problems.append(f"crop_margin_percent: {before:g} and {after:g} leave nothing of the {axis}")
        return problems

    def _of_intensity(self) -> list[str]:
        problems = []
        if self.intensity_clip_hu is not None:
            low, high = self.intensity_clip_hu
            if not low < high:
                problems.append(f"intensity_clip_hu: the lower bound {low:g} is not below the upper {high:g}")
        if isinstance(self.intensity_scale, tuple) and self.intensity_clip_hu is None:
            problems.append("parameter intensity_clip_hu is missing, which intensity_scale maps")
        if self.intensity_scale is not None and self.intensity_zscore is not None:
            problems.append("intensity_scale and intensity_zscore: give one of them")
        if self.intensity_scale is None and self.intensity_zscore is None:
            problems.append(
                'parameter intensity_scale is missing: a pair, or "none"; or give intensity_zscore'
            )
        return problems

    def _of_labels(self) -> list[str]:
        problems = []
        first = self.channel_labels[0]
        if self.activation != "sigmoid" and (first != 0 or len(self.channel_labels) < 2):
            problems.append(
                f"channel_labels: expected background, 0, and at least one label more; found "
                f"{list(self.channel_labels)}"
            )
        if not self.labels:
            problems.append(f"channel_labels: no channel has a label above 0: {list(self.channel_labels)}")
        used = {*self.largest_component, *self.fill_holes, *self.minimum_volume_ml}
        used |= {*self.inside, *self.inside.values(), *self.label_meanings}
        if unknown := sorted(used - set(self.labels)):
            problems.append(f"labels {unknown} are used but are not in channel_labels")
        names = [meaning.name for meaning in self.label_meanings.values()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            problems.append(f"label_meanings: two labels have the name {twice[0]!r}")
        return problems

    @classmethod
    def from_server(cls, served: ServedModel) -> ModelDescription:
        """Read the description of a served model and hold it against its tensors.

        The window is that of the tensors where the description leaves it to them.

        Raises
        ------
        InferenceError
            If a parameter is missing, unknown, malformed, or contradicts a tensor; each is named.
        """
        try:
            description = cls.model_validate(_parsed(served))
        except ValidationError as error:
            found = "; ".join(problems(error.errors()))
            raise InferenceError(f"the config.pbtxt of model {served.name!r}: {found}") from error
        window = description.tensors_of(served).window(description.window_shape, description.size)
        return description.model_copy(update={"window_shape": window})

    def tensors_of(self, served: ServedModel) -> ModelTensors:
        """Return what the tensors of the model say.

        Raises
        ------
        InferenceError
            If they contradict the description.
        """
        return ModelTensors.from_server(
            served, channels=len(self.channel_labels), as_labels=self.activation == "labels"
        )


_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}
_SIMILAR_CUTOFF = 0.8


def _parsed(served: ServedModel) -> dict[str, Any]:
    values = {}
    for key, text in served.parameters.items():
        if key not in ModelDescription.model_fields:
            _refuse_misspelt(served.name, key)
            continue  # a parameter of the backend
        try:
            values[key] = json.loads(text)
        except ValueError as error:
            raise InferenceError(
                f"the config.pbtxt of model {served.name!r}: parameter {key}: {text!r} is not JSON: {error}"
            ) from error
    return values


def _refuse_misspelt(model: str, key: str) -> None:
    """Refuse what is nearly a parameter: left out in silence it would change the result."""
    from difflib import get_close_matches

    meant = get_close_matches(key, ModelDescription.model_fields, n=1, cutoff=_SIMILAR_CUTOFF)
    if meant:
        raise InferenceError(
            f"the config.pbtxt of model {model!r}: there is no parameter {key}; write {meant[0]}"
        )
