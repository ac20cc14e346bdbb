"""What the labels of a job's mask mean, and the true ones where somebody drew them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from clara_wf.definitions.workflow import Workflow
from clara_wf.payload import Payload
from stages.errors import InputError, SettingsError
from stages.volume.io import read_mask
from stages.volume.labels import Label, spoken_of
from stages.volume.labels_file import SUFFIX, read_labels
from stages.volume.volume import Volume

logger = logging.getLogger(__name__)

LABELS = "labels.yaml"


def labels_shown(
    mask: Volume, workflow: Workflow, payload: Payload, *, stages: Collection[str]
) -> tuple[tuple[Label, ...], tuple[int, ...]]:
    """Return the labels of a mask that are spoken of, and the values that nobody gave a meaning to.

    They are those that the job's results name: what the stage that wrote them states in its publish folder
    (`dicom-writer` does), else what the mask says, else what the workflow says.

    Parameters
    ----------
    mask, workflow, payload
        The mask, the workflow and the job's folders.
    stages
        Those that have finished; what others left is of an earlier run.
    """
    stated = _stated(mask, [payload.publish_dir / name for name in sorted(stages)])
    named, nameless = spoken_of(
        mask.origin.label_values, mask.origin.labels, stated=stated, otherwise=workflow.labels
    )
    known = {0, *nameless, *(label.value for label in named)}
    is_there = np.zeros(256, dtype=bool)
    is_there[mask.array.ravel()] = True
    there = {int(value) for value in np.flatnonzero(is_there)}
    return named, tuple(sorted({*nameless, *(there - known)}))


def _stated(mask: Volume, folders: Sequence[Path]) -> tuple[Label, ...]:
    paths = [folder / f"{mask.origin.file_name}{SUFFIX}" for folder in folders]
    for path in filter(Path.is_file, paths):
        try:
            return read_labels(path)
        except SettingsError as error:
            logger.warning("what a stage states of the labels is left out: %s", error)
    return ()


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
