"""Which framework a path is of, and what a reader makes of it: a folder as a Triton repository has them."""

from __future__ import annotations

from pathlib import Path

from clara_wf.model_import.config_text import config_text
from clara_wf.model_import.imported import ForeignModel, ImportChoices
from clara_wf.model_import.monai_bundle.bundle import is_bundle, read_bundle
from clara_wf.model_import.nnunet.trained_model import read_nnunet, trained_model_folder
from clara_wf.model_import.totalsegmentator.weights import read_totalsegmentator, weight_folders
from clara_wf.models.config_pbtxt import CONFIG
from stages.errors import printable

LICENCE = "LICENCE.md"
"""File of an imported model's folder with what its files say of the weights' licence."""


def foreign_model(source: Path, choices: ImportChoices) -> ForeignModel | None:
    """Return what a path is as a model of another framework; None where it is of none.

    Parameters
    ----------
    source
        What the user has named.
    choices
        What the user says of it.

    Raises
    ------
    InputError
        If it is such a model, but damaged, incomplete, or cannot be run as its framework would.
    """
    if source.is_dir() and (folders := weight_folders(source)):
        return read_totalsegmentator(source, folders, choices)
    if source.is_dir() and is_bundle(source):
        return read_bundle(source, choices)
    if folder := trained_model_folder(source):
        return read_nnunet(folder, choices)
    return None


def write_model(model: ForeignModel, folder: Path) -> str:
    """Write a foreign model as a folder of a Triton repository; return how it compares with the original.

    Parameters
    ----------
    model
        What a reader has said of it.
    folder
        Where; made here.

    Raises
    ------
    InputError
        If its weights are not those of what its files describe.
    """
    (folder / "1").mkdir(parents=True)
    compared = model.save(folder / "1")
    (folder / CONFIG).write_text(config_text(folder.name, model), encoding="utf-8")
    (folder / LICENCE).write_text(_licence_text(model), encoding="utf-8")
    return compared


def _licence_text(model: ForeignModel) -> str:
    said = (
        printable(model.licence)
        or "Its files do not say under which licence the weights are; ask who made them."
    )
    return f"# Licence of the weights\n\n{said}\n\nImported from {printable(model.kind)}.\n"
