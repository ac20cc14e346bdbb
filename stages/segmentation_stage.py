"""A stage that segments volumes by a model: everything but the model's name."""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from stages.arrays import device_available, to_device
from stages.driver import Job, Stage
from stages.errors import SettingsError
from stages.volume_io import find_volumes, read_volume, write_volume

if TYPE_CHECKING:
    from stages.model import ModelDescription
    from stages.model_tensors import ModelTensors
    from stages.triton import TritonPredictor

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 60.0


class SegmentationStage(Stage):
    """Segment each volume of the input folder by a model on a Triton server.

    What the model needs and gives, it says itself (`stages.model`); a stage of this kind only names it.

    Parameters
    ----------
    model
        The model that is used unless ``--model`` names another.
    """

    def __init__(self, model: str) -> None:
        self._default = model
        self._open = ExitStack()
        self._predictor: TritonPredictor
        self._model: ModelDescription
        self._tensors: ModelTensors

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the model, the server, and where arrays are worked on."""
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

    def prepare(self, job: Job) -> None:
        """Import, connect, and read the model's description while the stages before still work."""
        from stages.model import ModelDescription
        from stages.triton import TritonPredictor

        url = job.arguments.server or job.triton_url
        if not url:
            raise SettingsError(
                "no inference server: name one with --server HOST:PORT or NVIDIA_CLARA_TRTISURI"
            )
        self._predictor = self._open.enter_context(TritonPredictor(url, job.arguments.model))
        self._predictor.wait_until_ready(READY_TIMEOUT_S)
        served = self._predictor.describe()
        self._model = ModelDescription.from_server(served)
        self._tensors = self._model.tensors_of(served)
        logger.info("model %s version %s at %s is ready", served.name, served.version, url)

    def execute(self, job: Job) -> None:
        """Segment each volume and write its mask under the same name."""
        from stages.postprocess import label_volumes_ml
        from stages.segmentation import segment

        on_device = job.arguments.device == "cuda" or (job.arguments.device == "auto" and device_available())
        for path in find_volumes(job.input_dir):
            volume = read_volume(path)
            logger.info("%s: %s voxels of %s mm", path.name, volume.grid.shape, _rounded(volume.spacing))
            if on_device:
                volume = replace(volume, array=to_device(volume.array))
            mask = segment(volume, self._predictor, model=self._model, tensors=self._tensors)
            write_volume(mask, job.output_dir)
            found = label_volumes_ml(mask, self._model.labels)
            logger.info("found %s", ", ".join(f"label {label}: {ml:.1f} ml" for label, ml in found.items()))

    def cleanup(self) -> None:
        """Close the connection to the server."""
        self._open.close()


def _rounded(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{mm:.2f}" for mm in spacing)
