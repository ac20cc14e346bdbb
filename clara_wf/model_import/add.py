"""Add a model to a repository, whatever it is: what another framework made is brought into our form first."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from clara_wf.files.exchange import made_beside
from clara_wf.model_import.archive import unpacked
from clara_wf.model_import.imported import ForeignModel, ImportChoices
from clara_wf.model_import.kinds import foreign_model, write_model
from clara_wf.model_import.torchscript import is_torchscript, write_for_pytorch, write_onnx
from clara_wf.models.add import AddedModel, add_model
from stages.errors import InputError, OutputError, SettingsError, printable

_AXES = {letter: axis for axis in ("LR", "PA", "SI") for letter in axis}


def add_any_model(
    source: Path,
    repository: Path,
    *,
    name: str | None = None,
    cache: Path,
    print_line: Callable[[str], None],
    choices: ImportChoices,
) -> AddedModel:
    """Add a model of this or another framework to a repository.

    Parameters
    ----------
    source
        A file or folder of Triton, ONNX, nnU-Net, TotalSegmentator, MONAI or TorchScript.
    repository
        The model repository.
    name
        Of the model; default: what its files call it.
    cache
        Where the model server is installed.
    print_line
        Called with a line for the user before what takes a while.
    choices
        What the user says of a foreign model.

    Raises
    ------
    InputError
        If it is no model, or damaged, or cannot be run here as its framework would; nothing is added then.
    SettingsError
        If something must be said of it, or something was said that it has no use for.
    InferenceError
        If it does not run on a real Triton as it describes itself.
    OutputError
        If the repository cannot be written.
    """
    if not repository.is_dir():
        raise InputError(
            f"there is no model repository {repository}; make the folder, or name one with --models"
        )
    _require_orientation(choices.orientation)
    try:
        with made_beside(repository) as beside, unpacked(source, beside) as found:
            return _add(found, repository, name, beside, cache, print_line, choices)
    except OSError as error:
        if isinstance(error, InputError | OutputError):
            raise
        raise OutputError(f"cannot add {source} to {repository}: {error.strerror or error}") from error


def _add(
    source: Path,
    repository: Path,
    name: str | None,
    beside: Path,
    cache: Path,
    print_line: Callable[[str], None],
    choices: ImportChoices,
) -> AddedModel:
    add = partial(add_model, repository=repository, cache=cache, print_line=print_line)
    model = foreign_model(source, choices) if source.exists() else None
    if model is not None:
        folder = beside / (name or _plain_name(model.name))
        for line in _introduction(source, model):
            print_line(line)
        if compared := write_model(model, folder):
            print_line(compared)
        return add(folder, name=folder.name)
    _require_no_choices(source, choices)
    if is_torchscript(source):
        folder = beside / (name or _plain_name(source.stem))
        if choices.backend == "pytorch":
            write_for_pytorch(source, folder)
            return add(folder, name=folder.name)
        return add(write_onnx(source, beside, print_line), name=folder.name)
    return add(source, name=name, trust_code=choices.trust_code)


def _require_orientation(said: str | None) -> None:
    """Raise unless what is said are three patient directions, of which no two are opposite."""
    if said is None or sorted(_AXES.get(each, "") for each in said) == ["LR", "PA", "SI"]:
        return
    raise SettingsError(
        f"--orientation is {said!r}; expected a letter each of L or R, P or A, S or I, such as SPL: the "
        f"patient directions in which slice, row and column index grow"
    )


def _require_no_choices(source: Path, choices: ImportChoices) -> None:
    said = {"--orientation": choices.orientation, "--only": choices.only, "--fold": choices.folds}
    if given := [option for option, value in said.items() if value]:
        raise SettingsError(
            f"{' and '.join(given)} is for models of other frameworks, and {printable(source)} is none; say "
            f"it in "
            f"its config.pbtxt"
        )


def _plain_name(name: str) -> str:
    """Return a name that Triton takes."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "model"


def _introduction(source: Path, model: ForeignModel) -> list[str]:
    licence = printable(model.licence) or "its files do not say; ask who made it before you use it"
    lines = [f"{printable(source)} is {model.kind}", f"licence of the weights: {licence}"]
    lines += [f"note: {note}" for note in model.notes]
    if model.unnamed:
        names = ", ".join(f"{label} {printable(name)}" for label, name in model.unnamed)
        lines.append(f"of these labels only the name is known, say their codes in label_meanings: {names}")
    return lines
