"""Where the windows of an image lie, how their overlaps are weighted, and how a model wants them.

References
----------
Isensee et al., nnU-Net, Nature Methods 2021: overlapping windows with Gaussian importance weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stages.arrays import Array, array_namespace
from stages.errors import InferenceError, SettingsError
from stages.windows.activation import Activation

Placement: TypeAlias = Literal["even", "spread", "stepped"]
Blending: TypeAlias = Literal["gaussian", "constant"]
PaddingMode: TypeAlias = Literal["constant", "replicate", "reflect"]
Triple: TypeAlias = tuple[int, int, int]

CANONICAL = "bczyx"
_HALF_PEAK = 10  # what weights are multiplied by before they are rounded to half precision, as in nnU-Net


@dataclass(frozen=True, kw_only=True)
class GaussianShape:
    """How much the voxels of a window count, by their distance from its middle.

    Attributes
    ----------
    sigma
        Standard deviation, share of the window's size; nnU-Net and MONAI have 0.125.
    floor
        The share of the largest weight that no voxel counts less than, so that a corner is never divided by
        nothing. With 0 what would count nothing counts as much as the least that does.
    peak
        Of a window of n voxels the largest weight lies at (n - 1) / 2 (``centre``), or at n // 2 (``upper``).
    precision
        ``f16``: the weights are ten times as large and rounded to half precision, as nnU-Net has them.
    """

    sigma: float = 0.125
    floor: float = 1e-3
    peak: Literal["centre", "upper"] = "centre"
    precision: Literal["f32", "f16"] = "f32"


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """How an image is cut into windows, and how the model's outputs become one.

    Attributes
    ----------
    shape
        Slices, rows and columns of a window.
    classes
        Number of classes that the scores have.
    overlap
        Share of a window that its neighbour covers too, at least.
    blending
        Weights of overlapping windows.
    gaussian
        The shape of Gaussian ones.
    placement
        ``even`` takes as many windows as a step in whole voxels needs, and spreads them evenly; ``spread``
        the same of a step that is not rounded, as nnU-Net does; ``stepped`` keeps the step between them and
        pushes the last one back into the image, as MONAI does.
    padding
        Value outside of an image that is smaller than a window.
    padding_mode
        What lies there: this value, the outermost voxels (``replicate``), or the image mirrored at their
        centres (``reflect``).
    activation
        What makes an output scores.
    activation_after
        Whether that is done to the output of each window, or to what the outputs are blended to.
    mirror_axes
        Axes of the window (0 slices, 1 rows, 2 columns) along which the model gets it mirrored too; the
        scores are the mean over all combinations.
    slice_stack
        How many neighbouring slices, an odd number, are the channels of windows of one slice; the output is
        that of the middle one.
    models
        How many models are asked about each window.
    batch
        Windows in one request.
    in_flight
        Requests that are on their way at the same time.
    input_layout, output_layout
        Order of the axes of the model's tensors: b batch, c channels, z slices, y rows, x columns.
        A letter may be missing where the axis has one element.
    """

    shape: Triple
    classes: int
    overlap: float = 0.5
    blending: Blending = "gaussian"
    gaussian: GaussianShape = GaussianShape()
    placement: Placement = "even"
    padding: float = 0.0
    padding_mode: PaddingMode = "constant"
    activation: Activation = "none"
    activation_after: Literal["window", "blending"] = "window"
    mirror_axes: tuple[int, ...] = ()
    slice_stack: int = 1
    models: int = 1
    batch: int = 1
    in_flight: int = 2
    input_layout: str = CANONICAL
    output_layout: str = CANONICAL

    def __post_init__(self) -> None:
        for layout in (self.input_layout, self.output_layout):
            if len(set(layout)) != len(layout) or not set("yx") <= set(layout) <= set(CANONICAL):
                raise SettingsError(f"the axes of a tensor are of {CANONICAL!r}, each once, found {layout!r}")
        if min(*self.shape, self.classes, self.batch, self.in_flight) < 1:
            raise SettingsError(f"a window plan counts from 1, found {self}")
        if not 0 <= self.overlap < 1:
            raise SettingsError(f"the overlap of windows lies between 0 and 1, found {self.overlap}")
        if self.slice_stack > 1 and not self._takes_stacks:
            raise SettingsError(
                f"a stack is an odd number of slices, the channels of windows of one slice that are not "
                f"mirrored along slices, found {self}"
            )
        if self.batch > 1 and "b" not in self.input_layout:
            raise SettingsError(f"windows in batches of {self.batch} need a tensor with a batch axis (b)")

    @property
    def _takes_stacks(self) -> bool:
        is_slice = self.shape[0] == 1 and 0 not in self.mirror_axes
        return is_slice and self.slice_stack % 2 == 1 and "c" in self.input_layout

    @property
    def reach(self) -> int:
        """How many slices before and after a window the model sees too."""
        return self.slice_stack // 2

    @property
    def window_activation(self) -> Activation:
        """What is done to the output of each window."""
        late = self.activation_after == "blending" and self.activation != "labels"
        return "none" if late else self.activation

    @property
    def flips(self) -> tuple[tuple[int, ...], ...]:
        """The axes that are mirrored each time that the model gets one window; the first has none."""
        axes = sorted(set(self.mirror_axes))
        return tuple(chosen for n in range(len(axes) + 1) for chosen in itertools.combinations(axes, n))

    def starts(self, padded_shape: Sequence[int]) -> list[list[int]]:
        """Return where windows begin along each axis of an image.

        Parameters
        ----------
        padded_shape
            Slices, rows and columns of the image, which is no smaller than a window.
        """
        return [
            window_starts(size, window, self.overlap, placement=self.placement)
            for size, window in zip(padded_shape, self.shape, strict=True)
        ]

    def padded_shape(self, shape: Sequence[int]) -> Triple:
        """Return the shape of an image with what is missing to one window.

        Parameters
        ----------
        shape
            Slices, rows and columns of the image.
        """
        slices, rows, columns = (max(pair) for pair in zip(shape, self.shape, strict=True))
        return slices, rows, columns

    def input_shape(self, count: int) -> tuple[int, ...]:
        """Return the shape of a tensor of windows, in the input's layout.

        Parameters
        ----------
        count
            How many windows.
        """
        sizes = dict(zip(CANONICAL, (count, self.slice_stack, *self.shape), strict=True))
        return tuple(sizes[letter] for letter in self.input_layout)

    def weights(self) -> NDArray[np.float32]:
        """Return the importance of each voxel of a window; made once, so not to be written to."""
        return _weights(self.blending, self.shape, self.gaussian)

    def count(self, shape: Sequence[int]) -> int:
        """Return how many windows the model gets of an image, mirrored ones included.

        Parameters
        ----------
        shape
            Slices, rows and columns of the image.
        """
        return math.prod(map(len, self.starts(self.padded_shape(shape)))) * len(self.flips)


def window_starts(size: int, window: int, overlap: float, *, placement: Placement = "even") -> list[int]:
    """Return where windows begin along an axis so that they cover it.

    Parameters
    ----------
    size, window
        Length of the axis and of the window, voxels; the axis is at least as long.
    overlap
        Share of a window that its neighbour covers too, from 0 to below 1; what is used is at least
        this much.
    placement
        As for `WindowPlan`.

    Raises
    ------
    SettingsError
        If the overlap is not in this range.
    """
    if not 0 <= overlap < 1:
        raise SettingsError(f"the overlap of windows lies between 0 and 1, found {overlap}")
    step = max(1.0, window * (1 - overlap))
    if placement != "spread":
        step = int(step)
    count = math.ceil((size - window) / step) + 1
    if count == 1:
        return [0]
    if placement == "stepped":
        return [int(min(n * step, size - window)) for n in range(count)]
    if placement == "spread":  # as nnU-Net rounds
        actual = (size - window) / (count - 1)
        return [round(actual * n) for n in range(count)]
    return [round(n * (size - window) / (count - 1)) for n in range(count)]


@cache
def _weights(blending: Blending, shape: Triple, gaussian: GaussianShape) -> NDArray[np.float32]:
    weights = gaussian_weights(shape, gaussian) if blending == "gaussian" else constant_weights(shape)
    weights.flags.writeable = False
    return weights


def gaussian_weights(window: Sequence[int], shape: GaussianShape | None = None) -> NDArray[np.float32]:
    """Return the importance of each voxel of a window, largest in its middle, never 0; float32.

    Parameters
    ----------
    window
        Size of the window along each axis, voxels.
    shape
        How the importance falls from there.
    """
    shape = shape or GaussianShape()
    weights: NDArray[np.float64] = np.ones(())
    for size in window:
        distance = np.arange(size) - (size // 2 if shape.peak == "upper" else (size - 1) / 2)
        weights = weights[..., None] * np.exp(-0.5 * (distance / (shape.sigma * size)) ** 2)
    return _never_zero(_rounded(np.maximum(weights, shape.floor), shape))


def _rounded(weights: NDArray[np.float64], shape: GaussianShape) -> NDArray[np.float32]:
    if shape.precision == "f16":
        weights = (_HALF_PEAK * weights).astype(np.float16)
    return np.asarray(weights, dtype=np.float32)


def _never_zero(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return weights in which what counts nothing counts as much as the least that does."""
    nothing = weights == 0
    if nothing.any():
        weights[nothing] = weights[~nothing].min()
    return weights


def constant_weights(window: Sequence[int]) -> NDArray[np.float32]:
    """Return equal importance for each voxel of a window, float32.

    Parameters
    ----------
    window
        Size of the window along each axis, voxels.
    """
    return np.ones(tuple(window), dtype=np.float32)


def to_layout(windows: Array, layout: str) -> Array:
    """Return windows with the axes that a tensor has, as a view.

    Parameters
    ----------
    windows
        Shape (batch, channels, slices, rows, columns).
    layout
        Order of the tensor's axes, letters of `CANONICAL`.
    """
    dropped = tuple(n for n, letter in enumerate(CANONICAL) if letter not in layout)
    left = [letter for letter in CANONICAL if letter in layout]
    return windows.squeeze(dropped).transpose([left.index(letter) for letter in layout])


def from_layout(output: Array, layout: str) -> Array:
    """Return a tensor as (batch, channels, slices, rows, columns), as a view.

    Parameters
    ----------
    output
        The tensor.
    layout
        Order of its axes, letters of `CANONICAL`.

    Raises
    ------
    InferenceError
        If it has another number of axes than the layout.
    """
    if output.ndim != len(layout):
        raise InferenceError(f"the model answered {output.shape}, expected the axes {layout!r}")
    left = [letter for letter in CANONICAL if letter in layout]
    ordered = output.transpose([layout.index(letter) for letter in left])
    missing = tuple(n for n, letter in enumerate(CANONICAL) if letter not in layout)
    return array_namespace(output).expand_dims(ordered, missing)
