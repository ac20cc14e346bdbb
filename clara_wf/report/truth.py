"""The true labels of a job's series, where somebody drew them."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from stages.errors import InputError
from stages.volume.io import read_mask
from stages.volume.labels_file import read_labels
from stages.volume.volume import Volume

logger = logging.getLogger(__name__)

LABELS = "labels.yaml"


def truth_for(mask: Volume, folder: Path) -> Volume | None:
    """Return the truth of a mask, which says what its labels mean; None where there is none.

    Parameters
    ----------
    mask
        The mask.
    folder
        Where ``<SeriesInstanceUID>.mhd`` may lie. What its labels mean is said in the ``.json`` beside it or,
        for all that lie there, in ``labels.yaml``, a file of labels.

    Raises
    ------
    InputError
        If it lies on another grid than the mask.
    SettingsError
        If the file of labels is wrong.
    """
    path = folder / f"{mask.origin.file_name}.mhd"
    if not path.is_file():
        return None
    truth = read_mask(path)
    if not truth.grid.matches(mask.grid):
        raise InputError(f"the truth {path.name} lies on another grid than the mask")
    if (folder / LABELS).is_file():
        labels = read_labels(folder / LABELS)
        truth = replace(truth, origin=replace(truth.origin, labels=labels))
    if not truth.origin.labels:
        logger.warning(
            "the truth in %s is compared with nothing: nobody said what its labels mean; say it in %s there",
            folder,
            LABELS,
        )
    return truth
