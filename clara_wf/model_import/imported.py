"""What a reader says of a foreign model, whatever framework it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter for ``config.pbtxt``.

    Attributes
    ----------
    name, value
        As docs/reference/model.md has them.
    why
        Where the value comes from, for who reads the file; "" where the line above has said it.
    """

    name: str
    value: object
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """A model that was understood, and what makes files of it.

    Attributes
    ----------
    kind
        What it is, such as ``nnU-Net 3d_fullres, 5 folds``.
    name
        What to call it where nobody says otherwise.
    parameters
        For its ``config.pbtxt``, in the order to write them.
    image_sizes
        Of the input without the batch: channels, then axes of the window.
    channels
        Of the output.
    save
        Writes ``model.onnx`` into a folder that is there, and returns how far its answers are from the
        original's, "" where it was not compared.
    licence
        What its files say of the weights' licence; "" where they say nothing.
    notes
        What the user should know, a sentence each.
    unnamed
        By label, names of the source that have no code here.
    """

    kind: str
    name: str
    parameters: tuple[Parameter, ...]
    image_sizes: tuple[int, ...]
    channels: int
    save: Callable[[Path], str]
    licence: str = ""
    notes: tuple[str, ...] = ()
    unnamed: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImportChoices:
    """What the user says of a model because its files do not.

    Attributes
    ----------
    orientation
        Patient directions in which slice, row and column index grow in the images it was trained on; None
        where nobody said.
    only
        Names of the labels to keep; empty for all.
    folds
        Which to use; empty for all there are.
    trust_code
        Whether programs in its files are trusted.
    backend
        Of Triton: ``onnxruntime``, or ``pytorch`` for a TorchScript file as it is.
    """

    orientation: str | None = None
    only: Sequence[str] = ()
    folds: Sequence[str] = ()
    trust_code: bool = False
    backend: str = "onnxruntime"


class UnsupportedModelError(InputError):
    """A model of a known framework that this project cannot run as that framework would."""
