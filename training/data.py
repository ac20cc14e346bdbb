"""Training samples: windows cut from phantoms that a second process draws, and made different again."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Full
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantoms import AbdomenPhantom, make_abdomen
from training.augmentation import FloatArray, disturb, normalise
from training.real_case import RealCase, draw_window

EVALUATION_SEEDS = range(1_000_000, 1_001_000)
VALIDATION_SEEDS = range(2_000_000, 2_001_000)
TRAINING_SEEDS = range(3_000_000, 10_000_000)

SPACING_MM = (3.0, 3.0, 3.0)
WINDOW = (64, 96, 96)
# Not 32: oneDNN's bfloat16 weight gradient of a 2 x 6 x 6 convolution overflowed with torch 2.13 on a CPU.
DEPTHS = (48, 64)
VOLUME = (88, 128, 128)
AIR_HU = -1000

LabelArray = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One window: image in [0, 1] and labels 0, 1, 2, both [slice, row, column]."""

    image: FloatArray
    labels: LabelArray


def training_phantom(number: int, first_seed: int = TRAINING_SEEDS.start) -> AbdomenPhantom:
    """Phantom `number` of the training set: seen somewhere along the trunk, with more tumours than usual."""
    seed = first_seed + number
    if seed not in TRAINING_SEEDS:
        raise ValueError(f"seed {seed} is not among the training seeds {TRAINING_SEEDS}")
    rng = np.random.default_rng([seed, 77])
    centre = (float(rng.uniform(-90, 70)), 0.0, 0.0)
    few, many = int(rng.integers(1, 5)), int(rng.integers(5, 11))
    count = int(rng.choice((0, few, many), p=(0.15, 0.45, 0.4)))
    radii = tuple(float(3 * 10 ** rng.uniform(0, 0.92)) for _ in range(count))
    return make_abdomen(seed, shape=VOLUME, spacing_mm=SPACING_MM, centre_mm=centre, tumour_radii_mm=radii)


def held_out_phantom(seed: int) -> AbdomenPhantom:
    """Phantom on the model's grid that was never trained on: the whole liver is in it."""
    if seed in TRAINING_SEEDS:
        raise ValueError(f"seed {seed} is a training seed")
    return make_abdomen(seed, shape=VOLUME, spacing_mm=SPACING_MM, centre_mm=(-10.0, 0.0, 0.0))


def fit(volume: NDArray[Any], shape: tuple[int, int, int], fill: float) -> NDArray[Any]:
    """Pad at the far ends to at least `shape`."""
    short = [(0, max(0, want - have)) for want, have in zip(shape, volume.shape, strict=True)]
    return np.pad(volume, short, constant_values=fill)


def draw_sample(phantom: AbdomenPhantom | RealCase, rng: np.random.Generator) -> Sample:
    """Cut a window, most often where liver or tumour is, and disturb it."""
    shape = (int(rng.choice(DEPTHS)), WINDOW[1], WINDOW[2])
    if isinstance(phantom, RealCase):
        hu, labels = draw_window(phantom, shape, rng)
        hu = disturb(hu, labels, None, rng)
    else:
        where = _window_at(phantom.truth, shape, rng)
        labels = phantom.truth[where].copy()
        hu = disturb(phantom.hu[where].astype(np.float32), labels, phantom.anatomy[where], rng)
    if rng.random() < 0.35:
        _keep_slab(hu, labels, rng)
    return Sample(normalise(hu), labels)


def _window_at(
    truth: LabelArray, shape: tuple[int, int, int], rng: np.random.Generator
) -> tuple[slice, slice, slice]:
    kind = rng.random()
    wanted = truth == 2 if kind < 0.45 else truth > 0
    places = np.flatnonzero(wanted) if kind < 0.8 else np.empty(0, np.intp)
    if len(places) == 0:
        starts = [
            int(rng.integers(0, have - want + 1)) for have, want in zip(truth.shape, shape, strict=True)
        ]
    else:
        centre = np.unravel_index(int(rng.choice(places)), truth.shape)
        starts = [
            int(np.clip(c - want // 2 + rng.integers(-want // 3, want // 3 + 1), 0, have - want))
            for c, want, have in zip(centre, shape, truth.shape, strict=True)
        ]
    a, b, c = (slice(s, s + n) for s, n in zip(starts, shape, strict=True))
    return a, b, c


def _keep_slab(hu: FloatArray, labels: LabelArray, rng: np.random.Generator) -> None:
    """Leave a few slices, as of a short scan, and air where the window reaches beyond them."""
    count = int(rng.integers(8, len(hu)))
    first = int(rng.integers(0, len(hu) - count + 1)) if rng.random() < 0.5 else 0
    for side in (slice(0, first), slice(first + count, None)):
        hu[side] = AIR_HU
        labels[side] = 0


def _draw_while_wanted(queue: Any, first: int, pause_s: float) -> None:
    """Fill the queue for as long as the process that asked for it lives."""
    os.nice(3)
    parent = multiprocessing.parent_process()
    number = first
    while parent is not None and parent.is_alive():
        phantom = training_phantom(number)
        number += 1
        while parent.is_alive():
            with suppress(Full):
                queue.put(phantom, timeout=1.0)
                break
        time.sleep(pause_s)
    queue.cancel_join_thread()


@contextmanager
def phantom_stream(*, first: int = 0, pause_s: float = 2.0, waiting: int = 12) -> Iterator[Any]:
    """Have a second process draw training phantoms; gives the queue they arrive in."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(waiting)
    worker = context.Process(target=_draw_while_wanted, args=(queue, first, pause_s), daemon=True)
    worker.start()
    try:
        yield queue
    finally:
        worker.terminate()
        worker.join()
        queue.cancel_join_thread()
        queue.close()
