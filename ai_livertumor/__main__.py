"""The container's entry point: build the stage, hand it to the driver."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from stages import Algorithm, Job, SettingsError, Stage, find_volumes, main, read_volume, write_volume
from stages.arrays import device_available, to_device

if TYPE_CHECKING:
    from ai_livertumor.model import ModelDescription
    from stages.triton import TritonPredictor

logger = logging.getLogger("ai_livertumor")

READY_TIMEOUT_S = 60.0


class AiLivertumor(Stage):
    """Mark liver and tumour in each CT volume of the input folder, by a model on a Triton server."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._predictor: TritonPredictor
        self._model: ModelDescription
        self._algorithm: Algorithm

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the model, the server, and where arrays are worked on."""
        parser.add_argument(
            "--model", default="segmentation_liver_v1", metavar="NAME", help="model (default: %(default)s)"
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
        from ai_livertumor.model import ModelDescription
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
        self._algorithm = served.algorithm
        logger.info("model %s version %s at %s is ready", served.name, served.version, url)

    def execute(self, job: Job) -> None:
        """Segment each volume and write its mask under the same name."""
        from ai_livertumor.postprocess import label_volumes_ml
        from ai_livertumor.segment import segment

        on_device = job.arguments.device == "cuda" or (job.arguments.device == "auto" and device_available())
        for path in find_volumes(job.input_dir):
            volume = read_volume(path)
            logger.info("%s: %s voxels of %s mm", path.name, volume.grid.shape, _rounded(volume.spacing))
            if on_device:
                volume = replace(volume, array=to_device(volume.array))
            mask = segment(volume, self._predictor, model=self._model)
            write_volume(
                replace(mask, origin=replace(mask.origin, algorithm=self._algorithm)), job.output_dir
            )
            found = label_volumes_ml(mask, self._model.channel_labels[1:])
            logger.info("found %s", ", ".join(f"label {label}: {ml:.1f} ml" for label, ml in found.items()))

    def cleanup(self) -> None:
        """Close the connection to the server."""
        self._open.close()


def _rounded(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{mm:.2f}" for mm in spacing)


if __name__ == "__main__":
    sys.exit(main(AiLivertumor(), sys.argv[1:], os.environ, name="ai-livertumor"))
