"""What a mask is written as: the kinds of result there are, and what each of them is given.

A kind of result is a module with an object `RESULT`. It makes files in a fresh folder of its own, and
opens them again with a reader that shares nothing with what wrote them.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from dicom_writer.mask.measure import Measurement
from dicom_writer.request.provenance import Provenance, UidMaker
from stages import SettingsError, Volume
from stages.volume.labels import Label
from stages.volume.original_slices import SliceMasks
from stages.volume.slice_numbers import slice_numbers

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from dicom_writer.mask.lesions import Lesions

logger = logging.getLogger(__name__)

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
class Given:
    """Everything that a kind of result is made of, and held against.

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
        Names of the results that are made in this run.
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


class Result(Protocol):
    """One kind of result."""

    name: str

    def make(self, given: Given, folder: Path) -> list[Path]:
        """Write files into a fresh folder; those get their place when all results are verified.

        Names begin with ``given.file_name`` and say the kind, such as ``<...>.seg.dcm``; where there
        are many, they lie in a folder ``<...>.series``.
        """
        ...

    def verify(self, given: Given, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read the files back, and return what they say of each label (empty if they say no numbers).

        Raises
        ------
        OutputError
            At the first thing that differs from the mask, its place in the patient, or the source.
        """
        ...


class _Results(Mapping[str, Result]):
    """The kinds of result by name; each module is imported when it is asked for."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules

    def __getitem__(self, name: str) -> Result:
        result: Result = importlib.import_module(self._modules[name]).RESULT
        return result

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


RESULTS: Mapping[str, Result] = _Results(
    {  # one line a kind, in the order in which they are made
        "seg": "dicom_writer.seg.segmentation",
        "labelmap": "dicom_writer.seg.labelmap",
        "series": "dicom_writer.series.mask_series",
        "rtstruct": "dicom_writer.rtstruct.structure_set",
        "report": "dicom_writer.sr.report",
        "capture": "dicom_writer.capture.capture",
        "pdf": "dicom_writer.pdf.document",
        "volume": "dicom_writer.series.volume_series",
    }
)
_NEEDS: Mapping[str, Sequence[str]] = {"report": ("seg",)}
_NOTHING_WHERE_EMPTY = frozenset({"rtstruct"})
"""Kinds that have no form in which viewers open them where no label has a voxel."""


def results_named(text: str) -> tuple[str, ...]:
    """Return the names in a list such as ``seg,series``, each once, in the order of `RESULTS`.

    With them come those that one of them refers to, see `with_needed`.

    Raises
    ------
    SettingsError
        If there is none, one is unknown, or ``volume``, which is no mask, stands beside others.
    """
    asked = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in asked if name not in list(RESULTS)]
    if unknown or not asked:
        raise SettingsError(
            f"--results {text!r}: {f'there is no result {unknown[0]!r}' if unknown else 'it names none'}; "
            f"choose from {','.join(RESULTS)}"
        )
    if "volume" in asked and len(set(asked)) > 1:
        raise SettingsError(
            f"--results {text!r}: volume is of a CT volume, the others of a mask; ask for one"
        )
    return with_needed(asked)


def with_needed(names: Sequence[str]) -> tuple[str, ...]:
    """Return names and those of results that they refer to: a report refers to the segmentation."""
    needed = {name for asked in names for name in _NEEDS.get(asked, ())} - set(names)
    for name in needed:
        logger.info("the result %s is written as well: another one that was asked for refers to it", name)
    return tuple(name for name in RESULTS if name in {*names, *needed})


def with_something_to_hold(given: Given) -> Given:
    """Leave out of what is wanted the results that cannot say that nothing was found: contours of nothing.

    Each is told in the log. The other kinds say of an empty mask that it was examined.
    """
    nothing = [name for name in given.wanted if given.is_empty and name in _NOTHING_WHERE_EMPTY]
    for name in nothing:
        logger.warning(
            "nothing to write as %s: no label has a voxel, and viewers do not open one without; "
            "seg, report and all other kinds say that nothing was found", name,
        )  # fmt: skip
    return replace(given, wanted=tuple(name for name in given.wanted if name not in nothing))
