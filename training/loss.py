"""What training lowers."""

import torch
from torch.nn import functional


def segmentation_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy plus one minus the Dice of liver and tumour, and the balanced entropy within the liver.

    `scores` [batch, 3, slice, row, column] are logits, `labels` [batch, slice, row, column] integers.
    A tumour is one voxel in a thousand. The last term weighs it as much as all the liver around it;
    without it a tumour is never learned, since the gradient of its Dice vanishes with its share.
    """
    scores = scores.float()
    entropy = functional.cross_entropy(scores, labels, reduction="none")
    share = scores.softmax(1)
    losses = [entropy.mean()]
    liver, tumour = labels == 1, labels == 2
    # The organ is what both labels cover together; the tumour is learned within it.
    for given, wanted in ((share[:, 1] + share[:, 2], liver | tumour), (share[:, 2], tumour)):
        if bool(wanted.any()):
            truth = wanted.float()
            overlap = 2 * (given * truth).sum() + 20
            losses.append(1 - overlap / (given.sum() + truth.sum() + 20))
    if bool(tumour.any()) and bool(liver.any()):
        losses.append((entropy[tumour].mean() + entropy[liver].mean()) / 2)
    return torch.stack(losses).sum()
