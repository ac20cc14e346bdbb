"""The result request of a mask: the mask on its source images, measured.

What does not fit is refused here, before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_writer.mask.measure import measure_label, require_same_centroids
from dicom_writer.request.labels import labels_of, mask_values
from dicom_writer.request.provenance import Provenance
from dicom_writer.request.result_request import Options, ResultRequest
from dicom_writer.request.uids import uid_maker
from dicom_writer.source.images import find_source
from dicom_writer.source.positions import require_same_place
from stages import Volume
from stages.volume.labels import Label
from stages.volume.original_slices import on_original_slices


def request_of_mask(
    mask: Volume,
    source: Path,
    *,
    results: Sequence[str] = ("seg",),
    labels: Sequence[Label] = (),
    provenance: Provenance | None = None,
    options: Options | None = None,
) -> ResultRequest:
    """Return the result request of a mask: its source images found, the mask drawn on them and measured.

    Parameters
    ----------
    mask
        Label values on the grid of their volume.
    source
        Folder with the original images, at any depth.
    results
        Names of kinds of result.
    labels
        What labels mean, where it is something else than the mask says.
    provenance
        Which algorithm made the mask.
    options
        How results are written.
    """
    labels = labels_of(mask, labels)
    mask = replace(mask, array=mask_values(mask, labels))
    return request_on_sources(
        mask,
        find_source(source, mask),
        results=results,
        labels=labels,
        provenance=provenance,
        options=options,
    )


def request_on_sources(
    mask: Volume,
    sources: Sequence[Dataset],
    *,
    results: Sequence[str] = ("seg",),
    labels: Sequence[Label],
    provenance: Provenance | None = None,
    options: Options | None = None,
) -> ResultRequest:
    """Return the result request of a mask whose labels and source images are known.

    Parameters
    ----------
    mask
        Label values on the grid of their volume, uint8.
    sources
        Header of the source image of each slice, in slice order.
    results
        Names of kinds of result.
    labels
        What each value means.
    provenance
        Which algorithm made the mask.
    options
        How results are written.
    """
    provenance, options = provenance or Provenance(), options or Options()
    masks = on_original_slices(mask)
    require_same_place(masks, sources)
    require_same_centroids(mask, masks, labels)
    return ResultRequest(
        mask=mask,
        masks=masks,
        sources=sources,
        source_files=[Path(getattr(d, "filename", "") or "") for d in sources],
        labels=labels,
        provenance=provenance,
        measured={label.value: measure_label(masks, label.value) for label in labels},
        uids=uid_maker(mask, masks.array, sources, settings=(provenance, tuple(labels), options)),
        wanted=tuple(results),
        options=options,
    )
