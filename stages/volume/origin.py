"""Where a volume came from: its series, the instance of each slice, what was corrected, what made a mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stages.volume.labels import Label


@dataclass(frozen=True, kw_only=True)
class SliceOrigin:
    """The DICOM instance one slice of a volume was read from.

    Attributes
    ----------
    sop_instance_uid
        *SOP Instance UID* (0008,0018).
    position
        *Image Position (Patient)* (0020,0032), mm, LPS.
    frame
        Which frame of the instance it is, from 1; None where the instance is one image.
    series_instance_uid
        *Series Instance UID* (0020,000E) of the instance, where it is another than the volume's: series
        that were read as one.
    instance_number
        *Instance Number* (0020,0013); None where it is missing or no number.
    """

    sop_instance_uid: str
    position: tuple[float, float, float]
    frame: int | None = None
    series_instance_uid: str = ""
    instance_number: int | None = None


@dataclass(frozen=True, kw_only=True)
class Correction:
    """How the slices of a series were put on a regular grid, and the map back to each of them.

    The grid has the directions and the pixel spacing of the slices; only the distance between slices
    and their offsets differ. So pixel (row, column) of slice k lies at index
    ``first_pixels[k] + (0, row, column)`` of the grid, a fractional one in general.

    Attributes
    ----------
    kinds
        What was corrected: "gantry tilt", "uneven spacing", "missing slices".
    matrix
        *Rows* (0028,0010) and *Columns* (0028,0011) of the slices; the grid's may be larger.
    first_pixels
        For each entry of `Origin.slices`, in the same order, the index (slice, row, column) on the
        grid at which the centre of its first pixel lies.
    fill_hu
        The value of voxels that no slice covers, such as the corners of a sheared volume.
    """

    kinds: tuple[str, ...]
    matrix: tuple[int, int]
    first_pixels: tuple[tuple[float, float, float], ...]
    fill_hu: int


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """What made a mask.

    Attributes
    ----------
    name, version
        Of the model.
    weights_sha256, configuration_sha256
        Which weights and which configuration, hexadecimal; empty where unknown.
    """

    name: str
    version: str
    weights_sha256: str = ""
    configuration_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a volume came from, as written beside it in ``<SeriesInstanceUID>.json``.

    Attributes
    ----------
    series_instance_uid, study_instance_uid, frame_of_reference_uid
        (0020,000E), (0020,000D), (0020,0052); the name of the volume's files is the first.
    body_part
        *Body Part Examined* (0018,0015) of the series, upper case, where all its slices agree on a term of
        the standard; else empty.
    part
        Which volume of the series this is, where it is several (phases, stacks), such as
        "acquisition-2"; empty otherwise.
    slices
        One entry a slice of the series, in slice order; empty when the volume did not come from DICOM.
        The slices of the volume are these unless `correction` says otherwise.
    repairs
        What was changed to make the volume regular; empty when nothing was.
    correction
        How the slices were put on the volume's grid, where they did not form one themselves.
    selection
        Why this series was chosen and the others were not, by SeriesInstanceUID.
    pixel_sha256
        SHA-256 of the array's bytes (C order, little endian), hexadecimal.
    algorithm
        What made it, where it is a mask.
    label_values
        Of a mask: the values above 0 that what made it can give, whether or not a voxel has them; empty
        where nobody said.
    labels
        Of a mask: what its values mean, by rising value; one that is missing here has no meaning.
    warnings
        What everybody who uses the result has to be told, one sentence each, without identities: slices
        that may be missing, files left out, a finding that is not plausible. Whoever makes one volume of
        another passes them on and adds its own.
    """

    series_instance_uid: str
    study_instance_uid: str = ""
    frame_of_reference_uid: str = ""
    body_part: str = ""
    part: str = ""
    slices: tuple[SliceOrigin, ...] = ()
    repairs: tuple[str, ...] = ()
    correction: Correction | None = None
    selection: Mapping[str, str] = field(default_factory=dict)
    pixel_sha256: str = ""
    algorithm: Algorithm | None = None
    label_values: tuple[int, ...] = ()
    labels: tuple[Label, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """Name of the volume's files without suffix: the series UID, and the part where there are several."""
        return f"{self.series_instance_uid}_{self.part}" if self.part else self.series_instance_uid
