"""Trains the reference model: `python -m training.train --minutes 40 --output FOLDER`.

On a CUDA device where there is one. A run that was stopped goes on where it was when the same command is
given again; `--minutes` counts what both took.
"""

import argparse
import copy
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from phantoms import AbdomenPhantom
from stages.runtime import atomic
from training.agreement import dice
from training.augmentation import normalise
from training.data import SPACING_MM, VALIDATION_SEEDS, WINDOW, draw_sample, held_out_phantom, phantom_stream
from training.export import export_checkpoint
from training.loss import segmentation_loss
from training.real_case import RealCase, read_case
from training.unet import UNet, count_parameters

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long and how to train."""

    minutes: float
    output: Path
    seed: int = 1
    learning_rate: float = 3e-3
    pool: int = 64
    threads: int = 2
    averaging: float = 0.985
    export_every_s: float = 240.0
    start: Path | None = None
    first_phantom: int = 0
    real_image: Path | None = None
    real_labels: Path | None = None
    real_liver: int = 5
    real_share: float = 0.15


class Training:
    """The network, its optimiser and the running average of its weights."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = UNet().to(self.device)
        if recipe.start is not None:
            _load_what_fits(self.model, recipe.start)
        self.average = copy.deepcopy(self.model)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, weight_decay=1e-4
        )
        self.steps = 0
        self.minutes = 0.0
        if self._state.is_file():
            self._resume()

    @property
    def _state(self) -> Path:
        return self.recipe.output / "state.pt"

    def save(self, minutes: float) -> None:
        """Write down everything that a run needs to go on."""
        content = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
            "minutes": minutes,
        }
        with atomic.writing(self._state) as file:
            torch.save(content, file)

    def _resume(self) -> None:
        content = torch.load(self._state, weights_only=True, map_location=self.device)
        self.model.load_state_dict(content["model"])
        self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.steps, self.minutes = content["steps"], content["minutes"]
        logger.info("going on after %d steps, %.1f min", self.steps, self.minutes)

    def step(self, image: torch.Tensor, labels: torch.Tensor, progress: float = 0.0) -> float:
        """Learn from one batch; `progress` runs from 0 to 1 and lowers the rate along half a cosine."""
        rate = self.recipe.learning_rate * min(1.0, (self.steps + 1) / 40)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * (0.02 + 0.98 * (1 + math.cos(math.pi * min(progress, 1.0))) / 2)
        self.model.train()
        image, labels = image.to(self.device), labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            scores = self.model(image)
        loss = segmentation_loss(scores, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self.steps += 1
        if bool(torch.isfinite(norm)):  # bfloat16 may overflow; such a step teaches nothing
            self.optimiser.step()
            self._follow()
        return float(loss.detach())

    def _follow(self) -> None:
        """Move the average towards the current weights; quickly at first."""
        keep = min(self.recipe.averaging, self.steps / (self.steps + 10))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)


def validation_windows(count: int = 6) -> list[tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.uint8]]]]:
    """Windows on the liver of phantoms that are not trained on."""
    windows = []
    for seed in VALIDATION_SEEDS[:count]:
        phantom = held_out_phantom(seed)
        centre = [int(np.mean(axis)) for axis in np.nonzero(phantom.truth)]
        a, b, c = (
            slice(start := min(max(0, middle - n // 2), full - n), start + n)
            for middle, n, full in zip(centre, WINDOW, phantom.truth.shape, strict=True)
        )
        image = torch.from_numpy(normalise(phantom.hu[a, b, c]))[None, None]
        windows.append((image, phantom.truth[a, b, c]))
    return windows


def validate(model: nn.Module, windows: list[Any]) -> tuple[float, float]:
    """Mean Dice of liver (with tumours) and of tumours over all windows."""
    livers, found_tumour, true_tumour, both = [], 0, 0, 0
    model.eval()
    device = next(model.parameters()).device
    for image, truth in windows:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            labels = model(image.to(device)).argmax(1)[0].cpu().numpy()
        livers.append(dice(labels > 0, truth > 0))
        found_tumour += int((labels == 2).sum())
        true_tumour += int((truth == 2).sum())
        both += int(((labels == 2) & (truth == 2)).sum())
    return float(np.mean(livers)), 2 * both / max(1, found_tumour + true_tumour)


def _load_what_fits(model: nn.Module, checkpoint: Path) -> None:
    """Take the weights of a network of the same body; layers of another shape start anew, and are named."""
    known = torch.load(checkpoint, weights_only=True)
    own = model.state_dict()
    fits = {name: value for name, value in known.items() if name in own and own[name].shape == value.shape}
    model.load_state_dict(own | fits)
    if new := sorted(own.keys() - fits.keys()):
        logger.info("starting anew: %s", ", ".join(new))


def train(recipe: Recipe) -> None:
    """Train for the time given, keeping the best weights and an ONNX of them in the output folder."""
    recipe.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.threads)
    training = Training(recipe)
    logger.info("%d parameters", count_parameters(training.model))
    with phantom_stream(first=recipe.first_phantom) as queue:
        windows = validation_windows()
        _run(training, queue, windows)
    logger.info("finished after %d steps", training.steps)


def _run(training: Training, queue: Any, windows: list[Any]) -> None:
    recipe = training.recipe
    rng = np.random.default_rng([recipe.seed, training.steps])
    real = _real_case(recipe)
    pool: list[AbdomenPhantom] = [queue.get() for _ in range(6)]
    drawn, best, losses = len(pool), -1.0, []
    reported = exported = time.monotonic()
    start = reported - training.minutes * 60
    while (now := time.monotonic()) - start < recipe.minutes * 60:
        while not queue.empty():
            pool.append(queue.get())
            drawn += 1
        pool = pool[-recipe.pool :]
        is_real = real is not None and rng.random() < recipe.real_share
        sample = draw_sample(real if is_real and real else pool[int(rng.integers(len(pool)))], rng)
        image = torch.from_numpy(sample.image)[None, None]
        labels = torch.from_numpy(sample.labels.astype(np.int64))[None]
        losses.append(training.step(image, labels, (now - start) / (recipe.minutes * 60)))
        if now - reported > 60:
            reported = now
            liver, tumour = validate(training.average, windows)
            logger.info(
                "%.1f min, step %d, %d phantoms, loss %.3f, validation Dice: liver %.3f, tumour %.3f",
                (now - start) / 60, training.steps, drawn, np.mean(losses), liver, tumour,
            )  # fmt: skip
            losses = []
            if liver + tumour > best:
                best = liver + tumour
                torch.save(training.average.state_dict(), recipe.output / "best.pt")
        if now - exported > recipe.export_every_s and best > 0:
            exported = now
            training.save((now - start) / 60)
            export_checkpoint(recipe.output / "best.pt", recipe.output / "model.onnx")
    torch.save(training.average.state_dict(), recipe.output / "last.pt")
    liver, tumour = validate(training.average, windows)
    logger.info("last: validation Dice: liver %.3f, tumour %.3f", liver, tumour)
    name = "last.pt" if liver + tumour >= best else "best.pt"
    difference = export_checkpoint(recipe.output / name, recipe.output / "model.onnx")
    logger.info("exported %s; ONNX differs from it by at most %.1e", name, difference)


def _real_case(recipe: Recipe) -> RealCase | None:
    if recipe.real_image is None or recipe.real_labels is None:
        return None
    return read_case(recipe.real_image, recipe.real_labels, liver=recipe.real_liver, spacing_mm=SPACING_MM)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", type=Path, help="checkpoint to go on from")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--first-phantom", type=int, default=0, help="number of the first training phantom")
    parser.add_argument("--real-image", type=Path, help="a labelled CT to mix in (NIfTI)")
    parser.add_argument("--real-labels", type=Path, help="its labels, on the same grid")
    parser.add_argument("--real-liver", type=int, default=5, help="value of the liver in them")
    parser.add_argument("--real-share", type=float, default=0.15, help="share of the samples (%(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(Recipe(**vars(arguments)))


if __name__ == "__main__":
    main()
