"""Volume -> mask: 0 background, 1 liver, 2 tumour, by a model on a Triton server."""

from stages.model.description import ModelDescription
from stages.segmentation.segment import segment

__all__ = ["ModelDescription", "segment"]
