"""TotalSegmentator's weights: folders of nnU-Net whose images are resampled, oriented and stepped another
way.

Several parts become one model: their networks stand side by side in one graph, each behind its own
normalisation, and of each part the scores are counted from its background on. So the background of all is 0,
a class that no part finds is below it, and where just one part finds something the result is that part's.
(TotalSegmentator writes one part over the other instead; they differ where two parts claim a voxel.) A class
that is not wanted joins its part's background in the graph, so that it costs nothing afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from clara_wf.model_import.anatomy import meanings_of
from clara_wf.model_import.imported import ForeignModel, ImportChoices, Parameter, UnsupportedModelError
from clara_wf.model_import.nnunet.trained_model import (
    TrainedModel,
    add_folds,
    intensity_parameters,
    read_trained_model,
    trained_model_folder,
    turned,
    window_parameters,
)
from clara_wf.model_import.onnx_graph import IMAGE, SCORES, OnnxGraph
from clara_wf.model_import.totalsegmentator.tasks import PARTS, TASKS, Task, dataset_number
from clara_wf.text.suggestion import did_you_mean
from stages.errors import InputError, SettingsError, printable

_CANONICAL = "SAR"  # files in RAS, as nnU-Net reads them: slices, rows, columns
_OUTSIDE = -1e6
"""Of a volume's grid, where several parts see it: each gets its own zero there."""

_FOUND_FOLD = ("0",)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A set of weights that was read, and which of its classes are wanted."""

    number: int
    task: Task
    trained: TrainedModel
    kept: tuple[int, ...]

    @property
    def labels(self) -> dict[int, str]:
        """Names of the wanted classes by label of the result."""
        return {self.task.first + at: self.task.classes[at] for at in self.kept}


def weight_folders(path: Path) -> dict[int, Path]:
    """Return the folders of TotalSegmentator's datasets that a path is, lies in, or holds; by number.

    Parameters
    ----------
    path
        Such as ``~/.totalsegmentator/nnunet/results``, a dataset in it, or the trained model in that.
    """
    for folder in (path, path.resolve().parent):
        if (number := dataset_number(folder)) is not None:
            return {number: folder}
    found = {dataset_number(each): each for each in sorted(path.glob("Dataset*_*")) if each.is_dir()}
    return {number: folder for number, folder in found.items() if number is not None}


def read_totalsegmentator(path: Path, folders: dict[int, Path], choices: ImportChoices) -> ForeignModel:
    """Return what weights of TotalSegmentator are, its parts together.

    Parameters
    ----------
    path
        What the user has named.
    folders
        `weight_folders` of it.
    choices
        What the user says of it.

    Raises
    ------
    InputError
        If something is missing or damaged.
    UnsupportedModelError
        If the task needs what cannot be done here, or parts do not fit together.
    """
    if choices.orientation not in (None, _CANONICAL):
        raise SettingsError(
            f"TotalSegmentator turns each image to {_CANONICAL}; leave --orientation {choices.orientation} "
            f"away"
        )
    parts = [_read_part(number, folders[number], choices) for number in _wanted(path, folders, choices)]
    _require_alike(parts)
    first = parts[0]
    names = {label: name for part in parts for label, name in part.labels.items()}
    meanings, unnamed = meanings_of(names)
    return ForeignModel(
        kind=f"TotalSegmentator's {' and '.join(part.task.name for part in parts)}, {len(names)} classes",
        name="total" if len(parts) > 1 else first.task.name,
        parameters=(
            *_grid_parameters(first),
            *_intensity_parameters(parts),
            *_window_parameters(parts),
            *_label_parameters(names),
            Parameter(name="label_meanings", value=meanings, why="names of TotalSegmentator, codes by name"),
        ),
        image_sizes=(1, *first.trained.configuration.patch),
        channels=1 + len(names),
        save=partial(_save, parts),
        licence=first.task.licence,
        unnamed=unnamed,
        notes=_notes(parts),
    )


def _wanted(path: Path, folders: dict[int, Path], choices: ImportChoices) -> list[int]:
    """Return the datasets to use: that which there is, or the parts that have the wanted classes."""
    unknown = sorted(set(folders) - set(TASKS))
    if unknown and len(folders) == len(unknown):
        raise UnsupportedModelError(
            f"{printable(path)} holds TotalSegmentator's dataset {unknown[0]}, which it runs on what "
            f"another model "
            f"has cut out, or on MR; supported are {', '.join(task.name for task in TASKS.values())}"
        )
    if any(number in PARTS for number in folders) and len(folders) > 1:
        needed = [number for number in PARTS if _kept(TASKS[number], choices)]
        if missing := [number for number in needed if number not in folders]:
            raise InputError(
                f"{printable(path)} lacks the part {TASKS[missing[0]].name} (dataset {missing[0]}); name one "
                f"dataset, or the classes that you want with --only"
            )
        return needed or _refuse_names(TASKS[PARTS[0]].classes, choices)
    known = [number for number in folders if number in TASKS]
    if len(known) > 1:
        raise InputError(
            f"{printable(path)} holds {len(known)} of TotalSegmentator's models; add one of them: "
            f"{', '.join(printable(folders[number].name) for number in known)}"
        )
    return known


def _kept(task: Task, choices: ImportChoices) -> tuple[int, ...]:
    only = set(choices.only)
    return tuple(at for at, name in enumerate(task.classes) if not only or name in only)


def _refuse_names(known: Sequence[str], choices: ImportChoices) -> list[int]:
    wrong = next(name for name in choices.only if name not in known)
    raise SettingsError(
        f"TotalSegmentator has no class {wrong!r} here{did_you_mean(wrong, known)}; it has {', '.join(known)}"
    )


def _read_part(number: int, folder: Path, choices: ImportChoices) -> _Part:
    trained_in = trained_model_folder(folder)
    if trained_in is None:
        raise InputError(
            f"{printable(folder)} holds no trained model (plans.json and fold_0); download it anew"
        )
    task = TASKS[number]
    folds = choices.folds or _FOUND_FOLD
    chosen = ImportChoices(orientation=_CANONICAL, folds=folds, trust_code=choices.trust_code)
    trained = read_trained_model(trained_in, chosen)
    kept = _kept(task, choices)
    if not kept:
        _refuse_names(task.classes, choices)
    if any(abs(each - task.spacing_mm) > 0.01 * task.spacing_mm for each in trained.configuration.spacing_mm):
        raise UnsupportedModelError(
            f"{printable(folder)} is planned for {list(trained.configuration.spacing_mm)} mm, "
            f"TotalSegmentator "
            f"resamples to {task.spacing_mm} mm; resampling twice is not supported"
        )
    if len(trained.labels.values) != len(task.classes) + 1:
        raise InputError(
            f"{printable(folder)} has {len(trained.labels.values) - 1} classes, {task.name} of "
            f"TotalSegmentator 2 "
            f"has {len(task.classes)}; is it of another version?"
        )
    return _Part(number=number, task=task, trained=trained, kept=kept)


def _require_alike(parts: Sequence[_Part]) -> None:
    """Raise unless parts see the same windows."""
    first = parts[0]
    for part in parts[1:]:
        mine, other = first.trained, part.trained
        if (
            mine.configuration.patch,
            mine.configuration.transpose,
            mine.mirror_axes,
            first.task.step,
        ) != (
            other.configuration.patch,
            other.configuration.transpose,
            other.mirror_axes,
            part.task.step,
        ):
            raise UnsupportedModelError(
                f"{first.task.name} sees windows of {list(mine.configuration.patch)}, {part.task.name} of "
                f"{list(other.configuration.patch)}, or turned otherwise; add them one by one"
            )


def _notes(parts: Sequence[_Part]) -> tuple[str, ...]:
    if len(parts) == 1:
        return ()
    return (
        f"{len(parts)} networks answer each window together; where two claim a voxel the surer one has it, "
        f"while TotalSegmentator writes the later over the earlier",
    )


# The description


def _grid_parameters(part: _Part) -> Iterator[Parameter]:
    configuration = part.trained.configuration
    yield Parameter(
        name="orientation",
        value=turned(_CANONICAL, configuration.transpose),
        why="TotalSegmentator turns images to RAS",
    )
    yield Parameter(name="spacing_mm", value=[part.task.spacing_mm] * 3, why="and resamples them to this,")
    yield Parameter(
        name="grid_alignment", value="corner_centres", why="first and last voxel stay where they are, by"
    )
    yield Parameter(name="interpolation", value="cubic", why="cubic splines with mirrored edges,")
    yield Parameter(name="interpolation_edge", value="mirror")
    yield Parameter(name="interpolation_overshoot", value="keep", why="what they overshoot is kept,")
    yield Parameter(name="truncate_hu", value=True, why="and integers are made of them")


def _intensity_parameters(parts: Sequence[_Part]) -> Iterator[Parameter]:
    if len(parts) > 1:
        yield Parameter(
            name="intensity_scale", value="none", why="each part normalises in the graph, as its plans say"
        )
        return
    for parameter in intensity_parameters(parts[0].trained.configuration):
        if parameter.name != "intensity_before_resampling":
            yield parameter


def _window_parameters(parts: Sequence[_Part]) -> Iterator[Parameter]:
    trained, step = parts[0].trained, parts[0].task.step
    for parameter in window_parameters(trained.configuration, (), step=step):  # it never mirrors
        if parameter.name == "padding_value" and len(parts) > 1:
            yield Parameter(
                name="padding_value", value=_OUTSIDE, why="outside the volume: each part sees its zero there"
            )
        else:
            yield parameter


def _label_parameters(names: dict[int, str]) -> Iterator[Parameter]:
    yield Parameter(name="activation", value="softmax", why="labels, one a voxel, decided")
    yield Parameter(name="activation_after", value="resampling", why="on the grid of the model")
    yield Parameter(
        name="score_interpolation", value="nearest", why="and taken from there to the nearest voxel"
    )
    yield Parameter(name="channel_labels", value=[0, *names], why="the classes' numbers in TotalSegmentator")


# The network


def _save(parts: Sequence[_Part], folder: Path) -> str:
    graph = OnnxGraph()
    scores = [_scores(graph, part, normalise=len(parts) > 1) for part in parts]
    if len(parts) == 1 and len(parts[0].kept) == len(parts[0].task.classes):
        whole, channels = scores[0]
    else:
        margins = [
            _margins(graph, name, part, channels)
            for part, (name, channels) in zip(parts, scores, strict=True)
        ]
        nothing = graph.node("Mul", _channels(graph, scores[0][0], [0]), graph.number(0))
        whole, channels = graph.node("Concat", nothing, *margins, axis=1), 1 + sum(len(p.kept) for p in parts)
    patch = parts[0].trained.configuration.patch
    graph.save(folder / "model.onnx", whole, {IMAGE: (1, *patch), SCORES: (channels, *patch)})
    return ""


def _scores(graph: OnnxGraph, part: _Part, *, normalise: bool) -> tuple[str, int]:
    image = _normalised(graph, part) if normalise else IMAGE
    name, channels = add_folds(graph, image, part.trained)
    if channels != len(part.task.classes) + 1:
        raise InputError(
            f"the network of {printable(part.trained.folder)} has {channels} channels, expected "
            f"{len(part.task.classes) + 1}"
        )
    return name, channels


def _normalised(graph: OnnxGraph, part: _Part) -> str:
    """Return the image as one part has to see it: clipped, scaled, 0 outside the volume."""
    told = {each.name: each.value for each in intensity_parameters(part.trained.configuration)}
    clip, statistics = told.get("intensity_clip_hu"), told.get("intensity_zscore")
    if not isinstance(clip, list) or not isinstance(statistics, dict):
        raise UnsupportedModelError(
            f"{part.task.name} is not normalised by statistics of its training; add it by itself"
        )
    low, high, mean, std = (graph.number(value) for value in (*clip, statistics["mean"], statistics["std"]))
    outside = graph.node("Less", IMAGE, graph.number(_OUTSIDE / 2))
    scaled = graph.node("Div", graph.node("Sub", graph.node("Clip", IMAGE, low, high), mean), std)
    return graph.node("Where", outside, graph.number(0), scaled)


def _margins(graph: OnnxGraph, scores: str, part: _Part, channels: int) -> str:
    """Return by how much each wanted class is above the part's background and all that is not wanted."""
    others = [0, *(at + 1 for at in range(channels - 1) if at not in part.kept)]
    rest = graph.node("ReduceMax", _channels(graph, scores, others), axes=[1], keepdims=1)
    return graph.node("Sub", _channels(graph, scores, [at + 1 for at in part.kept]), rest)


def _channels(graph: OnnxGraph, scores: str, which: Sequence[int]) -> str:
    return graph.node("Gather", scores, graph.constant(np.array(which, np.int64)), axis=1)
