"""Agreement of a model with held-out phantoms, the demo, or a labelled CT, along the road that ships.

    python -m training.evaluate models/segmentation_liver_v1 --phantoms 20
    python -m training.evaluate models/segmentation_liver_v1 --image ct.nii.gz --labels seg.nii.gz --liver 5
    python -m training.evaluate models/segmentation_liver_v1 --image DICOM --labels seg.nii.gz --liver 5

Preprocessing, windows and post-processing are those of the stage `ai_livertumor`, told by the model's own
`config.pbtxt`; only the server is replaced by onnxruntime in this process, unless `--server` names one, which
answers in the precision that the model allows. A DICOM folder goes through the
whole workflow instead: `clara-wf test`, a real Triton, and the mask that the stage wrote. `--pictures DIR`
draws each volume.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from clara_wf.report.measure import compare
from clara_wf.report.picture import three_planes
from clara_wf.run.demo import TRUE_LABELS
from phantoms import AbdomenPhantom, make_demo
from stages import Origin, Volume, find_volumes, read_volume
from stages.model.description import ModelDescription
from stages.segmentation.segment import segment
from stages.triton.client import TritonPredictor
from stages.volume.geometry import orientation_of, reorient
from training.agreement import Agreement, agreement, summary
from training.data import EVALUATION_SEEDS, held_out_phantom

_PARAMETER = re.compile(r'key:\s*"(\w+)"\s*value:\s*\{\s*string_value:\s*"((?:[^"\\]|\\.)*)"')
_READY_S = 60.0
_WORLD = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}

Predictor = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Draw = Callable[[Volume, Volume, Agreement], None] | None


def read_description(config: Path) -> ModelDescription:
    """Read what `config.pbtxt` says of the model, without asking a server."""
    fields = ModelDescription.model_fields
    found = _PARAMETER.findall(config.read_text(encoding="utf-8"))
    values = {key: json.loads(text.replace('\\"', '"')) for key, text in found if key in fields}
    return ModelDescription.model_validate(values)


def onnx_predictor(path: Path, threads: int = 2) -> Predictor:
    """Scores of windows, from onnxruntime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        (scores,) = session.run(["scores"], {"image": np.ascontiguousarray(windows, np.float32)})
        return np.asarray(scores, np.float32)

    return predict


@contextmanager
def predictor_of(arguments: argparse.Namespace) -> Iterator[Predictor]:
    """Scores of windows, from the server that is named, or from onnxruntime."""
    if arguments.server is None:
        yield onnx_predictor(arguments.model / "1" / "model.onnx")
        return
    with TritonPredictor(arguments.server, arguments.model.name) as predictor:
        predictor.wait_until_ready(_READY_S)
        predictor.describe()
        yield predictor


def volume_of(phantom: AbdomenPhantom) -> Volume:
    """Return a phantom's images with their place in the patient."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = phantom.spacing_mm
    affine[:, 3] = *phantom.first_mm[::-1], 1
    return Volume(
        array=phantom.hu, affine=affine, origin=Origin(series_instance_uid=f"phantom-{phantom.seed}")
    )


def with_axes(volume: Volume, letters: str, spacing_mm: Sequence[float]) -> Volume:
    """Replace a geometry that is known to be a placeholder."""
    affine = np.zeros((4, 4))
    for axis, (letter, spacing) in enumerate(zip(letters, spacing_mm, strict=True)):
        row, sign = _WORLD[letter]
        affine[row, axis] = sign * spacing
    affine[3, 3] = 1
    return replace(volume, affine=affine)


def evaluate_phantoms(
    predictor: Predictor, model: ModelDescription, seeds: Sequence[int], *, draw: Draw = None
) -> list[Agreement]:
    """Agreement with the truth of phantoms that were never trained on."""
    results = []
    for seed in seeds:
        phantom = held_out_phantom(seed)
        image = volume_of(phantom)
        mask = segment(image, predictor, model=model)
        results.append(agreement(mask, phantom.truth))
        if draw:
            draw(image, mask, results[-1])
    return results


def mask_by_workflow(folder: Path, models: Path) -> tuple[Volume, Volume]:
    """Run the liver-seg workflow on a DICOM folder; return the volume that was read and the mask."""
    with tempfile.TemporaryDirectory() as payloads:
        command = [sys.executable, "-m", "clara_wf", "test", "liver-seg", "evaluation"]
        subprocess.run(
            [*command, "--input", folder, "--payloads", payloads, "--models", models, "--json"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (image,), (mask,) = (
            find_volumes(Path(payloads, "evaluation", stage, "output"))
            for stage in ("dicom-reader", "ai-livertumor")
        )
        read = read_volume(image), read_volume(mask)
        return tuple(replace(each, array=np.array(each.array)) for each in read)  # type: ignore[return-value]


def on_grid_of(mask: Volume, labels: Volume) -> NDArray[np.integer]:
    """Return labels in the order of the mask's voxels.

    Raises
    ------
    ValueError
        If they lie on another grid.
    """
    truth, affine = reorient(labels.array, labels.affine, orientation_of(mask.affine))
    if truth.shape != mask.array.shape or not np.allclose(affine, mask.affine, atol=0.05):
        raise ValueError(f"labels {truth.shape} do not lie on the grid of the image {mask.array.shape}")
    return np.asarray(truth)


def main() -> None:
    """Read the command line and print one line for each volume."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="folder with config.pbtxt and 1/model.onnx")
    parser.add_argument("--phantoms", type=int, default=0, help="how many held-out phantoms")
    parser.add_argument("--demo", action="store_true", help="the phantom of the demo")
    parser.add_argument("--image", type=Path, help="NIfTI file or DICOM folder")
    parser.add_argument("--labels", type=Path, help="NIfTI labels on the same grid")
    parser.add_argument("--liver", type=int, default=1)
    parser.add_argument("--tumour", type=int, default=None)
    parser.add_argument(
        "--axes", help="directions of the axes, such as SPL, where the file's are a placeholder"
    )
    parser.add_argument("--spacing", type=float, nargs=3, default=(1.0, 1.0, 1.0), help="mm, with --axes")
    parser.add_argument("--server", metavar="HOST:PORT", help="a Triton server with the model, by gRPC")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each volume")
    for line in _report(parser.parse_args()):
        print(line, flush=True)  # noqa: T201 - the report is this command's output


def _report(arguments: argparse.Namespace) -> Iterator[str]:
    model = read_description(arguments.model / "config.pbtxt")
    draw = _drawing(arguments.pictures)
    with predictor_of(arguments) as predictor:
        if arguments.phantoms:
            seeds = EVALUATION_SEEDS[: arguments.phantoms]
            results = evaluate_phantoms(predictor, model, seeds, draw=draw)
            yield from map(str, results)
            yield summary(results)
        if arguments.demo:
            demo = make_demo()
            yield str(agreement(segment(volume_of(demo), predictor, model=model), demo.truth))
        if arguments.image:
            yield str(_real(arguments, predictor, model, draw))


def _real(
    arguments: argparse.Namespace, predictor: Predictor, model: ModelDescription, draw: Draw
) -> Agreement:
    labels = read_volume(arguments.labels)
    if arguments.image.is_dir():
        image, mask = mask_by_workflow(arguments.image, arguments.model.resolve().parent)
    else:
        image = read_volume(arguments.image)
        if arguments.axes:
            image, labels = (with_axes(v, arguments.axes, arguments.spacing) for v in (image, labels))
        mask = segment(image, predictor, model=model)
    result = agreement(mask, on_grid_of(mask, labels), liver=arguments.liver, tumour=arguments.tumour)
    result = replace(result, name=arguments.image.name)
    if draw:
        draw(image, mask, result)
    return result


def _drawing(folder: Path | None) -> Draw:
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)

    def draw(image: Volume, mask: Volume, result: Agreement) -> None:
        found = [
            replace(finding, dice=getattr(result, name).dice)
            for name, finding in zip(("liver", "tumour"), compare(mask, TRUE_LABELS), strict=True)
        ]
        three_planes(image, mask, found).save(folder / f"{result.name}.png")

    return draw


if __name__ == "__main__":
    main()
