"""TorchScript files: as ONNX for every server, or as they are for the ``pytorch`` backend of the official
Triton.

Such a file says nothing of images and labels, so that what comes of it is a model to complete.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from clara_wf.model_import.torch_export import export, load_script
from clara_wf.models.config_pbtxt import CONFIG, config_for
from clara_wf.models.onnx_tensors import OnnxTensors
from stages.errors import InputError, printable
from stages.triton.types import TensorSpec

_SIZES = {2: (256, 256), 3: (64, 96, 96)}
"""Of the images that it is exported with, where a file does not say it, by their axes."""


def is_torchscript(path: Path) -> bool:
    """Return whether a file is TorchScript: an archive with constants and code in it.

    Parameters
    ----------
    path
        The file.
    """
    with suppress(OSError, zipfile.BadZipFile, ValueError):
        if path.is_file() and zipfile.is_zipfile(path):
            names = zipfile.ZipFile(path).namelist()
            return any(each.endswith("/constants.pkl") for each in names) and any(
                "/code/" in each for each in names
            )
    return False


def write_onnx(path: Path, into: Path, print_line: Callable[[str], None]) -> Path:
    """Write a TorchScript file as ONNX, and return that file.

    Parameters
    ----------
    path
        The file.
    into
        Folder for the other.
    print_line
        Called with a line for the user: how far the two are apart.

    Raises
    ------
    InputError
        If it is none, has several inputs, or cannot be exported.
    """
    script = load_script(path)
    sizes = _sizes(script, path)
    written = into / f"{path.stem}.onnx"
    print_line(export(script, written, sizes).text)
    print_line(
        f"its window is {' x '.join(map(str, sizes[1:]))}, since a TorchScript file does not say its own"
    )
    return written


def write_for_pytorch(path: Path, folder: Path) -> None:
    """Write a folder for Triton's ``pytorch`` backend, with a configuration to complete.

    Parameters
    ----------
    path
        The TorchScript file.
    folder
        The model's folder; made here.

    Raises
    ------
    InputError
        If it is none, or has several inputs.
    """
    script = load_script(path)
    channels, *sizes = _sizes(script, path)
    answer = _answer(script, (channels, *sizes), path)
    tensors = OnnxTensors(
        inputs=(TensorSpec(name="INPUT__0", datatype="FP32", shape=(-1, channels, *(-1 for _ in sizes))),),
        outputs=(TensorSpec(name="OUTPUT__0", datatype="FP32", shape=(-1, answer, *(-1 for _ in sizes))),),
        weight_files=(),
    )
    (folder / "1").mkdir(parents=True)
    shutil.copyfile(path, folder / "1" / "model.pt")
    config = config_for(folder.name, tensors).replace('backend: "onnxruntime"', 'backend: "pytorch"')
    (folder / CONFIG).write_text(config, encoding="utf-8")


def _answer(script: Any, sizes: tuple[int, ...], path: Path) -> int:
    import torch

    try:
        with torch.inference_mode():
            return int(script(torch.zeros(1, *sizes)).shape[1])
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(
            f"{printable(path)} does not answer an image of {list(sizes)} with scores: "
            f"{printable(str(error))[-200:]}"
        ) from error


def _sizes(script: Any, path: Path) -> tuple[int, ...]:
    """Return channels and sizes of an image for a module, from the first of its convolutions."""
    for weight in _convolutions(script):
        return (int(weight.shape[1]), *_SIZES[weight.ndim - 2])
    raise InputError(f"{printable(path)} has no convolution of 2 or 3 axes; is it a model for segmentation?")


def _convolutions(script: Any) -> Iterator[Any]:
    for weight in script.parameters():
        if weight.ndim - 2 in _SIZES:
            yield weight
