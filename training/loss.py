"""What training lowers, and how well a segmentation agrees with the truth."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

CLASS_WEIGHTS = (0.6, 1.0, 4.0)


def segmentation_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Weighted cross entropy plus one minus the Dice of liver and tumour, where they occur.

    `scores` [batch, 3, slice, row, column] are logits, `labels` [batch, slice, row, column] integers.
    """
    scores = scores.float()
    entropy = functional.cross_entropy(scores, labels, weight=scores.new_tensor(CLASS_WEIGHTS))
    share = scores.softmax(1)
    losses = [entropy]
    # The organ is what both labels cover together; the tumour is learned within it.
    for given, wanted in ((share[:, 1] + share[:, 2], labels > 0), (share[:, 2], labels == 2)):
        if bool(wanted.any()):
            truth = wanted.float()
            overlap = 2 * (given * truth).sum() + 20
            losses.append(1 - overlap / (given.sum() + truth.sum() + 20))
    return torch.stack(losses).sum()


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Twice the overlap over the sum of the sizes; 1 where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 1.0 if total == 0 else 2.0 * int((found & truth).sum()) / total
