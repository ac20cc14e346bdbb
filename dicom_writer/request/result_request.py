"""The result request: everything that results are made of, whatever their kind."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dicom_writer.mask.measure import Measurement
from dicom_writer.request.provenance import Provenance
from stages import Volume
from stages.volume.labels import Label
from stages.volume.original_slices import SliceMasks
from stages.volume.slice_numbers import slice_numbers

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_writer.mask.lesions import Lesions
    from dicom_writer.request.uids import UidMaker

Compression = Literal["none", "rle", "deflate"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How results are written.

    Attributes
    ----------
    keep_empty_frames
        Whether a segmentation has a frame for each slice and segment, or only where there are voxels.
    compression
        Of segmentations: `rle` and `deflate` change no voxel. A binary one cannot be `rle`.
    """

    keep_empty_frames: bool = False
    compression: Compression | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ResultRequest:
    """Everything that a kind of result is made of, and compared with when it is read back.

    Attributes
    ----------
    mask
        As it came, on the grid of its volume.
    masks
        The same on the original slices: this is what is written.
    sources
        Header of the source image of each slice, without pixels, in the order of `masks`.
    source_files
        Where the file of each slice lies; one file several times where it is a multi-frame image.
    labels
        What each value means.
    provenance
        Which algorithm.
    measured
        What each label of `masks` measures, by its value; one without a voxel measures 0 ml.
    uids
        Makes the UIDs of the results; the same for the same source, mask and settings. So the instance of
        the segmentation is ``uids.uid("seg instance")`` also before it is written.
    wanted
        Names of the kinds of result that are made in this run.
    options
        How they are written.
    moment
        When they are made; one for all.
    """

    mask: Volume
    masks: SliceMasks
    sources: Sequence[Dataset]
    source_files: Sequence[Path]
    labels: Sequence[Label]
    provenance: Provenance
    measured: Mapping[int, Measurement]
    uids: UidMaker
    wanted: tuple[str, ...] = ("seg",)
    options: Options = field(default_factory=Options)
    moment: datetime = field(default_factory=datetime.now)

    @property
    def file_name(self) -> str:
        """What files of results begin with: ``<SeriesInstanceUID of the source>``, as the volume's do."""
        return self.mask.origin.file_name

    @property
    def is_empty(self) -> bool:
        """Whether no label has a voxel."""
        return not any(m.volume_ml for m in self.measured.values())

    @functools.cached_property
    def slice_numbers(self) -> tuple[int, ...]:
        """The number by which people find each slice, see `stages.volume.slice_numbers`."""
        from dicom_writer.source.frames import frame_of, instance_number

        return slice_numbers([instance_number(s) for s in self.sources], [frame_of(s) for s in self.sources])

    @functools.cached_property
    def lesions(self) -> tuple[Lesions, ...]:
        """The lesions of each label that marks lesions, in the order of the labels."""
        from dicom_writer.mask.lesions import find_lesions

        return tuple(find_lesions(self.masks, label) for label in self.labels if label.marks_lesions)
