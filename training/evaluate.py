"""Dice of a model on held-out phantoms, the demo, or a labelled CT, along the road that ships.

    python -m training.evaluate models/segmentation_liver_v1 --phantoms 20
    python -m training.evaluate models/segmentation_liver_v1 --image ct.nii.gz --labels seg.nii.gz --liver 5

Preprocessing, windows and post-processing are those of the stage `ai_livertumor`, told by the
model's own `config.pbtxt`; only the server is replaced by onnxruntime in this process.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dicom_reader import read_series
from phantoms import AbdomenPhantom, make_demo
from stages import Origin, Volume, read_volume
from stages.geometry import orientation_of, reorient
from stages.model import ModelDescription
from stages.segmentation import segment
from training.data import EVALUATION_SEEDS, held_out_phantom
from training.loss import dice

_PARAMETER = re.compile(r'key:\s*"(\w+)"\s*value:\s*\{\s*string_value:\s*"((?:[^"\\]|\\.)*)"')
_WORLD = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}

Predictor = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Agreement:
    """Dice of the liver (tumours included) and of tumours, None where there is none to find."""

    name: str
    liver: float
    tumour: float | None
    true_tumour_ml: float
    found_tumour_ml: float

    def __str__(self) -> str:
        """One line of a report."""
        tumour = "-" if self.tumour is None else f"{self.tumour:.3f}"
        volumes = f"{self.found_tumour_ml:.1f} ml found of {self.true_tumour_ml:.1f} ml"
        return f"{self.name}: liver {self.liver:.3f}, tumour {tumour} ({volumes})"


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


def agreement(
    mask: Volume, labels: NDArray[np.integer], *, liver: int = 1, tumour: int | None = 2
) -> Agreement:
    """Compare a mask (1 liver, 2 tumour) with labels of the given values."""
    found = np.asarray(mask.array)
    is_tumour = labels == tumour if tumour is not None else np.zeros(labels.shape, bool)
    ml = mask.voxel_volume_mm3 / 1000
    return Agreement(
        name=mask.origin.series_instance_uid,
        liver=dice(found > 0, (labels == liver) | is_tumour),
        tumour=dice(found == 2, is_tumour) if is_tumour.any() else None,
        true_tumour_ml=float(is_tumour.sum()) * ml,
        found_tumour_ml=float((found == 2).sum()) * ml,
    )


def evaluate_phantoms(predictor: Predictor, model: ModelDescription, seeds: Sequence[int]) -> list[Agreement]:
    """Agreement with the truth of phantoms that were never trained on."""
    results = []
    for seed in seeds:
        phantom = held_out_phantom(seed)
        mask = segment(volume_of(phantom), predictor, model=model)
        results.append(agreement(mask, phantom.truth))
    return results


def summary(results: Sequence[Agreement]) -> str:
    """Mean and smallest Dice of many."""
    livers = [r.liver for r in results]
    tumours = [r.tumour for r in results if r.tumour is not None]
    lines = [f"liver: mean {np.mean(livers):.3f}, min {min(livers):.3f} ({len(livers)} volumes)"]
    if tumours:
        lines.append(
            f"tumour: mean {np.mean(tumours):.3f}, median {np.median(tumours):.3f}, min {min(tumours):.3f} "
            f"({len(tumours)} volumes with tumours)"
        )
    false_ml = [r.found_tumour_ml for r in results if r.tumour is None]
    if false_ml:
        lines.append(
            f"without tumours: {np.mean(false_ml):.1f} ml found on average ({len(false_ml)} volumes)"
        )
    return "\n".join(lines)


def evaluate_file(
    predictor: Predictor,
    model: ModelDescription,
    image: Volume,
    labels: Volume,
    *,
    liver: int,
    tumour: int | None,
) -> Agreement:
    """Agreement with the labels of one CT, on its own grid."""
    mask = segment(image, predictor, model=model)
    truth, affine = reorient(labels.array, labels.affine, orientation_of(mask.affine))
    if truth.shape != mask.array.shape or not np.allclose(affine, mask.affine, atol=0.05):
        raise ValueError(f"labels {truth.shape} do not lie on the grid of the image {mask.array.shape}")
    return agreement(mask, truth, liver=liver, tumour=tumour)


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
    arguments = parser.parse_args()
    model = read_description(arguments.model / "config.pbtxt")
    predictor = onnx_predictor(arguments.model / "1" / "model.onnx")
    for line in _report(arguments, predictor, model):
        print(line, flush=True)  # noqa: T201 - the report is this command's output


def _report(arguments: argparse.Namespace, predictor: Predictor, model: ModelDescription) -> list[str]:
    lines: list[str] = []
    if arguments.phantoms:
        results = evaluate_phantoms(predictor, model, EVALUATION_SEEDS[: arguments.phantoms])
        lines += [*map(str, results), summary(results)]
    if arguments.demo:
        demo = make_demo()
        lines.append(str(agreement(segment(volume_of(demo), predictor, model=model), demo.truth)))
    if arguments.image:
        image = read_series(arguments.image) if arguments.image.is_dir() else read_volume(arguments.image)
        labels = read_volume(arguments.labels)
        if arguments.axes:
            image, labels = (with_axes(v, arguments.axes, arguments.spacing) for v in (image, labels))
        result = evaluate_file(
            predictor, model, image, labels, liver=arguments.liver, tumour=arguments.tumour
        )
        lines.append(str(result))
    return lines


if __name__ == "__main__":
    main()
