"""Trained-model folders of nnU-Net v2: plans, labels and folds, as one model that answers with the folds'
mean.

What nnU-Net does with an image is said in the description that is made here: normalise, then resample by
splines, in the plane alone where slices are thick; windows by steps with its own Gaussian; scores blended as
they come, resampled linearly, and only then compared. docs/how-to/import-from-nnunet.md shows how to use it.

References
----------
nnunetv2 2.8 (Apache-2.0): ``inference/predict_from_raw_data.py``, ``preprocessing/``,
``inference/export_prediction.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clara_wf.model_import.anatomy import meanings_of
from clara_wf.model_import.checkpoint import Checkpoint, StoredTensor
from clara_wf.model_import.imported import ForeignModel, ImportChoices, Parameter, UnsupportedModelError
from clara_wf.model_import.nnunet.plans import (
    DATASET,
    PLANS,
    Configuration,
    Labels,
    read_configuration,
    read_json,
    read_labels,
)
from clara_wf.model_import.nnunet.unet import Weights, add_unet
from clara_wf.model_import.onnx_graph import IMAGE, SCORES, OnnxGraph
from stages.errors import InputError, SettingsError, printable

_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_KEEPS_LARGEST = "remove_all_but_largest_component_from_segmentation"


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A trained-model folder that was read, without its weights.

    Attributes
    ----------
    folder
        Where it lies.
    configuration, labels
        What its plans say.
    checkpoints
        A file for each fold.
    mirror_axes
        Axes of the network's window along which it is also asked mirrored.
    trainer
        Name of the class that has trained it.
    dataset
        What ``dataset.json`` holds.
    trust_code
        Whether programs in the checkpoints are trusted.
    """

    folder: Path
    configuration: Configuration
    labels: Labels
    checkpoints: tuple[Path, ...]
    mirror_axes: tuple[int, ...]
    trainer: str
    dataset: Mapping[str, Any]
    trust_code: bool


def trained_model_folder(path: Path) -> Path | None:
    """Return the trained-model folder that a path is, or holds as its only one; None if it is none.

    Parameters
    ----------
    path
        A folder, such as ``nnUNetTrainer__nnUNetPlans__3d_fullres`` or the dataset's above it.

    Raises
    ------
    InputError
        If it holds several.
    """
    if (path / PLANS).is_file():
        return path
    below = sorted(each.parent for each in path.glob(f"*__*__*/{PLANS}")) if path.is_dir() else []
    if len(below) > 1:
        raise InputError(
            f"{printable(path)} holds {len(below)} trained models; add one of them: "
            f"{', '.join(printable(each.name) for each in below)}"
        )
    return below[0] if below else None


def read_nnunet(folder: Path, choices: ImportChoices) -> ForeignModel:
    """Return what a trained-model folder of nnU-Net is.

    Parameters
    ----------
    folder
        The trained-model folder.
    choices
        What the user says of it.

    Raises
    ------
    SettingsError
        If the orientation is not said, which no file of nnU-Net holds.
    InputError
        If something is missing, damaged or of another version.
    UnsupportedModelError
        If a step of its preprocessing has no counterpart here.
    """
    trained = read_trained_model(folder, choices)
    if choices.orientation is None:
        raise SettingsError(
            f"{printable(folder)} does not say how its images lie, since nnU-Net takes their files' order: "
            f"say it "
            f"with --orientation, the patient directions in which slice, row and column index grow in the "
            f"images "
            f"that it was trained on (SPL for CT series that were converted as they are, SAR for files in "
            f"RAS)"
        )
    if choices.only:
        raise SettingsError(
            "--only is for TotalSegmentator's models; of this one, remove labels from config.pbtxt"
        )
    meanings, unnamed = meanings_of(trained.labels.names)
    return ForeignModel(
        kind=f"nnU-Net {trained.configuration.name}, {_folds_text(trained)}, trained by {trained.trainer}",
        name=str(trained.dataset.get("name") or _dataset_name(folder)),
        parameters=(
            *grid_parameters(trained.configuration, choices.orientation),
            *intensity_parameters(trained.configuration),
            *window_parameters(trained.configuration, trained.mirror_axes, step=0.5),
            *_label_parameters(trained.labels),
            *_postprocessing(trained),
            Parameter(name="label_meanings", value=meanings, why="names of dataset.json, codes by name"),
        ),
        image_sizes=(1, *trained.configuration.patch),
        channels=len(trained.labels.values),
        save=partial(_save, trained),
        licence=str(trained.dataset.get("licence") or trained.dataset.get("license") or ""),
        unnamed=unnamed,
        notes=_notes(trained),
    )


def read_trained_model(folder: Path, choices: ImportChoices) -> TrainedModel:
    """Return what a trained-model folder holds.

    Parameters
    ----------
    folder
        The trained-model folder.
    choices
        What the user says of it.

    Raises
    ------
    InputError
        If something is missing, damaged or of another version.
    """
    dataset = read_json(folder / DATASET)
    plans = read_json(folder / PLANS)
    labels = read_labels(dataset, folder / DATASET)
    checkpoints = tuple(_checkpoints(folder, choices.folds))
    with Checkpoint(checkpoints[0], trust_code=choices.trust_code) as first:
        told = first.content if isinstance(first.content, dict) else {}
    try:
        name, trainer = str(told["init_args"]["configuration"]), str(told["trainer_name"])
        mirror_axes = tuple(map(int, told.get("inference_allowed_mirroring_axes") or ()))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{printable(checkpoints[0])} is no checkpoint of nnU-Net v2: it lacks {error}"
        ) from error
    _require_one_channel(dataset, folder)
    return TrainedModel(
        folder=folder,
        configuration=read_configuration(plans, name, folder / PLANS),
        labels=labels,
        checkpoints=checkpoints,
        mirror_axes=mirror_axes,
        trainer=trainer,
        dataset=dataset,
        trust_code=choices.trust_code,
    )


def _require_one_channel(dataset: Mapping[str, Any], folder: Path) -> None:
    channels = dataset.get("channel_names") or dataset.get("modality") or {}
    if len(channels) != 1:
        raise UnsupportedModelError(
            f"{printable(folder / DATASET)} has {len(channels)} channels ({printable(str(channels))[:80]}); "
            f"models of "
            f"one image are supported"
        )


def _checkpoints(folder: Path, folds: Sequence[str]) -> Iterator[Path]:
    """Yield the checkpoint of each fold that is asked for, or of all that are there."""
    there = {path.name.removeprefix("fold_"): path for path in sorted(folder.glob("fold_*")) if path.is_dir()}
    asked = list(folds) or [fold for fold in there if fold != "all"] or list(there)
    if not asked:
        raise InputError(f"{printable(folder)} has no fold_* with a checkpoint; was the training finished?")
    for fold in asked:
        if fold not in there:
            raise InputError(f"{printable(folder)} has no fold {printable(fold)}, it has {', '.join(there)}")
        found = [there[fold] / name for name in _CHECKPOINTS if (there[fold] / name).is_file()]
        if not found:
            raise InputError(
                f"{printable(there[fold])} has no {' or '.join(_CHECKPOINTS)}; name the folds to use with "
                f"--fold"
            )
        yield found[0]


def _dataset_name(folder: Path) -> str:
    """Return the dataset's name, from its folder ``Dataset003_Liver``."""
    name = folder.resolve().parent.name
    return name.partition("_")[2] if name.startswith("Dataset") and "_" in name else name


def _folds_text(trained: TrainedModel) -> str:
    if len(trained.checkpoints) == 1:
        return trained.checkpoints[0].parent.name.replace("_", " ")
    return f"the mean of {len(trained.checkpoints)} folds"


def _notes(trained: TrainedModel) -> tuple[str, ...]:
    if best := [path for path in trained.checkpoints if path.name == _CHECKPOINTS[1]]:
        return (
            f"{', '.join(path.parent.name for path in best)}: the best checkpoint, there is no final one",
        )
    return ()


# The description


def turned(orientation: str, transpose: Sequence[int]) -> str:
    """Return how the network's axes lie, from how those of the images lie.

    Parameters
    ----------
    orientation
        Patient directions of slices, rows and columns of the images.
    transpose
        Which of them each axis of the network is.
    """
    return "".join(orientation[axis] for axis in transpose)


def grid_parameters(configuration: Configuration, orientation: str) -> Iterator[Parameter]:
    """Yield how a volume becomes the network's grid.

    Parameters
    ----------
    configuration
        Of the plans.
    orientation
        Patient directions of slices, rows and columns of the images that it was trained on.
    """
    spacing: list[object] = list(configuration.spacing_mm)
    yield Parameter(
        name="orientation",
        value=turned(orientation, configuration.transpose),
        why=f"images lie as {orientation}; transpose_forward {list(configuration.transpose)}",
    )
    yield Parameter(
        name="spacing_mm",
        value=["native", *spacing] if configuration.is_flat else spacing,
        why="spacing of plans.json; slices stay as they are"
        if configuration.is_flat
        else "spacing of plans.json",
    )
    yield Parameter(name="crop", value="nonzero", why="nnU-Net crops to what is not 0")
    yield Parameter(
        name="grid_alignment", value="stretched", why="and resamples edge to edge, by cubic splines,"
    )
    yield Parameter(name="interpolation", value="cubic")
    yield Parameter(
        name="anisotropy_threshold", value=3, why="in the plane alone where slices are so many times thicker"
    )


def intensity_parameters(configuration: Configuration) -> Iterator[Parameter]:
    """Yield how intensities are normalised.

    Parameters
    ----------
    configuration
        Of the plans.

    Raises
    ------
    UnsupportedModelError
        If in a way that has no counterpart here.
    """
    yield Parameter(name="intensity_before_resampling", value=True, why="intensities are normalised first")
    scheme, told = configuration.normalisation, configuration.intensities
    if scheme == "CTNormalization":
        try:
            clip = [told["percentile_00_5"], told["percentile_99_5"]]
            statistics = {"mean": told["mean"], "std": max(told["std"], 1e-8)}
        except KeyError as error:
            raise InputError(f"plans.json has no intensity {error} of the training's foreground") from error
        yield Parameter(
            name="intensity_clip_hu", value=clip, why="CTNormalization: percentiles of the training,"
        )
        yield Parameter(name="intensity_zscore", value=statistics, why="then its mean and standard deviation")
    elif scheme == "ZScoreNormalization":
        of = "nonzero_filled" if configuration.uses_mask else "volume"
        yield Parameter(name="intensity_zscore", value=of, why="ZScoreNormalization: of each volume itself")
    elif scheme == "RescaleTo01Normalization":
        yield Parameter(name="intensity_clip_percentile", value=[0, 100], why="RescaleTo01Normalization")
        yield Parameter(name="intensity_scale", value=[0, 1])
    elif scheme == "NoNormalization":
        yield Parameter(name="intensity_scale", value="none", why="NoNormalization")
    else:
        raise UnsupportedModelError(f"intensities are normalised by {scheme}, which has no counterpart here")


def window_parameters(
    configuration: Configuration, mirror_axes: Sequence[int], *, step: float
) -> Iterator[Parameter]:
    """Yield how windows are placed and blended.

    Parameters
    ----------
    configuration
        Of the plans.
    mirror_axes
        Axes of the network's window, counted as nnU-Net does.
    step
        Share of a window from one to the next.
    """
    first = 1 if configuration.is_flat else 0
    yield Parameter(name="padding_value", value=0, why="a volume smaller than a window: nnU-Net adds zeros")
    yield Parameter(
        name="window_shape", value=[*(1,) * first, *configuration.patch], why="patch_size of plans.json"
    )
    yield Parameter(name="overlap", value=round(1 - step, 6), why=f"step {step}, spread over the volume,")
    yield Parameter(name="window_placement", value="spread")
    yield Parameter(name="gaussian_floor", value=0, why="weighed by nnU-Net's Gaussian")
    yield Parameter(name="gaussian_peak", value="upper")
    yield Parameter(name="gaussian_precision", value="f16")
    if mirror_axes:
        yield Parameter(
            name="mirror_axes",
            value=[axis + first for axis in mirror_axes],
            why="inference_allowed_mirroring_axes of the checkpoint; without them it is faster",
        )


def _label_parameters(labels: Labels) -> Iterator[Parameter]:
    yield Parameter(
        name="activation",
        value="sigmoid" if labels.are_regions else "softmax",
        why="regions, which may overlap," if labels.are_regions else "labels, one a voxel,",
    )
    yield Parameter(name="activation_after", value="resampling", why="decided on the volume's own grid")
    yield Parameter(
        name="channel_labels",
        value=list(labels.values),
        why="regions_class_order of dataset.json" if labels.are_regions else "labels of dataset.json",
    )


def _postprocessing(trained: TrainedModel) -> Iterator[Parameter]:
    """Yield what nnU-Net has found to be of use after prediction, as far as it can be said."""
    for path in sorted(trained.folder.glob("crossval_results*/postprocessing.json")):
        told = read_json(path)
        functions, arguments = told.get("postprocessing_fns", []), told.get("postprocessing_kwargs", [])
        if not functions:
            continue
        labels = [each.get("labels_or_regions") for each in arguments]
        if functions != [_KEEPS_LARGEST] or not isinstance(labels[0], list):
            raise UnsupportedModelError(
                f"{printable(path)} recommends {len(functions)} steps after prediction "
                f"({', '.join(functions)} of "
                f"{labels}); the largest component of all labels together is supported: remove the file to "
                f"do "
                f"without them"
            )
        yield Parameter(
            name="largest_component",
            value=[int(each) for each in labels[0]],
            why=f"recommended by {path.parent.name}/{path.name}",
        )
        return


# The network


def _save(trained: TrainedModel, folder: Path) -> str:
    graph = OnnxGraph()
    scores, channels = add_folds(graph, IMAGE, trained)
    if channels != len(trained.labels.values):
        raise InputError(
            f"the network of {printable(trained.folder)} has {channels} channels, {DATASET} names "
            f"{len(trained.labels.values)}; are they of one training?"
        )
    patch = trained.configuration.patch
    graph.save(folder / "model.onnx", scores, {IMAGE: (1, *patch), SCORES: (channels, *patch)})
    return ""


def add_folds(graph: OnnxGraph, image: str, trained: TrainedModel) -> tuple[str, int]:
    """Add the networks of all folds to a graph; return the name of their mean and the number of its channels.

    Parameters
    ----------
    graph
        What they become part of.
    image
        Name of their common input.
    trained
        The model.

    Raises
    ------
    InputError
        If a checkpoint is not whole, or of another network than the plans.
    """
    scores, channels = [], 0
    net = trained.configuration.net
    if any(size % step for size, step in zip(trained.configuration.patch, net.size_step, strict=True)):
        raise InputError(
            f"{printable(trained.folder)}: the patch {list(trained.configuration.patch)} is no multiple of "
            f"the "
            f"network's strides, {list(net.size_step)}; is plans.json as nnU-Net wrote it?"
        )
    with ExitStack() as opened:
        for path in trained.checkpoints:
            checkpoint = opened.enter_context(Checkpoint(path, trust_code=trained.trust_code))
            name, channels = add_unet(graph, image, net, _weights_of(checkpoint, path))
            scores.append(name)
    return graph.mean(scores), channels


def _weights_of(checkpoint: Checkpoint, path: Path) -> Weights:
    weights = checkpoint.content.get("network_weights") if isinstance(checkpoint.content, dict) else None
    if not isinstance(weights, dict):
        raise InputError(f"{printable(path)} has no network_weights; is it a checkpoint of nnU-Net v2?")
    return {
        str(name): partial(checkpoint.array, tensor)
        for name, tensor in weights.items()
        if isinstance(tensor, StoredTensor)
    }
