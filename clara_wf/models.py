"""The models of a repository: which there are, and whether one runs as it describes itself."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clara_wf.model_server import serve
from clara_wf.places import Places
from stages.errors import InputError
from stages.geometry import Affine, Grid
from stages.model import ModelDescription
from stages.model_tensors import ModelTensors
from stages.postprocess import label_volumes_ml
from stages.preprocess import preprocess
from stages.segmentation import segment, window_plan
from stages.triton import ServedModel, TritonPredictor
from stages.volume import Origin, Volume

CT_SHAPE, CT_SPACING_MM = (120, 512, 512), (2.5, 0.8, 0.8)
"""The CT that a plan is made for."""

_PHANTOM_SHAPE, _PHANTOM_SPACING_MM, _PHANTOM_SEED = (84, 128, 128), (2.5, 3.12, 3.12), 20_240_109
_READY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A folder of a model repository.

    Attributes
    ----------
    name
        Of the model.
    versions
        Numbers of its versions, the newest last.
    size_bytes
        Of all its files.
    """

    name: str
    versions: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class CheckedModel:
    """What became of a model on a real server.

    Attributes
    ----------
    served, description, tensors
        What the server and the model say.
    input_shape, windows
        Of a CT of `CT_SHAPE` and `CT_SPACING_MM`: the model's grid, and in how many windows it goes.
    seconds_a_window
        On this machine, with a phantom.
    found_ml
        Volume of each label in the phantom.
    """

    served: ServedModel
    description: ModelDescription
    tensors: ModelTensors
    input_shape: tuple[int, int, int]
    windows: int
    seconds_a_window: float
    found_ml: Mapping[int, float]


def models_in(repository: Path) -> list[ModelFolder]:
    """Return the models of a repository by name.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    if not repository.is_dir():
        raise InputError(f"there is no model repository {repository}; name one with --models DIR")
    folders = sorted(path.parent for path in repository.glob("*/config.pbtxt"))
    return [
        ModelFolder(
            name=folder.name,
            versions=tuple(sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())),
            size_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        )
        for folder in folders
    ]


def check_model(name: str, places: Places, *, say: Callable[[str], None]) -> CheckedModel:
    """Load a model on a real Triton, hold its description against its tensors, and run a phantom through.

    Raises
    ------
    InputError
        If the repository has no such model.
    ModelServerError
        If the server cannot load it.
    InferenceError
        If it does not describe itself, contradicts its tensors, or does not answer as it says.
    """
    known = [folder.name for folder in models_in(places.models)]
    if name not in known:
        raise InputError(f"{places.models} has no model {name!r}; it has {', '.join(known) or 'none'}")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "server.log")
        with serve(places.models, models=[name], cache=places.cache, log=log, on_progress=say) as server:
            return _try(name, server.grpc_url)


def _try(name: str, url: str) -> CheckedModel:
    with TritonPredictor(url, name) as predictor:
        predictor.wait_until_ready(_READY_S)
        served = predictor.describe()
        model = ModelDescription.from_server(served)
        tensors = model.tensors_of(served)
        volume = _phantom()
        clock = time.monotonic()
        mask = segment(volume, predictor, model=model, tensors=tensors)
        seconds = time.monotonic() - clock
    _, windows = plan_of(model, tensors, Grid(_PHANTOM_SHAPE, volume.affine))
    shape, windows_of_ct = plan_of(model, tensors, Grid(CT_SHAPE, _axial(CT_SPACING_MM)))
    return CheckedModel(
        served=served,
        description=model,
        tensors=tensors,
        input_shape=shape,
        windows=windows_of_ct,
        seconds_a_window=seconds / windows,
        found_ml=label_volumes_ml(mask, model.labels),
    )


def plan_of(model: ModelDescription, tensors: ModelTensors, grid: Grid) -> tuple[tuple[int, int, int], int]:
    """Return the model's grid for a volume, were it not cropped, and the number of windows."""
    empty = Volume(
        array=np.broadcast_to(np.int16(0), grid.shape),
        affine=grid.affine,
        origin=Origin(series_instance_uid="plan"),
    )
    prepared = preprocess(empty, model)
    windows = window_plan(prepared, model, tensors)
    starts = windows.starts(windows.padded_shape(prepared.grid.shape))
    return prepared.grid.shape, math.prod(map(len, starts)) * len(windows.flips)


def _phantom() -> Volume:
    from phantoms import make_abdomen

    phantom = make_abdomen(_PHANTOM_SEED, shape=_PHANTOM_SHAPE, spacing_mm=_PHANTOM_SPACING_MM)
    affine = _axial(phantom.spacing_mm)
    affine[:3, 3] = phantom.first_mm[::-1]
    return Volume(array=phantom.hu, affine=affine, origin=Origin(series_instance_uid="phantom"))


def _axial(spacing_mm: tuple[float, float, float]) -> Affine:
    """Return the affine of slices that run from feet to head."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing_mm
    affine[3, 3] = 1
    return affine
