"""Which parameters of a ``config.pbtxt`` are the stage's, and which values each may have by itself.

docs/reference/model.md explains each.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from stages.model.problems import ORIENTATION, SHA256
from stages.volume.labels import Label, Meaning, labels_of
from stages.volume.labels_file import with_rgb

_Label = Annotated[int, Field(ge=0, le=255)]
_Positive = Annotated[float, Field(gt=0)]
_Size = Annotated[int, Field(gt=0)]
_Millilitres = Annotated[float, Field(ge=0)]
_Percentile = Annotated[float, Field(ge=0, le=100)]
_Spacing = _Positive | Literal["native"]
_Percent = Annotated[float, Field(gt=-100, le=100)]
_Sizes = tuple[_Size, _Size, _Size]


class Statistics(BaseModel):
    """Mean and standard deviation that intensities are brought to 0 and 1 by, HU."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: float
    std: _Positive


class ModelParameters(BaseModel):
    """The stage's parameters of a model's ``config.pbtxt``: what must be known of it beside its tensors.

    Attributes
    ----------
    orientation
        Patient direction in which the model's slice, row and column index grow, such as ``SPL``.
    spacing_mm
        Voxel spacing of the model along slice, row and column; ``native``, for all or for one of them, is the
        volume's own.
    size
        Instead of a spacing: slices, rows and columns that every volume is brought to.
    grid_alignment
        Where the model's grid lies in the volume. ``centred``: voxels of exactly its spacing around the same
        centre; ``stretched``: outer face to outer face, so that the spacing is only nearly the one asked for;
        ``first_voxel``: voxels of exactly its spacing from the first voxel's centre on; ``corner_centres``:
        the first and the last voxels' centres coincide.
    interpolation
        Of the volume: ``linear``, ``cubic`` (the interpolating B-spline of order 3) or ``nearest``.
    interpolation_edge
        How the volume goes on beyond its outermost voxels for the spline: as they are (``nearest``), or
        mirrored at their centres (``mirror``).
    interpolation_overshoot
        What the spline makes beyond the range of the volume, or, where an axis is apart, of the slice: it is
        brought to the range (``clip``), or kept (``keep``).
    truncate_hu
        Whether interpolated HU lose their fraction, towards zero.
    anisotropy_threshold
        Where the largest spacing of the volume, or else of the model, is more than so many times the
        smallest, that axis is apart: values and scores are those of the nearest voxel along it, interpolated
        in the plane of the others alone.
    score_interpolation
        Of the scores onto the volume's grid: ``linear``, or ``nearest``, so that labels are those of the
        nearest voxel of the model's grid.
    crop
        What of the volume the model sees: ``none`` for all, ``body`` for the box around the largest component
        of the foreground, which is the patient, ``foreground`` for the box around all of it, ``nonzero`` for
        the box around the voxels that are not 0 HU.
    foreground_hu
        What is brighter is foreground.
    crop_margin_percent
        Before and after along slice, row and column: how much larger the box gets on that side, in percent of
        its own length; negative numbers cut.
    intensity_clip_hu, intensity_scale
        HU outside the first pair are clipped (not at all without it); the pair is then mapped onto the
        second. ``none`` for a scale leaves HU as they are.
    intensity_clip_percentile
        Instead of HU to clip at: percentiles of the volume's own voxels.
    intensity_zscore
        Instead of a scale: given statistics, or those of the volume: of its ``foreground``, of all of it
        (``volume``), or of the voxels that are not 0 (``nonzero``; with their holes, ``nonzero_filled``), the
        others staying as they are.
    intensity_before_resampling
        Whether intensities are changed before the volume is resampled, rather than after.
    padding_value_hu
        What lies outside the volume, HU.
    padding_value
        The same as an intensity that the model is given.
    padding_mode
        What lies outside an image that is smaller than a window: that value (``constant``), the outermost
        voxels (``replicate``), or the image mirrored at their centres (``reflect``).
    window_shape
        Slices, rows and columns of a window; by default what the tensors say, else the whole `size`.
    overlap
        Share of a window that its neighbour covers too.
    window_placement
        ``even``: a step is a whole number of voxels, and the windows that it takes are spread evenly;
        ``spread``: the same of a step that is not rounded; ``stepped``: the step is kept from the first voxel
        on, and the last window pushed back into the image.
    blending
        Weights of overlapping windows.
    gaussian_sigma
        Of Gaussian weights: standard deviation as a share of the window's size.
    gaussian_floor
        Of Gaussian weights: the share of the largest that no voxel counts less than. With 0 what would count
        nothing counts as much as the least that does.
    gaussian_peak
        Of Gaussian weights of a window of n voxels: the largest lies at (n - 1) / 2 (``centre``), or at
        n // 2 (``upper``).
    gaussian_precision
        Of Gaussian weights: single (``f32``), or ten times as large and rounded to half precision (``f16``).
    slice_stack
        Of a model of slices: how many neighbouring slices are its channels, an odd number.
    ensemble
        Further models of the same server, with the same tensors; the output is the mean of all.
    mirror_axes
        Axes of the window (0 slices, 1 rows, 2 columns) along which the model is also asked mirrored.
    precision
        The least precise arithmetic that its answers were shown to stand: single precision (``f32``), or with
        10 (``tf32``, ``f16``) or 7 bits (``bf16``) of a fraction. A server may compute more precisely.
    activation
        What makes the model's output scores between 0 and 1; ``none`` when it has done so itself, ``labels``
        when its output is the index of a channel.
    activation_after
        What ``softmax`` or ``sigmoid`` is applied to: the output of each ``window``, what these are blended
        to (``blending``), or what that is interpolated to on the volume's grid (``resampling``).
    threshold
        Of a ``sigmoid`` model: the score from which a channel's label is taken.
    channel_labels
        Label value of each output channel. The first is background, 0, but of a ``sigmoid`` model, whose
        channels may overlap: there the later one counts. null is a channel that is not wanted; where it is
        the best, the mask is background (of a ``sigmoid`` model it counts nowhere).
    largest_component
        Of the union of these labels only the largest connected component is kept; empty for all.
    fill_holes
        Labels whose holes, background that they surround, become theirs.
    minimum_volume_ml
        Label -> components below this volume are removed.
    inside
        Label -> organ label: the first only counts within what the organ's component holds.
    label_meanings
        Label -> its name, codes and colour (`stages.volume.labels.Meaning`), for what is made of the mask. A
        model without them gives masks that the DICOM writer refuses, unless the workflow says what they mean.
    expected_volume_ml
        Label -> lowest and highest plausible volume, ml, of the label with all labels that `inside` puts into
        it; a mask outside them gets a warning.
    body_part
        Term of *Body Part Examined* (0018,0015) for the part that the model is for; a mask of a series of a
        part far from it gets a warning.
    weights_sha256
        SHA-256 of the weights, hexadecimal, for the results; not checked against the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    orientation: Annotated[str, Field(pattern=ORIENTATION)]
    spacing_mm: tuple[_Spacing, _Spacing, _Spacing] | Literal["native"] | None = None
    size: _Sizes | None = None
    grid_alignment: Literal["centred", "stretched", "first_voxel", "corner_centres"] = "centred"
    interpolation: Literal["linear", "cubic", "nearest"] = "linear"
    interpolation_edge: Literal["nearest", "mirror"] = "nearest"
    interpolation_overshoot: Literal["clip", "keep"] = "clip"
    truncate_hu: bool = False
    anisotropy_threshold: Annotated[float, Field(ge=1)] | None = None
    score_interpolation: Literal["linear", "nearest"] = "linear"
    crop: Literal["none", "body", "foreground", "nonzero"] = "none"
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
    intensity_clip_percentile: tuple[_Percentile, _Percentile] | None = None
    intensity_zscore: Statistics | Literal["foreground", "volume", "nonzero", "nonzero_filled"] | None = None
    intensity_before_resampling: bool = False
    padding_value_hu: float | None = None
    padding_value: float | None = None
    padding_mode: Literal["constant", "replicate", "reflect"] = "constant"
    window_shape: _Sizes | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    window_placement: Literal["even", "spread", "stepped"] = "even"
    blending: Literal["gaussian", "constant"] = "gaussian"
    gaussian_sigma: _Positive = 0.125
    gaussian_floor: Annotated[float, Field(ge=0, lt=1)] = 1e-3
    gaussian_peak: Literal["centre", "upper"] = "centre"
    gaussian_precision: Literal["f32", "f16"] = "f32"
    slice_stack: Annotated[int, Field(gt=0)] = 1
    ensemble: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    mirror_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    precision: Literal["f32", "tf32", "f16", "bf16"] = "f32"
    activation: Literal["softmax", "sigmoid", "none", "labels"]
    activation_after: Literal["window", "blending", "resampling"] = "window"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    channel_labels: Annotated[tuple[_Label | None, ...], Field(min_length=1)]
    largest_component: tuple[_Label, ...] = ()
    fill_holes: tuple[_Label, ...] = ()
    minimum_volume_ml: dict[_Label, _Positive] = {}
    inside: dict[_Label, _Label] = {}
    label_meanings: dict[_Label, Annotated[Meaning, BeforeValidator(with_rgb)]] = {}
    expected_volume_ml: dict[_Label, tuple[_Millilitres, _Millilitres]] = {}
    body_part: str | None = None
    weights_sha256: Annotated[str, Field(pattern=SHA256)] = ""

    @property
    def labels(self) -> tuple[int, ...]:
        """The label values of a mask, without background, smallest first."""
        return tuple(sorted({label for label in self.channel_labels if label}))

    @property
    def meanings(self) -> tuple[Label, ...]:
        """What the labels mean, by rising value; one that nobody gave a meaning to is missing."""
        return labels_of(self.label_meanings)

    @property
    def intensity_needs_volume(self) -> bool:
        """Whether intensities depend on all voxels of a volume, so that these must be seen first."""
        return self.intensity_clip_percentile is not None or isinstance(self.intensity_zscore, str)

    def name_of(self, label: int) -> str:
        """Return what a label is called, or ``label 5`` where nobody said.

        Parameters
        ----------
        label
            Its value.
        """
        meaning = self.label_meanings.get(label)
        return meaning.name if meaning else f"label {label}"

    @property
    def nameless(self) -> tuple[int, ...]:
        """The labels that nobody gave a meaning to."""
        return tuple(label for label in self.labels if label not in self.label_meanings)
