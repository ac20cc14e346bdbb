"""A stage that segments volumes by a model: everything but the model's name."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.arrays import device_available, to_device
from stages.errors import SettingsError, printable
from stages.lifecycle.driver import Job, Stage
from stages.lifecycle.model_record import ModelRecord
from stages.memory.limits import MemoryLimit, host_limit
from stages.volume.io import find_volumes, read_volume, write_volume
from stages.volume.wording import volume_text

if TYPE_CHECKING:
    from stages.arrays import Array
    from stages.memory.gpu import GpuMemory
    from stages.model.description import ModelDescription
    from stages.model.tensors import ModelTensors
    from stages.triton.client import TritonPredictor
    from stages.triton.ensemble import EnsemblePredictor
    from stages.triton.http import HttpPredictor
    from stages.volume.labels import Label
    from stages.volume.origin import Algorithm
    from stages.volume.volume import Volume

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 60.0


class SegmentationStage(Stage):
    """Segment each volume of the input folder by a model on a Triton server.

    What the model needs and gives, it says itself (`stages.model.description`); a stage of this kind only
    names it. What the workflow says of labels stands in where the model does not.

    Parameters
    ----------
    model
        The model that is used unless ``--model`` names another.
    """

    def __init__(self, model: str) -> None:
        self._default = model
        self._open = ExitStack()
        self._predictor: TritonPredictor | HttpPredictor | EnsemblePredictor
        self._limit: MemoryLimit
        self._on_device = False
        self._gpu: GpuMemory | None = None
        self._model: ModelDescription
        self._tensors: ModelTensors
        self._algorithm: Algorithm | None = None
        self._members: tuple[Algorithm, ...] = ()
        self._labels: tuple[Label, ...] = ()

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the model, the server, and where arrays are worked on.

        Parameters
        ----------
        parser
            Of the stage's command line.
        """
        parser.add_argument(
            "--model", default=self._default, metavar="NAME", help="model (default: %(default)s)"
        )
        parser.add_argument("--server", metavar="HOST:PORT", help="gRPC endpoint of the Triton server")
        parser.add_argument(
            "--device",
            choices=("auto", "cpu", "cuda"),
            default="auto",
            help="where pre- and post-processing run (default: CUDA where there is one)",
        )
        parser.add_argument(
            "--transport",
            choices=("auto", "cuda", "system", "grpc", "http"),
            default="auto",
            help="how windows travel to the server (default: the fastest that works)",
        )
        parser.add_argument(
            "--deadline",
            type=float,
            default=120.0,
            metavar="S",
            help="longest time for a window (default: 120)",
        )
        parser.add_argument(
            "--memory-limit", metavar="SIZE", help="such as 4G (default: the container's, or what is free)"
        )
        parser.add_argument(
            "--gpu-memory-limit",
            metavar="SIZE",
            help="such as 4G or 50%% (default: what is free and not reserved by other stages)",
        )

    def warm_up(self) -> None:
        """Import all, and load what was compiled for the host; the GPU is each job's own."""
        from stages.segmentation import plausibility, segment, warm_up  # noqa: F401
        from stages.triton import client, http  # noqa: F401

        warm_up.warm_up()
        with suppress(ImportError):
            import cupy  # noqa: F401  which starts nothing

    def prepare(self, job: Job) -> None:
        """Import, connect, and read the model's description while the stages before still work.

        Parameters
        ----------
        job
            The job, whose inputs are not there yet.

        Raises
        ------
        SettingsError
            If no server is named, or an argument cannot be used.
        InferenceError
            If the server does not have the model ready in time, or its description cannot be used.
        """
        from stages.model.description import ModelDescription
        from stages.segmentation.sampling import is_separable
        from stages.segmentation.warm_up import warm_up, warm_up_separable
        from stages.triton.ensemble import joined
        from stages.volume.labels import nameless_text, spoken_of, where_to_say

        arguments = job.arguments
        url = job.arguments.server or job.triton_url
        if not url:
            raise SettingsError(
                "no inference server: name one with --server HOST:PORT or NVIDIA_CLARA_TRTISURI"
            )
        if not arguments.deadline > 0:
            raise SettingsError(f"--deadline is a positive number of seconds, found {arguments.deadline:g}")
        self._limit = host_limit(arguments.memory_limit)
        self._on_device = arguments.device == "cuda" or (arguments.device == "auto" and device_available())
        if self._on_device:
            from stages.memory.gpu import CudaGpu, GpuMemory

            self._gpu = GpuMemory(CudaGpu(), wanted=arguments.gpu_memory_limit, wait_s=job.timeout_s)
            self._open.callback(self._gpu.close)
        warm_up(on_device=self._on_device)
        predictor = self._connected(url, arguments.model, arguments)
        served = predictor.describe()
        self._model = ModelDescription.from_server(served)
        self._tensors = self._model.tensors_of(served)
        if is_separable(self._model):
            warm_up_separable(on_device=self._on_device)
        self._algorithm = served.algorithm
        self._predictor = predictor
        if names := self._model.ensemble:
            self._predictor, others = joined(
                predictor, names, lambda name: self._connected(url, name, arguments)
            )
            self._members = tuple(other.algorithm for other in others)
            logger.info("its output is the mean with %s", ", ".join(names))
        logger.info("model %s version %s at %s is ready", served.name, served.version, url)
        model = self._model
        self._labels, nameless = spoken_of(model.labels, model.meanings, otherwise=job.labels)
        self.takes_labels = bool(model.nameless)
        if nameless:
            logger.warning("%s; %s", nameless_text(nameless), where_to_say(served.name))
        if self._on_device:
            send_first_request(self._predictor, self._model, self._tensors, place=to_device)

    def _connected(self, url: str, name: str, arguments: Any) -> TritonPredictor | HttpPredictor:
        """Return a predictor for a model that is ready."""
        from stages.triton.client import connect

        predictor = connect(url, name, transport=arguments.transport, deadline_s=arguments.deadline)
        self._open.callback(predictor.close)
        predictor.wait_until_ready(READY_TIMEOUT_S)
        predictor.choose_transport(on_device=self._on_device)
        return predictor

    def execute(self, job: Job) -> None:
        """Segment each volume and write its mask under the same name.

        Parameters
        ----------
        job
            The job, whose inputs are there.
        """
        from stages.segmentation.plausibility import with_warnings
        from stages.segmentation.postprocess import label_volumes_ml
        from stages.segmentation.segment import segment

        for path in find_volumes(job.input_dir):
            volume = read_volume(path)
            logger.info(
                "%s: %s voxels of %s mm", printable(path.name), volume.grid.shape, _rounded(volume.spacing)
            )
            mask = segment(
                volume,
                self._predictor,
                model=self._model,
                tensors=self._tensors,
                limit=self._limit,
                gpu=self._gpu,
                deadline_s=job.arguments.deadline,
                on_device=self._on_device,
            )
            mask = replace(mask, origin=replace(mask.origin, **self._mask_metadata()))
            found = label_volumes_ml(mask, self._model.labels)
            mask = with_warnings(mask, self._model, found)
            write_volume(mask, job.output_dir)
            name_of = {label.value: label.name for label in self._labels}
            names = [f"{name_of.get(n, f'label {n}')} {volume_text(ml)}" for n, ml in found.items()]
            logger.info("found %s", ", ".join(names))
            self.finish(job, mask)

    def _mask_metadata(self) -> dict[str, Any]:
        """Return what the JSON beside a mask holds of the model that made it, and of its labels."""
        return {
            "algorithm": self._algorithm,
            "label_values": self._model.labels,
            "labels": self._labels,
        }

    def finish(self, job: Job, mask: Volume) -> None:
        """Do what else a stage wants done with a mask that has been written; here nothing.

        Parameters
        ----------
        job
            The job.
        mask
            Uint8 labels, on the host.
        """

    def models_used(self) -> Sequence[ModelRecord]:
        """Return the model as the server describes it, and those whose mean its output is."""
        found = (self._algorithm, *self._members) if self._algorithm else ()
        return tuple(ModelRecord(**asdict(each)) for each in found)

    def cleanup(self) -> None:
        """Close the connection to the server, and give the GPU's memory back."""
        self._open.close()


def send_first_request(
    predictor: Callable[[Array], Array],
    model: ModelDescription,
    tensors: ModelTensors,
    *,
    place: Callable[[Array], Array],
) -> None:
    """Send one request of the shape that most will have, so that no volume waits for what a server does once.

    On a GPU that is seconds: CUDA starts, and cuDNN looks for the best way to compute windows of this shape.

    Parameters
    ----------
    predictor
        Takes windows in the shape of the model's input tensor.
    model
        Says the shape of its windows.
    tensors
        How the model wants them.
    place
        Puts an array of the host where windows will lie.
    """
    if model.window_shape is None:
        return
    started = time.monotonic()
    batch = tensors.batch(model.window_shape, on_device=True)
    predictor(place(np.zeros(tensors.input_shape(batch, model.window_shape), np.float32)))
    logger.info("the server answered its first request in %.1f s", time.monotonic() - started)


def _rounded(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{mm:.2f}" for mm in spacing)
