"""A small 3-D U-Net whose work is done at half resolution, so that it is quick on a CPU as well."""

from itertools import pairwise

import torch
from torch import nn

WIDTHS = (16, 32, 64, 96)
CLASSES = 3
MULTIPLE = 16  # each spatial size must be a multiple of this


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False),
        nn.InstanceNorm3d(outputs, affine=True),
        nn.LeakyReLU(0.01),
    )


class UNet(nn.Module):  # type: ignore[misc]
    """Scores of background, liver and tumour for each voxel.

    The first convolution halves the resolution; the last step doubles it again and sees the image
    itself beside the features, which brings edges back to the full grid.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(nn.Conv3d(1, first, 4, 2, 1), nn.LeakyReLU(0.01), _block(first, first))
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Sequential(_block(a, b, 2), _block(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, 2) for a, b in reversed(pairs))
        self.merge = nn.ModuleList(_block(2 * a, a) for a, _ in reversed(pairs))
        self.full = nn.ConvTranspose3d(first, 7, 2, 2)
        self.head = nn.Sequential(
            *(nn.Conv3d(8, 12, 3, 1, 1), nn.LeakyReLU(0.01)),
            *(nn.Conv3d(12, 12, 3, 1, 1), nn.LeakyReLU(0.01)),
            nn.Conv3d(12, CLASSES, 1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits [batch, 3, slice, row, column] of images [batch, 1, slice, row, column] in [0, 1]."""
        skips = [self.stem(image)]
        for down in self.down:
            skips.append(down(skips[-1]))
        features = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat([up(features), skips.pop()], 1))
        scores = self.head(torch.cat([self.full(features), image], 1))
        return scores if self.training else _air_is_background(scores, image)


def _air_is_background(scores: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Decide for background where the image is at its lowest value (-160 HU or less).

    In a window of nothing but air, instance normalisation would make patterns out of its borders.
    """
    background = scores.new_tensor([100.0, 0.0, 0.0]).reshape(1, CLASSES, 1, 1, 1)
    return scores + background * (image <= 0).to(scores.dtype)


def count_parameters(model: nn.Module) -> int:
    """Count the trained numbers in a model."""
    return sum(p.numel() for p in model.parameters())
