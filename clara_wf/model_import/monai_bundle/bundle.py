"""MONAI bundles: metadata, configuration of the inference and network, as a model of ours.

The configuration is read as data, and nothing of the bundle is run. The network is TorchScript
(``models/model.ts``), or one of MONAI's own with the weights of ``models/model.pt``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from clara_wf.model_import.anatomy import meanings_of
from clara_wf.model_import.imported import ForeignModel, ImportChoices, Parameter
from clara_wf.model_import.monai_bundle.config import BundleConfig, Component, Unread, config_file
from clara_wf.model_import.monai_bundle.transforms import (
    inferer_parameters,
    postprocessing_parameters,
    preprocessing_parameters,
    require_supported,
)
from clara_wf.model_import.nnunet.plans import read_json
from clara_wf.model_import.torch_export import export, load_network, load_script
from stages.errors import InputError, SettingsError, printable

_METADATA = "configs/metadata.json"
_SCRIPT, _WEIGHTS = "models/model.ts", "models/model.pt"
_LICENCES = (
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "docs/license.txt",
    "docs/data_license.txt",
    "docs/LICENSE",
)
_TOP_LEVEL = ("preprocessing", "postprocessing", "inferer", "network_def")
_LONGEST_LICENCE = 120


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is a MONAI bundle.

    Parameters
    ----------
    folder
        The folder.
    """
    return (folder / _METADATA).is_file() or config_file(folder, "inference") is not None


def read_bundle(folder: Path, choices: ImportChoices) -> ForeignModel:
    """Return what a MONAI bundle is.

    Parameters
    ----------
    folder
        The bundle.
    choices
        What the user says of it.

    Raises
    ------
    InputError
        If something is missing or damaged.
    UnsupportedModelError
        If it does what has no counterpart here; all of it is told.
    """
    if choices.only or choices.folds:
        raise SettingsError(
            "--only and --fold are for TotalSegmentator's models and nnU-Net's, not for a bundle"
        )
    metadata, config = _configs(folder)
    labels = _labels(metadata, folder)
    channels = _channels(metadata, folder)
    parameters, problems = _parameters(config, channels)
    require_supported(problems, printable(folder))
    parameters = _oriented(parameters, choices, folder)
    found = {each.name: each.value for each in parameters}
    shape = found["window_shape"]
    assert isinstance(shape, list)
    first = 0 if found["activation"] == "softmax" else 1
    meanings, unnamed = meanings_of({label: name for label, name in labels.items() if label})
    values = [label if label in labels else None for label in range(first, channels + first)]
    return ForeignModel(
        kind=f"the MONAI bundle {metadata.get('name') or folder.resolve().name}, version "
        f"{metadata.get('version', 'unknown')}",
        name=folder.resolve().name,
        parameters=(
            *parameters,
            Parameter(name="channel_labels", value=values, why="channel_def of metadata.json"),
            Parameter(name="label_meanings", value=meanings, why="its names, codes by name"),
        ),
        image_sizes=(1, *shape),
        channels=channels,
        save=partial(_save, folder, config, (1, *shape), channels, trust_code=choices.trust_code),
        licence=_licence(folder, metadata),
        unnamed=unnamed,
        notes=_notes(metadata),
    )


def _configs(folder: Path) -> tuple[dict[str, Any], BundleConfig]:
    path = config_file(folder, "inference")
    if path is None:
        raise InputError(
            f"{printable(folder)} has no configs/inference.json or .yaml, which says what happens to "
            f"images; a bundle "
            f"without it can be added as ONNX with a config.pbtxt of your own"
        )
    config = BundleConfig(path)
    for key in ("preprocessing", "postprocessing", "inferer"):
        if key not in config:
            raise InputError(f"{printable(path)} has no {key}; expected {', '.join(_TOP_LEVEL)}")
    return read_json(folder / _METADATA), config


def _parameters(config: BundleConfig, channels: int) -> tuple[list[Parameter], list[str]]:
    before, problems = preprocessing_parameters(_transforms(config, "preprocessing"))
    windows, more = inferer_parameters(config.get("inferer"))
    after, rest = postprocessing_parameters(_transforms(config, "postprocessing"), channels)
    problems = [*problems, *more, *rest]
    if not any(each.name == "activation" for each in after):
        after.insert(0, Parameter(name="activation", value="sigmoid" if _thresholds(after) else "softmax"))
    return [*before, *windows, *after], problems


def _thresholds(parameters: list[Parameter]) -> bool:
    return any(each.name == "threshold" for each in parameters)


def _transforms(config: BundleConfig, key: str) -> list[Component]:
    told = config.get(key)
    steps = (
        told.arguments.get("transforms") if isinstance(told, Component) and told.target == "Compose" else None
    )
    if not isinstance(steps, list):
        raise InputError(f"{printable(config.path)}: {key} is {told!r}; expected Compose with transforms")
    if unread := [each for each in steps if each is not None and not isinstance(each, Component)]:
        raise InputError(f"{printable(config.path)}: {key} has the step {unread[0]!r}, which is no transform")
    return [each for each in steps if each is not None]


def _oriented(parameters: list[Parameter], choices: ImportChoices, folder: Path) -> list[Parameter]:
    if any(each.name == "orientation" for each in parameters):
        if choices.orientation:
            raise SettingsError(f"{printable(folder)} says its orientation itself; leave --orientation away")
        return parameters
    if choices.orientation is None:
        raise SettingsError(
            f"{printable(folder)} has no Orientation among its transforms, so that it takes images as their "
            f"files lie: "
            f"say with --orientation in which patient directions the axes of its images grow, such as RAS"
        )
    return [
        Parameter(name="orientation", value=choices.orientation, why="said by --orientation"),
        *parameters,
    ]


# What metadata.json says


def _output(metadata: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    try:
        formats = metadata["network_data_format"]
        inputs, outputs = formats["inputs"], formats["outputs"]
        channels = int(inputs["image"]["num_channels"])
        output = outputs["pred"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{printable(folder / _METADATA)} does not say what the model takes and gives: it lacks {error} "
            f"of "
            f"network_data_format"
        ) from error
    if channels != 1 or len(inputs) != 1:
        raise InputError(
            f"{printable(folder)} takes {len(inputs)} inputs with {channels} channels; models of one image "
            f"are supported"
        )
    if not isinstance(output, dict):
        raise InputError(f"{printable(folder / _METADATA)}: pred is {output!r}, expected an object")
    return output


def _channels(metadata: Mapping[str, Any], folder: Path) -> int:
    found = _output(metadata, folder).get("num_channels")
    if not isinstance(found, int) or not 1 <= found <= 256:
        raise InputError(
            f"{printable(folder / _METADATA)} says of pred num_channels {found!r}, expected 1 to 256"
        )
    return found


def _labels(metadata: Mapping[str, Any], folder: Path) -> dict[int, str]:
    told = _output(metadata, folder).get("channel_def")
    try:
        found = {int(key): str(value) for key, value in dict(told or {}).items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"{printable(folder / _METADATA)}: channel_def is {told!r}") from error
    if not found:
        raise InputError(f"{printable(folder / _METADATA)} has no channel_def, which names the labels")
    return found


def _notes(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    use = metadata.get("intended_use")
    return (f"intended use: {printable(str(use))}",) if use else ()


def _licence(folder: Path, metadata: Mapping[str, Any]) -> str:
    """Return what a bundle says of its licence: the first line of a file, or its metadata."""
    for name in _LICENCES:
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
            first = " ".join(line.strip() for line in lines[:3] if line.strip())
            return f"{printable(re.sub(r'[ ]+', ' ', first))[:_LONGEST_LICENCE]} ({name})"
    told = metadata.get("license") or metadata.get("copyright") or ""
    return printable(str(told))[:_LONGEST_LICENCE]


# The network


def _save(
    folder: Path, config: BundleConfig, sizes: tuple[int, ...], channels: int, into: Path, *, trust_code: bool
) -> str:
    network = _network(folder, config, trust_code=trust_code)
    found = export(network, into / "model.onnx", sizes)
    if found.channels != channels:
        raise InputError(
            f"the network of {printable(folder)} has {found.channels} channels, {_METADATA} says "
            f"{channels}; which "
            f"is right?"
        )
    return found.text


def _network(folder: Path, config: BundleConfig, *, trust_code: bool) -> Any:
    told = config.get("network_def")
    is_known = isinstance(told, Component) and not any(
        isinstance(each, Unread) for each in told.arguments.values()
    )
    if is_known and (folder / _WEIGHTS).is_file():
        return load_network(told.target, told.arguments, folder / _WEIGHTS, trust_code=trust_code)
    if (folder / _SCRIPT).is_file():
        return load_script(folder / _SCRIPT)
    raise InputError(
        f"{printable(folder)} has no {_WEIGHTS} for the network that network_def names, and no {_SCRIPT}; "
        f"download its "
        f"weights (python -m monai.bundle download)"
    )
