"""The models of a repository: which there are, and whether one runs as it describes itself."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clara_wf.model_server.server import ModelServer, ModelServerError, serve
from clara_wf.models import golden
from clara_wf.models.config_pbtxt import problem_of, read_config
from clara_wf.models.parity import OnnxEngine, Parity, parity_with_reference
from clara_wf.models.plain_files import require_plain
from clara_wf.models.repository import KEPT as KEPT
from clara_wf.models.repository import versions_in as versions_in
from clara_wf.models.trust import require_trust
from clara_wf.text.suggestion import did_you_mean
from stages.errors import InferenceError, InputError
from stages.memory.limits import resident_bytes
from stages.model.description import ModelDescription
from stages.model.tensors import ModelTensors
from stages.segmentation.memory_estimate import stage_need
from stages.segmentation.postprocess import label_volumes_ml
from stages.segmentation.preprocess import preparation_need, preprocess
from stages.segmentation.segment import segment, window_plan
from stages.triton.client import TritonPredictor
from stages.triton.ensemble import EnsemblePredictor, joined
from stages.triton.types import ServedModel
from stages.volume.geometry import Grid
from stages.volume.origin import Origin
from stages.volume.volume import Volume
from stages.windows.plan import WindowPlan, to_layout
from stages.windows.source import Window, WindowSource

CT_SHAPE, CT_SPACING_MM = (120, 512, 512), (2.5, 0.8, 0.8)
"""The CT that a plan is made for."""

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
    kept
        Numbers of the versions that `clara_wf.models.add` replaced and kept.
    size_bytes
        Of all its files but those that were kept.
    """

    name: str
    versions: tuple[int, ...]
    kept: tuple[int, ...]
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
    memory
        The most that the stage takes for that CT, on the host, by part, bytes.
    mask
        Of the phantom.
    agreement
        Dice of each label with the golden case; empty where it is the golden case itself, None where there is
        none.
    engine
        What of the server computes its answers; None where it does not say.
    parity
        How these differ from those of ONNX Runtime on the CPU; None where that is what answers.
    """

    served: ServedModel
    description: ModelDescription
    tensors: ModelTensors
    input_shape: tuple[int, int, int]
    windows: int
    seconds_a_window: float
    memory: Mapping[str, int]
    mask: Volume
    agreement: Mapping[int, float] | None
    engine: OnnxEngine | None
    parity: Parity | None

    @property
    def found_ml(self) -> dict[int, float]:
        """Volume of each label in the phantom."""
        return label_volumes_ml(self.mask, self.description.labels)


def models_in(repository: Path) -> list[ModelFolder]:
    """Return the models of a repository by name.

    Parameters
    ----------
    repository
        The model repository.

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
            versions=versions_in(folder),
            kept=versions_in(folder / KEPT),
            size_bytes=sum(path.stat().st_size for path in folder.rglob("*") if _is_served(path, folder)),
        )
        for folder in folders
    ]


def _is_served(path: Path, folder: Path) -> bool:
    return path.is_file() and KEPT not in path.relative_to(folder).parts


def check_model(
    name: str, repository: Path, *, cache: Path, print_line: Callable[[str], None], trust_code: bool = False
) -> CheckedModel:
    """Load a model on a real Triton, hold its description against its tensors, and run a phantom through.

    Parameters
    ----------
    name, repository
        The model's name and the model repository.
    cache
        Where the model server is installed.
    print_line
        Called with a line for the user before what takes a while.
    trust_code
        Whether what the model would run is trusted, and recorded as such.

    Raises
    ------
    InputError
        If the repository has no such model, or it would run what nobody trusts.
    ModelServerError
        If the server cannot load it.
    InferenceError
        If it does not describe itself, contradicts its tensors, or does not answer as it says.
    """
    known = [folder.name for folder in models_in(repository)]
    if name not in known:
        meant = did_you_mean(name, known)
        raise InputError(f"{repository} has no model {name!r}{meant}; it has {', '.join(known) or 'none'}")
    if problem := problem_of(repository / name):
        raise InferenceError(problem)
    require_plain(repository / name)
    require_trust(
        repository / name,
        trusted=trust_code,
        print_line=print_line,
        advice="look at it, and check it with --trust-code if you trust it:",
    )
    served = [name, *ModelDescription.from_server(read_config(repository / name)).ensemble]
    with (
        _log() as log,
        serve(repository, models=served, cache=cache, log=log, on_progress=print_line) as server,
    ):
        return _try(repository / name, server, cache, print_line)


@contextmanager
def _log() -> Iterator[Path]:
    """Yield a file for the server's output; it stays where the server failed, since the message names it."""
    descriptor, name = tempfile.mkstemp(prefix="clara-model-check-", suffix=".log")
    os.close(descriptor)
    keep = False
    try:
        yield Path(name)
    except ModelServerError:
        keep = True
        raise
    finally:
        if not keep:
            Path(name).unlink(missing_ok=True)


def _try(folder: Path, server: ModelServer, cache: Path, print_line: Callable[[str], None]) -> CheckedModel:
    with TritonPredictor(server.grpc_url, folder.name) as predictor:
        predictor.wait_until_ready(_READY_S)
        served = predictor.describe()
        model = ModelDescription.from_server(served)
        tensors = model.tensors_of(served)
        volume = golden.make_phantom()
        with _with_members(predictor, model, server) as asked:
            clock = time.monotonic()
            mask = segment(volume, asked, model=model, tensors=tensors)
            seconds = time.monotonic() - clock
        engine = OnnxEngine.of_log(server.log, folder.name)
        parity = None
        if engine is not None and not engine.is_reference:
            window = _middle(volume, model, tensors)
            with _log() as log:
                parity = parity_with_reference(
                    folder, window, predictor, tensors, cache=cache, log=log, print_line=print_line
                )
    _, _, windows = plan_of(model, tensors, volume.grid)
    plan, shape, windows_of_ct = plan_of(model, tensors, Grid(CT_SHAPE, golden.axial(CT_SPACING_MM)))
    preparation = preparation_need(
        _empty(Grid(CT_SHAPE, golden.axial(CT_SPACING_MM))), model, slices=plan.shape[0] + 2 * plan.reach
    )
    need = stage_need(
        plan,
        CT_SHAPE,
        shape,
        on_device=False,
        held_bytes=resident_bytes(),
        preparation=preparation,
    )
    return CheckedModel(
        served=served,
        description=model,
        tensors=tensors,
        input_shape=shape,
        windows=windows_of_ct,
        seconds_a_window=seconds / windows,
        memory=need.host,
        mask=mask,
        agreement=golden.agreement(folder, np.asarray(mask.array)),
        engine=engine,
        parity=parity,
    )


@contextmanager
def _with_members(
    predictor: TritonPredictor, model: ModelDescription, server: ModelServer
) -> Iterator[TritonPredictor | EnsemblePredictor]:
    """Yield what asks a model, and with it those whose mean its output is."""
    if not model.ensemble:
        yield predictor
        return
    with ExitStack() as opened:

        def connect_to(name: str) -> TritonPredictor:
            member = opened.enter_context(TritonPredictor(server.grpc_url, name))
            member.wait_until_ready(_READY_S)
            return member

        yield joined(predictor, model.ensemble, connect_to)[0]


def _middle(volume: Volume, model: ModelDescription, tensors: ModelTensors) -> NDArray[np.float32]:
    """Return the window in the middle of a volume, as the model is given it."""
    prepared = preprocess(volume, model)
    plan = window_plan(prepared, model, tensors)
    source = WindowSource(prepared.image, plan)
    z, y, x = ((length - size) // 2 for size, length in zip(plan.shape, source.padded_shape, strict=True))
    return np.asarray(to_layout(source.cut([Window(0, (z, y, x), ())]), tensors.input_layout))


def plan_of(
    model: ModelDescription, tensors: ModelTensors, grid: Grid
) -> tuple[WindowPlan, tuple[int, int, int], int]:
    """Return windows and model's grid for a volume, were it not cropped, and how often it is asked."""
    prepared = preprocess(_empty(grid), model, by_slabs=True)
    windows = window_plan(prepared, model, tensors)
    starts = windows.starts(windows.padded_shape(prepared.grid.shape))
    return windows, prepared.grid.shape, math.prod(map(len, starts)) * len(windows.flips)


def _empty(grid: Grid) -> Volume:
    """Return a volume that takes no memory."""
    return Volume(
        array=np.broadcast_to(np.int16(0), grid.shape),
        affine=grid.affine,
        origin=Origin(series_instance_uid="plan"),
    )
